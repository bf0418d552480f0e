"""The sound beside an RTSP stream's pictures.

`plan` says what can be made of a description's sound, `Sound` does it: payloads that browsers play go on as they come,
AAC goes through a process that makes Opus of it. Nothing here ends or delays the pictures: what fails or makes no sense
is counted, and `problem` says why there is no sound.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sightline_agent.media import aac, rtp, sound
from sightline_agent.media.frames import CLOCK_RATE, AudioFormat, Chunk
from sightline_agent.media.lipsync import Unwrapper, picture_at, signed
from sightline_agent.sources.ordered import OrderedPackets
from sightline_agent.sources.rtsp import sdp
from sightline_agent.sources.rtsp.feedback import Reception
from sightline_agent.sources.sound.process import Drop, OpusProcess
from sightline_agent.sources.sound.wire import Coding

REORDER_SECONDS = 0.05
_WINDOW = 32
_PASSED_ON = {("OPUS", 48_000): sound.OPUS, ("PCMU", 8000): sound.PCMU, ("PCMA", 8000): sound.PCMA}
_MPEG4 = "MPEG4-GENERIC"
_MAX_CONFIG_DIGITS = 128
_DOUBTFUL_TICKS = 2 * CLOCK_RATE
"""A camera whose own clocks differ more than this from what arrives together has none that could be believed."""

Deliver = Callable[[Chunk, int | None], None]
"""A chunk, and the timestamp of a picture of the same moment, where that is known."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made of a track of sound."""

    track: sdp.SoundTrack
    format: AudioFormat
    coding: Coding | None = None
    """How it is decoded; None where it goes on as it comes."""
    layout: aac.Layout | None = None


def plan(description: sdp.Description) -> tuple[Plan | None, str]:
    """The first track of sound that can be carried; else why there is none, empty where the camera offers none."""
    problem = ""
    for track in description.sounds:
        found = _plan(track)
        if found is not None:
            return found, ""
        problem = problem or f"the camera's sound is {track.codec}/{track.clock_rate}, which is not carried"
    return None, problem


def _plan(track: sdp.SoundTrack) -> Plan | None:
    format_ = _PASSED_ON.get((track.codec, track.clock_rate))
    if format_ is not None:
        # Two channels of G.711 in one stream are nothing that browsers offer to play.
        return Plan(track, format_) if format_ is sound.OPUS or track.channels == 1 else None
    if track.codec != _MPEG4:
        return None
    text = track.parameters.get("config", "")[:_MAX_CONFIG_DIGITS]
    try:
        configuration = bytes.fromhex(text)
    except ValueError:
        return None
    config, layout = aac.parse_config(configuration), aac.layout_of(track.parameters)
    if config is None or layout is None:
        return None
    # RTP counts in the rate that the SDP names, which is not always that of the access units.
    coding = Coding("aac", config.rate, config.channels, configuration)
    return Plan(track, sound.OPUS, coding, layout)


class Sound:
    """One PLAY's worth of sound. `pictures` is how the pictures arrive: what the camera tells of their clock."""

    def __init__(
        self,
        of: Plan,
        reception: Reception,
        pictures: Reception,
        deliver: Deliver,
        dropped: "Counter[Drop] | None" = None,
    ) -> None:
        """`dropped`: where drops are counted."""
        self._plan = of
        self._reception = reception
        self._pictures = pictures
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._ordered = OrderedPackets(_WINDOW, REORDER_SECONDS, self._push, lambda now: None)
        self._units = aac.AccessUnits(of.layout) if of.layout is not None else None
        self._times = Unwrapper()
        self._process = OpusProcess(of.coding, self._encoded, dropped) if of.coding is not None else None
        self._task: asyncio.Task[None] | None = None
        self._newest: tuple[int, float] | None = None
        """Timestamp of the newest picture, and when it came."""
        self._malformed = 0

    @property
    def format(self) -> AudioFormat | None:
        """What goes on; None when it has proved to be undecodable."""
        return None if self.problem else self._plan.format

    @property
    def problem(self) -> str:
        """Why there is no sound any more."""
        if self._process is None or not self._process.problem:
            return ""
        return f"the camera's sound is {self._plan.track.codec}; {self._process.problem}"

    def counts(self) -> dict[str, int]:
        """Packets that were lost or late, that were no RTP, and payloads that made no sense."""
        dropped = self._units.dropped if self._units is not None else 0
        found = {"lost": self._ordered.lost, "late": self._ordered.late}
        return {**found, "malformed": self._malformed, "dropped": dropped}

    def start(self) -> None:
        """Start what has to run beside."""
        if self._process is not None:
            self._task = asyncio.create_task(self._process.run(), name="sound")

    async def close(self) -> None:
        """End it."""
        self._ordered.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def media(self, packets: list[bytes]) -> None:
        """RTP that came."""
        now = self._loop.time()
        for data in packets:
            try:
                packet = rtp.parse(data)
            except rtp.RtpError:
                self._malformed += 1
                continue
            if packet.payload_type == self._plan.track.payload_type and packet.payload:
                self._reception.packet(packet, now)
                self._ordered.take(packet)
        self._ordered.settle()

    def control(self, packets: list[bytes]) -> None:
        """RTCP that came; a goodbye to the sound alone means nothing to the pictures."""
        for data in packets:
            self._reception.control(data, self._loop.time())

    def report(self, now: float) -> bytes:
        """RTCP for the camera."""
        return self._reception.report(now)

    def picture(self, timestamp: int, now: float) -> None:
        """A part of this picture came."""
        self._newest = (timestamp, now)

    def _push(self, packet: rtp.RtpPacket, gap: bool) -> None:
        if self._units is None or self._process is None:
            for payload, distance in sound.pieces(self._plan.format, packet.payload):
                at = packet.timestamp + distance
                self._deliver(sound.chunk(payload, at, packet.marker), self._picture_at(at))
            return
        for unit, distance in self._units.push(packet.payload, packet.timestamp, gap):
            at = self._times.unwrap(packet.timestamp) + self._in_track(distance)
            self._process.push(unit, at * sound.OPUS_RATE // self._plan.track.clock_rate)

    def _in_track(self, samples: int) -> int:
        coding = self._plan.coding
        return samples * self._plan.track.clock_rate // coding.rate if coding is not None else samples

    def _encoded(self, packet: bytes, at: int) -> None:
        told_at = at * self._plan.track.clock_rate // sound.OPUS_RATE
        self._deliver(sound.chunk(packet, at), self._picture_at(told_at))

    def _picture_at(self, at: int) -> int | None:
        """After the camera's sender reports, where there are any that can be believed."""
        sound_told, picture_told, newest = self._reception.told, self._pictures.told, self._newest
        if sound_told is None or picture_told is None or newest is None:
            return None
        found = picture_at(at, self._plan.track.clock_rate, sound_told, picture_told)
        expected = newest[0] + round((self._loop.time() - newest[1]) * CLOCK_RATE)
        return found if abs(signed(found - expected)) < _DOUBTFUL_TICKS else None
