"""The RTSP source: from OPTIONS to TEARDOWN, and the stream between.

What viewers and operators are told when it fails is decided here, and always within `PATIENCE_SECONDS`: a
camera that lets each single step almost time out is cut short. RTP payloads go on as they come, without
waiting for a frame to be whole.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from sightline_agent.media import rtp
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import Chunk
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp import messages, sdp
from sightline_agent.sources.rtsp.client import Answer, Connection, connect
from sightline_agent.sources.rtsp.wire import Message, Packet
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from sightline_model.reasons import SourceReason

PATIENCE_SECONDS = 9.5
FIRST_FRAME_SECONDS = 5.0
STALL_SECONDS = 5.0
KEY_FRAME_SECONDS = 30.0
_HANDSHAKE_SECONDS = 8.0
_CHANNEL = 0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Playing:
    """What the handshake led to."""

    track: sdp.VideoTrack
    url: str
    """What keep-alives and TEARDOWN are sent to."""
    session: messages.SessionHeader
    keep_alive: str
    channel: int


class RtspSource:
    """One camera."""

    def __init__(self, spec: RtspSpec, credentials: Credentials | None) -> None:
        self._spec = spec
        self._credentials = credentials

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the camera fails."""
        if self._spec.transport is RtspTransport.UDP:
            raise SourceError(SourceReason.PROTOCOL_ERROR, "RTP over UDP is not supported; use TCP or Auto")
        patience = _now() + PATIENCE_SECONDS
        connection = await connect(self._spec.url, self._spec.fingerprint, self._credentials)
        try:
            playing = await self._play(connection, patience)
            try:
                await _Stream(connection, playing, sink).run(min(patience, _now() + FIRST_FRAME_SECONDS))
            finally:
                with contextlib.suppress(OSError, RuntimeError):
                    connection.send("TEARDOWN", playing.url, [("Session", playing.session.id)])
        finally:
            connection.close()

    async def _play(self, connection: Connection, patience: float) -> _Playing:
        limit = min(patience, _now() + _HANDSHAKE_SECONDS)
        try:
            async with asyncio.timeout_at(limit):
                return await self._handshake(connection)
        except TimeoutError:
            raise SourceError(SourceReason.UNREACHABLE, "the camera answers too slowly") from None

    async def _handshake(self, connection: Connection) -> _Playing:
        url = self._spec.url
        options = await connection.call("OPTIONS", url)
        offered = messages.methods(options.message.header("public"))
        described = _expect("DESCRIBE", await connection.call("DESCRIBE", url, [("Accept", "application/sdp")]))
        base = _base(described.message, url)
        description = sdp.parse(described.message.body.decode("utf-8", "replace"))
        track = _choose(description)
        wanted = f"RTP/AVP/TCP;unicast;interleaved={_CHANNEL}-{_CHANNEL + 1}"
        setup = await connection.call("SETUP", _resolve(base, track.control), [("Transport", wanted)])
        if setup.status.code == 461:
            raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera does not serve RTP over TCP")
        _expect("SETUP", setup)
        channel = messages.rtp_channel(setup.message.header("transport"), _CHANNEL)
        session = messages.session(setup.message.header("session"))
        if channel is None or not session.id:
            raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera's answer to SETUP makes no sense")
        aggregate = _resolve(base, description.control)
        headers = [("Session", session.id), ("Range", "npt=0.000-")]
        _expect("PLAY", await connection.call("PLAY", aggregate, headers))
        keep_alive = "GET_PARAMETER" if "GET_PARAMETER" in offered else "OPTIONS"
        return _Playing(track, aggregate, session, keep_alive, channel)


