"""From coded H.264 and H.265 as containers hold them to chunks: what clips, playlists, RTMP and devices have in common.

Pure but for `annex_b`, which is PyAV's filter. Pictures go on in the order of decoding, each with the time at which it
is shown.
"""

from collections.abc import Callable, Iterable
from typing import Any

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import CLOCK_RATE, Chunk, VideoFormat
from sightline_agent.media.grammar import GRAMMARS, H264, H265
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
_CODECS = {"h264": H264, "hevc": H265}
"""FFmpeg's names of what is passed on."""
_TO_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}


class AccessUnits:
    """Whole access units, in coded order, made into chunks. `parameter_sets` are those that come beside the stream."""

    def __init__(self, parameter_sets: Iterable[bytes] = (), codec: str = H264) -> None:
        self._assembler = Assembler(parameter_sets, codec)
        self._told: VideoFormat | None = None

    def renew(self, parameter_sets: Iterable[bytes] = (), codec: str = H264) -> None:
        """Other parameter sets are in force, or another codec."""
        self._assembler = Assembler(parameter_sets, codec)

    @property
    def format(self) -> VideoFormat:
        """Of what is taken now."""
        return self._assembler.format

    @property
    def codec(self) -> str:
        """Of what is taken now."""
        return self._assembler.format.codec

    def news(self) -> VideoFormat | None:
        """What a player has to know before the next chunk: at the beginning, and when the picture gets another size."""
        if not self._assembler.known or self._assembler.format == self._told:
            return None
        self._told = self._assembler.format
        return self._told

    @property
    def told(self) -> VideoFormat | None:
        """The newest such news."""
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
            for payload in GRAMMARS[self.codec].fragment(nal):
                self._assembler.push(payload, ticks % _TIMESTAMPS, marker=False)
        return self._assembler.finish()


class Line:
    """One unbroken line of times, however often the clock behind it begins anew.

    Times are those at which pictures are shown, at 90 kHz; B-frames go back a little.
    """

    def __init__(self) -> None:
        self._came: int | None = None
        self._step = _FIRST_STEP
        self._now = self._latest = -_FIRST_STEP

    def place(self, ticks: int) -> int:
        """The time on the line."""
        step = self._since(ticks)
        if -_REORDERING <= step < 0:
            self._now += step
            return self._now
        return self._go(step or 1)

    def beside(self, ticks: int) -> int | None:
        """Where on the line something is that is no picture; None before the first one, or far away from it."""
        if self._came is None:
            return None
        step = (ticks - self._came + _WRAP // 2) % _WRAP - _WRAP // 2
        return self._now + step if abs(step) <= _GAP else None

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
            step = self._latest - self._now + self._step  # another clock: as if it were the next picture
        elif step > 1:
            self._step = step
        self._now += step
        self._latest = max(self._latest, self._now)
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


def video_stream(container: Any, it: str) -> Any:
    """The container's video; SourceError where there is none that can be passed on."""
    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"{it} has no video")
    name = stream.codec_context.name
    if name not in _CODECS:
        text = f"the video of {it} is {name.upper()}; only H264 and H265 can be played"
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)
    return stream


def codec_of(stream: Any) -> str:
    """Of a stream that `video_stream` let pass."""
    return _CODECS[stream.codec_context.name]


def annex_b(stream: Any) -> Any:
    """A filter that makes start codes of lengths, and puts the container's parameter sets in band."""
    from av.bitstream import BitStreamFilterContext

    return BitStreamFilterContext(_TO_ANNEX_B[stream.codec_context.name], stream)
