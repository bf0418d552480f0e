"""The HLS source against a server in this loop: recordings, a live window, and all that can be wrong."""

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from sightline_agent.media.lipsync import signed
from sightline_agent.media.sound import OPUS
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.hls import demux
from sightline_agent.sources.hls.source import HlsSource
from sightline_model.camera import HlsSource as HlsSpec
from sightline_model.reasons import SourceReason
from tests.helpers.http_server import Answer, Asked, HttpServer, Reply, serve
from tests.helpers.recording import FPS, HEIGHT, WIDTH, Recorder, add_video, clip, decode, failing, pictures, record
from tests.helpers.sounds import add_sound, mux_beeps, onsets

pytestmark = pytest.mark.stacks

KEY, FRAMES = b"k" * 16, 36
STEP = 90_000 // FPS


def segments(folder: Path, kind: str = "mpegts", options: dict[str, str] | None = None) -> dict[str, bytes]:
    """A recording of six GOPs of a tenth of a second, as the files that a server has."""
    wanted = {"hls_time": "0.1", "hls_list_size": "0", "hls_segment_type": kind, "hls_playlist_type": "vod"}
    with av.open(str(folder / "index.m3u8"), "w", format="hls", options=wanted) as container:
        stream = add_video(container, options=options)
        for frame in pictures(FRAMES):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}


def files(found: dict[str, bytes]) -> Answer:
    def answer(asked: Asked) -> Reply:
        body = found.get(asked.path.partition("?")[0])
        if body is None:
            return Reply(404)
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        if part is not None:
            return Reply(206, body[int(part[1]) : int(part[2]) + 1])
        return Reply(200, body)

    return answer


def source(server: HttpServer, path: str = "/index.m3u8?key=secret") -> HlsSource:
    return HlsSource(HlsSpec(url=server.url(path)))


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_a_recording_is_played_once_without_a_break(tmp_path: Path, kind: str) -> None:
    recorder = Recorder(1000)
    async with serve(files(segments(tmp_path, kind))) as server:
        await record(source(server), recorder)
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (WIDTH, HEIGHT)
    assert [chunk.key for chunk in recorder.chunks] == ([True] + [False] * 5) * 6
    assert recorder.steps == {STEP}
    assert decode(recorder.chunks) == [(WIDTH, HEIGHT)] * FRAMES


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_sound_goes_with_the_pictures(tmp_path: Path, kind: str) -> None:
    seconds, wanted = 2.4, {"hls_time": "0.5", "hls_list_size": "0", "hls_segment_type": kind}
    with av.open(str(tmp_path / "index.m3u8"), "w", format="hls", options=wanted) as container:
        stream, sound = add_video(container), add_sound(container)
        for frame in pictures(round(seconds * FPS)):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        mux_beeps(container, sound, seconds)
    found = {f"/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    recorder = Recorder(1000)
    async with serve(files(found)) as server:
        await record(source(server), recorder)
    assert recorder.audio == OPUS
    begin = recorder.chunks[0].timestamp
    pairs = zip(recorder.sounds, recorder.relations, strict=True)
    packets = [(chunk.payloads[0], round(signed((at or 0) - begin) * 8 / 15)) for chunk, at in pairs]
    assert onsets("libopus", 48_000, packets)[-1] == pytest.approx(2.0, abs=0.03)
    assert recorder.steps == {STEP}


async def test_the_best_quality_is_taken_and_redirects_are_followed(tmp_path: Path) -> None:
    found = segments(tmp_path)
    found["/master"] = b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.42c00b"\nmoved\n'
    plain = files(found)
    recorder = Recorder(6)

    def answer(asked: Asked) -> Reply:
        if asked.path == "/moved":
            return Reply(302, headers={"Location": "/index.m3u8"})
        return plain(asked)

    async with serve(answer) as server:
        await record(source(server, "/master"), recorder)
    assert len(recorder.chunks) == 6


async def test_encrypted_segments_of_one_file(tmp_path: Path) -> None:
    """Keys, byte ranges and a discontinuity at once: the same GOP twice, with its clock begun anew."""
    gop = segments(tmp_path)["/index0.ts"]
    encrypted = b""
    for number in (7, 8):
        padder = PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES128(KEY), modes.CBC(number.to_bytes(16, "big"))).encryptor()
        encrypted += encryptor.update(padder.update(gop) + padder.finalize()) + encryptor.finalize()
    half = len(encrypted) // 2
    playlist = (
        '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-KEY:METHOD=AES-128,URI="key"\n'
        f"#EXT-X-BYTERANGE:{half}@0\n#EXTINF:0.1,\nall\n"
        f"#EXT-X-DISCONTINUITY\n#EXT-X-BYTERANGE:{half}\n#EXTINF:0.1,\nall\n#EXT-X-ENDLIST\n"
    )
    found = {"/index.m3u8": playlist.encode(), "/all": encrypted, "/key": KEY}
    recorder = Recorder(1000)
    async with serve(files(found)) as server:
        await record(source(server), recorder)
        assert sum(asked.path == "/key" for asked in server.asked) == 1
    assert len(recorder.chunks) == 12
    assert recorder.steps == {STEP}
    with pytest.raises(SourceError, match="decrypted"):
        async with serve(files({**found, "/key": b"wrong" * 3 + b"!"})) as server:
            await record(source(server), Recorder(1000))


