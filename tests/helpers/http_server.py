"""A small HTTP server inside the test's own loop: one function answers every request. It keeps what it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from tests.helpers.listening import listening


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    """Never answers."""
    raw: bytes = b""
    """Sent instead of all that."""


Answer = Callable[[Asked], Reply]


@dataclass
class HttpServer:
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextlib.asynccontextmanager
async def serve(answer: Answer) -> AsyncIterator[HttpServer]:
    server = HttpServer()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _one(server, answer, reader, writer)
        writer.close()

    async with listening(connected) as server.port:
        yield server


async def _one(server: HttpServer, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    asked = Asked(method, path, headers, body)
    server.asked.append(asked)
    server.came.set()
    reply = answer(asked)
    if reply.hangs:
        await reader.read()
        return
    if not reply.raw:
        lines = [f"HTTP/1.1 {reply.status} Status", f"Content-Length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
    else:
        writer.write(reply.raw)
    await writer.drain()
