"""The fan-out in pure Python: one buffer, twelve header bytes rewritten per viewer, libsrtp, `sendto`.

Some 8 us per packet and viewer. It is the reference for the native one and serves where that is not installed.

Sequence numbers. Packets have an absolute index in the shared ring; a viewer sends index `i` as sequence number
`i + offset`, counted without wrapping and cut to 16 bits on the wire. Numbers only grow and each is encrypted once: a
packet that a full socket refused is kept as it was encrypted and sent later, or its number stays unused. So the
receiver sees a gap where it lost something, and no SRTP index is ever used for two different packets. A repeat for
peers without RTX is the same packet, byte for byte.

A viewer is waiting (for a key frame), live, or behind: then it has a place of its own in the ring (`pacing`).
"""

import errno
import secrets
import time
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Protocol

import structlog

from sightline_agent.media.frames import CLOCK_RATE, MAX_PAYLOAD, Chunk
from sightline_agent.media.gop import GopCache
from sightline_agent.transport.fanout import Address, Carried, FanOutTotals, Moment, Viewer, ViewerStats
from sightline_agent.transport.pacing import Later, Pace, Ticker, on_loop
from sightline_agent.transport.ring import Kept, PacketRing
from sightline_agent.transport.rtcp import CNAME, SenderReport, build_sender_report
from sightline_agent.transport.srtp import RTP_HEADER_BYTES, WINDOW, PacketBuffer, protect
from sightline_agent.transport.stream_python import Stream

RESEND_BURST = 600
"""NACKed packets that a viewer may ask for at once: a lost key frame of a 4K stream."""
RESEND_SHARE = 0.5
"""How many more it earns per packet sent, so that nobody turns NACKs into a flood."""

_VERSION = 0x80
_MARKER = 0x80
_HEADER = Struct("!BBHII").pack_into
_FULL = (errno.EAGAIN, errno.ENOBUFS)

log = structlog.get_logger(__name__)


class DatagramSender(Protocol):
    """A non-blocking UDP socket."""

    def sendto(self, data: memoryview, address: Address, /) -> int: ...


class Sockets(Protocol):
    """Knows which socket reaches an address: the mux."""

    def socket_for(self, address: Address) -> DatagramSender: ...


