"""The event stream over a bare connection: whatever is cut where, refused, endless or silent."""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_operator.share import CREDIT_SECONDS, DEBT_SECONDS, PART, PAUSE_SECONDS, Share
from sightline_operator.sse import EventTooLargeError, ServerEvent, SseParser
from sightline_operator.stream import (
    BEAT_SECONDS,
    MAX_HEAD_BYTES,
    SLICE_BYTES,
    CannotConnectError,
    Chunks,
    Patience,
    RefusedError,
    StreamError,
    _Stream,
    listen,
)
from tests.operator.virtualtime import run

EVENTS = b"event: snapshot\ndata: {}\n\n: keep-alive\n\nevent: session\r\ndata: 1\r\n\r\n"
HEARD = [ServerEvent("snapshot", "{}"), ServerEvent("session", "1")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding:  chunked\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def framed(parts: list[bytes]) -> bytes:
    return (
        b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\nTrailer: 1\r\n\r\n"
    )


@given(st.binary(), st.lists(st.integers(min_value=0)), st.lists(st.integers(min_value=0)))
def test_frames_come_off_wherever_they_are_cut(data: bytes, sizes: list[int], places: list[int]) -> None:
    chunks = Chunks()
    pieces = cut(framed(cut(data, sizes)), places)
    assert b"".join(part for piece in pieces for part in chunks.feed(piece)) == data
    assert chunks.ended


class Counted(bytes):
    """Counts the bytes that are copied out of it or looked through."""

    work = 0

    def __getitem__(self, key: Any) -> Any:
        taken = super().__getitem__(key)
        self.work += len(taken) if isinstance(taken, bytes) else 1
        return taken

    def find(self, sub: Any, start: SupportsIndex | None = None, end: SupportsIndex | None = None) -> int:
        place = super().find(sub, start, end)
        self.work += (place if place >= 0 else len(self)) - int(start or 0)
        return place


def test_many_small_frames_are_little_work() -> None:
    read = Counted(b"1\r\nx\r\n" * 4_000)
    assert b"".join(Chunks().feed(read)) == b"x" * 4_000
    assert 0 < read.work <= 2 * len(read)


def heard_of(reads: list[bytes], pause: float = 0.0) -> list[ServerEvent]:
    """The events of a connection that gives these reads, so many seconds apart."""
    events: list[ServerEvent] = []

    async def main() -> None:
        stream = _Stream(asyncio.get_running_loop(), events.append, Patience(5.0, 5.0, Share(lambda: 0.0)))
        for read in reads:
            await asyncio.sleep(pause)
            stream.data_received(read)
        if pause:
            await asyncio.sleep(pause)
            stream.connection_lost(None)
        await stream.over
        stream.stop()

    run(main)
    return events


@given(st.lists(st.integers(min_value=0)), st.lists(st.integers(min_value=0)))
def test_events_are_the_same_however_frames_and_reads_are_cut(sizes: list[int], places: list[int]) -> None:
    assert heard_of(cut(CHUNKED + framed(cut(EVENTS, sizes)), places)) == HEARD


BEAT = b": keep-alive\n\n"
PARTS = [BEAT, b":", b"\n", b"event: x\n", b"data: 1\n", b"data: 1\n\n", b"3\r\n"]


@given(st.lists(st.sampled_from(PARTS), max_size=30), st.sampled_from(["bare", "chunks", "cut chunks"]))
def test_a_sign_of_life_that_is_not_looked_at_changes_nothing(parts: list[bytes], frames: str) -> None:
    """Reads that are alike and far apart, some of them signs of life and some parts of events."""
    framing = [(b"%x\r\n" % len(part), part, b"\r\n") for part in parts]
    reads = {"bare": parts, "chunks": [b"".join(frame) for frame in framing], "cut chunks": sum(framing, ())}[frames]
    head = HEAD + b"\r\n" if frames == "bare" else CHUNKED
    assert heard_of([head, *reads], BEAT_SECONDS) == list(SseParser().feed(b"".join(parts)))


def test_signs_of_life_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    feed = SseParser.feed

    def counted(parser: SseParser, data: bytes) -> Iterator[ServerEvent]:
        parsed.append(data)
        return feed(parser, data)

    monkeypatch.setattr(SseParser, "feed", counted)
    beat = framed([BEAT]).removesuffix(b"0\r\nTrailer: 1\r\n\r\n")
    event = framed([EVENT % 1])
    # One is looked at, then five are not, and it is not silent for their time; one that comes too soon is looked at.
    assert len(heard_of([CHUNKED, *[beat] * 6, event], 4.0)) == 1
    assert parsed == [BEAT, EVENT % 1]
    parsed.clear()
    assert len(heard_of([CHUNKED, *[beat] * 6, event], 0.9)) == 1
    assert parsed == [*[BEAT] * 6, EVENT % 1]


def test_what_one_slice_has_is_parsed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    feed = SseParser.feed

    def counted(parser: SseParser, data: bytes) -> Iterator[ServerEvent]:
        parsed.append(len(data))
        return feed(parser, data)

    monkeypatch.setattr(SseParser, "feed", counted)
    body = framed([b"x"] * 1000)
    heard_of([CHUNKED, body, b""])
    assert sum(parsed) == 1000
    assert len(parsed) <= len(body) // SLICE_BYTES + 1


@pytest.mark.parametrize("data", [b"no\r\n", b"-5\r\n", b"0x5\r\n", b"5" * 2000, b"123456789\r\n"])
def test_frames_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(StreamError, match="size of a chunk"):
        list(Chunks().feed(data))


@asynccontextmanager
async def answering(*pieces: bytes, ends: bool = True) -> AsyncIterator[tuple[str, int]]:
    """A server that takes a request and says these pieces, each a write of its own."""

    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not ends:
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield "127.0.0.1", server.sockets[0].getsockname()[1]
        await gone.wait()


async def heard(place: tuple[str, int], take: Callable[[ServerEvent], None], silence: float = 5.0) -> None:
    await listen(place, b"GET / HTTP/1.1\r\n\r\n", take, Patience(5.0, silence, Share()))


@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED + framed([EVENTS]),),
        (CHUNKED[:20], CHUNKED[20:] + framed([EVENTS[:9], EVENTS[9:]])),
        (CHUNKED, *(bytes([byte]) for byte in framed([EVENTS]))),
        (HEAD + b"\r\n", EVENTS),
    ],
)
async def test_events_are_handed_on(pieces: tuple[bytes, ...]) -> None:
    events: list[ServerEvent] = []
    async with answering(*pieces) as place:
        await heard(place, events.append)
    assert events == HEARD


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP 401"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6 + 1), "endless"),
        (CHUNKED + b"what?\r\n", "size of a chunk"),
    ],
)
async def test_what_is_no_stream_is_told(answer: bytes, words: str) -> None:
    async with answering(answer, ends=False) as place:
        with pytest.raises(StreamError, match=words):
            await heard(place, lambda _: None)


