"""H.265 in RTP payloads (RFC 7798), as pure functions on bytes.

A NAL unit has two bytes of header; bits 1 to 6 of the first tell its type. In RTP it travels alone, with others in an
aggregation packet (AP), or cut into fragments (FU) whose third byte carries the type, a start bit and an end bit.
Decoding order numbers (DONL), which a camera would have to announce as `sprop-max-don-diff`, are not read here: such a
camera is refused by its description. `media.h264` does the same for H.264.
"""

from collections.abc import Iterable, Sequence

from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.nal import END, START, Joiner, aggregated, aggregation, fragments, groups, in_base64

VPS, SPS, PPS, AUD, FILLER, PREFIX_SEI, SUFFIX_SEI = 32, 33, 34, 35, 38, 39, 40
AP, FU = 48, 49
FIRST_IRAP, LAST_IRAP = 16, 23
"""Pictures at which decoding may begin (IDR, CRA, BLA)."""
LAST_SLICE = 31
PARAMETER_SETS = (VPS, SPS, PPS)

_HEADER = 2
_FU_HEADER = 3
_FU_TYPE = 0x3F


def nal_type(data: bytes) -> int:
    """The type of a NAL unit or of an RTP payload; -1 for less than a header."""
    return data[0] >> 1 & 0x3F if len(data) >= _HEADER else -1


def starts_nal(payload: bytes) -> int:
    """The type of the NAL unit that begins in this payload (the first one of an AP); -1 in the middle of one."""
    kind = nal_type(payload)
    if kind == FU:
        return payload[2] & _FU_TYPE if len(payload) > _FU_HEADER and payload[2] & START else -1
    if kind == AP:
        return nal_type(payload[4:])
    return kind


def ap_nals(payload: bytes) -> list[bytes]:
    """The NAL units of an aggregation packet, as far as they are whole."""
    return aggregated(payload, _HEADER)


def aggregate(nals: Sequence[bytes], limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for small NAL units that belong together: aggregation packets as full as the limit allows."""
    return [payload for group in groups(nals, _HEADER, limit) for payload in _together(group, limit)]


def _together(group: Sequence[bytes], limit: int) -> list[bytes]:
    if len(group) == 1:
        return fragment(group[0], limit)
    # The lowest layer and the lowest temporal id of what is inside (RFC 7798 section 4.4.2).
    layer = min((nal[0] & 1) << 5 | nal[1] >> 3 for nal in group)
    temporal = min(nal[1] & 0x07 for nal in group)
    forbidden = max(nal[0] & 0x80 for nal in group)
    return [aggregation(bytes([forbidden | AP << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal]), group)]


def fragment(nal: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for one NAL unit: itself where it fits, else fragments of equal size with a short tail."""
    if len(nal) <= limit:
        return [nal] if len(nal) >= _HEADER else []
    indicator = bytes([nal[0] & 0x81 | FU << 1, nal[1]])
    return fragments(indicator, nal_type(nal), nal[_HEADER:], limit, (True, True))


def resplit(payload: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The same NAL units in payloads of at most `limit` bytes, in order."""
    if len(payload) <= limit:
        return [payload] if len(payload) >= _HEADER else []
    kind = nal_type(payload)
    if kind == AP:
        return [part for nal in ap_nals(payload) for part in fragment(nal, limit)]
    if kind == FU:
        bits = payload[2]
        ends = (bool(bits & START), bool(bits & END))
        return fragments(payload[:_HEADER], bits & _FU_TYPE, payload[_FU_HEADER:], limit, ends)
    return fragment(payload, limit)


def reassemble(payloads: Iterable[bytes]) -> list[bytes]:
    """The whole NAL units in consecutive payloads; fragments without a beginning or an end are left out."""
    nals: list[bytes] = []
    joiner = Joiner()
    for payload in payloads:
        kind = nal_type(payload)
        if kind == FU and len(payload) > _FU_HEADER:
            header = bytes([payload[0] & 0x81 | (payload[2] & _FU_TYPE) << 1, payload[1]])
            nals += joiner.add(header, payload[2], payload[_FU_HEADER:])
            continue
        joiner.interrupt()
        if kind == AP:
            nals += ap_nals(payload)
        elif 0 <= kind < AP:
            nals.append(payload)
    return nals


def parse_parameter_sets(*sprops: str) -> list[bytes]:
    """The NAL units of `sprop-vps`, `sprop-sps` and `sprop-pps` (RFC 7798 section 7.1); anything else is left out."""
    return [nal for nal in in_base64(",".join(sprops)) if nal_type(nal) in PARAMETER_SETS]