class PythonFanOut:
    """FanOut over the mux's sockets."""

    def __init__(
        self,
        sockets: Sockets,
        *,
        ring: PacketRing | None = None,
        random: Callable[[int], int] = secrets.randbits,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
        later: Later = on_loop,
    ) -> None:
        self._sockets = sockets
        self._ring = ring or PacketRing()
        self._random = random
        self._clock = clock
        self._pace = pace or Pace()
        self._gop = GopCache()
        self._ticker = Ticker(self._catch_up, self._pace.tick, later)
        self._buffer = PacketBuffer()
        self._streams: dict[int, Stream] = {}
        self._behind: deque[Stream] = deque()
        self._newest = (0, 0.0)
        self._whole = True
        self._clock_rate = CLOCK_RATE
        self._next_handle = 1
        self._packets = self._octets = self._resent = self._dropped = self._refused = 0
        self._bursts = self._delayed = self._skipped = 0

    def add(self, viewer: Viewer, on_start: Callable[[], None] | None = None) -> int:
        """Start a viewer with the group of pictures under way, or with the next key frame."""
        handle = self._next_handle
        self._next_handle += 1
        sender = self._sockets.socket_for(viewer.address)
        stream = self._streams[handle] = Stream(viewer, sender.sendto, self._random, float(RESEND_BURST), on_start)
        self._burst(stream)
        return handle

    def remove(self, handle: int) -> None:
        """Forget a viewer."""
        stream = self._streams.pop(handle, None)
        if stream is not None:
            stream.behind = False

    def settled(self, handle: int) -> bool:
        """Is the viewer between two frames, and not behind?"""
        stream = self._streams.get(handle)
        return self._whole and (stream is None or not stream.behind)

    def release(self, handle: int) -> Carried | None:
        """Let a viewer go to another fan-out."""
        stream = self._streams.pop(handle, None)
        if stream is None:
            return None
        if stream.behind:
            self._behind.remove(stream)
        on_start, stream.on_start = stream.on_start, None
        return Carried(stream, stream.address, on_start)

    def adopt(self, carried: Carried, clock_rate: int = CLOCK_RATE, *, at_once: bool = True) -> int:
        """Take in a viewer that another fan-out of this kind has released."""
        stream = carried.state
        if not isinstance(stream, Stream):
            raise TypeError("a viewer of another kind of fan-out")
        now = self._clock()
        self._clock_rate = clock_rate
        if stream.packets:
            passed = stream.last_timestamp + _ticks(now - stream.last_sent, clock_rate)
            stream.timestamp_offset = passed - self._newest[0] - _ticks(now - self._newest[1], clock_rate)
        stream.enter(self._sockets.socket_for(carried.address).sendto, carried.on_start)
        handle = self._next_handle
        self._next_handle += 1
        self._streams[handle] = stream
        if at_once and not stream.failed:
            self._burst(stream)
        return handle

    def refresh(self, handle: int) -> bool:
        """Send the group under way to a viewer again; not too often."""
        stream = self._streams.get(handle)
        if stream is None or stream.failed or stream.behind or self._clock() < stream.refresh_at:
            return False
        return self._burst(stream)

    def cut(self) -> None:
        """Who joins now waits for the next key frame."""
        self._gop.clear()

    def gop_seconds(self) -> float | None:
        """How much a viewer who joined now would get at once."""
        return None if self._gop.start is None else self._gop.seconds

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
            bursts=self._bursts,
            delayed=self._delayed,
            skipped=self._skipped,
            gops_dropped=self._gop.dropped.total(),
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
        self._gop.add(chunk)
        now = self._clock()
        if not first:
            # Who was adopted before: until now nothing told what this stream's clock shows.
            assumed = _ticks(now, self._clock_rate)
            for stream in self._streams.values():
                if stream.packets:
                    stream.timestamp_offset += assumed - chunk.timestamp
        self._newest = (chunk.timestamp, now)
        self._whole = chunk.last
        if not self._streams:
            return
        plan = [(i, p, len(p) + RTP_HEADER_BYTES, _MARKER if i == last else 0) for i, p in enumerate(chunk.payloads)]
        octets = sum(map(len, chunk.payloads))
        started: list[Callable[[], None]] = []
        for stream in self._streams.values():
            if stream.behind:
                continue
            if stream.waiting:
                if not chunk.key or stream.failed:
                    if stream.packets:
                        self._pause(stream, len(plan))
                    continue
                self._rebase(stream, first)
            sent = self._send_chunk(stream, plan, chunk.timestamp, first)
            octets_sent = octets
            if sent < len(plan):
                octets_sent = sum(len(p) for p in chunk.payloads[:sent])
                if stream.pending is None:
                    self._pause(stream, len(plan) - sent)
                else:
                    stream.place = first + sent
                    stream.held, stream.stuck_since = True, now
                    self._delayed += 1
                    self._fall_behind(stream, now)
            if sent:
                self._count(stream, sent, octets_sent, started)
        # Called last: a callback may remove viewers.
        for on_start in started:
            on_start()

    def _send_chunk(self, stream: Stream, plan: list[tuple[int, bytes, int, int]], timestamp: int, first: int) -> int:
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
            except OSError as error:
                if _is_full(error):
                    stream.pending = bytes(view[: length[0]])
                break
            sent += 1
        self._octets += octets
        return sent

    def _count(self, stream: Stream, sent: int, octets: int, started: list[Callable[[], None]]) -> None:
        stream.packets += sent
        stream.octets += octets
        stream.budget = min(RESEND_BURST, stream.budget + RESEND_SHARE * sent)
        self._packets += sent
        # What the stream's clock shows, also to a viewer who is behind: sender reports tell it.
        timestamp, stream.last_sent = self._newest
        stream.last_timestamp = (timestamp + stream.timestamp_offset) & 0xFFFFFFFF
        if stream.on_start is not None:
            started.append(stream.on_start)
            stream.on_start = None

    def _rebase(self, stream: Stream, index: int) -> None:
        """The viewer goes on, or begins, with the packet at this index."""
        stream.waiting = False
        stream.offset = stream.next_sequence - index
        stream.first_index = index

    def _pause(self, stream: Stream, dropped: int) -> None:
        stream.waiting = True
        stream.behind = False
        stream.pending = None
        stream.dropped += dropped
        self._dropped += dropped

    # Viewers who are behind

    def _burst(self, stream: Stream) -> bool:
        start = self._gop.start
        kept = self._ring.get(start) if start is not None else None
        if start is None or kept is None:
            return False
        now = self._clock()
        if stream.packets:
            stream.timestamp_offset += self._newest[0] + self._pace.refresh_step - kept.timestamp
        self._rebase(stream, start)
        stream.place = start
        stream.held, stream.stuck_since = False, None
        stream.refresh_at = now + max(self._pace.refresh, self._gop.seconds)
        self._bursts += 1
        self._fall_behind(stream, now)
        return True

    def _fall_behind(self, stream: Stream, now: float) -> None:
        stream.behind = True
        stream.sliced_at = now
        self._behind.append(stream)
        self._ticker.start()

    def _catch_up(self) -> bool:
        """A slice for each who is behind, in turn, as far as one tick's work goes; is anybody still behind?"""
        now = self._clock()
        room = self._pace.tick_most
        started: list[Callable[[], None]] = []
        for _ in range(len(self._behind)):
            if room <= 0:
                break
            stream = self._behind.popleft()
            if not stream.behind:
                continue
            # Nothing sent is work too: where one socket is full, it is for all.
            room -= self._slice(stream, now, started) or self._pace.slice_least
            if stream.behind:
                self._behind.append(stream)
        for on_start in started:
            on_start()
        return bool(self._behind)

    def _skip(self, stream: Stream) -> bool:
        """Leave out what is ahead of a newer key frame, if that is much and no frame is cut in two."""
        start = self._gop.start
        if start is None or start - stream.place <= self._pace.skip:
            return False
        before, here = self._ring.get(stream.place - 1), self._ring.get(stream.place)
        if before is not None and here is not None and before.timestamp == here.timestamp:
            return False
        self._skipped += start - stream.place
        stream.pending = None
        self._rebase(stream, start)
        stream.place = start
        return True

    def _slice(self, stream: Stream, now: float, started: list[Callable[[], None]]) -> int:
        """The next packets for a viewer; how many were sent."""
        limit = self._pace.slice(now - stream.sliced_at)
        stream.sliced_at = now
        end = self._ring.next_index
        octets = sent = 0
        skipped = False
        while sent < limit and stream.place < end:
            skipped = skipped or self._skip(stream)
            kept = self._ring.get(stream.place)
            if kept is None or (stream.held and end - stream.place > self._pace.backlog):
                self._pause(stream, end - stream.place)
                break
            packet = stream.pending or self._encrypt(stream, kept)
            if packet is None:
                self._pause(stream, end - stream.place)
                break
            try:
                self._octets += stream.sendto(memoryview(packet), stream.address)
            except OSError as error:
                stream.pending = bytes(packet)
                self._refused_by_socket(stream, now, _is_full(error))
                break
            stream.pending, stream.stuck_since = None, None
            stream.place += 1
            octets += len(kept.payload)
            sent += 1
        if sent:
            self._count(stream, sent, octets, started)
        if stream.place == end:
            stream.behind = False
        return sent

    def _refused_by_socket(self, stream: Stream, now: float, full: bool) -> None:
        if stream.stuck_since is None:
            stream.stuck_since = now
        if not full or now - stream.stuck_since > self._pace.stuck:
            self._pause(stream, self._ring.next_index - stream.place)

    def _encrypt(self, stream: Stream, kept: Kept) -> memoryview | None:
        """The packet at the viewer's place; its number is used up."""
        viewer, number = stream.viewer, stream.place + stream.offset
        second = viewer.payload_type | (_MARKER if kept.marker else 0)
        timestamp = (kept.timestamp + stream.timestamp_offset) & 0xFFFFFFFF
        packet = self._protect(stream, (second, number & 0xFFFF, timestamp, viewer.ssrc), kept.payload)
        if packet is None:
            stream.failed = True
            log.error("srtp refused to encrypt; the viewer gets nothing more", ssrc=viewer.ssrc)
        else:
            stream.next_sequence = number + 1
        return packet

    # Reports

    def report(self, handle: int, moment: Moment, clock_rate: int = CLOCK_RATE, correction: int = 0) -> int | None:
        """Send a viewer a sender report."""
        stream = self._streams.get(handle)
        if stream is None or not stream.packets:
            return None
        report = SenderReport(
            ssrc=stream.viewer.ssrc,
            ntp=moment.ntp,
            rtp_timestamp=stream.last_timestamp + _ticks(moment.now - stream.last_sent, clock_rate) + correction,
            packets=stream.packets,
            octets=stream.octets,
            cname=CNAME,
        )
        packet = stream.context.protect_rtcp(build_sender_report(report))
        try:
            if packet is not None:
                stream.sendto(memoryview(packet), stream.address)
        except OSError:
            packet = None
        if packet is None:
            self._dropped += 1
        return stream.octets

    # Packets again

    def resend(self, handle: int, sequence_numbers: list[int]) -> None:
        """Send packets again: those since the viewer's last start that the ring still has, within its budget."""
        stream = self._streams.get(handle)
        if stream is None or not stream.packets:
            return
        for number in sequence_numbers:
            age = (stream.next_sequence - 1 - number) & 0xFFFF
            index = stream.next_sequence - 1 - age - stream.offset
            unsent = stream.behind and index >= stream.place
            kept = self._ring.get(index) if index >= stream.first_index and not unsent else None
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

    def _resend_one(self, stream: Stream, number: int, kept: Kept) -> bool:
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
        packet = self._protect(stream, (payload_type | marker, sequence, timestamp, ssrc), payload)
        if packet is None:
            return False
        try:
            self._octets += stream.sendto(packet, stream.address)
        except OSError:
            return False
        return True

    def _protect(self, stream: Stream, header: tuple[int, int, int, int], payload: bytes) -> memoryview | None:
        """One packet, encrypted in the shared buffer; None where libsrtp refuses. `header`: its fields, in order."""
        buffer = self._buffer
        size = RTP_HEADER_BYTES + len(payload)
        _HEADER(buffer.view, 0, _VERSION, *header)
        buffer.view[RTP_HEADER_BYTES:size] = payload
        buffer.length[0] = size
        if protect(stream.context.handle, buffer.data, buffer.length):
            return None
        return buffer.view[: buffer.length[0]]


def _ticks(seconds: float, clock_rate: int) -> int:
    return round(max(seconds, 0.0) * clock_rate)


def _is_full(error: OSError) -> bool:
    return isinstance(error, BlockingIOError) or error.errno in _FULL