async def test_a_refusal_has_its_status() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as place:
        with pytest.raises(RefusedError) as caught:
            await heard(place, lambda _: None)
    assert caught.value.status == 404


async def test_silence_ends_it() -> None:
    events: list[ServerEvent] = []
    async with answering(CHUNKED + b"%x\r\n%s\r\n" % (len(EVENTS), EVENTS), ends=False) as place:
        with pytest.raises(TimeoutError):
            await heard(place, events.append, silence=0.05)
    assert events == HEARD


async def test_nobody_there() -> None:
    with pytest.raises(CannotConnectError, match=r"^cannot connect: Connection refused$"):
        await heard(("127.0.0.1", 1), lambda _: None)


def test_who_did_not_answer_is_forgotten() -> None:
    """Nothing of the attempt wakes up later, when nobody waits for it."""
    troubles: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        with suppress(CannotConnectError):
            await heard(("127.0.0.1", 1), lambda _: None)
        await asyncio.sleep(3600)
        gc.collect()

    run(main)
    assert troubles == []


async def test_an_error_of_the_listener_ends_it() -> None:
    def take(event: ServerEvent) -> None:
        raise EventTooLargeError(event.name)

    async with answering(CHUNKED + framed([EVENTS]), ends=False) as place:
        with pytest.raises(EventTooLargeError, match="snapshot"):
            await heard(place, take)


