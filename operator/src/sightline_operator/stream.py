"""One GET whose answer does not end, over a bare connection: how `agents` listens to ten thousand agents at a time.

An HTTP client keeps some 25 KB for each answer that stays open: request, headers, parser, reader, timers. This keeps
what the stream itself needs. It speaks as much of HTTP/1.1 as agents' control ports do: a status, headers, and a body
that is chunked or ends with the connection.

The peer may be hostile. What it sends is taken a slice at a time, others in between, and not read any further while it
has used up its `share` of the loop.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from sightline_operator.share import Share
from sightline_operator.sse import ServerEvent, SseParser

MAX_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r\n)")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?")
_MAX_LINE_BYTES = 1024
BEAT_SECONDS = 1.0
"""What comes this long after the last word, and is what said nothing before, is not looked at again: a sign of life.
With ten thousand agents two thousand of them come each second."""
SLICE_BYTES = 4096
"""Small events in it cost some five milliseconds: so long the others may wait."""


class StreamError(Exception):
    """The stream could not be opened, or is none; the text is for people."""


class CannotConnectError(StreamError):
    """Nobody answers there."""


class RefusedError(StreamError):
    """The answer is not 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """What a listener puts up with."""

    connect_seconds: float
    silence_seconds: float
    share: Share
    """How much of the loop the peer may take."""
    slowed: Callable[[], None] = lambda: None
    """Told each time that the peer is read no further because of that."""


async def listen(
    place: tuple[str, int], request: bytes, take: Callable[[ServerEvent], None], patience: Patience
) -> None:
    """Hand all events to `take`; back when the peer has ended the stream.

    StreamError; TimeoutError when the peer does not answer, or says nothing for so long; OSError when the connection
    breaks; and what `take` raises, which ends the stream, too.
    """
    loop = asyncio.get_running_loop()
    stream = _Stream(loop, take, patience)
    try:
        transport = await _connected(place, stream, patience.connect_seconds)
        try:
            transport.write(request)
            await stream.over
        finally:
            transport.abort()
    finally:
        stream.stop()  # also where nobody answered: its timer would end a stream that nobody waits for


async def _connected(place: tuple[str, int], stream: "_Stream", seconds: float) -> asyncio.Transport:
    try:
        async with asyncio.timeout(seconds):
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: stream, *place)
    except TimeoutError:
        raise
    except OSError as error:
        raise CannotConnectError(f"cannot connect: {why(error)}") from error
    return transport


def why(error: OSError) -> str:
    """As the system says it: asyncio puts the address into `strerror`, which changes with every pod."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__


class Chunks:
    """Takes the frames of a chunked body off (RFC 9112, section 7.1); lines may be cut anywhere."""

    __slots__ = ("_left", "_line", "ended")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self.ended = False

    @property
    def between(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not (self._left or self._line or self.ended)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is inside."""
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                part = data[at : at + self._left]
                self._left -= len(part)
                at += len(part)
                yield part
                continue
            end = data.find(b"\n", at)
            self._line += data[at:] if end < 0 else data[at:end]
            if len(self._line) > _MAX_LINE_BYTES:
                raise StreamError("the size of a chunk is endless")
            if end < 0:
                return
            at = end + 1
            self._begin(self._line.rstrip(b"\r"))
            self._line = b""

    def _begin(self, line: bytes) -> None:
        """A chunk's size, or the end of the line that closes the chunk before."""
        if not line:
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise StreamError("the size of a chunk cannot be read")
        self._left = int(size[1], 16)
        self.ended = self._left == 0


class _Stream(asyncio.Protocol):
    """The connection: head, frames, events."""

    __slots__ = (
        *("_beat", "_chunks", "_events", "_head", "_heard_at", "_loop", "_next", "_parser", "_patience", "_rest"),
        *("_take", "_timer", "_transport", "over"),
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[ServerEvent], None], patience: Patience
    ) -> None:
        self._loop = loop
        self._take = take
        self._patience = patience
        self._head: bytes | None = b""  # None once it is complete
        self._chunks: Chunks | None = None
        self._parser = SseParser()
        self._events = 0
        self._beat: bytes | None = None  # what said nothing when it came; None within an event or a chunk
        self._rest = b""  # read, and not looked at yet; at most one read of asyncio's (256 KiB), for none follows
        self._next: asyncio.Handle | None = None  # of the slice that is next in `_rest`
        self._transport: asyncio.ReadTransport | None = None
        self._heard_at = loop.time()
        self._timer = loop.call_later(patience.silence_seconds, self._still_there)
        self.over: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast("asyncio.ReadTransport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Some bytes, cut anywhere."""
        now = self._loop.time()
        beat = self._next is None and data == self._beat and now - self._heard_at >= BEAT_SECONDS
        self._heard_at = now
        if beat:
            return
        self._rest += data
        if self._next is None:
            self._go_on()

    def _go_on(self) -> None:
        """Look at a slice, if the peer may take the time; at the next one after everybody else had a turn."""
        self._next = None
        wait = self._patience.share.wait(self._loop.time())
        if wait:
            self._patience.slowed()
            self._next = self._loop.call_later(wait, self._go_on)
        else:
            part, self._rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
            with self._patience.share:
                between, events = self._between(), self._events
                self._look_at(part)
                silent = between and self._between() and events == self._events
                self._beat = part if silent and not self._rest else None
            self._heard_at = self._loop.time()
            if self._rest and not self.over.done():
                self._next = self._loop.call_soon(self._go_on)
        if self._transport is not None and not self.over.done():
            if self._next is None:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _look_at(self, data: bytes) -> None:
        try:
            body = data if self._head is None else self._begin(self._head + data)
            if body and not self.over.done():
                self._body(body)
        except Exception as error:  # whoever waits for the end is told
            self._end(error)

    def _between(self) -> bool:
        """Whether what comes next has nothing to do with what came before."""
        return self._head is None and self._parser.between and (self._chunks is None or self._chunks.between)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer, or the network, has ended it."""
        self._end(exc)

    def stop(self) -> None:
        """Nobody listens any more."""
        self._timer.cancel()
        if self._next is not None:
            self._next.cancel()
        self._end(None)

    def _begin(self, head: bytes) -> bytes:
        """Read the head once it is there; what of the body came with it."""
        lines, found, body = head.partition(b"\r\n\r\n")
        if not found:
            if len(head) > MAX_HEAD_BYTES:
                raise StreamError("the answer's head is endless")
            self._head = head
            return b""
        lines += b"\r\n"
        status = _STATUS.match(lines)
        if status is None:
            raise StreamError("the answer is no HTTP")
        if status[1] != b"200":
            raise RefusedError(int(status[1]))
        self._head = None
        self._chunks = Chunks() if _CHUNKED.search(lines) else None
        return body

    def _body(self, data: bytes) -> None:
        inside = data if self._chunks is None else b"".join(self._chunks.feed(data))
        for event in self._parser.feed(inside):
            self._events += 1
            self._take(event)
        if self._chunks is not None and self._chunks.ended:
            self._end(None)

    def _still_there(self) -> None:
        """One timer that moves on by itself is cheaper than a new one for each sign of life."""
        if self._next is not None:
            self._heard_at = self._loop.time()  # it has said more than was looked at
        left = self._heard_at + self._patience.silence_seconds - self._loop.time()
        if left <= 0:
            self._end(TimeoutError())
        else:
            self._timer = self._loop.call_later(left, self._still_there)

    def _end(self, error: Exception | None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)
