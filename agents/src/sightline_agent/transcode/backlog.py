"""What waits for the transcoder, bounded. Pure.

A transcoder that cannot keep up must not make the agent grow, and pictures out of the middle of a group are of no use.
So when the bound is reached everything that waits is dropped, and everything that follows up to the next key frame;
what was dropped is counted. The codec goes before everything that is coded in it, and the group of pictures under way
(`prelude`) before what came later; one key frame request at a time is remembered. None of these counts.
"""

from collections import deque
from collections.abc import Iterable

from sightline_agent.transcode.records import Kind, Record

MAX_UNITS = 90
"""Three seconds at 30 fps: more than the transcoder's start takes."""
MAX_BYTES = 16 * 1024 * 1024


class Backlog:
    """First in, first out. `codec` is FFmpeg's name of it."""

    def __init__(self, codec: str) -> None:
        self._codec: str | None = codec
        self._prelude: deque[Record] = deque()
        self._units: deque[Record] = deque()
        self._size = 0
        self._key_wanted = False
        self._skipping = False
        self.dropped = 0
        """Access units that were not transcoded."""

    def restart(self, codec: str) -> None:
        """What follows is coded otherwise; what still waits is of no use."""
        self._codec = codec
        self._prelude.clear()
        self._drop_all()
        self._skipping = False

    def precede(self, units: Iterable[Record]) -> None:
        """Pictures that the next ones refer to; bounded by whoever kept them."""
        self._prelude.extend(unit._replace(kind=Kind.PRELUDE) for unit in units)

    def put(self, unit: Record, key: bool) -> None:
        """One more access unit."""
        if self._skipping and not key:
            self.dropped += 1
            return
        self._skipping = False
        if self._units and (len(self._units) >= MAX_UNITS or self._size + len(unit.body) > MAX_BYTES):
            self._prelude.clear()
            self._drop_all()
            if not key:
                self._skipping = True
                self.dropped += 1
                return
        self._units.append(unit)
        self._size += len(unit.body)

    def want_key_frame(self) -> None:
        """Ask for a key frame before whatever waits."""
        self._key_wanted = True

    def take(self) -> Record | None:
        """The next record to write, if there is one."""
        if self._codec is not None:
            codec, self._codec = self._codec, None
            return Record(Kind.CODEC, body=codec.encode("ascii"))
        if self._key_wanted:
            self._key_wanted = False
            return Record(Kind.KEY_FRAME)
        if self._prelude:
            return self._prelude.popleft()
        if not self._units:
            return None
        unit = self._units.popleft()
        self._size -= len(unit.body)
        return unit

    def _drop_all(self) -> None:
        self.dropped += len(self._units)
        self._units.clear()
        self._size = 0
