"""What an H.265 sequence parameter set says of the pictures (ITU-T H.265 sections 7.3.2.2 and 7.3.3).

Pure and defensive, as `sps` is for H.264: every read is bounded, and `parse` answers None for what makes no sense.
"""

from dataclasses import dataclass

from sightline_agent.media import h265
from sightline_agent.media.bits import Bits

_MAX_SPS_BYTES = 4096
_MAX_SIDE = 16_384
_HEADER = 2
_MAX_SUB_LAYERS = 7
_MAX_IDS = {h265.VPS: 15, h265.SPS: 15, h265.PPS: 63}


@dataclass(frozen=True, slots=True)
class ProfileTierLevel:
    """What a decoder must be able to do, in the words of RFC 7798 section 7.1."""

    profile_id: int = 1
    tier_flag: int = 0
    level_id: int = 93


@dataclass(frozen=True, slots=True)
class SpsInfo:
    """What the pictures look like, and in which order they may come."""

    ptl: ProfileTierLevel
    width: int
    height: int
    interlaced: bool = False
    """Pictures are fields, by what the set says of their origin."""
    max_reorder: int = 0
    """How many pictures may be decoded before one that is shown earlier."""


def parse(sps: bytes) -> SpsInfo | None:
    """What `sps` (a NAL unit with its header) says; None if it cannot be read."""
    if h265.nal_type(sps) != h265.SPS or not _HEADER + 4 < len(sps) <= _MAX_SPS_BYTES:
        return None
    bits = Bits(sps[_HEADER:])
    try:
        bits.read(4)  # sps_video_parameter_set_id
        sub_layers = bits.read(3)
        bits.read(1)  # sps_temporal_id_nesting_flag
        if sub_layers >= _MAX_SUB_LAYERS:
            return None
        ptl, interlaced = _profile_tier_level(bits, sub_layers)
        bits.unsigned()  # sps_seq_parameter_set_id
        width, height = _size(bits)
        reorder = _reorder(bits, sub_layers)
    except EOFError:
        return None
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        return None
    return SpsInfo(ptl, width, height, interlaced, reorder)


def set_id(nal: bytes) -> int | None:
    """The id of a parameter set, by which slices and other sets name it; None if there is none."""
    kind = h265.nal_type(nal)
    try:
        bits = Bits(nal[_HEADER:][:256])
        if kind == h265.VPS:
            number = bits.read(4)
        elif kind == h265.SPS:
            bits.read(4)
            sub_layers = bits.read(3)
            bits.read(1)
            _profile_tier_level(bits, sub_layers)
            number = bits.unsigned()
        else:
            number = bits.unsigned()
    except EOFError:
        return None
    return number if number <= _MAX_IDS.get(kind, -1) else None


def _profile_tier_level(bits: Bits, sub_layers: int) -> tuple[ProfileTierLevel, bool]:
    """Of the whole stream; what is said of single layers is passed over."""
    bits.read(2)  # general_profile_space
    tier, profile = bits.read(1), bits.read(5)
    bits.read(32)  # general_profile_compatibility_flags
    progressive, interlaced = bits.read(1), bits.read(1)
    bits.read(46)
    level = bits.read(8)
    present = [(bits.read(1), bits.read(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.read(2 * (8 - sub_layers))
    for of_profile, of_level in present:
        bits.read(88 * of_profile + 8 * of_level)
    return ProfileTierLevel(profile, tier, level), bool(interlaced and not progressive)


def _size(bits: Bits) -> tuple[int, int]:
    chroma = bits.unsigned()
    if chroma > 3:
        raise EOFError
    if chroma == 3:
        bits.read(1)  # separate_colour_plane_flag
    width, height = bits.unsigned(), bits.unsigned()
    if bits.read(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        width -= (2 if chroma in (1, 2) else 1) * (left + right)
        height -= (2 if chroma == 1 else 1) * (top + bottom)
    return width, height


def _reorder(bits: Bits, sub_layers: int) -> int:
    for _ in range(3):
        bits.unsigned()  # bit depths, length of the picture order count
    each = bits.read(1)
    reorder = 0
    for _ in range(sub_layers + 1 if each else 1):
        bits.unsigned()  # sps_max_dec_pic_buffering_minus1
        reorder = bits.unsigned()
        bits.unsigned()  # sps_max_latency_increase_plus1
    return reorder
