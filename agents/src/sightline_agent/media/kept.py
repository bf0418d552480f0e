"""The chunks of the group of pictures under way, for a rendition that is made of this one. Pure.

Who begins to decode in the middle of a group needs it from its key frame on; waiting for the next one would cost a
viewer seconds. Only hubs whose stream has to be transcoded for some keep it. Bounded like the viewers' cache (`gop`): a
group that outgrows a bound is dropped as a whole.
"""

from sightline_agent.media.frames import Chunk
from sightline_agent.media.gop import GopBounds


class KeptGroup:
    """Fed with every chunk, in order."""

    def __init__(self, bounds: GopBounds | None = None) -> None:
        self._bounds = bounds or GopBounds()
        self._chunks: list[Chunk] = []
        self._octets = self._packets = 0

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """From the key frame on; empty where there is nothing to begin with."""
        return tuple(self._chunks)

    def add(self, chunk: Chunk) -> None:
        """The next chunk."""
        if chunk.key:
            self.clear()
        elif not self._chunks:
            return
        self._chunks.append(chunk)
        self._packets += len(chunk.payloads)
        self._octets += sum(map(len, chunk.payloads))
        if self._octets > self._bounds.octets or self._packets > self._bounds.packets:
            self.clear()

    def clear(self) -> None:
        """What has come so far is no beginning any more."""
        self._chunks = []
        self._octets = self._packets = 0
