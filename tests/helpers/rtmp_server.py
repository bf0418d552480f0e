"""A small RTMP server inside the test's own loop. It plays one stream to everybody, with the habits a test asks for.

It shares the modules of chunks and values with the agent's client; `test_rtmp_source` lets FFmpeg's client play from it
as well, so a mistake that both sides made alike would show.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sightline_agent.sources.rtmp import amf, chunks
from sightline_agent.sources.rtmp.chunks import ChunkReader, Message
from tests.helpers.listening import listening

STREAM = 1


@dataclass(frozen=True)
class Habits:
    messages: tuple[Message, ...] = ()
    """Sent to who plays."""
    again: int = 0
    """Milliseconds after which they begin again; 0: they are sent once and the connection stays open."""
    hangs_up: bool = False
    """After the messages."""
    chunk: int = 4096
    refuses: str = ""
    """`connect` or `play`."""
    status: tuple[str, str] = ("NetConnection.Connect.Rejected", "")
    """Code and description of the refusal."""
    greets: bytes = b""
    """Sent instead of a handshake."""
    mute_at: str = ""
    """The command that is never answered."""


@dataclass
class RtmpServer:
    port: int = 0
    open: int = 0
    commands: list[list[amf.Value]] = field(default_factory=list)
    played: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/live/camera") -> str:
        return f"rtmp://127.0.0.1:{self.port}{path}"


@contextlib.asynccontextmanager
async def serve(habits: Habits) -> AsyncIterator[RtmpServer]:
    server = RtmpServer()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await _Guest(server, habits, writer).serve(reader)
        finally:
            server.open -= 1
            writer.close()

    async with listening(connected) as server.port:
        yield server


class _Guest:
    def __init__(self, server: RtmpServer, habits: Habits, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._habits = habits
        self._writer = writer
        self._chunk = chunks.DEFAULT_CHUNK
        self._playing: asyncio.Task[None] | None = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        if self._habits.greets:
            self._writer.write(self._habits.greets)
            return
        hello = await reader.readexactly(1537)
        self._writer.write(b"\3" + bytes(1536) + hello[1:])
        await reader.readexactly(1536)
        incoming = ChunkReader()
        try:
            while data := await reader.read(65536):
                for message in incoming.feed(data):
                    if message.type == chunks.COMMAND and not self._command(amf.decode(message.data)):
                        return
        finally:
            if self._playing is not None:
                self._playing.cancel()
                await asyncio.wait({self._playing})

    def _command(self, values: list[amf.Value]) -> bool:
        """Answer; False to hang up."""
        self._server.commands.append(values)
        name, transaction = str(values[0]), values[1]
        if name == self._habits.mute_at:
            return True
        code, words = self._habits.status
        refusal: amf.Value = {"level": "error", "code": code, "description": words}
        if name == "connect":
            self._send(Message(chunks.WINDOW_SIZE, 0, 0, (10_000).to_bytes(4, "big")), 2)
            self._send(Message(chunks.PEER_BANDWIDTH, 0, 0, (10_000).to_bytes(4, "big") + b"\2"), 2)
            self._send(Message(chunks.USER_CONTROL, 0, 0, b"\0\6\0\0\0\7"), 2)  # a ping
            self._send(Message(chunks.SET_CHUNK_SIZE, 0, 0, self._habits.chunk.to_bytes(4, "big")), 2)
            self._chunk = self._habits.chunk
            if self._habits.refuses == "connect":
                self._reply("_error", transaction, None, refusal)
                return False
            info: amf.Value = {"level": "status", "code": "NetConnection.Connect.Success", "description": "ok"}
            self._reply("_result", transaction, {"fmsVer": "FMS/3,0,1,123"}, info)
        elif name == "createStream":
            self._reply("_result", transaction, None, float(STREAM))
        elif name == "play":
            if self._habits.refuses == "play":
                self._reply("onStatus", 0.0, None, refusal)
                return True
            start: amf.Value = {"level": "status", "code": "NetStream.Play.Start", "description": "ok"}
            self._reply("onStatus", 0.0, None, start)
            self._playing = asyncio.ensure_future(self._play())
            self._server.played.set()
        return True

    async def _play(self) -> None:
        shift = 0
        while True:
            for message in self._habits.messages:
                moved = Message(message.type, message.timestamp + shift, STREAM, message.data)
                self._send(moved, 6)
                await self._writer.drain()
            if not self._habits.again:
                break
            shift += self._habits.again
            await asyncio.sleep(self._habits.again / 1000)
        if self._habits.hangs_up:
            self._writer.close()

    def _reply(self, *values: amf.Value) -> None:
        self._send(Message(chunks.COMMAND, 0, 0, amf.encode(*values)), 3)

    def _send(self, message: Message, chunk_stream: int) -> None:
        self._writer.write(chunks.write(message, chunk_stream, self._chunk))


def from_flv(data: bytes) -> tuple[Message, ...]:
    """The tags of an FLV file as messages."""
    found, at = [], 13
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        found.append(Message(data[at], time, STREAM, data[at + 11 : at + 11 + size]))
        at += 11 + size + 4
    return tuple(found)
