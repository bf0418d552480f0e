"""From payloads in the order of a camera's packets to chunks that viewers can start at.

Used by every source that has H.264. It keeps the stream's parameter sets and puts them, as one STAP-A, in
front of the first slice of each access unit that a decoder may start at; so it does not matter whether a
camera sends them in band, only in its SDP, or in packets of their own. Access unit delimiters and filler data
are dropped: they carry nothing. Payloads are made to fit. A fragment whose beginning was lost is dropped with
the rest of its NAL unit, and counted. What is left of a damaged frame goes on, because players conceal it better
than they bear a gap until the next key frame; a frame whose end was lost is ended with a filler NAL unit, because
players wait for the end of each frame.

Nothing waits: `take` hands out what has come, and a frame may be spread over several chunks.
"""

from collections.abc import Iterable

from sightline_agent.media import h264, sps
from sightline_agent.media.frames import Chunk, VideoFormat
from sightline_agent.media.playable import Playability

# A stream has one or two of each; a broken one must not fill the memory.
_MAX_SETS = 16
_MAX_SET_BYTES = 4096
_SLICE_TYPES = frozenset(range(1, 6))
_END_OF_FRAME = b"\x0c\x80"
"""A filler NAL unit without filler: carries the marker where nothing else can."""
_SetKey = tuple[int, int]


class Assembler:
    """State between payloads: the parameter sets, the access unit under way, chunks not taken yet."""

    def __init__(self, parameter_sets: Iterable[bytes] = ()) -> None:
        self._sets: dict[_SetKey, bytes] = {}
        self._format = VideoFormat(codec="H264")
        self._timestamp: int | None = None
        self._pending: dict[_SetKey, bytes] = {}
        self._in_slices = False
        self._unended = False
        self._fragment_open = False
        self._payloads: list[bytes] = []
        self._key = False
        self._chunks: list[Chunk] = []
        self.dropped = 0
        """Payloads that no decoder could use."""
        self.playable = Playability()
        for nal in parameter_sets:
            self._remember(nal)

    @property
    def format(self) -> VideoFormat:
        """What the last SPS said; without a size before the first one."""
        return self._format

    @property
    def decodable(self) -> bool:
        """True once an SPS and a PPS are known."""
        return {kind for kind, _ in self._sets} >= {h264.SPS, h264.PPS}

    def push(self, payload: bytes, timestamp: int, marker: bool, gap: bool = False) -> None:
        """The next payload; `gap`: something before it is missing."""
        if timestamp != self._timestamp:
            self._begin(timestamp)
        if gap:
            self._fragment_open = False
        for part in h264.stap_nals(payload) if h264.nal_type(payload) == h264.STAP_A else (payload,):
            self._add(part, marker)
        if marker and self._in_slices:
            self._end()

    def take(self) -> list[Chunk]:
        """Chunks made of everything pushed so far."""
        self._cut(last=False)
        chunks, self._chunks = self._chunks, []
        return chunks

    def finish(self) -> list[Chunk]:
        """Chunks made of everything pushed so far; the access unit under way is complete."""
        self._cut(last=True)
        return self.take()

    def _begin(self, timestamp: int) -> None:
        if self._unended:
            self._end()
        self._cut(last=False)
        self.playable.frame(timestamp)
        self._timestamp = timestamp
        self._in_slices = False
        self._fragment_open = False
        # Parameter sets that came under a timestamp of their own count for the access unit that follows.

    def _end(self) -> None:
        """The frame under way is over."""
        if not self._payloads and self._unended:
            self._payloads.append(_END_OF_FRAME)
        self._cut(last=True)

    def _add(self, payload: bytes, marker: bool) -> None:
        kind = h264.nal_type(payload)
        if kind == h264.FU_A:
            if len(payload) < 3 or not self._continues(payload):
                self.dropped += 1
                return
        else:
            self._fragment_open = False
        if kind in (h264.SPS, h264.PPS):
            key = self._remember(payload)
            if key is not None:
                self._pending[key] = payload
            return
        if kind in (h264.AUD, h264.FILLER) and not (marker and self._in_slices):  # the marker needs a carrier
            return
        if kind != h264.FU_A and not 0 < kind < h264.STAP_A:
            self.dropped += 1
            return
        begun = h264.starts_nal(payload)
        if begun in _SLICE_TYPES and not self._in_slices:
            self._in_slices = self._unended = True
            self.playable.slice(payload)
            self._lead(begun == h264.IDR)
        self._payloads += h264.resplit(payload)

    def _continues(self, payload: bytes) -> bool:
        if payload[1] & 0x80:
            self._fragment_open = True
        usable = self._fragment_open
        if payload[1] & 0x40:
            self._fragment_open = False
        return usable

    def _lead(self, idr: bool) -> None:
        """Put parameter sets in front of the first slice of an access unit."""
        announced = any(kind == h264.SPS for kind, _ in self._pending)
        self._key = (idr or announced) and self.decodable
        # Supplemental information that came before stays behind: a key chunk begins with the sets.
        sets = self._sets if self._key else self._pending
        self._payloads = h264.aggregate([sets[key] for key in sorted(sets)]) + self._payloads
        self._pending = {}

    def _remember(self, nal: bytes) -> _SetKey | None:
        number = sps.set_id(nal)
        info = sps.parse(nal) if h264.nal_type(nal) == h264.SPS else None
        if number is None or len(nal) > _MAX_SET_BYTES or (info is None and h264.nal_type(nal) == h264.SPS):
            self.dropped += 1
            return None
        if info is not None:
            self._format = VideoFormat("H264", info.profile_level_id, info.width, info.height)
            self.playable.parameters(info)
        key = (h264.nal_type(nal), number)
        if key not in self._sets and len(self._sets) >= _MAX_SETS:
            self._sets.clear()
            self._pending.clear()
        self._sets[key] = nal
        return key

    def _cut(self, last: bool) -> None:
        self._unended = self._unended and not last
        if self._payloads:
            self._chunks.append(Chunk(tuple(self._payloads), self._timestamp or 0, last, self._key))
        self._payloads = []
        self._key = False
