"""Does a browser show this H.264 as it is? Not if it is interlaced, nor if pictures come in another order than shown.

RTP carries pictures in the order of decoding, and WebRTC players show them in that order: B-frames, which are shown
before pictures that were sent earlier, make the picture jump to and fro. Parameter sets only say what a stream may
do, and cameras declare more than they use; so a stream is refused for what it does: B slices, unless the parameter
set rules out another order, or timestamps that keep stepping back. Pure.
"""

from sightline_agent.media import h264
from sightline_agent.media.bits import Bits
from sightline_agent.media.sps import SpsInfo

INTERLACED = "interlaced pictures, which browsers do not show as they are; set it to progressive"
B_FRAMES = "B-frames, which browsers cannot put in order; switch them off (Baseline profile has none)"

_B_SLICES = (1, 6)
_MODULUS = 1 << 32
_STEP_BACK = 90_000
"""Further back than a second, a clock was set; that is no other order."""
_BLAME, _LIMIT = 8, 17
"""A step back weighs as much as eight steps forward; a clock that was corrected once is forgiven."""
_DOUBTFUL_FRAMES = 24


class Playability:
    """Fed by the assembler with what begins in the stream."""

    def __init__(self) -> None:
        self._interlaced = False
        self._max_reorder: int | None = None
        self._b_slices = False
        self._timestamp: int | None = None
        self._blame = 0
        self._goes_back = False
        self._frames = 0

    @property
    def problem(self) -> str:
        """What the stream has that browsers do not show; empty when nothing is known against it."""
        if self._interlaced:
            return INTERLACED
        return B_FRAMES if self._b_slices or self._goes_back else ""

    @property
    def doubtful(self) -> bool:
        """True where the parameter set announces B-frames and too few frames were seen to know that there are none."""
        return bool(self._max_reorder) and self._frames < _DOUBTFUL_FRAMES

    def parameters(self, info: SpsInfo) -> None:
        """A sequence parameter set."""
        self._interlaced = info.interlaced
        self._max_reorder = info.max_reorder

    def frame(self, timestamp: int) -> None:
        """A frame begins, with another timestamp than the one before."""
        if self._timestamp is not None:
            back = (self._timestamp - timestamp) % _MODULUS
            self._blame = self._blame + _BLAME if back < _STEP_BACK else max(self._blame - 1, 0)
            self._goes_back = self._goes_back or self._blame >= _LIMIT
        self._timestamp = timestamp
        self._frames += 1

    def slice(self, payload: bytes) -> None:
        """The first slice of a frame begins in this payload (a NAL unit or a fragment of one)."""
        if self._max_reorder == 0 or h264.starts_nal(payload) != h264.SLICE:
            return
        bits = Bits(payload[2 if h264.nal_type(payload) == h264.FU_A else 1 :][:12])
        try:
            bits.unsigned()  # first_mb_in_slice
            self._b_slices = self._b_slices or bits.unsigned() in _B_SLICES
        except EOFError:
            return
