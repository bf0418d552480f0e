"""Can a stream be shown as it is? Not if it is interlaced, nor if pictures come in another order than shown.

RTP carries pictures in the order of decoding, and WebRTC players show them in that order: B-frames, which are shown
before pictures that were sent earlier, make the picture jump to and fro. Parameter sets only say what a stream may
do, and cameras declare more than they use; so a stream is judged by what it does: B slices, unless the parameter
set rules out another order, or timestamps that keep stepping back. (H.265 has B slices in streams of any order, and its
parameter sets always say; there only time tells.) `refusal` words it for people. Pure.
"""

from sightline_agent.media.frames import VideoFormat
from sightline_agent.media.grammar import H264, H265

INTERLACED = "interlaced pictures, which browsers do not show as they are; set it to progressive"
B_FRAMES = "B-frames, which browsers cannot put in order; switch them off (Baseline profile has none)"
OTHER_CODEC = "{codec}, which few browsers play; set it to H.264"

_MAIN = "1"
_MODULUS = 1 << 32
_STEP_BACK = 90_000
"""Further back than a second, a clock was set; that is no other order."""
_BLAME, _LIMIT = 8, 17
"""A step back weighs as much as eight steps forward; a clock that was corrected once is forgiven."""
_DOUBTFUL_FRAMES = 24


def refusal(video: VideoFormat) -> str:
    """What the stream has that not every browser shows; empty when nothing is known against it."""
    if video.interlaced:
        return INTERLACED
    if video.b_frames:
        return B_FRAMES
    return "" if video.codec == H264 else OTHER_CODEC.format(codec=video.codec)


def codec_name(video: VideoFormat) -> str:
    """What a player must decode: the codec, and H.265's profile where it is not Main (`H265.2` is Main 10)."""
    profile = video.profile_level_id.partition(".")[0] if video.codec == H265 else ""
    return f"{video.codec}.{profile}" if profile not in ("", _MAIN) else video.codec


def plays(video: VideoFormat, codecs: frozenset[str]) -> bool:
    """True where a player that decodes `codecs` (by `codec_name`) shows this as it is."""
    return not video.b_frames and not video.interlaced and codec_name(video) in codecs


class Playability:
    """Fed by the assembler with what begins in the stream."""

    def __init__(self) -> None:
        self.interlaced = False
        """Pictures may be fields."""
        self.b_frames = False
        """Pictures come in another order than shown."""
        self.doubtful = False
        """The parameter set announces B-frames, and too few frames were seen to know that there are none."""
        self._max_reorder: int | None = None
        self._timestamp: int | None = None
        self._blame = 0
        self._frames = 0

    def parameters(self, interlaced: bool, max_reorder: int | None) -> None:
        """What a sequence parameter set says."""
        self.interlaced = interlaced
        self._max_reorder = max_reorder
        self._doubt()

    def frame(self, timestamp: int) -> None:
        """A frame begins, with another timestamp than the one before."""
        if self._timestamp is not None:
            back = (self._timestamp - timestamp) % _MODULUS
            self._blame = self._blame + _BLAME if back < _STEP_BACK else max(self._blame - 1, 0)
            self.b_frames = self.b_frames or self._blame >= _LIMIT
        self._timestamp = timestamp
        self._frames += 1
        if self.doubtful:
            self._doubt()

    def slice(self, b_slice: bool) -> None:
        """The first slice of a frame, and whether it is one that a parameter set without reordering has no use for."""
        if b_slice and self._max_reorder != 0:
            self.b_frames = True
            self._doubt()

    def _doubt(self) -> None:
        self.doubtful = bool(self._max_reorder) and not self.b_frames and self._frames < _DOUBTFUL_FRAMES