class Peer(asyncio.ReadTransport):
    """A connection that never runs dry, as asyncio reads it: whole buffers, as long as it is not paused."""

    def __init__(self, stream: _Stream, read: bytes) -> None:
        super().__init__()
        self.stream = stream
        self.read = read
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def flood(self) -> None:
        while not self.stream.over.done():
            if not self.paused:
                self.stream.data_received(self.read)
            await asyncio.sleep(0)  # the loop looks at its sockets once in each turn
            if self.paused:
                await asyncio.sleep(0.001)


EVENT = b"event: session\ndata: %06d\n\n"
EVENT_SECONDS = 0.001


def flooded(seconds: float, silence: float = 5.0) -> tuple[list[str], int, list[int]]:
    """What is heard of a peer whose events cost a millisecond each, how often it was slowed, and how many of its
    events each turn of the loop had."""
    heard: list[str] = []
    slowed: list[float] = []
    turns: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        share = Share(lambda: len(heard) * EVENT_SECONDS)
        patience = Patience(5.0, silence, share, lambda: slowed.append(loop.time()))
        stream = _Stream(loop, lambda event: heard.append(event.data), patience)
        stream.data_received(HEAD + b"\r\n")
        peer = Peer(stream, b"".join(EVENT % number for number in range(10_000)))
        stream.connection_made(peer)
        flood = asyncio.ensure_future(peer.flood())
        began = loop.time()
        while loop.time() < began + seconds:
            before = len(heard)
            await asyncio.sleep(0)
            turns.append(len(heard) - before)
            assert len(turns) < 5_000, "there is no end of it, and so no time passes"
            if not turns[-1]:
                await asyncio.sleep(0.01)
        assert not stream.over.done()
        stream.stop()
        await flood

    run(main)
    return heard, len(slowed), turns


def test_who_talks_without_end_gets_its_share_and_no_more() -> None:
    heard, slowed, turns = flooded(20.0)
    slice_events = SLICE_BYTES // len(EVENT % 0) + 1
    assert max(turns) <= 2 * slice_events
    least, most = (CREDIT_SECONDS + part * 20.0 * PART for part in (0.5, 1.0))
    assert least / EVENT_SECONDS <= len(heard) <= most / EVENT_SECONDS + slice_events
    assert 2 <= slowed <= 100
    # Late, but whole and in order.
    assert heard == [f"{number % 10_000:06d}" for number in range(len(heard))]


def test_who_is_not_listened_to_is_not_silent() -> None:
    """The pause is ours, however much longer than the patience with silence it is."""
    _, slowed, _ = flooded(20.0, silence=0.1)
    assert slowed >= 2


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 0.1)), max_size=60))
def test_nobody_takes_more_than_its_share(steps: list[tuple[float, float]]) -> None:
    used, now = 0.0, 0.0
    share = Share(lambda: used)
    for pause, cost in steps:
        now += pause
        wait = share.wait(now)
        assert 0 <= wait <= PAUSE_SECONDS + DEBT_SECONDS / PART
        if wait:
            now += wait
            assert share.wait(now) == 0
        with share:
            used += cost
        assert used <= CREDIT_SECONDS + now * PART + cost + 1e-9


def test_a_new_connection_brings_no_new_credit() -> None:
    """The share is the link's: who hangs up and is called again goes on where it was."""
    used = 0.0
    share = Share(lambda: used)
    assert share.wait(0.0) == 0
    with share:
        used = CREDIT_SECONDS
    events: list[ServerEvent] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream = _Stream(loop, events.append, Patience(5.0, 5.0, share))
        stream.data_received(CHUNKED + framed([EVENTS]))
        assert events == []
        await stream.over
        assert loop.time() >= PAUSE_SECONDS
        stream.stop()

    run(main)
    assert events == HEARD
