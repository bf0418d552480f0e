"""The stream between PLAY and TEARDOWN: packets to chunks, signs of life in both directions, and its end.

RTP payloads go on as they come, without waiting for a frame to be whole. A missing packet is waited for as long as
`REORDER_SECONDS`, then counted and passed over; what is left of its frame goes on. Packets are taken in callbacks of
the event loop; what goes wrong there ends `run` by its timeout.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog

from sightline_agent.media import rtp
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import Chunk, MediaFormat
from sightline_agent.media.runs import Run
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.ordered import OrderedPackets
from sightline_agent.sources.rtsp import messages
from sightline_agent.sources.rtsp.client import Connection
from sightline_agent.sources.rtsp.feedback import Reception
from sightline_agent.sources.rtsp.handshake import Lane, Playing, Way
from sightline_agent.sources.rtsp.sound import Sound
from sightline_agent.sources.rtsp.wire import Batch, Item, Message, Packet
from sightline_agent.sources.sound.process import Drop
from sightline_model.reasons import SourceReason

STALL_SECONDS = 4.0
"""Of silence, at least; it is noticed within five."""
KEY_FRAME_SECONDS = 30.0
REORDER_SECONDS = 0.05
_EXTEND_SECONDS = 1.0
"""Between two changes of the stall's timer, not for each frame; so much later a stall may be noticed."""
_BYE_SECONDS = 1.0
"""A goodbye is believed when nothing comes after it: some cameras only change their SSRC."""
_REPORT_SECONDS = 5.0
_TICK_SECONDS = 1.0
_WINDOWS = {Way.TCP: 16, Way.UDP: 128}
"""Packets that may overtake a missing one."""

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class NoMediaError(SourceError):
    """The camera plays, as it says, but nothing came."""

    def __init__(self, way: Way) -> None:
        text = f"the camera accepts the connection but sends no pictures over {way}"
        if way is Way.UDP:
            text += "; a firewall may be in between"
        super().__init__(SourceReason.NO_FRAMES, text)
        self.way = way


