"""The receiving half of an RTSP connection: bytes as they come.

While a session is set up somebody reads and waits. The stream afterwards follows instead: it is called right where the
event loop reads, so no task has to wake up for each frame. Bounded: what nobody takes stops the reading.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_ROOM_BYTES = 128 * 1024
"""Read into, again and again: a key frame finds room. Memory that is new for each read costs more than the reading."""
_MOST_BYTES = 1 << 20
"""Not taken yet; beyond that the camera has to wait."""


class Inbox(asyncio.BufferedProtocol):
    """See the module. One reader or follower at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._room = memoryview(bytearray(_ROOM_BYTES))
        self._data: list[bytes] = []
        self._bytes = 0
        self._take: Callable[[bytes], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        """Of who reads, or who follows: the former is woken, the latter only ended."""
        self._ended = ""

    async def read(self) -> bytes:
        """What has come; waits for the first byte. SourceError when nothing comes any more."""
        while not self._data:
            if self._ended:
                raise SourceError(SourceReason.UNREACHABLE, self._ended)
            await self._wait()
        return self._all()

    async def follow(self, take: Callable[[bytes], None]) -> None:
        """Call with everything that comes, until cancelled; whatever `take` raises comes out here. SourceError when
        nothing comes any more."""
        if self._data:
            take(self._all())
        self._take = take
        try:
            while not self._ended:
                await self._wait()
        finally:
            self._take = None
        raise SourceError(SourceReason.UNREACHABLE, self._ended)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _all(self) -> bytes:
        data = b"".join(self._data)
        self._data.clear()
        self._bytes = 0
        if not self._ended:
            self.transport.resume_reading()
        return data

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read: hand it on or keep it."""
        data = bytes(self._room[:nbytes])
        if self._take is None:
            self._data.append(data)
            self._bytes += len(data)
            if self._bytes > _MOST_BYTES:
                self.transport.pause_reading()
            self._wake()
            return
        try:
            self._take(data)
        except Exception as error:
            self._take = None  # the follower hears of it; nothing more is for it
            self._wake(error)

    def connection_lost(self, error: Exception | None) -> None:
        """The camera hung up, or the network did."""
        self._ended = "the camera closed the connection" if error is None else "the connection to the camera broke"
        self._wake()
