"""What H.264 and H.265 have in common, for whoever handles either: how payloads are taken apart and what they are.

The functions themselves are in `h264` and `h265`; here they get one set of names, so that the assembler, the sources
and the transcoder are written once.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sightline_agent.media import h264, h265, h265_sps, sps

H264, H265 = "H264", "H265"


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a sequence parameter set says."""

    profile: str
    """`VideoFormat.profile_level_id`."""
    width: int
    height: int
    interlaced: bool
    max_reorder: int | None


@dataclass(frozen=True, slots=True)
class Grammar:
    """One codec."""

    codec: str
    sps: int
    sets: frozenset[int]
    """Types of the parameter sets; one of each is needed."""
    slices: frozenset[int]
    keys: frozenset[int]
    """Types of slices at which decoding may begin."""
    idle: frozenset[int]
    """Delimiters and filler: they carry nothing."""
    units: range
    """Types that a payload with one whole NAL unit may have."""
    aggregation: int
    fragmentation: int
    fragment_header: int
    """Where the byte with the start bit (0x80) and the end bit (0x40) is."""
    end_of_frame: bytes
    """A filler NAL unit without filler: carries the marker where nothing else can."""
    set_starts_key: bool
    """Decoding may also begin where new parameter sets come without a key picture (intra refresh)."""
    nal_type: Callable[[bytes], int]
    starts_nal: Callable[[bytes], int]
    members: Callable[[bytes], list[bytes]]
    aggregate: Callable[[Sequence[bytes]], list[bytes]]
    fragment: Callable[[bytes], list[bytes]]
    resplit: Callable[[bytes], list[bytes]]
    reassemble: Callable[[Iterable[bytes]], list[bytes]]
    set_id: Callable[[bytes], int | None]
    describe: Callable[[bytes], Pictures | None]
    is_b_slice: Callable[[bytes], bool]
    """What tells that pictures come in another order, unless the parameter set rules it out."""


def _h264_pictures(nal: bytes) -> Pictures | None:
    found = sps.parse(nal)
    if found is None:
        return None
    return Pictures(found.profile_level_id, found.width, found.height, found.interlaced, found.max_reorder)


def _h265_pictures(nal: bytes) -> Pictures | None:
    found = h265_sps.parse(nal)
    if found is None:
        return None
    ptl = found.ptl
    profile = f"{ptl.profile_id}.{ptl.tier_flag}.{ptl.level_id}"
    return Pictures(profile, found.width, found.height, found.interlaced, found.max_reorder)


_OF_H264 = Grammar(
    codec=H264,
    sps=h264.SPS,
    sets=frozenset({h264.SPS, h264.PPS}),
    slices=frozenset(range(1, 6)),
    keys=frozenset({h264.IDR}),
    idle=frozenset({h264.AUD, h264.FILLER}),
    units=range(1, h264.STAP_A),
    aggregation=h264.STAP_A,
    fragmentation=h264.FU_A,
    fragment_header=1,
    end_of_frame=b"\x0c\x80",
    set_starts_key=True,
    nal_type=h264.nal_type,
    starts_nal=h264.starts_nal,
    members=h264.stap_nals,
    aggregate=h264.aggregate,
    fragment=h264.fragment,
    resplit=h264.resplit,
    reassemble=h264.reassemble,
    set_id=sps.set_id,
    describe=_h264_pictures,
    is_b_slice=h264.is_b_slice,
)
_OF_H265 = Grammar(
    codec=H265,
    sps=h265.SPS,
    sets=frozenset(h265.PARAMETER_SETS),
    slices=frozenset(range(h265.LAST_SLICE + 1)),
    keys=frozenset(range(h265.FIRST_IRAP, h265.LAST_IRAP + 1)),
    idle=frozenset({h265.AUD, h265.FILLER}),
    units=range(h265.AP),
    aggregation=h265.AP,
    fragmentation=h265.FU,
    fragment_header=2,
    end_of_frame=bytes((h265.FILLER << 1, 1, 0x80)),
    set_starts_key=False,
    nal_type=h265.nal_type,
    starts_nal=h265.starts_nal,
    members=h265.ap_nals,
    aggregate=h265.aggregate,
    fragment=h265.fragment,
    resplit=h265.resplit,
    reassemble=h265.reassemble,
    set_id=h265_sps.set_id,
    describe=_h265_pictures,
    is_b_slice=lambda payload: False,
)
GRAMMARS = {grammar.codec: grammar for grammar in (_OF_H264, _OF_H265)}
