"""The RTMP source: pulls a stream from a device or a server and passes its H.264 on as it comes.

Frames go on when they are here, with the stream's own times; a burst at the beginning (servers send the last group of
pictures at once) is welcome. Sound is read over.
"""

import asyncio
from urllib.parse import quote

from sightline_agent.sources.access_units import AccessUnits, Line
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtmp import chunks, client, video
from sightline_agent.sources.rtmp.client import Connection
from sightline_model.camera import RtmpSource as RtmpSpec
from sightline_model.reasons import SourceReason

_IT = "the RTMP stream"
HANDSHAKE_SECONDS = 8.0
FIRST_FRAME_SECONDS = 5.0
STALL_SECONDS = 5.0
PATIENCE_SECONDS = 9.5
_TICKS = 90
"""Of the 90 kHz clock in a millisecond."""
_WRAP = 1 << 32
_MAX_MALFORMED = 50


class RtmpSource:
    """One stream."""

    def __init__(self, spec: RtmpSpec, credentials: Credentials | None) -> None:
        self._target = client.target(address(spec.url, credentials))

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the server fails."""
        now = asyncio.get_running_loop().time()
        patience = now + PATIENCE_SECONDS
        connection: Connection | None = None
        try:
            try:
                async with asyncio.timeout_at(now + HANDSHAKE_SECONDS):
                    connection = await client.connect(self._target)
                    await connection.play(self._target)
            except TimeoutError:
                text = f"{client.IT} answers too slowly"
                raise SourceError(SourceReason.UNREACHABLE, text) from None
            await _Stream(connection, sink).run(patience)
        finally:
            if connection is not None:
                connection.close()


class _Stream:
    """What comes after `play`."""

    def __init__(self, connection: Connection, sink: Sink) -> None:
        self._connection = connection
        self._sink = sink
        self._line = Line(_IT)
        self._made = AccessUnits(_IT)
        self._length_bytes = 4
        self._pictures = False
        self._high, self._last = 0, 0
        self._malformed = 0

    async def run(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(patience, loop.time() + FIRST_FRAME_SECONDS)) as limit:
                while True:
                    for message in await self._connection.receive():
                        for part in chunks.parts(message):
                            if part.type == chunks.VIDEO and self._video(part):
                                self._pictures = True
                                limit.reschedule(loop.time() + STALL_SECONDS)
        except TimeoutError:
            if self._pictures:
                text = f"{client.IT} sent no picture for {STALL_SECONDS:g} s"
                raise SourceError(SourceReason.STALLED, text) from None
            text = f"{client.IT} accepts the connection but sends no pictures"
            raise SourceError(SourceReason.NO_FRAMES, text) from None

    def _video(self, message: chunks.Message) -> bool:
        """Digest a video message; True if there was a picture in it."""
        try:
            found = video.parse(message.data)
            if isinstance(found, video.Configuration):
                self._length_bytes = found.length_bytes
                self._made.renew(found.parameter_sets)
                return False
            if found is None:
                return False
            nals = video.nals(found.data, self._length_bytes)
        except video.VideoError as error:
            self._malformed += 1
            if self._malformed > _MAX_MALFORMED:
                raise SourceError(SourceReason.PROTOCOL_ERROR, f"the video of {_IT} makes no sense") from error
            return False
        if not nals:
            return False
        self._deliver(nals, self._milliseconds(message.timestamp) + found.delay)
        return True

    def _deliver(self, nals: list[bytes], shown: int) -> None:
        made = self._made.chunks_of(nals, self._line.place(shown * _TICKS))
        format_ = self._made.news()
        if format_ is not None:
            self._sink.start(format_)
        for chunk in made if self._made.started else ():
            self._sink.write(chunk)

    def _milliseconds(self, timestamp: int) -> int:
        """The timestamp without its wrap after 49 days."""
        if timestamp < self._last and self._last - timestamp > _WRAP // 2:
            self._high += _WRAP
        self._last = timestamp
        return self._high + timestamp


def address(url: str, credentials: Credentials | None) -> str:
    """The address with what the Secret adds: the stream key at its end, user name and password in its query."""
    if credentials is None:
        return url
    path, _, query = url.partition("?")
    if credentials.token:
        key, _, more = credentials.token.partition("?")
        path = f"{path.rstrip('/')}/{key}"
        query = "&".join(filter(None, (query, more)))
    if credentials.username or credentials.password:
        user, password = (quote(text, safe="") for text in (credentials.username, credentials.password))
        query = "&".join(filter(None, (query, f"user={user}&pass={password}")))
    return f"{path}?{query}" if query else path
