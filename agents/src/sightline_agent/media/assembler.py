"""From payloads in the order of a camera's packets to chunks that viewers can start at.

Used by every source that has H.264 or H.265. It keeps the stream's parameter sets and puts them, as one payload, in
front of the first slice of each access unit that a decoder may start at; so it does not matter whether a
camera sends them in band, only in its SDP, or in packets of their own. Access unit delimiters and filler data
are dropped: they carry nothing. Payloads are made to fit. A fragment whose beginning was lost is dropped with
the rest of its NAL unit, and counted. What is left of a damaged frame goes on, because players conceal it better
than they bear a gap until the next key frame; a frame whose end was lost is ended with a filler NAL unit, because
players wait for the end of each frame.

Nothing waits: `take` hands out what has come, and a frame may be spread over several chunks. The one exception: what
comes from the first key frame on is held back while it is doubtful whether there are B-frames, because viewers get
another rendition then; it takes a second at most.
"""

from collections.abc import Iterable
from dataclasses import replace

from sightline_agent.media.frames import Chunk, VideoFormat
from sightline_agent.media.grammar import GRAMMARS, H264
from sightline_agent.media.playable import Playability
from sightline_agent.media.runs import END, KEY, START, B, Run

# A stream has one or two of each; a broken one must not fill the memory.
_MAX_SETS = 16
_MAX_SET_BYTES = 4096
_MAX_HELD = 4096
"""Chunks; more than a second of any camera's."""
_SetKey = tuple[int, int]


