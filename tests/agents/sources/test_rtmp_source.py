"""The RTMP source against a server in this loop, and that server against FFmpeg's client."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtmp import chunks, client
from sightline_agent.sources.rtmp import source as rtmp_source
from sightline_agent.sources.rtmp.chunks import Message
from sightline_agent.sources.rtmp.source import RtmpSource, address
from sightline_model.camera import RtmpSource as RtmpSpec
from sightline_model.reasons import SourceReason
from tests.helpers.listening import listening
from tests.helpers.recording import HEIGHT, WIDTH, Recorder, clip, decode, failing, record
from tests.helpers.rtmp_server import Habits, RtmpServer, from_flv, serve

pytestmark = pytest.mark.stacks

SECRET = "stream-key"


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> tuple[Message, ...]:
    """A fifth of a second at 60 frames: two GOPs."""
    return from_flv(clip(tmp_path_factory.mktemp("flv") / "clip.flv").read_bytes())


def source(server: RtmpServer, credentials: Credentials | None = None) -> RtmpSource:
    return RtmpSource(RtmpSpec(url=server.url(f"/live/{SECRET}")), credentials)


async def test_a_stream_is_passed_on_as_it_is(tags: tuple[Message, ...]) -> None:
    recorder = Recorder(30)
    async with serve(Habits(tags, again=200)) as server:
        await record(source(server), recorder)
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (WIDTH, HEIGHT)
    assert [chunk.key for chunk in recorder.chunks][:30] == ([True] + [False] * 5) * 5
    assert recorder.steps <= {16 * 90, 17 * 90}  # RTMP counts milliseconds
    assert decode(recorder.chunks) == [(WIDTH, HEIGHT)] * len(recorder.chunks)
    connect, create, play = server.commands
    assert (connect[0], create[0]) == ("connect", "createStream")
    assert isinstance(connect[2], dict)
    assert (connect[2]["app"], connect[2]["tcUrl"]) == ("live", f"rtmp://127.0.0.1:{server.port}/live")
    assert play == ["play", 3.0, None, SECRET, -2.0]


async def test_ffmpegs_client_plays_from_our_server(tags: tuple[Message, ...]) -> None:
    async with serve(Habits(tags, again=200)) as server:

        def play() -> list[tuple[int, bool]]:
            with av.open(server.url(), "r", "flv", timeout=(60, 60)) as container:
                packets = container.demux(container.streams.video[0])
                return [(packet.size, packet.is_keyframe) for packet, _ in zip(packets, range(12), strict=False)]

        found = await asyncio.to_thread(play)
    assert [key for _, key in found] == ([True] + [False] * 5) * 2
    assert all(size > 0 for size, _ in found)


async def test_small_chunks_and_aggregates(tags: tuple[Message, ...]) -> None:
    body = b"".join(
        bytes([tag.type])
        + len(tag.data).to_bytes(3, "big")
        + (tag.timestamp & 0xFFFFFF).to_bytes(3, "big")
        + bytes([tag.timestamp >> 24])
        + bytes(3)
        + tag.data
        + bytes(4)
        for tag in tags
    )
    recorder = Recorder(12)
    async with serve(Habits((Message(chunks.AGGREGATE, 0, 1, body),), chunk=64)) as server:
        await record(source(server), recorder)
    assert decode(recorder.chunks) == [(WIDTH, HEIGHT)] * 12


async def test_sound_malformed_video_and_long_uptimes_do_not_matter(tags: tuple[Message, ...]) -> None:
    """Timestamps wrap in the middle of it."""
    mixed: list[Message] = []
    for tag in tags:
        late = (tag.timestamp + (1 << 32) - 100) % (1 << 32)
        mixed += [Message(chunks.AUDIO, late, 1, b"\xaf\1x"), Message(chunks.VIDEO, late, 1, b"\x27\1")]
        mixed.append(Message(tag.type, late, 1, tag.data))
    recorder = Recorder(12)
    async with serve(Habits(tuple(mixed))) as server:
        await record(source(server), recorder)
    assert recorder.steps <= {16 * 90, 17 * 90}


@pytest.mark.parametrize(
    ("habits", "reason"),
    [
        (Habits(refuses="connect"), SourceReason.PROTOCOL_ERROR),
        (
            Habits(refuses="connect", status=("NetConnection.Connect.Rejected", f"authentication of {SECRET} failed")),
            SourceReason.AUTHENTICATION_FAILED,
        ),
        (Habits(refuses="connect", status=("NetConnection.Connect.InvalidApp", "")), SourceReason.NOT_FOUND),
        (Habits(refuses="play", status=("NetStream.Play.StreamNotFound", SECRET)), SourceReason.NOT_FOUND),
        (Habits(refuses="play", status=(SECRET, SECRET)), SourceReason.PROTOCOL_ERROR),
        (Habits(greets=b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100), SourceReason.PROTOCOL_ERROR),
        (Habits(greets=b"\3"), SourceReason.PROTOCOL_ERROR),
        (Habits(hangs_up=True), SourceReason.NO_FRAMES),
        (Habits((Message(chunks.AUDIO, 0, 1, b"\xaf\1x"),), hangs_up=True), SourceReason.UNREACHABLE),
        (Habits((Message(chunks.VIDEO, 0, 1, b"\x1d\0\0\0\0"),)), SourceReason.CODEC_UNSUPPORTED),
        (Habits((Message(chunks.VIDEO, 0, 1, b"\x27\1\0\0\0junk"),) * 60), SourceReason.PROTOCOL_ERROR),
    ],
)
async def test_what_is_told_when_it_fails(habits: Habits, reason: SourceReason) -> None:
    async with serve(habits) as server:
        error = await failing(source(server))
    assert error.reason is reason, str(error)
    assert SECRET not in str(error)
    assert "127.0.0.1" not in str(error)


async def receive_until(connection: client.Connection, enough: Callable[[], bool]) -> None:
    while not enough():
        await connection.receive()


async def test_a_server_that_asks_and_asks_but_reads_no_answer_is_given_up() -> None:
    asked = 0

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readexactly(1 + 1536)
        writer.write(bytes((3,)) + bytes(2 * 1536))
        ping = chunks.write(Message(chunks.USER_CONTROL, 0, 0, bytes((0, 6, 0, 0, 0, 0))), 2)
        try:
            while True:
                writer.write(ping * 1000)
                asked += 1000
                await writer.drain()
        finally:
            writer.transport.abort()

    async with listening(ask) as port:
        connection = await client.connect(client.target(f"rtmp://127.0.0.1:{port}/live/{SECRET}"))
        with pytest.raises(SourceError, match="does not read the answers"):
            await receive_until(connection, lambda: asked > 2_000_000)
        connection.close()
        await asyncio.sleep(0)


async def test_nobody_there() -> None:
    error = await failing(RtmpSource(RtmpSpec(url=f"rtmp://127.0.0.1:1/live/{SECRET}"), None))
    assert (error.reason, SECRET in str(error)) == (SourceReason.UNREACHABLE, False)


async def test_b_frames_keep_their_times(tmp_path: Path) -> None:
    tags = from_flv(clip(tmp_path / "b.flv", options={"bf": "2", "b-adapt": "0"}).read_bytes())
    recorder = Recorder(12)
    async with serve(Habits(tags)) as server:
        await record(source(server), recorder)
    assert recorder.format is not None
    assert recorder.format.b_frames
    assert recorder.stamps != sorted(recorder.stamps)


async def test_h265(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0"}
    tags = from_flv(clip(tmp_path / "h265.flv", "libx265", options).read_bytes())
    recorder = Recorder(12)
    async with serve(Habits(tags)) as server:
        await record(source(server), recorder)
    assert recorder.format is not None
    assert (recorder.format.codec, recorder.format.width) == ("H265", 64)
    assert recorder.chunks[0].key


@pytest.mark.parametrize(
    ("habits", "limit", "reason"),
    [
        (Habits(mute_at="connect"), "HANDSHAKE_SECONDS", SourceReason.UNREACHABLE),
        (Habits(mute_at="play"), "FIRST_FRAME_SECONDS", SourceReason.NO_FRAMES),
        (Habits(hangs_up=False), "FIRST_FRAME_SECONDS", SourceReason.NO_FRAMES),
    ],
)
async def test_a_server_that_falls_silent(
    habits: Habits, limit: str, reason: SourceReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtmp_source, limit, 0.1)
    async with serve(habits) as server:
        assert (await failing(source(server))).reason is reason


async def test_a_stream_that_stalls(tags: tuple[Message, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_source, "STALL_SECONDS", 0.1)
    async with serve(Habits(tags)) as server:
        assert (await failing(source(server))).reason is SourceReason.STALLED


async def test_a_cancelled_source_hangs_up(tags: tuple[Message, ...]) -> None:
    async with serve(Habits(())) as server:
        running = asyncio.create_task(source(server).run(Recorder(1)))
        await server.played.wait()
        running.cancel()
        await asyncio.wait({running})
        while server.open:
            await asyncio.sleep(0)


def test_what_the_secret_adds_to_the_address() -> None:
    url = "rtmp://host/live"
    assert address(url, None) == url
    assert address(url, Credentials("", "", "key?a=b")) == "rtmp://host/live/key?a=b"
    assert address(f"{url}/x?y=z", Credentials("al ice", "p&w")) == "rtmp://host/live/x?y=z&user=al%20ice&pass=p%26w"


def test_addresses() -> None:
    where = client.target("rtmps://host/app/instance/key?x=1")
    assert (where.scheme, where.port, where.app, where.stream) == ("rtmps", 443, "app/instance", "key?x=1")
    assert where.tc_url == "rtmps://host:443/app/instance"
    assert "key" not in repr(where)
    for url in ("rtmp://host", "rtmp://host:99999/a/b", "rtmp:///a/b"):
        with pytest.raises(SourceError):
            client.target(url)
