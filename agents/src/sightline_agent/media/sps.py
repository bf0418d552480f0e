"""What an H.264 sequence parameter set says of the pictures (ISO 14496-10 sections 7.3.2.1.1 and E.1.1).

Pure and defensive: a camera may send anything, so every read is bounded and `parse` answers None for what
makes no sense. Cameras that garble the usability information (VUI) at the end are forgiven: it then says nothing.
"""

from dataclasses import dataclass

from sightline_agent.media import h264
from sightline_agent.media.bits import Bits

# Profiles whose SPS carries chroma format, bit depths and scaling matrices.
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_MAX_SPS_BYTES = 4096
_MAX_SIDE = 16_384
_MAX_CYCLE = 255
_MAX_CPB = 31
_EXTENDED_ASPECT = 255
_ORDER_OF_DECODING = 2
"""The picture order count type of streams that are shown in the order in which they are decoded."""


@dataclass(frozen=True, slots=True)
class SpsInfo:
    """What the pictures look like, and in which order they may come."""

    profile_level_id: str
    width: int
    height: int
    interlaced: bool = False
    """Pictures may be fields."""
    max_reorder: int | None = None
    """How many pictures may be decoded before one that is shown earlier; 0: none; None: not said."""


def parse(sps: bytes) -> SpsInfo | None:
    """What `sps` (a NAL unit with its header byte) says; None if it cannot be read."""
    if h264.nal_type(sps) != h264.SPS or not 4 < len(sps) <= _MAX_SPS_BYTES:
        return None
    bits = Bits(sps[1:])
    try:
        chroma = _chroma(bits)
        bits.unsigned()  # log2_max_frame_num_minus4
        order = _picture_order(bits)
        bits.unsigned()  # max_num_ref_frames
        bits.read(1)  # gaps_in_frame_num_value_allowed_flag
        width, height, interlaced = _size(bits, chroma)
    except EOFError:
        return None
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        return None
    reorder = 0 if order == _ORDER_OF_DECODING else _reorder(bits)
    return SpsInfo(h264.profile_level_id(sps), width, height, interlaced, reorder)


def set_id(nal: bytes) -> int | None:
    """The id of an SPS or a PPS, by which slices and other sets name it; None if there is none."""
    kind = h264.nal_type(nal)
    try:
        return Bits((nal[4:] if kind == h264.SPS else nal[1:])[:16]).unsigned()
    except EOFError:
        return None


def _chroma(bits: Bits) -> int:
    """Up to the bit depths; how chroma is sampled: 0 none (or in planes of its own), 1 4:2:0, 2 4:2:2, 3 4:4:4."""
    profile = bits.read(8)
    bits.read(16)  # constraints, level
    bits.unsigned()  # seq_parameter_set_id
    chroma, separate_planes = 1, 0
    if profile in _HIGH_PROFILES:
        chroma = bits.unsigned()
        if chroma == 3:
            separate_planes = bits.read(1)
        bits.unsigned()  # bit_depth_luma_minus8
        bits.unsigned()  # bit_depth_chroma_minus8
        bits.read(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.read(1):
            _skip_scaling_matrix(bits, 8 if chroma != 3 else 12)
    return 0 if separate_planes else chroma


def _size(bits: Bits, chroma: int) -> tuple[int, int, bool]:
    """Width, height, and whether pictures may be fields."""
    width = (bits.unsigned() + 1) * 16
    height_units = bits.unsigned() + 1
    frames_only = bits.read(1)
    height = height_units * 16 * (2 - frames_only)
    if not frames_only:
        bits.read(1)  # mb_adaptive_frame_field_flag
    bits.read(1)  # direct_8x8_inference_flag
    if bits.read(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= unit_x * (left + right)
        height -= unit_y * (top + bottom)
    return width, height, not frames_only


def _skip_scaling_matrix(bits: Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.read(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last


def _picture_order(bits: Bits) -> int:
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
    elif kind != _ORDER_OF_DECODING:
        raise EOFError
    return kind


def _reorder(bits: Bits) -> int | None:
    """max_num_reorder_frames of the usability information; None where it is not there or cannot be read."""
    try:
        if not bits.read(1):
            return None
        _skip_to_restrictions(bits)
        if not bits.read(1):
            return None
        bits.read(1)  # motion_vectors_over_pic_boundaries_flag
        for _ in range(4):
            bits.unsigned()  # bytes per picture, bits per macroblock, lengths of motion vectors
        return bits.unsigned()
    except EOFError:
        return None


def _skip_to_restrictions(bits: Bits) -> None:
    if bits.read(1) and bits.read(8) == _EXTENDED_ASPECT:  # aspect ratio
        bits.read(32)
    if bits.read(1):  # overscan
        bits.read(1)
    if bits.read(1):  # video signal type
        bits.read(4)
        if bits.read(1):
            bits.read(24)
    if bits.read(1):  # chroma location
        bits.unsigned()
        bits.unsigned()
    if bits.read(1):  # timing
        bits.read(65)
    hypothetical_decoders = 0
    for _ in range(2):  # of NAL units, of video coding NAL units
        if bits.read(1):
            _skip_hypothetical_decoder(bits)
            hypothetical_decoders += 1
    if hypothetical_decoders:
        bits.read(1)  # low_delay_hrd_flag
    bits.read(1)  # pic_struct_present_flag


def _skip_hypothetical_decoder(bits: Bits) -> None:
    count = bits.unsigned()
    if count > _MAX_CPB:
        raise EOFError
    bits.read(8)
    for _ in range(count + 1):
        bits.unsigned()
        bits.unsigned()
        bits.read(1)
    bits.read(20)
