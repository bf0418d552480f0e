"""From a source's chunks back to whole access units, with times that never wrap. Pure.

A decoder can begin only at a key frame and wants whole pictures, so everything before the first key frame is left out.
The chunks' times are those at which pictures are shown, modulo 2**32; here they become a line that only a real jump of
the camera's clock breaks.
"""

from sightline_agent.media.frames import Chunk
from sightline_agent.media.grammar import Grammar
from sightline_agent.transcode.records import MAX_BODY

_MODULUS = 1 << 32
_START_CODE = b"\0\0\0\1"


class Units:
    """Fed with every chunk, in order; hands out (time, bytes in annex B, key) of each access unit once it is whole."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._payloads: list[bytes] = []
        self._size = 0
        self._timestamp = 0
        self._key = False
        self._begun = False
        self._line: int | None = None
        self.oversized = 0
        """Access units that were too large and left out."""

    def add(self, chunk: Chunk) -> list[tuple[int, bytes, bool]]:
        """What is whole now: none, one, or two where the end of the one before was lost."""
        ready = []
        if self._payloads and chunk.timestamp != self._timestamp:
            ready += self._finish()
        self._begun = self._begun or chunk.key
        if not self._begun:
            return ready
        self._timestamp = chunk.timestamp
        self._key = self._key or chunk.key
        self._size += sum(map(len, chunk.payloads))
        if self._size <= MAX_BODY // 2:
            self._payloads += chunk.payloads
        return ready + self._finish() if chunk.last else ready

    def _finish(self) -> list[tuple[int, bytes, bool]]:
        nals = self._grammar.reassemble(self._payloads)
        key, size = self._key, self._size
        self._payloads, self._key, self._size = [], False, 0
        if size > MAX_BODY // 2:
            self.oversized += 1
            self._begun = False
            return []
        if not nals:
            return []
        return [(self._ticks(), b"".join(_START_CODE + nal for nal in nals), key)]

    def _ticks(self) -> int:
        if self._line is None:
            self._line = self._timestamp
        else:
            step = (self._timestamp - self._line) % _MODULUS
            self._line += step - _MODULUS if step >= _MODULUS // 2 else step
        return self._line