class Stream:
    """One PLAY's worth of pictures."""

    def __init__(
        self,
        connection: Connection,
        playing: Playing,
        reception: Reception,
        sink: Sink,
        dropped: "Counter[Drop] | None" = None,
    ) -> None:
        """`dropped`: where dropped sound is counted."""
        self._connection = connection
        self._playing = playing
        self._payload_type = playing.track.payload_type
        self._reception = reception
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout_at(None)
        self._error: Exception | None = None
        self._assembler = Assembler(playing.track.parameter_sets, playing.track.codec)
        self._ordered = OrderedPackets(_WINDOWS[playing.way], REORDER_SECONDS, self._push, self._safely(self._deliver))
        self._ticker: asyncio.TimerHandle | None = None
        self._sound: Sound | None = None
        if playing.sound is not None:
            plan = playing.sound[0]
            heard = Reception(secrets.randbits(32), plan.track.clock_rate)
            self._sound = Sound(plan, heard, reception, self._hear, dropped)
        self._told: MediaFormat | None = None
        self._first_at: float | None = None
        self._key_seen = False
        self._bye = False
        self._extended_at = float("-inf")
        self._malformed = 0
        self._keep_alive = playing.keep_alive
        self._keep_alive_every = playing.session.timeout / 2
        self._keep_alive_at = self._loop.time() + self._keep_alive_every
        self._report_at = self._loop.time() + _REPORT_SECONDS
        self._asked: int | None = None

    async def run(self, first_by: float) -> None:
        """Deliver until cancelled or SourceError; the first packet must come before `first_by`."""
        udp = self._playing.udp
        try:
            async with self._limit:
                self._until(first_by)
                self._tick()
                if udp is not None:
                    udp.start(self._safely(self._datagrams), self._safely(self._control))
                if self._sound is not None:
                    self._start_sound(self._sound)
                read = self._connection.apart.reader(self._playing.channels[0], self._playing.track.codec)
                await self._connection.follow(self._take, read if udp is None else None)
        except TimeoutError:
            raise (self._error or self._silence()) from None
        finally:
            self._ordered.close()
            if self._ticker is not None:
                self._ticker.cancel()
            if self._sound is not None:
                await self._sound.close()
            _log.debug(
                "rtsp stream ended",
                way=self._playing.way,
                lost=self._ordered.lost,
                late=self._ordered.late,
                malformed=self._malformed,
                dropped=self._assembler.dropped,
                foreign=udp.foreign if udp is not None else 0,
                sound=self._sound.counts() if self._sound is not None else None,
            )

    # What comes

    def _take(self, items: Iterable[Item]) -> None:
        early: list[Packet] = []
        for item in items:
            if isinstance(item, Batch):
                self._batch(item)
            elif isinstance(item, Message):
                self._message(item)
            elif self._playing.udp is None:
                early.append(item)
        if early:  # before the camera had answered
            media = [item.data for item in early if item.channel == self._playing.channels[0]]
            others = [(item.channel, item.data) for item in early if item.channel != self._playing.channels[0]]
            self._batch(Batch(*self._connection.apart.runs(media, self._playing.track.codec), others))

    def _batch(self, batch: Batch) -> None:
        runs, malformed, others = batch
        for channel, data in others:
            if channel == self._playing.channels[1]:
                self._control([data])
            elif self._sound is not None:
                self._interleaved_sound(self._sound, channel, data)
        if runs or malformed:
            self._media(runs, malformed)

    def _interleaved_sound(self, sound: Sound, channel: int, data: bytes) -> None:
        rtp_channel, rtcp_channel = self._sound_lane.channels
        if channel == rtp_channel:
            sound.media([data])
        elif channel == rtcp_channel:
            sound.control([data])

    def _datagrams(self, packets: list[bytes]) -> None:
        self._media(*self._connection.apart.runs(packets, self._playing.track.codec))

    def _media(self, runs: list[Run], malformed: int) -> None:
        now = self._loop.time()
        pictures = unordered = False
        self._malformed += malformed
        for run in runs:
            if run.payload_type == self._payload_type:
                unordered = not self._digest(run, now) or unordered
                pictures = pictures or bool(run.payloads[0])
        if pictures:
            if self._bye or now - self._extended_at > _EXTEND_SECONDS:
                self._extended_at = now
                self._until(now + STALL_SECONDS + _EXTEND_SECONDS)
            self._bye = False
            self._first_at = self._first_at if self._first_at is not None else now
        if unordered:
            self._ordered.settle()
        self._deliver(now)

    def _digest(self, run: Run, now: float) -> bool:
        """Digest a run: as it is (True) where it is in order and of a slice, else packet by packet."""
        count = len(run.payloads)
        self._reception.packet(run, now, count - 1)
        if self._sound is not None:
            self._sound.picture(run.timestamp, now)
        if run.shape and self._ordered.passes(run.sequence, run.ssrc, count):
            self._assembler.extend(run)
            return True
        for packet in run.packets():
            self._ordered.take(packet)
        return False

    def _push(self, packet: rtp.RtpPacket, gap: bool) -> None:
        if packet.payload:
            self._assembler.push(packet.payload, packet.timestamp, packet.marker, gap)

    def _control(self, packets: list[bytes]) -> None:
        now = self._loop.time()
        for data in packets:
            if self._reception.control(data, now) and self._first_at is not None and not self._bye:
                self._bye = True
                self._until(now + _BYE_SECONDS)

    def _message(self, message: Message) -> None:
        status = messages.status(message)
        if status is None:
            self._connection.reply(message)
            return
        if messages.sequence(message) != self._asked:
            return
        if status.code == 401 and self._connection.renew(message):
            self._keep_alive_at = min(self._keep_alive_at, self._loop.time() + 1.0)  # the nonce had expired: soon again
        elif status.code in (405, 501, 551):
            self._keep_alive = "OPTIONS"
        elif status.code == 454:
            raise SourceError(SourceReason.UNREACHABLE, "the camera has ended the session")

    # What goes on

    def _deliver(self, now: float) -> None:
        chunks = self._assembler.take()
        if not self._key_seen:
            self._look_for_key(chunks, now)
        if not self._assembler.known:
            return
        told = self._told
        if told is None or self._sound is not None or told.video is not self._assembler.format:
            self._tell()
        for chunk in chunks:
            self._sink.write(chunk)

    def _tell(self) -> None:
        """At the beginning, when the camera changes its resolution, and when its sound proves to be undecodable."""
        sound, told = self._sound, self._told
        audio, silence = (sound.format, sound.problem) if sound is not None else (None, self._playing.silence)
        if told is None or told.video != self._assembler.format or told.audio != audio:
            self._told = MediaFormat(self._assembler.format, audio, silence)
            self._sink.start(self._told)

    def _hear(self, chunk: Chunk, picture: int | None) -> None:
        if self._told is not None:
            self._sink.write_audio(chunk, picture)

    def _look_for_key(self, chunks: list[Chunk], now: float) -> None:
        self._key_seen = any(chunk.key for chunk in chunks)
        if not self._key_seen and self._first_at is not None and now - self._first_at > KEY_FRAME_SECONDS:
            text = f"the camera sent no key frame in {KEY_FRAME_SECONDS:g} s"
            self._fail(SourceError(SourceReason.NO_FRAMES, text))

    # Signs of life

    def _tick(self) -> None:
        now = self._loop.time()
        self._ticker = self._loop.call_later(_TICK_SECONDS, self._tick)
        if now >= self._keep_alive_at:
            self._keep_alive_at = now + self._keep_alive_every
            headers = [("Session", self._playing.session.id)]
            self._asked = self._connection.send(self._keep_alive, self._playing.url, headers)
        if now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            self._report(self._playing.lane, self._reception.report(now))
            if self._sound is not None:
                self._report(self._sound_lane, self._sound.report(now))

    def _report(self, lane: Lane, report: bytes) -> None:
        if lane.udp is not None:
            lane.udp.send_report(report)
        else:
            self._connection.send_packet(lane.channels[1], report)

    @property
    def _sound_lane(self) -> Lane:
        return self._playing.sound[1] if self._playing.sound is not None else self._playing.lane

    def _start_sound(self, sound: Sound) -> None:
        sound.start()
        udp = self._sound_lane.udp
        if udp is not None:
            udp.start(self._safely(sound.media), self._safely(sound.control))

    # The end

    def _until(self, when: float) -> None:
        if self._error is None and not self._limit.expired():
            self._limit.reschedule(when)

    def _safely(self, act: Callable[[T], None]) -> Callable[[T], None]:
        """The same as a callback of the event loop, which nobody waits for."""

        def acted(what: T) -> None:
            try:
                act(what)
            except Exception as error:
                self._fail(error)

        return acted

    def _fail(self, error: Exception) -> None:
        self._until(self._loop.time())
        self._error = self._error or error

    def _silence(self) -> SourceError:
        if self._first_at is None:
            return NoMediaError(self._playing.way)
        if self._bye:
            return SourceError(SourceReason.UNREACHABLE, "the camera has ended the stream")
        return SourceError(SourceReason.STALLED, f"the camera sent nothing for {STALL_SECONDS:g} s")
