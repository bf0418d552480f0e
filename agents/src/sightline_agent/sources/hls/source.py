"""The HLS source: follows the playlist, fetches segments, plays them in their own time.

One segment is fetched and taken apart while the one before it is played, so at most two are in memory. A live stream
is entered three segments before its end, where RFC 8216 section 6.3.3 wants players to begin; a recording is played
from its start and once. Nothing is re-encoded.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources import http
from sightline_agent.sources.access_units import AccessUnits, Line, Pace
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.hls import demux
from sightline_agent.sources.hls.demux import IT, Unit
from sightline_agent.sources.hls.playlist import Key, Master, Media, Part, PlaylistError, Segment, parse
from sightline_model.camera import HlsSource as HlsSpec
from sightline_model.reasons import SourceReason

_FROM_END = 3
_MAX_PLAYLIST_BYTES = 4 << 20
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
    units: list[Unit]
    anew: bool


class HlsSource:
    """One playlist."""

    def __init__(self, spec: HlsSpec) -> None:
        self._url = spec.url
        self._cached: dict[Part, bytes] = {}
        """The last head and the last key: they serve many segments."""

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled, until a recording is over, or until SourceError."""
        pieces = self._pieces()
        player = _Player(sink)
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

    async def _pieces(self) -> AsyncGenerator[_Piece, None]:
        """Segment after segment, as fast as they are asked for."""
        url, media = await self._entry()
        last = media.segments[-_FROM_END:][0].number - 1 if media.segments and not media.ended else -1
        grown_at = _now()
        failures, anew = 0, False
        while True:
            fresh = [segment for segment in media.segments if segment.number > last]
            for segment in fresh:
                anew = anew or segment.anew or segment.number != last + 1
                last = segment.number
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
            else:
                await asyncio.sleep(max(media.target_seconds / 4, _POLL_SECONDS))
            media = await self._again(url)
            if media.segments and media.segments[-1].number < last:
                # The server counts from the beginning again.
                last = media.segments[-_FROM_END:][0].number - 1

    async def _entry(self) -> tuple[str, Media]:
        url, playlist = await self._playlist(self._url)
        if isinstance(playlist, Master):
            variant = playlist.best()
            if variant is None:
                named = ", ".join(sorted({codec for one in playlist.variants for codec in one.codecs}))
                text = f"{IT} offers only {named[:200] or 'nothing'}; only H264 can be played"
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
        request = http.Request("GET", url, "the HLS playlist", max_bytes=_MAX_PLAYLIST_BYTES, seconds=5.0)
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
        return _Piece(await asyncio.to_thread(demux.units, data), anew)

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

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._made = AccessUnits(IT)
        self._line = Line(IT)
        self._pace = Pace(_now)

    async def play(self, piece: _Piece) -> None:
        for number, unit in enumerate(piece.units):
            ticks = self._line.place(unit.shown) if number else self._line.resume(unit.shown, piece.anew)
            chunks = self._made.chunks(unit.data, ticks)
            delay = self._pace.wait(ticks / CLOCK_RATE)
            if delay > 0:
                await asyncio.sleep(delay)
            format_ = self._made.news()
            if format_ is not None:
                self._sink.start(format_)
            for chunk in chunks if self._made.started else ():
                self._sink.write(chunk)


def _now() -> float:
    return asyncio.get_running_loop().time()