class Assembler:
    """State between payloads: the parameter sets, the access unit under way, chunks not taken yet."""

    def __init__(self, parameter_sets: Iterable[bytes] = (), codec: str = H264) -> None:
        self._grammar = GRAMMARS[codec]
        self._sets: dict[_SetKey, bytes] = {}
        self._format = VideoFormat(codec)
        self._timestamp: int | None = None
        self._pending: dict[_SetKey, bytes] = {}
        self._in_slices = False
        self._unended = False
        self._fragment_open = False
        self._payloads: list[bytes] = []
        self._key = False
        self._chunks: list[Chunk] = []
        self._held: list[Chunk] = []
        self.dropped = 0
        """Payloads that no decoder could use."""
        self.decodable = False
        """True once every kind of parameter set is known."""
        self.playable = Playability()
        for nal in parameter_sets:
            self._remember(nal)

    @property
    def format(self) -> VideoFormat:
        """What the last SPS said, and what was seen; without a size before the first one."""
        seen, told = self.playable, self._format
        if seen.b_frames is not told.b_frames or seen.interlaced is not told.interlaced:
            self._format = replace(told, b_frames=seen.b_frames, interlaced=seen.interlaced)
        return self._format

    @property
    def known(self) -> bool:
        """True once `format` can be relied on: it is decodable, and it was seen whether there are B-frames."""
        return self.decodable and not self.playable.doubtful

    def push(self, payload: bytes, timestamp: int, marker: bool, gap: bool = False) -> None:
        """The next payload; `gap`: something before it is missing."""
        if timestamp != self._timestamp:
            self._begin(timestamp)
        if gap:
            self._fragment_open = False
        grammar = self._grammar
        for part in grammar.members(payload) if grammar.nal_type(payload) == grammar.aggregation else (payload,):
            self._add(part, marker)
        if marker and self._in_slices:
            self._end()

    def extend(self, run: Run) -> None:
        """The next payloads, nothing missing before or between them: as pushing each would do, but without a look at
        them, for the shape of the run tells all. The usual frame is one call."""
        shape, marker = run.shape, run.marker
        if run.timestamp != self._timestamp:
            self._begin(run.timestamp)
        if shape & START:
            if not self._in_slices:
                self._in_slices = self._unended = True
                if shape & B:
                    self.playable.slice(True)
                if shape & KEY or self._pending:
                    self._lead(bool(shape & KEY))
            self._payloads += run.fitting
        elif self._fragment_open:
            self._payloads += run.fitting
        else:
            self.dropped += len(run.payloads)
        self._fragment_open = not shape & END and (bool(shape & START) or self._fragment_open)
        if marker and self._in_slices:
            self._end()

    def take(self) -> list[Chunk]:
        """Chunks made of everything pushed so far."""
        if self._payloads:
            self._cut(last=False)
        chunks, self._chunks = self._chunks, []
        if self._held or self.playable.doubtful:
            return self._hold(chunks)
        return chunks

    def _hold(self, chunks: list[Chunk]) -> list[Chunk]:
        begun = bool(self._held)
        for chunk in chunks:
            begun = begun or chunk.key
            if begun:
                self._held.append(chunk)
        if len(self._held) > _MAX_HELD:
            self.dropped += len(self._held)
            self._held = []
        if self.playable.doubtful:
            return []
        chunks, self._held = self._held, []
        return chunks

    def finish(self) -> list[Chunk]:
        """Chunks made of everything pushed so far; the access unit under way is complete."""
        self._cut(last=True)
        return self.take()

    def _begin(self, timestamp: int) -> None:
        if self._unended:
            self._end()
        if self._payloads:
            self._cut(last=False)
        self.playable.frame(timestamp)
        self._timestamp = timestamp
        self._in_slices = False
        self._fragment_open = False
        # Parameter sets that came under a timestamp of their own count for the access unit that follows.

    def _end(self) -> None:
        """The frame under way is over."""
        if not self._payloads and self._unended:
            self._payloads.append(self._grammar.end_of_frame)
        self._cut(last=True)

    def _add(self, payload: bytes, marker: bool) -> None:
        grammar = self._grammar
        kind = grammar.nal_type(payload)
        if kind == grammar.fragmentation:
            if len(payload) < grammar.fragment_header + 2 or not self._continues(payload):
                self.dropped += 1
                return
        else:
            self._fragment_open = False
        if kind in grammar.sets:
            key = self._remember(payload)
            if key is not None:
                self._pending[key] = payload
            return
        if kind in grammar.idle and not (marker and self._in_slices):  # the marker needs a carrier
            return
        if kind != grammar.fragmentation and kind not in grammar.units:
            self.dropped += 1
            return
        begun = grammar.starts_nal(payload)
        if begun in grammar.slices and not self._in_slices:
            self._in_slices = self._unended = True
            self.playable.slice(grammar.is_b_slice(payload))
            self._lead(begun in grammar.keys)
        self._payloads += grammar.resplit(payload)

    def _continues(self, payload: bytes) -> bool:
        header = payload[self._grammar.fragment_header]
        if header & 0x80:
            self._fragment_open = True
        usable = self._fragment_open
        if header & 0x40:
            self._fragment_open = False
        return usable

    def _lead(self, key: bool) -> None:
        """Put parameter sets in front of the first slice of an access unit."""
        grammar = self._grammar
        announced = grammar.set_starts_key and any(kind == grammar.sps for kind, _ in self._pending)
        self._key = (key or announced) and self.decodable
        # Supplemental information that came before stays behind: a key chunk begins with the sets.
        sets = self._sets if self._key else self._pending
        self._payloads = grammar.aggregate([sets[key] for key in sorted(sets)]) + self._payloads
        self._pending = {}

    def _remember(self, nal: bytes) -> _SetKey | None:
        grammar = self._grammar
        kind, number = grammar.nal_type(nal), grammar.set_id(nal)
        pictures = grammar.describe(nal) if kind == grammar.sps else None
        if number is None or len(nal) > _MAX_SET_BYTES or (pictures is None and kind == grammar.sps):
            self.dropped += 1
            return None
        if pictures is not None:
            self._format = VideoFormat(grammar.codec, pictures.profile, pictures.width, pictures.height)
            self.playable.parameters(pictures.interlaced, pictures.max_reorder)
        key = (kind, number)
        if key not in self._sets and len(self._sets) >= _MAX_SETS:
            self._sets.clear()
            self._pending.clear()
        self._sets[key] = nal
        self.decodable = {kind for kind, _ in self._sets} >= grammar.sets
        return key

    def _cut(self, last: bool) -> None:
        self._unended = self._unended and not last
        if self._payloads:
            self._chunks.append(Chunk(tuple(self._payloads), self._timestamp or 0, last, self._key))
        self._payloads = []
        self._key = False
