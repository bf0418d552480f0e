"""The fan-out in pure Python: one buffer, twelve header bytes rewritten per viewer, libsrtp, `sendto`.

Some 8 us per packet and viewer. It is the reference for the native one and serves where that is not installed.

Sequence numbers. Packets have an absolute index in the shared ring; a viewer sends index `i` as sequence number
`i + offset`, counted without wrapping and cut to 16 bits on the wire. Numbers only grow and each is encrypted once: a
packet that a full socket refused has used up its number, and the viewer goes on at the next key frame with the number
after it. So the receiver sees one gap (and knows that it lost something), and no SRTP index is ever used for two
different packets. A repeat for peers without RTX is the same packet, byte for byte.
"""

import secrets
import time
from collections.abc import Callable
from struct import Struct
from typing import Protocol

import structlog

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.transport.fanout import Address, FanOutTotals, Viewer, ViewerStats
from sightline_agent.transport.ring import Kept, PacketRing
from sightline_agent.transport.srtp import RTP_HEADER_BYTES, WINDOW, PacketBuffer, SendContext, protect

RESEND_BURST = 600
"""NACKed packets that a viewer may ask for at once: a lost key frame of a 4K stream."""
RESEND_SHARE = 0.5
"""How many more it earns per packet sent, so that nobody turns NACKs into a flood."""

_VERSION = 0x80
_MARKER = 0x80
_HEADER = Struct("!BBHII").pack_into

log = structlog.get_logger(__name__)


class DatagramSender(Protocol):
    """A non-blocking UDP socket."""

    def sendto(self, data: memoryview, address: Address, /) -> int: ...


class Sockets(Protocol):
    """Knows which socket reaches an address: the mux."""

    def socket_for(self, address: Address) -> DatagramSender: ...


class _Stream:
    """One viewer's state."""

    __slots__ = (
        "address",
        "budget",
        "context",
        "dropped",
        "failed",
        "first_index",
        "last_sent",
        "last_timestamp",
        "next_sequence",
        "octets",
        "offset",
        "on_start",
        "packets",
        "resent",
        "rtx_sequence",
        "sendto",
        "timestamp_offset",
        "viewer",
        "waiting",
    )

    def __init__(
        self,
        viewer: Viewer,
        sender: DatagramSender,
        random: Callable[[int], int],
        on_start: Callable[[], None] | None,
    ) -> None:
        self.viewer = viewer
        self.on_start = on_start
        self.context = SendContext(viewer.keys, repeat=not viewer.rtx_payload_type)
        self.sendto = sender.sendto
        self.address = viewer.address
        # Below 2**15, so that the receiver's guess of the rollover counter is right even if the first packets are
        # lost (RFC 3711 section 3.3.1).
        self.next_sequence = random(15)
        self.rtx_sequence = random(15)
        self.timestamp_offset = random(32)
        self.waiting = True
        self.failed = False
        self.offset = 0
        self.first_index = 0
        self.packets = self.octets = self.resent = self.dropped = self.last_timestamp = 0
        self.last_sent = 0.0
        self.budget = float(RESEND_BURST)


