"""H.264 in RTP payloads (RFC 6184), as pure functions on bytes.

A NAL unit's first byte tells its type in the low five bits. In RTP it travels alone, with others in a STAP-A,
or cut into FU-A fragments whose second byte carries the type, a start bit and an end bit. What cameras send
is never larger than their own idea of an MTU, which may be more than `MAX_PAYLOAD`: `resplit` makes it fit.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence

from sightline_agent.media.bits import Bits
from sightline_agent.media.frames import MAX_PAYLOAD

SLICE, IDR, SEI, SPS, PPS, AUD, FILLER = 1, 5, 6, 7, 8, 9, 12
STAP_A, FU_A = 24, 28

_TYPE = 0x1F
_START, _END = 0x80, 0x40
_MAX_NAL_IN_STAP = 0xFFFF
_B_SLICES = (1, 6)


def nal_type(data: bytes) -> int:
    """The type of a NAL unit or of an RTP payload; -1 for nothing."""
    return data[0] & _TYPE if data else -1


def starts_nal(payload: bytes) -> int:
    """The type of the NAL unit that begins in this payload (the first one of a STAP-A); -1 in the middle of one."""
    kind = nal_type(payload)
    if kind == FU_A:
        return payload[1] & _TYPE if len(payload) > 2 and payload[1] & _START else -1
    if kind == STAP_A:
        return payload[3] & _TYPE if len(payload) > 3 else -1
    return kind


def is_key(payload: bytes) -> bool:
    """True where an IDR picture or a sequence parameter set begins in this payload."""
    if nal_type(payload) == STAP_A:
        return any(nal_type(nal) in (IDR, SPS) for nal in stap_nals(payload))
    return starts_nal(payload) in (IDR, SPS)


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
    nals, position = [], 1
    while position + 2 <= len(payload):
        size = int.from_bytes(payload[position : position + 2], "big")
        position += 2
        if size == 0 or position + size > len(payload):
            break
        nals.append(payload[position : position + size])
        position += size
    return nals


def aggregate(nals: Sequence[bytes], limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for small NAL units that belong together: STAP-As as full as the limit allows."""
    payloads: list[bytes] = []
    group: list[bytes] = []
    size = 1
    for nal in nals:
        if not nal:
            continue
        if group and size + 2 + len(nal) > limit:
            payloads += _close(group, limit)
            group, size = [], 1
        group.append(nal)
        size += 2 + len(nal)
    return payloads + _close(group, limit)


def _close(group: list[bytes], limit: int) -> list[bytes]:
    if not group:
        return []
    size = 1 + sum(2 + len(nal) for nal in group)
    if len(group) == 1 and (size > limit or len(group[0]) > _MAX_NAL_IN_STAP):
        return fragment(group[0], limit)
    # The header carries the highest importance and the forbidden bit of what is inside (RFC 6184 section 5.7).
    importance = max(nal[0] & 0x60 for nal in group)
    forbidden = max(nal[0] & 0x80 for nal in group)
    header = bytes([forbidden | importance | STAP_A])
    return [header + b"".join(len(nal).to_bytes(2, "big") + nal for nal in group)]


def fragment(nal: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for one NAL unit: itself where it fits, else FU-A fragments of equal size with a short tail."""
    if len(nal) <= limit:
        return [nal] if nal else []
    indicator, kind = (nal[0] & 0xE0) | FU_A, nal[0] & _TYPE
    return _fragments(indicator, kind, nal[1:], limit, (True, True))


def resplit(payload: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The same NAL units in payloads of at most `limit` bytes, in order."""
    if len(payload) <= limit:
        return [payload] if payload else []
    kind = nal_type(payload)
    if kind == STAP_A:
        return [part for nal in stap_nals(payload) for part in fragment(nal, limit)]
    if kind == FU_A:
        bits = payload[1]
        ends = (bool(bits & _START), bool(bits & _END))
        return _fragments(payload[0], bits & _TYPE, payload[2:], limit, ends)
    return fragment(payload, limit)


def _fragments(indicator: int, kind: int, data: bytes, limit: int, ends: tuple[bool, bool]) -> list[bytes]:
    size = limit - 2
    parts = []
    for position in range(0, len(data), size):
        start = _START if ends[0] and position == 0 else 0
        end = _END if ends[1] and position + size >= len(data) else 0
        parts.append(bytes([indicator, start | end | kind]) + data[position : position + size])
    return parts


def reassemble(payloads: Iterable[bytes]) -> list[bytes]:
    """The whole NAL units in consecutive payloads; fragments without a beginning or an end are left out."""
    nals: list[bytes] = []
    open_: bytearray | None = None
    for payload in payloads:
        kind = nal_type(payload)
        if kind == FU_A and len(payload) > 2:
            if payload[1] & _START:
                open_ = bytearray([(payload[0] & 0xE0) | (payload[1] & _TYPE)])
            if open_ is None:
                continue
            open_ += payload[2:]
            if payload[1] & _END:
                nals.append(bytes(open_))
                open_ = None
            continue
        open_ = None
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
    nals = []
    for part in sprop.split(","):
        text = part.strip()
        try:
            nal = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        if nal_type(nal) in (SPS, PPS):
            nals.append(nal)
    return nals


def profile_level_id(sps: bytes) -> str:
    """Six hex digits of the SPS: profile, constraints, level."""
    return sps[1:4].hex() if len(sps) >= 4 else ""
