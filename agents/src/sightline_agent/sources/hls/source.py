"""The HLS source: follows the playlist, fetches segments, plays them in their own time.

One segment is fetched and taken apart while the one before it is played, so at most two are in memory. A live stream
is entered three segments before its end, where RFC 8216 section 6.3.3 wants players to begin, that of a low-latency
server as near to its end as the server says, and part by part; a recording is played from its start and once. Nothing
is re-encoded.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sightline_agent.media.frames import CLOCK_RATE, Chunk, MediaFormat
from sightline_agent.sources import http
from sightline_agent.sources.access_units import AccessUnits, Line, Pace
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.hls import demux
from sightline_agent.sources.hls.demux import IT, Taken, Unit
from sightline_agent.sources.hls.playlist import (
    WHOLE,
    Key,
    Master,
    Media,
    Part,
    PlaylistError,
    Segment,
    parse,
)
from sightline_agent.sources.sound.live import LiveSound
from sightline_agent.sources.sound.process import Drop
from sightline_model.camera import HlsSource as HlsSpec
from sightline_model.reasons import SourceReason

_FROM_END = 3
_MAX_PLAYLIST_BYTES = 4 << 20
_PLAYLIST_SECONDS = 5.0
"""A server that waits for the next part answers after a part's length."""
_MAX_SEGMENT_BYTES = 32 << 20
_MAX_HEAD_BYTES = 1 << 20
_KEY_BYTES = 16
_STALL_TARGETS = 4.0
"""A live playlist that has not grown for this many target durations (and the least below) has stalled."""
_STALL_SECONDS = 10.0
_POLL_SECONDS = 0.5
_MAX_FAILURES = 3
"""So many failures in a row are no hiccups any more."""
_PASSING = frozenset({SourceReason.UNREACHABLE, SourceReason.NOT_FOUND, SourceReason.PROTOCOL_ERROR})


@dataclass(frozen=True, slots=True)
class _Piece:
    taken: Taken
    anew: bool


