"""From coded H.264 as containers hold it to chunks: what clips, playlists, RTMP and devices have in common.

Pure but for `annex_b`, which is PyAV's filter. Players put pictures on the screen in the order in which they come, so
pictures that are shown in another order than they are coded (B-frames) are refused with their name.
"""

from collections.abc import Callable, Iterable
from typing import Any

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import CLOCK_RATE, Chunk, VideoFormat
from sightline_agent.media.playable import B_FRAMES
from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_TIMESTAMPS = 1 << 32
_WRAP = 1 << 33
"""MPEG's clock has 33 bits (ISO 13818-1); longer ones never come near."""
_GAP = 10 * CLOCK_RATE
"""A longer step is no pause in the picture but another clock."""
_REORDERING = 2 * CLOCK_RATE
"""A step back that is no longer than this is made by B-frames; a longer one is another clock."""
_FIRST_STEP = CLOCK_RATE // 25


class AccessUnits:
    """Whole access units, in coded order, made into chunks; SourceError for what players would not show.

    `it` is a phrase such as "the playlist"; `parameter_sets` are those that come beside the stream.
    """

    def __init__(self, it: str, parameter_sets: Iterable[bytes] = ()) -> None:
        self._it = it
        self._assembler = Assembler(parameter_sets)
        self._told: VideoFormat | None = None

    def renew(self, parameter_sets: Iterable[bytes]) -> None:
        """Other parameter sets are in force."""
        self._assembler = Assembler(parameter_sets)

    def news(self) -> VideoFormat | None:
        """What a player has to know before the next chunk: at the beginning, and when the picture gets another size."""
        if not self._assembler.decodable or self._assembler.format == self._told:
            return None
        self._told = self._assembler.format
        return self._told

    @property
    def started(self) -> bool:
        """True once there was such news."""
        return self._told is not None

    def chunks(self, data: bytes, ticks: int) -> list[Chunk]:
        """The chunks of one access unit that is shown at `ticks` of the 90 kHz clock."""
        return self.chunks_of(h264.split_annex_b(data), ticks)

    def chunks_of(self, nals: Iterable[bytes], ticks: int) -> list[Chunk]:
        """The same of its NAL units."""
        for nal in nals:
            for payload in h264.fragment(nal):
                self._assembler.push(payload, ticks % _TIMESTAMPS, marker=False)
        made = self._assembler.finish()
        problem = self._assembler.playable.problem
        if problem:
            raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"{self._it} has {problem}")
        return made


class Line:
    """One unbroken line of times, however often the clock behind it begins anew.

    Times are those at which pictures are shown, at 90 kHz. `it` is a phrase such as "the playlist".
    """

    def __init__(self, it: str) -> None:
        self._it = it
        self._came: int | None = None
        self._step = _FIRST_STEP
        self._now = -_FIRST_STEP

    def place(self, ticks: int) -> int:
        """The time on the line; SourceError for B-frames."""
        step = self._since(ticks)
        if -_REORDERING <= step < 0:
            raise b_frames(self._it)
        return self._go(step or 1)

    def resume(self, ticks: int, anew: bool = False) -> int:
        """The same where another clock may begin; `anew`: where one does."""
        step = self._since(ticks)
        return self._go(0 if anew else step)

    def _since(self, ticks: int) -> int:
        if self._came is None:
            self._came = ticks - self._step
        step = (ticks - self._came + _WRAP // 2) % _WRAP - _WRAP // 2
        self._came = ticks
        return step

    def _go(self, step: int) -> int:
        if not 0 < step <= _GAP:
            step = self._step  # another clock: as if it were the next picture
        elif step > 1:
            self._step = step
        self._now += step
        return self._now


class Pace:
    """When what comes faster than it is shown is due; `clock` is any monotonic clock in seconds."""

    CATCH_UP_SECONDS = 1.0
    """Further behind than this (the network or the machine was away), it goes on from now instead of racing."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: float | None = None

    def wait(self, due: float) -> float:
        """Seconds to wait for what is due `due` seconds after the beginning; negative when it is late."""
        now = self._clock()
        if self._began is None:
            self._began = now - due
        late = now - (self._began + due)
        if late > self.CATCH_UP_SECONDS:
            self._began += late
        return -late


def h264_stream(container: Any, it: str) -> Any:
    """The container's video; SourceError where there is none that can be passed on."""
    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"{it} has no video")
    name = stream.codec_context.name
    if name != "h264":
        text = f"the video of {it} is {name.upper()}; only H264 can be played"
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)
    return stream


def annex_b(stream: Any) -> Any:
    """A filter that makes start codes of lengths, and puts the container's parameter sets in band."""
    from av.bitstream import BitStreamFilterContext

    return BitStreamFilterContext("h264_mp4toannexb", stream)


def b_frames(it: str) -> SourceError:
    """Why pictures that are coded out of order are not passed on."""
    return SourceError(SourceReason.CODEC_UNSUPPORTED, f"{it} has {B_FRAMES}")
