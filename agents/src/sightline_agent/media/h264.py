"""H.264 in RTP payloads (RFC 6184), as pure functions on bytes.

A NAL unit's first byte tells its type in the low five bits. In RTP it travels alone, with others in a STAP-A,
or cut into FU-A fragments whose second byte carries the type, a start bit and an end bit. What cameras send
is never larger than their own idea of an MTU, which may be more than `MAX_PAYLOAD`: `resplit` makes it fit.
"""

from collections.abc import Iterable, Sequence

from sightline_agent.media.bits import Bits
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.nal import END, START, Joiner, aggregated, aggregation, fits, fragments, groups, in_base64

SLICE, IDR, SEI, SPS, PPS, AUD, FILLER = 1, 5, 6, 7, 8, 9, 12
STAP_A, FU_A = 24, 28

_HEADER = 1
_TYPE = 0x1F
_B_SLICES = (1, 6)


def nal_type(data: bytes) -> int:
    """The type of a NAL unit or of an RTP payload; -1 for nothing."""
    return data[0] & _TYPE if data else -1


def starts_nal(payload: bytes) -> int:
    """The type of the NAL unit that begins in this payload (the first one of a STAP-A); -1 in the middle of one."""
    kind = nal_type(payload)
    if kind == FU_A:
        return payload[1] & _TYPE if len(payload) > 2 and payload[1] & START else -1
    if kind == STAP_A:
        return payload[3] & _TYPE if len(payload) > 3 else -1
    return kind


def is_b_slice(payload: bytes) -> bool:
    """True where a slice that refers to pictures shown later may begin (a NAL unit or a fragment of one)."""
    if starts_nal(payload) != SLICE:
        return False
    bits = Bits(payload[2 if nal_type(payload) == FU_A else 1 :][:12])
    try:
        bits.unsigned()  # first_mb_in_slice
        return bits.unsigned() in _B_SLICES
    except EOFError:
        return False


def stap_nals(payload: bytes) -> list[bytes]:
    """The NAL units of a STAP-A, as far as they are whole."""
    return aggregated(payload, _HEADER)


def aggregate(nals: Sequence[bytes], limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for small NAL units that belong together: STAP-As as full as the limit allows."""
    return [payload for group in groups(nals, _HEADER, limit) for payload in _together(group, limit)]


def _together(group: Sequence[bytes], limit: int) -> list[bytes]:
    if len(group) == 1 and not fits(group[0], _HEADER, limit):
        return fragment(group[0], limit)
    # The header carries the highest importance and the forbidden bit of what is inside (RFC 6184 section 5.7).
    importance = max(nal[0] & 0x60 for nal in group)
    forbidden = max(nal[0] & 0x80 for nal in group)
    return [aggregation(bytes([forbidden | importance | STAP_A]), group)]


def fragment(nal: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for one NAL unit: itself where it fits, else FU-A fragments of equal size with a short tail."""
    if len(nal) <= limit:
        return [nal] if nal else []
    indicator = bytes([(nal[0] & 0xE0) | FU_A])
    return fragments(indicator, nal_type(nal), nal[_HEADER:], limit, (True, True))


def resplit(payload: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The same NAL units in payloads of at most `limit` bytes, in order."""
    if len(payload) <= limit:
        return [payload] if payload else []
    kind = nal_type(payload)
    if kind == STAP_A:
        return [part for nal in stap_nals(payload) for part in fragment(nal, limit)]
    if kind == FU_A:
        bits = payload[1]
        ends = (bool(bits & START), bool(bits & END))
        return fragments(payload[:_HEADER], bits & _TYPE, payload[2:], limit, ends)
    return fragment(payload, limit)


def reassemble(payloads: Iterable[bytes]) -> list[bytes]:
    """The whole NAL units in consecutive payloads; fragments without a beginning or an end are left out."""
    nals: list[bytes] = []
    joiner = Joiner()
    for payload in payloads:
        kind = nal_type(payload)
        if kind == FU_A and len(payload) > 2:
            nals += joiner.add(bytes([(payload[0] & 0xE0) | (payload[1] & _TYPE)]), payload[1], payload[2:])
            continue
        joiner.interrupt()
        if kind == STAP_A:
            nals += stap_nals(payload)
        elif 0 < kind < STAP_A:
            nals.append(payload)
    return nals


def split_annex_b(data: bytes) -> list[bytes]:
    """The NAL units of a byte stream with start codes (ISO 14496-10 annex B)."""
    nals = []
    start = data.find(b"\0\0\1")
    while start >= 0:
        begin = start + 3
        start = data.find(b"\0\0\1", begin)
        nal = data[begin:] if start < 0 else data[begin:start]
        nal = nal.rstrip(b"\0")  # the fourth byte of a long start code, and trailing zeros
        if nal:
            nals.append(nal)
    return nals


def parse_parameter_sets(sprop: str) -> list[bytes]:
    """The NAL units of `sprop-parameter-sets` (RFC 6184 section 8.1); what is no SPS or PPS is left out."""
    return [nal for nal in in_base64(sprop) if nal_type(nal) in (SPS, PPS)]


def profile_level_id(sps: bytes) -> str:
    """Six hex digits of the SPS: profile, constraints, level."""
    return sps[1:4].hex() if len(sps) >= 4 else ""