class HlsSource:
    """One playlist."""

    def __init__(self, spec: HlsSpec, sound: bool = True, dropped: "Counter[Drop] | None" = None) -> None:
        """`sound`: whether it is carried; `dropped`: where what is dropped of it is counted."""
        self._dropped = dropped
        self._url = spec.url
        self._sound = sound
        self._cached: dict[Part, bytes] = {}
        """The last head and the last key: they serve many segments."""

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled, until a recording is over, or until SourceError."""
        pieces = self._pieces()
        player = _Player(sink, self._sound, self._dropped)
        following = asyncio.ensure_future(anext(pieces, None))
        try:
            while (piece := await following) is not None:
                following = asyncio.ensure_future(anext(pieces, None))
                await player.play(piece)
        finally:
            following.cancel()
            await asyncio.wait({following})
            if not following.cancelled():
                following.exception()  # seen: what ends the run is already on its way
            await pieces.aclose()
            await player.close()

    async def _pieces(self) -> AsyncGenerator[_Piece, None]:
        """Segment after segment, as fast as they are asked for."""
        url, media = await self._entry()
        last = (-1, WHOLE) if media.ended else media.entry(_FROM_END)
        grown_at = _now()
        failures, anew = 0, False
        while True:
            fresh = [segment for segment in media.segments if segment.follows(last)]
            for segment in fresh:
                anew = anew or segment.anew or segment.number > last[0] + 1
                last = segment.place
                try:
                    piece = await self._piece(segment, anew)
                except SourceError as error:
                    failures += 1
                    if media.ended or failures >= _MAX_FAILURES or error.reason not in _PASSING:
                        raise
                    continue  # live: the picture stands still, and goes on with the next segment
                failures, anew = 0, False
                yield piece
            if media.ended:
                return
            if fresh:
                grown_at = _now()
            elif _now() - grown_at > max(_STALL_TARGETS * media.target_seconds, _STALL_SECONDS):
                raise SourceError(SourceReason.STALLED, "the HLS playlist does not grow any more")
            elif media.part_seconds:
                await asyncio.sleep(media.part_seconds / 2)  # the server should have waited for the next part
            else:
                await asyncio.sleep(max(media.target_seconds / 4, _POLL_SECONDS))
            known, media = media, await self._again(_asking_for_the_next(url, media))
            if media.segments and media.segments[-1].number < last[0] and not media.overlaps(known):
                last = media.entry(_FROM_END)  # the server counts from the beginning again

    async def _entry(self) -> tuple[str, Media]:
        url, playlist = await self._playlist(self._url)
        if isinstance(playlist, Master):
            variant = playlist.best()
            if variant is None:
                named = ", ".join(sorted({codec for one in playlist.variants for codec in one.codecs}))
                text = f"{IT} offers only {named[:200] or 'nothing'}; only H264 and H265 can be played"
                raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)
            url, playlist = await self._playlist(variant.url)
        if isinstance(playlist, Master):
            raise SourceError(SourceReason.PROTOCOL_ERROR, "the HLS playlists lead in a circle")
        if playlist.ended and not playlist.segments:
            raise SourceError(SourceReason.NO_FRAMES, "the HLS playlist is empty")
        return url, playlist

    async def _again(self, url: str) -> Media:
        failures = 0
        while True:
            try:
                _, playlist = await self._playlist(url)
            except SourceError as error:
                failures += 1
                if failures >= _MAX_FAILURES or error.reason is not SourceReason.UNREACHABLE:
                    raise
                await asyncio.sleep(_POLL_SECONDS)
                continue
            if isinstance(playlist, Master):
                raise SourceError(SourceReason.PROTOCOL_ERROR, "the HLS playlists lead in a circle")
            return playlist

    async def _playlist(self, url: str) -> tuple[str, Master | Media]:
        request = http.Request("GET", url, "the HLS playlist", max_bytes=_MAX_PLAYLIST_BYTES, seconds=_PLAYLIST_SECONDS)
        response = await http.fetch(request)
        if not response.ok:
            raise http.refusal(response, request.it)
        try:
            return response.url, parse(response.body.decode("utf-8", "replace"), response.url)
        except PlaylistError as error:
            raise SourceError(SourceReason.PROTOCOL_ERROR, str(error)) from error

    async def _piece(self, segment: Segment, anew: bool) -> _Piece:
        seconds = max(8.0, 2 * segment.seconds)
        data = await self._bytes(segment.part, _MAX_SEGMENT_BYTES, seconds)
        if segment.key is not None:
            data = await self._decrypted(data, segment.key, segment.number)
        if segment.head is not None:
            data = await self._kept(segment.head, _MAX_HEAD_BYTES) + data
        return _Piece(await asyncio.to_thread(demux.take, data, self._sound), anew)

    async def _decrypted(self, data: bytes, key: Key, number: int) -> bytes:
        secret = await self._kept(Part(key.url), _KEY_BYTES)
        try:
            return await asyncio.to_thread(demux.decrypt, data, secret, key.iv or number.to_bytes(16, "big"))
        except ValueError:
            text = "a segment of the HLS stream cannot be decrypted"
            raise SourceError(SourceReason.PROTOCOL_ERROR, text) from None

    async def _kept(self, part: Part, limit: int) -> bytes:
        if part not in self._cached:
            data = await self._bytes(part, limit, 5.0)
            while len(self._cached) > 1:
                self._cached.pop(next(iter(self._cached)))
            self._cached[part] = data
        return self._cached[part]

    async def _bytes(self, part: Part, limit: int, seconds: float) -> bytes:
        headers = {}
        if part.length is not None:
            headers["Range"] = f"bytes={part.start}-{part.start + part.length - 1}"
        it = "a segment of the HLS stream"
        response = await http.fetch(http.Request("GET", part.url, it, headers, max_bytes=limit, seconds=seconds))
        if not response.ok:
            raise http.refusal(response, it)
        if part.length is not None and response.status != 206:
            return response.body[part.start : part.start + part.length]
        return response.body


class _Player:
    """Pieces become chunks when they are due."""

    def __init__(self, sink: Sink, sound: bool, dropped: "Counter[Drop] | None") -> None:
        self._sink = sink
        self._sound = LiveSound(IT, self._hear, dropped) if sound else None
        self._told: MediaFormat | None = None
        self._made = AccessUnits()
        self._line = Line()
        self._pace = Pace(_now)

    async def close(self) -> None:
        if self._sound is not None:
            await self._sound.close()

    async def play(self, piece: _Piece) -> None:
        if self._sound is not None and piece.taken.sound is not None:
            self._sound.expect(piece.taken.sound)
        first = True
        for unit in piece.taken.units:
            if not unit.codec:
                if not (first and piece.anew):  # else the line does not know this clock yet
                    await self._play_sound(unit)
                continue
            ticks = self._line.resume(unit.shown, piece.anew) if first else self._line.place(unit.shown)
            first = False
            if unit.codec != self._made.codec:
                self._made.renew(codec=unit.codec)
            chunks = self._made.chunks(unit.data, ticks)
            await self._until(ticks)
            self._made.news()
            self._tell()
            for chunk in chunks if self._made.started else ():
                self._sink.write(chunk)

    async def _play_sound(self, unit: Unit) -> None:
        at = self._line.beside(unit.shown)
        if at is not None and self._sound is not None and self._told is not None:
            await self._until(at)
            self._sound.take(unit.data, at)
            self._tell()

    async def _until(self, ticks: int) -> None:
        delay = self._pace.wait(ticks / CLOCK_RATE)
        if delay > 0:
            await asyncio.sleep(delay)

    def _tell(self) -> None:
        video, sound = self._made.told, self._sound
        if video is None:
            return
        told = MediaFormat(video, sound.format, sound.problem) if sound is not None else MediaFormat(video)
        if told != self._told:
            self._told = told
            self._sink.start(told)

    def _hear(self, chunk: Chunk, picture: int) -> None:
        self._sink.write_audio(chunk, picture)


def _asking_for_the_next(url: str, media: Media) -> str:
    """A low-latency server answers such a request when the next part is there."""
    if not media.part_seconds:
        return url
    number, index = media.next_place
    return f"{url}{'&' if '?' in url else '?'}_HLS_msn={number}&_HLS_part={index}"


def _now() -> float:
    return asyncio.get_running_loop().time()
