"""What RTP does with NAL units of either codec: several in one payload, one in several payloads, sets in SDP. Pure.

`h264` and `h265` call this. They differ in how long a header is, in where it keeps the type, and in the header that a
payload gets; how sizes, fragments and base64 are laid out behind it is the same in RFC 6184 and RFC 7798.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence

START, END = 0x80, 0x40
"""Bits beside the type in a fragment's own header: the NAL unit begins, or ends, with it."""
_SIZE_BYTES = 2
_MAX_SIZE = 0xFFFF
"""What the size of a NAL unit in an aggregation can say."""


def aggregated(payload: bytes, header: int) -> list[bytes]:
    """The NAL units in an aggregation behind its header, as far as they are whole and have a header of their own."""
    nals, position = [], header
    while position + _SIZE_BYTES <= len(payload):
        size = int.from_bytes(payload[position : position + _SIZE_BYTES], "big")
        position += _SIZE_BYTES
        if size < header or position + size > len(payload):
            break
        nals.append(payload[position : position + size])
        position += size
    return nals


def fits(nal: bytes, header: int, limit: int) -> bool:
    """Whether an aggregation of this limit has room for it."""
    return len(nal) <= min(_MAX_SIZE, limit - header - _SIZE_BYTES)


def groups(nals: Sequence[bytes], header: int, limit: int) -> Iterator[list[bytes]]:
    """Consecutive NAL units in groups as large as an aggregation may be; one that is too large is alone."""
    limit = min(limit, header + _SIZE_BYTES + _MAX_SIZE)
    group: list[bytes] = []
    size = header
    for nal in nals:
        if len(nal) < header:
            continue
        if group and size + _SIZE_BYTES + len(nal) > limit:
            yield group
            group, size = [], header
        group.append(nal)
        size += _SIZE_BYTES + len(nal)
    if group:
        yield group


def aggregation(header: bytes, group: Sequence[bytes]) -> bytes:
    """The payload with this header."""
    return header + b"".join(len(nal).to_bytes(_SIZE_BYTES, "big") + nal for nal in group)


def fragments(header: bytes, kind: int, data: bytes, limit: int, ends: tuple[bool, bool]) -> list[bytes]:
    """What follows a NAL unit's header, in payloads with this header; `ends`: whether it begins and ends in `data`."""
    size = limit - len(header) - 1
    parts = []
    for position in range(0, len(data), size):
        start = START if ends[0] and position == 0 else 0
        end = END if ends[1] and position + size >= len(data) else 0
        parts.append(header + bytes([start | end | kind]) + data[position : position + size])
    return parts


class Joiner:
    """Makes a NAL unit of its fragments; one without a beginning or an end is left out."""

    def __init__(self) -> None:
        self._open: bytearray | None = None

    def add(self, header: bytes, bits: int, data: bytes) -> list[bytes]:
        """The next fragment of a NAL unit with this header; the whole one where it ends."""
        if bits & START:
            self._open = bytearray(header)
        if self._open is None:
            return []
        self._open += data
        if not bits & END:
            return []
        whole = bytes(self._open)
        self._open = None
        return [whole]

    def interrupt(self) -> None:
        """Something else came between."""
        self._open = None


def in_base64(text: str) -> Iterator[bytes]:
    """The byte strings of a list with commas, as SDP has parameter sets; what is no base64 is left out."""
    for part in text.split(","):
        digits = part.strip()
        try:
            yield base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
