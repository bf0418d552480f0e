"""The RTMP source: pulls a stream from a device or a server and passes its H.264 or H.265 on as it comes.

Frames go on when they are here, with the stream's own times; a burst at the beginning (servers send the last group of
pictures at once) is welcome. Sound goes with them (`sound`).
"""

import asyncio
from collections import Counter
from urllib.parse import quote

from sightline_agent.media.frames import Chunk, MediaFormat, VideoFormat
from sightline_agent.sources.access_units import AccessUnits, Line
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtmp import chunks, client, video
from sightline_agent.sources.rtmp.client import Connection
from sightline_agent.sources.rtmp.sound import Sound
from sightline_agent.sources.sound.process import Drop
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

    def __init__(
        self,
        spec: RtmpSpec,
        credentials: Credentials | None,
        sound: bool = True,
        dropped: "Counter[Drop] | None" = None,
    ) -> None:
        """`sound`: whether it is carried; `dropped`: where what is dropped of it is counted."""
        self._sound = sound
        self._dropped = dropped
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
            stream = _Stream(connection, sink, self._sound, self._dropped)
            try:
                await stream.run(patience)
            finally:
                await stream.close()
        finally:
            if connection is not None:
                connection.close()


class _Stream:
    """What comes after `play`."""

    def __init__(self, connection: Connection, sink: Sink, sound: bool, dropped: "Counter[Drop] | None") -> None:
        self._connection = connection
        self._sink = sink
        self._line = Line()
        self._made = AccessUnits()
        self._length_bytes = 4
        self._pictures = False
        self._high, self._last = 0, 0
        self._malformed = 0
        self._sound = Sound(_IT, self._hear, dropped) if sound else None
        self._told: MediaFormat | None = None

    async def close(self) -> None:
        if self._sound is not None:
            await self._sound.close()

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
                            elif part.type == chunks.AUDIO and self._sound is not None:
                                self._audio(self._sound, part)
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
                self._made.renew(found.parameter_sets, found.codec)
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
            self._tell(format_)
        for chunk in made if self._made.started else ():
            self._sink.write(chunk)

    def _tell(self, video: VideoFormat) -> None:
        sound = self._sound
        told = MediaFormat(video, sound.format, sound.problem) if sound is not None else MediaFormat(video)
        if told != self._told:
            self._told = told
            self._sink.start(told)

    def _audio(self, sound: Sound, message: chunks.Message) -> None:
        # Times of the two tracks wrap together; one that is a little older than the newest picture has not wrapped.
        high = self._high - _WRAP if message.timestamp > self._last + _WRAP // 2 else self._high
        sound.hear(message.data, self._line.beside((high + message.timestamp) * _TICKS))
        if self._told is not None:
            self._tell(self._told.video)

    def _hear(self, chunk: Chunk, picture: int) -> None:
        if self._told is not None:
            self._sink.write_audio(chunk, picture)

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