def live(found: dict[str, bytes], window: Callable[[int], range]) -> Answer:
    """A playlist that moves on each time it is asked for; its segments repeat, so each begins a clock anew."""
    plain, asked_for = files(found), [0]

    def answer(asked: Asked) -> Reply:
        if not asked.path.startswith("/index.m3u8"):
            return plain(Asked(asked.method, re.sub(r"live\d+", "index0", asked.path), {}, b""))
        numbers = window(asked_for[0])
        asked_for[0] += 1
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{numbers.start}"]
        for number in numbers:
            lines += ["#EXT-X-DISCONTINUITY", "#EXTINF:0.1,", f"live{number}.ts"]
        return Reply(200, "\n".join(lines).encode())

    return answer


async def test_a_live_stream_is_entered_near_its_end_and_followed(tmp_path: Path) -> None:
    found = segments(tmp_path)
    recorder = Recorder(30)
    async with serve(live(found, lambda asked: range(100 + asked, 106 + asked))) as server:
        await record(source(server), recorder)
        fetched = [asked.path for asked in server.asked if asked.path.endswith(".ts")]
    assert fetched[:4] == ["/live103.ts", "/live104.ts", "/live105.ts", "/live106.ts"]
    assert recorder.steps == {STEP}


async def test_a_live_stream_goes_on_after_a_segment_that_is_gone(tmp_path: Path) -> None:
    moving = live(segments(tmp_path), lambda asked: range(100 + asked, 106 + asked))

    def answer(asked: Asked) -> Reply:
        return Reply(404) if asked.path == "/live104.ts" else moving(asked)

    recorder = Recorder(12)
    async with serve(answer) as server:
        await record(source(server), recorder)
    assert recorder.steps == {STEP}
    async with serve(lambda asked: Reply(503) if asked.path.endswith(".ts") else moving(asked)) as server:
        assert (await failing(source(server))).reason is SourceReason.UNREACHABLE


async def test_a_live_stream_that_counts_anew_goes_on(tmp_path: Path) -> None:
    def window(asked: int) -> range:
        return range(100, 103) if asked == 0 else range(asked, 3 + asked)

    recorder = Recorder(25)
    async with serve(live(segments(tmp_path), window)) as server:
        await record(source(server), recorder)
    assert recorder.steps == {STEP}


async def test_a_playlist_that_is_older_than_the_one_before_repeats_nothing(tmp_path: Path) -> None:
    def window(asked: int) -> range:
        moved = asked - 3 if asked % 3 == 2 else asked  # the third server is three segments behind
        return range(100 + moved, 106 + moved)

    recorder = Recorder(48)
    async with serve(live(segments(tmp_path), window)) as server:
        await record(source(server), recorder)
        fetched = [asked.path for asked in server.asked if asked.path.endswith(".ts")]
    assert fetched[:7] == [f"/live{number}.ts" for number in range(103, 110)]
    assert recorder.steps == {STEP}


def low_latency(found: dict[str, bytes], parts: int) -> Answer:
    """Segments of two parts, each a tenth of a second; one more part each time that the playlist is asked for."""
    plain, there = files(found), [3]

    def answer(asked: Asked) -> Reply:
        if not asked.path.startswith("/index.m3u8"):
            return plain(asked)
        lines = [
            "#EXTM3U",
            "#EXT-X-TARGETDURATION:1",
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.15",
            "#EXT-X-PART-INF:PART-TARGET=0.1",
            '#EXT-X-MAP:URI="init.mp4"',
        ]
        for number in range(min(there[0], parts)):
            lines.append(f'#EXT-X-PART:DURATION=0.1,URI="index{number}.m4s",INDEPENDENT=YES')
            if number % 2:
                lines += ["#EXTINF:0.2,", f"whole{number // 2}.m4s"]
        there[0] += 1
        return Reply(200, "\n".join([*lines, *(["#EXT-X-ENDLIST"] if there[0] > parts + 1 else [])]).encode())

    return answer


