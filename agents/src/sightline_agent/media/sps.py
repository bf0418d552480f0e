"""Width and height out of an H.264 sequence parameter set (ISO 14496-10 section 7.3.2.1.1).

Pure and defensive: a camera may send anything, so every read is bounded and `parse` answers None for what
makes no sense.
"""

from dataclasses import dataclass

from sightline_agent.media import h264

# Profiles whose SPS carries chroma format, bit depths and scaling matrices.
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_SPS_BYTES = 4096
_MAX_SIDE = 16_384
_MAX_GOLOMB_ZEROS = 31
_MAX_CYCLE = 255


@dataclass(frozen=True, slots=True)
class SpsInfo:
    """What the picture looks like."""

    profile_level_id: str
    width: int
    height: int


class _Bits:
    """Reads bits and Exp-Golomb codes; EOFError past the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def read(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        zeros = 0
        while self.read(1) == 0:
            zeros += 1
            if zeros > _MAX_GOLOMB_ZEROS:
                raise EOFError
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def parse(sps: bytes) -> SpsInfo | None:
    """What `sps` (a NAL unit with its header byte) says; None if it cannot be read."""
    if h264.nal_type(sps) != h264.SPS or not 4 < len(sps) <= _MAX_SPS_BYTES:
        return None
    bits = _Bits(_unescape(sps[1:]))
    try:
        width, height = _size(bits)
    except EOFError:
        return None
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        return None
    return SpsInfo(h264.profile_level_id(sps), width, height)


def set_id(nal: bytes) -> int | None:
    """The id of an SPS or a PPS, by which slices and other sets name it; None if there is none."""
    kind = h264.nal_type(nal)
    bits = _Bits(_unescape(nal[4:] if kind == h264.SPS else nal[1:])[:16])
    try:
        return bits.unsigned()
    except EOFError:
        return None


def _unescape(data: bytes) -> bytes:
    # Emulation prevention: 00 00 03 stands for 00 00.
    return data.replace(b"\0\0\3", b"\0\0")


def _size(bits: _Bits) -> tuple[int, int]:
    profile = bits.read(8)
    bits.read(16)  # constraints, level
    bits.unsigned()  # seq_parameter_set_id
    chroma_format, separate_planes = 1, 0
    if profile in _HIGH_PROFILES:
        chroma_format = bits.unsigned()
        if chroma_format == 3:
            separate_planes = bits.read(1)
        bits.unsigned()  # bit_depth_luma_minus8
        bits.unsigned()  # bit_depth_chroma_minus8
        bits.read(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.read(1):
            _skip_scaling_matrix(bits, 8 if chroma_format != 3 else 12)
    bits.unsigned()  # log2_max_frame_num_minus4
    _skip_picture_order(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.read(1)  # gaps_in_frame_num_value_allowed_flag
    width = (bits.unsigned() + 1) * 16
    height_units = bits.unsigned() + 1
    frames_only = bits.read(1)
    height = height_units * 16 * (2 - frames_only)
    if not frames_only:
        bits.read(1)  # mb_adaptive_frame_field_flag
    bits.read(1)  # direct_8x8_inference_flag
    if bits.read(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        planes = 0 if separate_planes else chroma_format
        unit_x = 2 if planes in (1, 2) else 1
        unit_y = (2 if planes == 1 else 1) * (2 - frames_only)
        width -= unit_x * (left + right)
        height -= unit_y * (top + bottom)
    return width, height


def _skip_scaling_matrix(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.read(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last


def _skip_picture_order(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.read(1)
        bits.signed()
        bits.signed()
        count = bits.unsigned()
        if count > _MAX_CYCLE:
            raise EOFError
        for _ in range(count):
            bits.signed()
    elif kind != 2:
        raise EOFError
