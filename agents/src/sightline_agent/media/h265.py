"""H.265 in RTP payloads (RFC 7798), as pure functions on bytes.

A NAL unit has two bytes of header; bits 1 to 6 of the first tell its type. In RTP it travels alone, with others in an
aggregation packet (AP), or cut into fragments (FU) whose third byte carries the type, a start bit and an end bit.
Decoding order numbers (DONL), which a camera would have to announce as `sprop-max-don-diff`, are not read here: such a
camera is refused by its description. `media.h264` does the same for H.264.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence

from sightline_agent.media.frames import MAX_PAYLOAD

VPS, SPS, PPS, AUD, FILLER, PREFIX_SEI, SUFFIX_SEI = 32, 33, 34, 35, 38, 39, 40
AP, FU = 48, 49
FIRST_IRAP, LAST_IRAP = 16, 23
"""Pictures at which decoding may begin (IDR, CRA, BLA)."""
LAST_SLICE = 31
PARAMETER_SETS = (VPS, SPS, PPS)

_HEADER = 2
_FU_HEADER = 3
_START, _END, _FU_TYPE = 0x80, 0x40, 0x3F
_MAX_NAL_IN_AP = 0xFFFF


def nal_type(data: bytes) -> int:
    """The type of a NAL unit or of an RTP payload; -1 for less than a header."""
    return data[0] >> 1 & 0x3F if len(data) >= _HEADER else -1


def starts_nal(payload: bytes) -> int:
    """The type of the NAL unit that begins in this payload (the first one of an AP); -1 in the middle of one."""
    kind = nal_type(payload)
    if kind == FU:
        return payload[2] & _FU_TYPE if len(payload) > _FU_HEADER and payload[2] & _START else -1
    if kind == AP:
        return nal_type(payload[4:])
    return kind


def is_irap(kind: int) -> bool:
    """True for the type of a slice at which decoding may begin."""
    return FIRST_IRAP <= kind <= LAST_IRAP


def is_slice(kind: int) -> bool:
    """True for the type of a slice."""
    return 0 <= kind <= LAST_SLICE


def first_of_picture(payload: bytes) -> bool:
    """True where the slice that begins in this payload (a NAL unit or a fragment) is its picture's first."""
    begin = _FU_HEADER if nal_type(payload) == FU else _HEADER
    return len(payload) > begin and payload[begin] & 0x80 != 0


def ap_nals(payload: bytes) -> list[bytes]:
    """The NAL units of an aggregation packet, as far as they are whole."""
    nals, position = [], _HEADER
    while position + 2 <= len(payload):
        size = int.from_bytes(payload[position : position + 2], "big")
        position += 2
        if size < _HEADER or position + size > len(payload):
            break
        nals.append(payload[position : position + size])
        position += size
    return nals


def aggregate(nals: Sequence[bytes], limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for small NAL units that belong together: aggregation packets as full as the limit allows."""
    payloads: list[bytes] = []
    group: list[bytes] = []
    size = _HEADER
    for nal in nals:
        if len(nal) < _HEADER:
            continue
        if group and size + 2 + len(nal) > limit:
            payloads += _close(group, limit)
            group, size = [], _HEADER
        group.append(nal)
        size += 2 + len(nal)
    return payloads + _close(group, limit)


def _close(group: list[bytes], limit: int) -> list[bytes]:
    if not group:
        return []
    if len(group) == 1 or any(len(nal) > _MAX_NAL_IN_AP for nal in group):
        return [part for nal in group for part in fragment(nal, limit)]
    # The lowest layer and the lowest temporal id of what is inside (RFC 7798 section 4.4.2).
    layer = min((nal[0] & 1) << 5 | nal[1] >> 3 for nal in group)
    temporal = min(nal[1] & 0x07 for nal in group)
    forbidden = max(nal[0] & 0x80 for nal in group)
    header = bytes([forbidden | AP << 1 | layer >> 5, (layer & 0x1F) << 3 | temporal])
    return [header + b"".join(len(nal).to_bytes(2, "big") + nal for nal in group)]


def fragment(nal: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """Payloads for one NAL unit: itself where it fits, else fragments of equal size with a short tail."""
    if len(nal) <= limit:
        return [nal] if len(nal) >= _HEADER else []
    return _fragments(_fu_indicator(nal), nal_type(nal), nal[_HEADER:], limit, (True, True))


def resplit(payload: bytes, limit: int = MAX_PAYLOAD) -> list[bytes]:
    """The same NAL units in payloads of at most `limit` bytes, in order."""
    if len(payload) <= limit:
        return [payload] if len(payload) >= _HEADER else []
    kind = nal_type(payload)
    if kind == AP:
        return [part for nal in ap_nals(payload) for part in fragment(nal, limit)]
    if kind == FU:
        bits = payload[2]
        ends = (bool(bits & _START), bool(bits & _END))
        return _fragments(payload[:_HEADER], bits & _FU_TYPE, payload[_FU_HEADER:], limit, ends)
    return fragment(payload, limit)


def _fu_indicator(nal: bytes) -> bytes:
    return bytes([nal[0] & 0x81 | FU << 1, nal[1]])


def _fragments(indicator: bytes, kind: int, data: bytes, limit: int, ends: tuple[bool, bool]) -> list[bytes]:
    size = limit - _FU_HEADER
    parts = []
    for position in range(0, len(data), size):
        start = _START if ends[0] and position == 0 else 0
        end = _END if ends[1] and position + size >= len(data) else 0
        parts.append(indicator + bytes([start | end | kind]) + data[position : position + size])
    return parts


def reassemble(payloads: Iterable[bytes]) -> list[bytes]:
    """The whole NAL units in consecutive payloads; fragments without a beginning or an end are left out."""
    nals: list[bytes] = []
    open_: bytearray | None = None
    for payload in payloads:
        kind = nal_type(payload)
        if kind == FU and len(payload) > _FU_HEADER:
            if payload[2] & _START:
                open_ = bytearray([payload[0] & 0x81 | (payload[2] & _FU_TYPE) << 1, payload[1]])
            if open_ is None:
                continue
            open_ += payload[_FU_HEADER:]
            if payload[2] & _END:
                nals.append(bytes(open_))
                open_ = None
            continue
        open_ = None
        if kind == AP:
            nals += ap_nals(payload)
        elif 0 <= kind < AP:
            nals.append(payload)
    return nals


def parse_parameter_sets(*sprops: str) -> list[bytes]:
    """The NAL units of `sprop-vps`, `sprop-sps` and `sprop-pps` (RFC 7798 section 7.1); anything else is left out."""
    nals = []
    for part in ",".join(sprops).split(","):
        text = part.strip()
        try:
            nal = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        if nal_type(nal) in PARAMETER_SETS:
            nals.append(nal)
    return nals