class PythonFanOut:
    """FanOut over the mux's sockets."""

    def __init__(
        self,
        sockets: Sockets,
        *,
        ring: PacketRing | None = None,
        random: Callable[[int], int] = secrets.randbits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sockets = sockets
        self._ring = ring or PacketRing()
        self._random = random
        self._clock = clock
        self._buffer = PacketBuffer()
        self._streams: dict[int, _Stream] = {}
        self._next_handle = 1
        self._packets = self._octets = self._resent = self._dropped = self._refused = 0

    def add(self, viewer: Viewer, on_start: Callable[[], None] | None = None) -> int:
        """Start a viewer at the next key frame."""
        handle = self._next_handle
        self._next_handle += 1
        sender = self._sockets.socket_for(viewer.address)
        self._streams[handle] = _Stream(viewer, sender, self._random, on_start)
        return handle

    def remove(self, handle: int) -> None:
        """Forget a viewer."""
        self._streams.pop(handle, None)

    def move(self, handle: int, address: Address) -> None:
        """The viewer roamed."""
        stream = self._streams.get(handle)
        if stream is not None:
            stream.sendto = self._sockets.socket_for(address).sendto
            stream.address = address

    def stats(self, handle: int) -> ViewerStats | None:
        """Counters of a viewer."""
        stream = self._streams.get(handle)
        if stream is None:
            return None
        return ViewerStats(
            packets=stream.packets,
            octets=stream.octets,
            last_timestamp=stream.last_timestamp,
            resent=stream.resent,
            dropped=stream.dropped,
            last_sent=stream.last_sent,
        )

    def totals(self) -> FanOutTotals:
        """Counters of all."""
        return FanOutTotals(
            packets=self._packets,
            octets=self._octets,
            resent=self._resent,
            dropped=self._dropped,
            refused=self._refused,
        )

    def send(self, chunk: Chunk) -> None:
        """Keep the chunk in the ring and send it to everybody who is not waiting for a key frame."""
        if not chunk.payloads:
            return
        if max(map(len, chunk.payloads)) > MAX_PAYLOAD:
            raise ValueError(f"a payload is longer than {MAX_PAYLOAD} bytes")
        first = self._ring.next_index
        last = len(chunk.payloads) - 1 if chunk.last else -1
        for i, payload in enumerate(chunk.payloads):
            self._ring.append(payload, chunk.timestamp, i == last)
        if not self._streams:
            return
        plan = [(i, p, len(p) + RTP_HEADER_BYTES, _MARKER if i == last else 0) for i, p in enumerate(chunk.payloads)]
        octets = sum(map(len, chunk.payloads))
        started: list[Callable[[], None]] = []
        for stream in self._streams.values():
            if stream.waiting:
                if not chunk.key or stream.failed:
                    if stream.packets:
                        self._pause(stream, len(plan))
                    continue
                stream.waiting = False
                stream.offset = stream.next_sequence - first
                stream.first_index = first
            sent = self._send_chunk(stream, plan, chunk.timestamp, first)
            if sent < len(plan):
                self._pause(stream, len(plan) - sent)
                octets_sent = sum(len(p) for p in chunk.payloads[:sent])
            else:
                octets_sent = octets
            if sent and stream.on_start is not None:
                started.append(stream.on_start)
                stream.on_start = None
            stream.packets += sent
            stream.octets += octets_sent
            stream.budget = min(RESEND_BURST, stream.budget + RESEND_SHARE * sent)
            self._packets += sent
        # Called last: a callback may remove viewers.
        for on_start in started:
            on_start()

    def _send_chunk(self, stream: _Stream, plan: list[tuple[int, bytes, int, int]], timestamp: int, first: int) -> int:
        """Encrypt and send; how many packets went out. Fewer than planned: the stream must pause."""
        buffer = self._buffer
        data, view, length, sendto = buffer.data, buffer.view, buffer.length, stream.sendto
        handle, address, viewer = stream.context.handle, stream.address, stream.viewer
        payload_type, ssrc = viewer.payload_type, viewer.ssrc
        sequence = stream.offset + first
        wire_timestamp = (timestamp + stream.timestamp_offset) & 0xFFFFFFFF
        sent = 0
        octets = 0
        for i, payload, size, marker in plan:
            _HEADER(view, 0, _VERSION, payload_type | marker, (sequence + i) & 0xFFFF, wire_timestamp, ssrc)
            view[RTP_HEADER_BYTES:size] = payload
            length[0] = size
            if protect(handle, data, length):
                stream.failed = True
                log.error("srtp refused to encrypt; the viewer gets nothing more", ssrc=ssrc)
                break
            stream.next_sequence = sequence + i + 1
            try:
                octets += sendto(view[: length[0]], address)
            except OSError:
                # Full (EAGAIN, ENOBUFS) or unreachable: either way nothing is gained by trying the rest of the frame.
                break
            sent += 1
        if sent:
            stream.last_timestamp = wire_timestamp
            stream.last_sent = self._clock()
            self._octets += octets
        return sent

    def _pause(self, stream: _Stream, dropped: int) -> None:
        stream.waiting = True
        stream.dropped += dropped
        self._dropped += dropped

    def resend(self, handle: int, sequence_numbers: list[int]) -> None:
        """Send packets again: those since the viewer's last start that the ring still has, within its budget."""
        stream = self._streams.get(handle)
        if stream is None or not stream.packets:
            return
        for number in sequence_numbers:
            age = (stream.next_sequence - 1 - number) & 0xFFFF
            index = stream.next_sequence - 1 - age - stream.offset
            kept = self._ring.get(index) if index >= stream.first_index else None
            # Without RTX the packet goes out under its old number, which libsrtp allows within its window only.
            too_old = not stream.viewer.rtx_payload_type and age >= WINDOW
            if kept is None or too_old or stream.budget < 1 or stream.failed:
                self._refused += 1
                continue
            stream.budget -= 1
            if self._resend_one(stream, number & 0xFFFF, kept):
                stream.resent += 1
                self._resent += 1
                self._packets += 1
            else:
                stream.dropped += 1
                self._dropped += 1

    def _resend_one(self, stream: _Stream, number: int, kept: Kept) -> bool:
        """One packet again, by RTX (RFC 4588 section 4: the old number before the payload) where the peer has it."""
        viewer = stream.viewer
        marker = _MARKER if kept.marker else 0
        timestamp = (kept.timestamp + stream.timestamp_offset) & 0xFFFFFFFF
        payload = kept.payload
        if viewer.rtx_payload_type:
            payload = number.to_bytes(2, "big") + payload
            payload_type, ssrc, sequence = viewer.rtx_payload_type, viewer.rtx_ssrc, stream.rtx_sequence & 0xFFFF
            stream.rtx_sequence += 1
        else:
            payload_type, ssrc, sequence = viewer.payload_type, viewer.ssrc, number
        buffer = self._buffer
        size = RTP_HEADER_BYTES + len(payload)
        _HEADER(buffer.view, 0, _VERSION, payload_type | marker, sequence, timestamp, ssrc)
        buffer.view[RTP_HEADER_BYTES:size] = payload
        buffer.length[0] = size
        if protect(stream.context.handle, buffer.data, buffer.length):
            return False
        try:
            self._octets += stream.sendto(buffer.view[: buffer.length[0]], stream.address)
        except OSError:
            return False
        return True