async def test_parts_of_a_low_latency_stream_are_played_as_they_come(tmp_path: Path) -> None:
    found = segments(tmp_path, "fmp4")
    recorder = Recorder(1000)
    async with serve(low_latency(found, 6)) as server:
        await record(source(server), recorder)
        asked = [one.path for one in server.asked]
    assert [path for path in asked if path.endswith(".m4s")] == [f"/index{number}.m4s" for number in range(1, 6)]
    waited_for = [path.partition("&")[2] for path in asked if "_HLS_msn" in path]
    assert waited_for[:4] == [
        "_HLS_msn=1&_HLS_part=1",
        "_HLS_msn=2&_HLS_part=0",
        "_HLS_msn=2&_HLS_part=1",
        "_HLS_msn=3&_HLS_part=0",
    ]
    assert recorder.steps == {STEP}
    assert decode(recorder.chunks) == [(WIDTH, HEIGHT)] * 30


async def test_what_is_told_when_it_fails(tmp_path: Path) -> None:
    found = segments(tmp_path)
    answers: list[tuple[Answer, SourceReason]] = [
        (lambda asked: Reply(401), SourceReason.AUTHENTICATION_FAILED),
        (lambda asked: Reply(403), SourceReason.AUTHENTICATION_FAILED),
        (lambda asked: Reply(404), SourceReason.NOT_FOUND),
        (lambda asked: Reply(503), SourceReason.UNREACHABLE),
        (lambda asked: Reply(400), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(200, b"<html>"), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(raw=b"garbage\r\n\r\n"), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n#"), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(302, headers={"Location": "/again"}), SourceReason.PROTOCOL_ERROR),
        (files({"/index.m3u8": found["/index.m3u8"]}), SourceReason.NOT_FOUND),
        (files({**found, "/index0.ts": b"no media" * 99}), SourceReason.PROTOCOL_ERROR),
        (files({**found, "/index0.ts": b"\x47 no media" * 99}), SourceReason.PROTOCOL_ERROR),
        (
            files({"/index.m3u8": b'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="av01"\nx.m3u8\n'}),
            SourceReason.CODEC_UNSUPPORTED,
        ),
    ]
    for answer, reason in answers:
        async with serve(answer) as server:
            error = await failing(source(server))
        assert error.reason is reason, str(error)
        assert "secret" not in str(error)
        assert "127.0.0.1" not in str(error)
    error = await failing(HlsSource(HlsSpec(url="http://127.0.0.1:1/index.m3u8?key=secret")))
    assert (error.reason, "secret" in str(error)) == (SourceReason.UNREACHABLE, False)


async def test_b_frames_keep_their_times(tmp_path: Path) -> None:
    found = segments(tmp_path, options={"bf": "2", "b-adapt": "0", "sc_threshold": "0"})
    recorder = Recorder(12)
    async with serve(files(found)) as server:
        await record(source(server), recorder)
    assert recorder.format is not None
    assert recorder.format.b_frames
    assert recorder.stamps != sorted(recorder.stamps)
    assert len(set(recorder.stamps)) == len(recorder.chunks)


async def test_other_codecs_are_named(tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.ts", codec="mpeg2video", options={}).read_bytes()
    with pytest.raises(SourceError, match="MPEG2VIDEO") as caught:
        demux.take(data)
    assert caught.value.reason is SourceReason.CODEC_UNSUPPORTED


async def test_authorization_is_not_sent_elsewhere() -> None:
    from sightline_agent.sources import http

    async with (
        serve(lambda asked: Reply(204)) as elsewhere,
        serve(lambda asked: Reply(307, headers={"Location": elsewhere.url("/")})) as first,
    ):
        request = http.Request("POST", first.url("/x"), "it", {"Authorization": "Bearer secret"}, b"body")
        response = await http.fetch(request)
    assert (response.status, response.url) == (204, elsewhere.url("/"))
    assert "authorization" in first.asked[0].headers
    assert "authorization" not in elsewhere.asked[0].headers
    assert elsewhere.asked[0].body == b"body"
    assert "secret" not in repr(request)


@pytest.mark.parametrize("hanging", ["/index.m3u8?key=secret", "/index0.ts"])
async def test_a_cancelled_source_leaves_nothing_behind(tmp_path: Path, hanging: str) -> None:
    plain = files(segments(tmp_path))
    reached = asyncio.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path != hanging:
            return plain(asked)
        reached.set()
        return Reply(hangs=True)

    before = set(threading.enumerate())
    async with serve(answer) as server:
        running = asyncio.create_task(source(server).run(Recorder(1000)))
        await reached.wait()
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        others = [task for task in asyncio.all_tasks() if "HlsSource" in repr(task)]
        assert others == []
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")]
    assert left == []
