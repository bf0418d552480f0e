"""RTP packets taken apart in runs: what one slice of a picture came in is looked at once, not packet by packet.

Called for what a camera sends (`sources.rtsp`). A frame is mostly one slice in a dozen fragments, so it mostly is one
run, and `shape` says of it all that the assembler asks; it need not look at a payload. Pure, without state: order and
losses are the business of others, and any cut of a stream into runs means the same packets. This is the reference;
the extension does the same (`sources.rtsp.apart`).
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from sightline_agent.media import rtp
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.grammar import GRAMMARS, Grammar
from sightline_agent.media.nal import END as _LAST
from sightline_agent.media.nal import START as _FIRST

SLICE, START, END, KEY, B = 1, 2, 4, 8, 16
"""Bits of a shape: the payloads are of one slice; the first begins it; the last ends it; it is one at which decoding
may begin; it is one that a stream without reordering has no use for (`Grammar.is_b_slice`)."""
_PLACE = Struct("!II")


class Run(NamedTuple):
    """Packets that differ in nothing but their numbers, which go on by one, and in what they carry of one slice."""

    payload_type: int
    marker: bool
    """Of the last packet; no other has one."""
    sequence: int
    """Of the first packet."""
    timestamp: int
    ssrc: int
    payloads: tuple[bytes, ...]
    fitting: tuple[bytes, ...]
    """The same in payloads that are not too large; nothing where the shape is 0."""
    shape: int
    """0: a packet that is no part of a slice, alone."""

    def packets(self) -> list[rtp.RtpPacket]:
        """Each for itself."""
        kind, _, first, timestamp, ssrc, payloads, _, _ = self
        last = first + len(payloads) - 1
        return [
            rtp.RtpPacket(kind, self.marker and at == last, at % rtp.SEQUENCE_MODULUS, timestamp, ssrc, payload)
            for at, payload in enumerate(payloads, first)
        ]


class _Open:
    """A run that may go on."""

    def __init__(self, grammar: Grammar, packet: rtp.RtpPacket, shape: int) -> None:
        self._grammar = grammar
        self._first = packet
        self._marker = packet.marker
        self._payloads = [packet.payload]
        self._shape = shape
        self._begin = self._rest = b""
        if shape & (SLICE | END) == SLICE:
            at = grammar.fragment_header
            self._begin = bytes((0x80, packet.payload_type))
            self._rest = _PLACE.pack(packet.timestamp, packet.ssrc) + packet.payload[:at]
            self._rest += bytes((packet.payload[at] & ~(_FIRST | _LAST),))

    def inside(self, data: bytes) -> bool:
        """Take in the next packet of the slice, if that begins and ends nothing: most do, and need not be parsed."""
        least = rtp.FIXED_HEADER + self._grammar.fragment_header + 2
        if not self._rest or self._marker or self._shape & END or len(data) < least:
            return False
        number = (self._first.sequence + len(self._payloads)) % rtp.SEQUENCE_MODULUS
        if not data.startswith(self._begin + number.to_bytes(2, "big")) or not data.startswith(self._rest, 4):
            return False
        self._payloads.append(data[rtp.FIXED_HEADER :])
        return True

    def takes(self, packet: rtp.RtpPacket, shape: int) -> bool:
        """Take in the next packet, if it is one."""
        first, before, at = self._first, self._payloads[-1], self._grammar.fragment_header
        goes_on = (
            self._shape & (SLICE | END) == SLICE
            and shape & (SLICE | START) == SLICE
            and not self._marker
            and packet.sequence == (first.sequence + len(self._payloads)) % rtp.SEQUENCE_MODULUS
            and (packet.payload_type, packet.timestamp, packet.ssrc)
            == (first.payload_type, first.timestamp, first.ssrc)
            and packet.payload[:at] == before[:at]
            and packet.payload[at] & ~_LAST == before[at] & ~_FIRST
        )
        if goes_on:
            self._payloads.append(packet.payload)
            self._shape |= shape
            self._marker = packet.marker
        return goes_on

    def run(self) -> Run:
        """What has come of it."""
        kind, _, sequence, timestamp, ssrc, _ = self._first
        payloads = tuple(self._payloads)
        fitting = payloads if self._shape else ()
        if any(len(payload) > MAX_PAYLOAD for payload in fitting):
            fitting = tuple(piece for payload in payloads for piece in self._grammar.resplit(payload))
        return Run(kind, self._marker, sequence, timestamp, ssrc, payloads, fitting, self._shape)


def runs(packets: Iterable[bytes], codec: str) -> tuple[list[Run], int]:
    """The runs in packets of a track, and how many were no packets at all."""
    grammar = GRAMMARS[codec]
    found: list[_Open] = []
    malformed = 0
    for data in packets:
        if found and found[-1].inside(data):
            continue
        try:
            packet = rtp.parse(data)
        except rtp.RtpError:
            malformed += 1
            continue
        shape = part(grammar, packet.payload)
        if not (found and found[-1].takes(packet, shape)):
            found.append(_Open(grammar, packet, shape))
    return [one.run() for one in found], malformed


def part(grammar: Grammar, payload: bytes) -> int:
    """The shape of one payload."""
    kind, at = grammar.nal_type(payload), grammar.fragment_header
    if kind != grammar.fragmentation:
        return _begun(grammar, kind, payload) | END if kind in grammar.slices else 0
    if len(payload) < at + 2:
        return 0
    end = END if payload[at] & _LAST else 0
    if not payload[at] & _FIRST:
        return SLICE | end
    kind = grammar.starts_nal(payload)
    return _begun(grammar, kind, payload) | end if kind in grammar.slices else 0


def _begun(grammar: Grammar, kind: int, payload: bytes) -> int:
    return SLICE | START | (KEY if kind in grammar.keys else 0) | (B if grammar.is_b_slice(payload) else 0)
