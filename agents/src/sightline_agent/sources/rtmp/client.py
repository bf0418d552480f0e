"""The conversation with an RTMP server: handshake, connect, createStream, play; then its messages.

Every failure leaves as a SourceError. A stream's name is its key, so neither it nor the address nor what the server
says in words is repeated; the server's status codes are.
"""

import asyncio
import os
import re
import struct
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.dial import dial, hang_up
from sightline_agent.sources.rtmp import amf, chunks
from sightline_agent.sources.rtmp.chunks import ChunkReader, Message
from sightline_model.reasons import SourceReason

IT = "the RTMP server"
_PORTS = {"rtmp": 1935, "rtmps": 443}
_VERSION = b"\3"
_HANDSHAKE_BYTES = 1536
_READ_BYTES = 256 * 1024
_WINDOW = 2_500_000
_MAX_UNREAD = 64 * 1024
_BUFFER_MILLISECONDS = 100
_LIVE_ELSE_RECORDED = -2.0
_SET_BUFFER, _PING, _PONG = 3, 6, 7
_CODE = re.compile(r"[A-Za-z]+(\.[A-Za-z]+){1,4}")
_AUTHENTICATION = re.compile(r"auth|denied|forbidden|password|unauthorized|\b40[13]\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """An address taken apart."""

    scheme: str
    host: str
    port: int
    app: str
    stream: str

    def __repr__(self) -> str:
        return f"Target({self.scheme}://{self.host}:{self.port}/...)"

    @property
    def tc_url(self) -> str:
        """What the server is told that it was called."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.app}"


def target(url: str) -> Target:
    """The last part of the path is the stream, with the query; what is before it is the application."""
    parts = urlsplit(url)
    app, _, stream = parts.path.strip("/").rpartition("/")
    if parts.query:
        stream += f"?{parts.query}"
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    if not parts.hostname or not port or not stream:
        raise SourceError(SourceReason.PROTOCOL_ERROR, "the RTMP address lacks a host, an application or a stream")
    return Target(parts.scheme, parts.hostname, port, app, stream)


async def connect(where: Target) -> "Connection":
    """Up to the handshake."""
    connection = Connection(*await dial(where.host, where.port, IT, encrypted=where.scheme == "rtmps"))
    try:
        await connection.shake_hands()
    except BaseException:
        connection.close()
        raise
    return connection


class Connection:
    """An open connection. Use `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._chunks = ChunkReader()
        self._ready: deque[Message] = deque()
        self._window = _WINDOW
        self._received = 0
        self._acknowledged = 0
        self._asked = False
        self._media = False

    async def shake_hands(self) -> None:
        """Versions and random bytes to and fro."""
        self._writer.write(_VERSION + bytes(8) + os.urandom(_HANDSHAKE_BYTES - 8))
        try:
            theirs = await self._reader.readexactly(1 + _HANDSHAKE_BYTES)
            if theirs[:1] != _VERSION:
                raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} does not speak RTMP")
            self._writer.write(theirs[1:])
            await self._reader.readexactly(_HANDSHAKE_BYTES)
        except (OSError, asyncio.IncompleteReadError):
            raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} hangs up instead of speaking RTMP") from None

    async def play(self, where: Target) -> None:
        """Ask for the stream; SourceError when the server refuses."""
        about: amf.Value = {
            "app": where.app,
            "flashVer": "LNX 9,0,124,2",
            "tcUrl": where.tc_url,
            "fpad": False,
            "capabilities": 15.0,
            "audioCodecs": 4071.0,
            "videoCodecs": 252.0,
            "videoFunction": 1.0,
        }
        self._command("connect", 1.0, about)
        await self._result(1.0)
        self._control(chunks.WINDOW_SIZE, _WINDOW.to_bytes(4, "big"))
        self._command("createStream", 2.0, None)
        answer = await self._result(2.0)
        number = answer[0] if answer else None
        if not isinstance(number, float) or not 0 <= number < 1 << 31:
            raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} gives no stream")
        stream = int(number)
        self._command("play", 3.0, None, where.stream, _LIVE_ELSE_RECORDED, stream=stream)
        buffer = struct.pack(">HII", _SET_BUFFER, stream, _BUFFER_MILLISECONDS)
        self._control(chunks.USER_CONTROL, buffer)
        self._asked = True

    async def receive(self) -> list[Message]:
        """Audio, video and data messages; SourceError when it is over."""
        if self._ready:
            found = list(self._ready)
            self._ready.clear()
            return found
        found = [message for message in await self._read() if not self._answered(message)]
        self._media = self._media or bool(found)
        return found

    def close(self) -> None:
        """Hang up."""
        hang_up(self._writer.transport)

    async def _result(self, transaction: float) -> list[amf.Value]:
        while True:
            found: list[amf.Value] | None = None
            for message in await self._read():
                values = _values(message)
                if values[:1] in (["_result"], ["_error"]) and values[1:2] == [transaction]:
                    if values[0] == "_error":
                        raise _refused(values[2:])
                    found = values[3:]
                elif not self._answered(message):
                    self._ready.append(message)
            if found is not None:
                return found

    async def _read(self) -> list[Message]:
        try:
            data = await self._reader.read(_READ_BYTES)
            messages = self._chunks.feed(data)
        except OSError:
            data = b""
        except chunks.ChunkError as error:
            raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} does not speak RTMP: {error}") from error
        if not data:
            raise self._hung_up()
        self._received += len(data)
        if self._received - self._acknowledged >= self._window // 2:
            self._acknowledged = self._received
            self._control(chunks.ACKNOWLEDGEMENT, (self._received % (1 << 32)).to_bytes(4, "big"))
        return messages

    def _hung_up(self) -> SourceError:
        if self._media:
            return SourceError(SourceReason.UNREACHABLE, f"{IT} closed the connection")
        if self._asked:
            # What many servers do where nobody publishes.
            text = f"{IT} closed the connection instead of playing the stream, which may not be there now"
            return SourceError(SourceReason.NO_FRAMES, text)
        return SourceError(SourceReason.UNREACHABLE, f"{IT} closed the connection before it was asked for the stream")

    def _answered(self, message: Message) -> bool:
        """Take care of what is not media; True if the message was such."""
        if message.type == chunks.WINDOW_SIZE:
            self._window = max(int.from_bytes(message.data[:4], "big"), 1 << 12)
        elif message.type == chunks.USER_CONTROL:
            if int.from_bytes(message.data[:2], "big") == _PING:
                self._control(chunks.USER_CONTROL, _PONG.to_bytes(2, "big") + message.data[2:6])
        elif message.type in (chunks.COMMAND, chunks.COMMAND_AMF3):
            values = _values(message)
            if values[:1] == ["onStatus"]:
                _check(values[3:])
        return message.type not in (chunks.AUDIO, chunks.VIDEO, chunks.AGGREGATE)

    def _command(self, name: str, transaction: float, *values: amf.Value, stream: int = 0) -> None:
        data = amf.encode(name, transaction, *values)
        self._writer.write(chunks.write(Message(chunks.COMMAND, 0, stream, data), 8 if stream else 3))

    def _control(self, kind: int, data: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() > _MAX_UNREAD:
            raise SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} asks but does not read the answers")
        self._writer.write(chunks.write(Message(kind, 0, 0, data), 2))


def _values(message: Message) -> list[amf.Value]:
    data = message.data
    if message.type == chunks.COMMAND_AMF3:
        data = data[1:]
    elif message.type != chunks.COMMAND:
        return []
    try:
        return amf.decode(data)
    except amf.AmfError:
        return []  # commands of other dialects are nothing to us


def _status(values: list[amf.Value]) -> tuple[str, str, str]:
    """Level, code and words of an information object."""
    for value in values:
        if isinstance(value, dict):
            level, code, words = (value.get(name) for name in ("level", "code", "description"))
            return str(level or ""), str(code or ""), str(words or "")
    return "", "", ""


def _check(values: list[amf.Value]) -> None:
    level, code, _ = _status(values)
    if level == "error":
        raise _refused(values)
    if code in ("NetStream.Play.UnpublishNotify", "NetStream.Play.Stop", "NetStream.Play.Complete"):
        raise SourceError(SourceReason.NO_FRAMES, f"{IT} says that the stream is over ({code})")


def _refused(values: list[amf.Value]) -> SourceError:
    _, code, words = _status(values)
    said = code if _CODE.fullmatch(code) and len(code) <= 64 else "error"
    if _AUTHENTICATION.search(words) or "Auth" in code:
        return SourceError(SourceReason.AUTHENTICATION_FAILED, f"{IT} refuses access ({said})")
    if "NotFound" in code or "InvalidApp" in code or code.endswith("Play.Failed"):
        return SourceError(SourceReason.NOT_FOUND, f"{IT} has no stream at this address ({said})")
    return SourceError(SourceReason.PROTOCOL_ERROR, f"{IT} refuses to play the stream ({said})")
