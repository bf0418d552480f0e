"""Sources against a server that we did not write: MediaMTX takes a test pattern and serves it by RTMP, HLS and WHEP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.cluster import toolchain
from hack.cluster.errors import ClusterError
from sightline_agent.sources import http
from sightline_agent.sources.base import Source, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.factory import source_factory
from sightline_agent.standalone import parse_source
from sightline_model.reasons import SourceReason
from tests.helpers.agent import standalone
from tests.helpers.ports import free_port
from tests.helpers.recording import Recorder, decode, failing, record

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

FRAMES, PATIENCE = 60, 90.0
TRIES = 8
LOGIN = Credentials("alice", "secret")


@dataclass(frozen=True)
class MediaMtx:
    rtmp: int
    hls: int
    webrtc: int

    def address(self, kind: str, path: str) -> str:
        return {
            "rtmp": f"rtmp://127.0.0.1:{self.rtmp}/{path}",
            "hls": f"http://127.0.0.1:{self.hls}/{path}/index.m3u8",
            "whep": f"whep://127.0.0.1:{self.webrtc}/{path}/whep",
        }[kind]


@asynccontextmanager
async def mediamtx(source: str, folder: Path, hls: str = "fmp4") -> AsyncIterator[MediaMtx]:
    try:
        program = toolchain.mediamtx()
    except ClusterError as error:
        pytest.skip(f"cannot be built here: {error}")
    server = MediaMtx(free_port(), free_port(), free_port())
    off = "\n".join(f"{name}: no" for name in ("rtsp", "srt", "moq", "api"))
    (folder / "mediamtx.yml").write_text(
        f"{off}\nrtmpAddress: 127.0.0.1:{server.rtmp}\nhlsAddress: 127.0.0.1:{server.hls}\nhlsVariant: {hls}\n"
        f"webrtcAddress: 127.0.0.1:{server.webrtc}\n"
        f"webrtcLocalUDPAddress: 127.0.0.1:{free_port(socket.SOCK_DGRAM)}\n"
        "authInternalUsers:\n- {user: any, permissions: [{action: read, path: open}, {action: read, path: empty}]}\n"
        "- {user: alice, pass: secret, permissions: [{action: read, path: closed}]}\n"
        f"paths:\n  open: {{source: '{source}'}}\n  closed: {{source: '{source}'}}\n  empty: {{}}\n"
    )
    with (folder / "log.txt").open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            str(program), "mediamtx.yml", cwd=folder, stdout=words, stderr=asyncio.subprocess.STDOUT
        )
        try:
            yield server
        finally:
            process.terminate()
            await process.wait()


def make(text: str, credentials: Credentials | None = None) -> Source:
    return source_factory(lambda _: credentials)(parse_source(text)[0])


async def frames(text: str, credentials: Credentials | None = None, count: int = FRAMES) -> Recorder:
    """So many frames, as soon as the server has the stream."""
    async with asyncio.timeout(PATIENCE):
        while True:
            recorder = Recorder(10 * count)
            recorder.on_chunk = lambda _, here=recorder: here.full.set() if len(here.stamps) > count else None  # type: ignore[misc]
            try:
                await record(make(text, credentials), recorder)
            except SourceError:
                await asyncio.sleep(0.2)
            else:
                return recorder


async def frames_that(suffice: Callable[[Recorder], bool], text: str, count: int = FRAMES) -> Recorder:
    """The same, in one of a few tries as they should be: a busy machine leaves pictures of the pattern out."""
    for _ in range(TRIES - 1):
        recorder = await frames(text, count=count)
        if suffice(recorder):
            return recorder
    return await frames(text, count=count)


async def test_rtmp_hls_and_whep(tmp_path: Path) -> None:
    async with standalone() as agent, mediamtx(agent.whep.replace("http", "whep", 1), tmp_path) as server:
        for kind in ("rtmp", "whep", "hls"):
            recorder = await frames_that(lambda seen: max(seen.steps) <= 9000, server.address(kind, "open"))
            assert set(decode(recorder.chunks)) == {(640, 360)}
            assert max(recorder.steps) <= 9000, kind
            refused = await failing(make(server.address(kind, "closed")))
            assert refused.reason is SourceReason.AUTHENTICATION_FAILED
        recorder = await frames(server.address("rtmp", "closed"), LOGIN)
        assert set(decode(recorder.chunks)) == {(640, 360)}
        recorder = await frames(server.address("whep", "closed"), Credentials("", "", "alice:secret"))
        assert set(decode(recorder.chunks)) == {(640, 360)}
        reasons = {
            kind: (await failing(make(server.address(kind, "empty")))).reason for kind in ("rtmp", "hls", "whep")
        }
        assert reasons == {
            "rtmp": SourceReason.NO_FRAMES,
            "hls": SourceReason.NOT_FOUND,
            "whep": SourceReason.NOT_FOUND,
        }


async def test_low_latency_hls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part by part: the server is asked for the next one before it is there."""
    asked: list[str] = []
    fetch = http.fetch

    async def spy(request: http.Request) -> http.Response:
        asked.append(request.url)
        return await fetch(request)

    def early() -> int:
        return sum("_HLS_part=" in url for url in asked)

    monkeypatch.setattr(http, "fetch", spy)

    def whole(seen: Recorder) -> bool:
        # A part has six pictures: without one the next is seven steps on. The pattern itself leaves out some on a busy
        # machine, which are none.
        return {step % 3000 for step in seen.steps} == {0} and max(seen.steps) < 21_000

    async with standalone() as agent, mediamtx(agent.whep.replace("http", "whep", 1), tmp_path, "lowLatency") as server:
        # What the server kept comes first, so twelve seconds have three to five such requests.
        recorder = await frames_that(
            lambda seen: whole(seen) and early() > 3, server.address("hls", "open"), count=6 * FRAMES
        )
    assert set(decode(recorder.chunks)) == {(640, 360)}
    assert whole(recorder)
    assert early() > 3
