"""Coded pictures of any kind to H.264 for browsers: decode, make progressive, make to fit, encode without delay.

Runs in the transcoder's process; blocks. Pictures come in the order of decoding and leave in the order of showing, each
with the time it came with, so nothing drifts. The encoder is made anew, at a key frame, where the pictures
change their size or turn out to have another rate. What waited longer than `LATE_SECONDS` is decoded, because others
refer to it, but not encoded: on a machine that is too slow pictures are left out rather than shown ever later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources import x264
from sightline_agent.transcode.rate import FrameRate
from sightline_agent.transcode.records import Tally

LATE_SECONDS = 0.4
MAX_WIDTH, MAX_HEIGHT = 1920, 1080
"""Larger pictures are made smaller: one core does not encode them in time."""
_GUESSED_FPS = 25
_OTHER_RATE = 1.2
"""The encoder counts with a rate that is wrong by less."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the encoder is made for."""

    width: int
    height: int
    fps: int

    def suits(self, width: int, height: int, fps: int) -> bool:
        """True where an encoder made for this may go on."""
        near = max(fps, self.fps) <= min(fps, self.fps) * _OTHER_RATE
        return near and (self.width, self.height) == (width, height)


def fitting(width: int, height: int) -> tuple[int, int]:
    """The largest even size of the same form within the limit; portrait pictures have the limit turned."""
    most, least = max(width, height), min(width, height)
    scale = min(1.0, MAX_WIDTH / most, MAX_HEIGHT / least)
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


class Conversion:
    """One stream. `codec` is FFmpeg's name of the decoder."""

    def __init__(self, codec: str) -> None:
        import av

        self._decoder: Any = av.CodecContext.create(codec, "r")
        # Threads that share a picture add no delay; threads that each take a picture would.
        self._decoder.thread_type = "SLICE"
        self._decoder.thread_count = 0
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError,)
        self._encoder: Any = None
        self._shape: Shape | None = None
        self._rate = FrameRate()
        self._progressive: _Progressive | None = None
        self._key_wanted = False
        self._last_ticks: int | None = None
        self.encoded = self.late = self.broken = 0

    @property
    def tally(self) -> Tally:
        """What was done so far."""
        return Tally(self.encoded, self.late, self.broken)

    def want_key_frame(self) -> None:
        """The next picture that is encoded shall be one to begin at."""
        self._key_wanted = True

    def prepare(self, unit: bytes, ticks: int) -> None:
        """Decode what is not to be shown."""
        for frame in self._decoded(unit, ticks):
            self._rate.add(frame.pts)

    def convert(self, unit: bytes, ticks: int, waited: float) -> Iterator[tuple[int, bytes]]:
        """What is ready to be shown now: times and access units. `waited`: seconds since the unit was handed over."""
        for decoded in self._decoded(unit, ticks):
            for frame in self._deinterlaced(decoded):
                yield from self._encoded(frame, waited > LATE_SECONDS)

    def _decoded(self, unit: bytes, ticks: int) -> list[Any]:
        import av

        packet = av.Packet(unit)
        packet.pts, packet.time_base = ticks, Fraction(1, CLOCK_RATE)
        try:
            frames = self._decoder.decode(packet)
        except self._errors:
            self.broken += 1
            return []
        timed = [frame for frame in frames if frame.pts is not None]
        self.broken += len(frames) - len(timed)
        return timed

    def _deinterlaced(self, frame: Any) -> list[Any]:
        if self._progressive is None and not frame.interlaced_frame:
            return [frame]
        if self._progressive is None or not self._progressive.fits(frame):
            self._progressive = _Progressive(frame)
        return self._progressive.filter(frame)

    def _encoded(self, frame: Any, late: bool) -> Iterator[tuple[int, bytes]]:
        ticks = frame.pts
        if self._last_ticks is not None and ticks <= self._last_ticks:
            self.broken += 1  # a stream that was damaged, or begins anew: x264 wants times that grow
            return
        self._last_ticks = ticks
        self._rate.add(ticks)
        if late and not self._key_wanted:
            self.late += 1
            return
        self._fit_encoder(frame)
        ready = frame.reformat(self._encoder.width, self._encoder.height, "yuv420p")
        ready.pts, ready.time_base = ticks, Fraction(1, CLOCK_RATE)
        x264.as_key_frame(ready, self._key_wanted)
        self._key_wanted = False
        for packet in self._encoder.encode(ready):
            self.encoded += 1
            yield ticks, bytes(packet)

    def _fit_encoder(self, frame: Any) -> None:
        width, height = fitting(frame.width, frame.height)
        fps = self._rate.fps or (self._shape.fps if self._shape else self._announced())
        if self._shape is not None and self._shape.suits(width, height, fps):
            return
        self._shape = Shape(width, height, fps)
        self._encoder = x264.encoder(self._shape)
        self._encoder.time_base = Fraction(1, CLOCK_RATE)

    def _announced(self) -> int:
        rate = self._decoder.framerate
        return round(rate) if rate and 1 <= rate <= 60 else _GUESSED_FPS


class _Progressive:
    """Fields made into whole pictures, one for each two fields; what is progressive passes unchanged."""

    def __init__(self, frame: Any) -> None:
        from av.filter import Graph

        self._like = (frame.width, frame.height, frame.format.name)
        graph = Graph()
        width, height, format_ = self._like
        source = graph.add(
            "buffer", f"video_size={width}x{height}:pix_fmt={format_}:time_base=1/{CLOCK_RATE}:pixel_aspect=1/1"
        )
        filter_ = graph.add("yadif", "mode=send_frame:deint=interlaced")
        end = graph.add("buffersink")
        source.link_to(filter_)
        filter_.link_to(end)
        graph.configure()
        self._graph = graph  # its parts do not keep it alive
        self._source, self._end = source, end

    def fits(self, frame: Any) -> bool:
        """False where the pictures have changed."""
        return self._like == (frame.width, frame.height, frame.format.name)

    def filter(self, frame: Any) -> list[Any]:
        import av

        frame.time_base = Fraction(1, CLOCK_RATE)
        self._source.push(frame)
        ready: list[Any] = []
        while True:
            try:
                done: Any = self._end.pull()
            except (av.BlockingIOError, av.EOFError):
                return ready
            # The filter counts in fields: half a tick of the clock it was given.
            done.pts = round(done.pts * done.time_base * CLOCK_RATE)
            ready.append(done)