class _Stream:
    """The stream between PLAY and TEARDOWN."""

    def __init__(self, connection: Connection, playing: _Playing, sink: Sink) -> None:
        self._connection = connection
        self._playing = playing
        self._sink = sink
        self._assembler = Assembler(playing.track.parameter_sets)
        self._reorderer = rtp.Reorderer()
        self._started = False
        self._first_at: float | None = None
        self._key_seen = False
        self._malformed = 0
        self._keep_alive = playing.keep_alive
        self._keep_alive_every = playing.session.timeout / 2
        self._keep_alive_at = _now() + self._keep_alive_every
        self._asked: int | None = None

    async def run(self, first_by: float) -> None:
        """Deliver until cancelled or SourceError."""
        try:
            async with asyncio.timeout_at(first_by) as limit:
                while True:
                    items = await self._connection.receive()
                    if self._take(items):
                        now = _now()
                        limit.reschedule(now + STALL_SECONDS)
                        self._deliver(now)
                    if _now() >= self._keep_alive_at:
                        self._stay_alive()
        except TimeoutError:
            if self._first_at is None:
                text = "the camera accepts the connection but sends no pictures"
                raise SourceError(SourceReason.NO_FRAMES, text) from None
            text = f"the camera sent nothing for {STALL_SECONDS:g} s"
            raise SourceError(SourceReason.STALLED, text) from None
        finally:
            _log.debug(
                "rtsp stream ended",
                lost=self._reorderer.lost,
                late=self._reorderer.late,
                malformed=self._malformed,
                dropped=self._assembler.dropped,
            )

    def _take(self, items: list[Packet | Message]) -> bool:
        """Digest what came; True if pictures were in it."""
        pictures = False
        for item in items:
            if isinstance(item, Message):
                self._message(item)
            elif item.channel == self._playing.channel:
                pictures = self._packet(item.data) or pictures
        return pictures

    def _packet(self, data: bytes) -> bool:
        try:
            packet = rtp.parse(data)
        except rtp.RtpError:
            self._malformed += 1
            return False
        if packet.payload_type != self._playing.track.payload_type:
            return False
        for ready, gap in self._reorderer.push(packet):
            if ready.payload:
                self._assembler.push(ready.payload, ready.timestamp, ready.marker, gap)
        return bool(packet.payload)

    def _deliver(self, now: float) -> None:
        if self._first_at is None:
            self._first_at = now
        chunks = self._assembler.take()
        if not self._started and self._assembler.decodable:
            self._started = True
            self._sink.start(self._assembler.format)
        if not self._key_seen:
            self._look_for_key(chunks, now)
        if self._started:
            for chunk in chunks:
                self._sink.write(chunk)

    def _look_for_key(self, chunks: list[Chunk], now: float) -> None:
        self._key_seen = any(chunk.key for chunk in chunks)
        if not self._key_seen and self._first_at is not None and now - self._first_at > KEY_FRAME_SECONDS:
            text = f"the camera sent no key frame in {KEY_FRAME_SECONDS:g} s"
            raise SourceError(SourceReason.NO_FRAMES, text)

    def _stay_alive(self) -> None:
        self._keep_alive_at = _now() + self._keep_alive_every
        headers = [("Session", self._playing.session.id)]
        self._asked = self._connection.send(self._keep_alive, self._playing.url, headers)

    def _message(self, message: Message) -> None:
        status = messages.status(message)
        if status is None:
            self._connection.reply(message)
            return
        if messages.sequence(message) != self._asked:
            return
        if status.code == 401 and self._connection.renew(message):
            self._keep_alive_at = min(self._keep_alive_at, _now() + 1.0)  # the nonce had expired: soon again
        elif status.code in (405, 501, 551):
            self._keep_alive = "OPTIONS"
        elif status.code == 454:
            raise SourceError(SourceReason.UNREACHABLE, "the camera has ended the session")


def _expect(method: str, answer: Answer) -> Answer:
    code = answer.status.code
    if 200 <= code < 300:
        return answer
    if code in (404, 410):
        raise SourceError(SourceReason.NOT_FOUND, "the camera has no stream at this path")
    text = f"the camera answered {method} with {code} {answer.status.phrase}".strip()
    if code >= 500:
        raise SourceError(SourceReason.UNREACHABLE, text)
    if 300 <= code < 400:
        text = "the camera wants to be asked at another address"
    raise SourceError(SourceReason.PROTOCOL_ERROR, text)


def _base(message: Message, url: str) -> str:
    for name in ("content-base", "content-location"):
        base = messages.clean_url(messages.join(url, message.header(name))) if message.header(name) else None
        if base is not None:
            return base
    return url


def _resolve(base: str, control: str) -> str:
    resolved = messages.clean_url(messages.join(base, control))
    if resolved is None:
        raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera's description holds an address that is none")
    return resolved


def _choose(description: sdp.Description) -> sdp.VideoTrack:
    if description.h264 is not None:
        return description.h264
    if not description.videos:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, "the camera offers no video")
    names = ", ".join(dict.fromkeys(track.codec for track in description.videos))
    if names == "H264":
        names = "H264 with interleaved packets"
    text = f"the camera sends {names}; set it to H264"
    raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)


def _now() -> float:
    return asyncio.get_running_loop().time()
