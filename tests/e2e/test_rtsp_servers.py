"""RTSP servers that we did not write: MediaMTX and go2rtc. They pull a standalone agent's test pattern, which is H.264
of 640x360, and serve it; our source must bring it back whole. GStreamer's server is in `test_rtsp_cameras.py`.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.cluster import toolchain
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp.source import RtspSource
from sightline_agent.sources.rtsp.stream import STALL_SECONDS
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from sightline_model.reasons import SourceReason
from tests.e2e.test_clients import listening, program, tool
from tests.helpers.agent import Standalone, standalone
from tests.helpers.certificates import write_certificate
from tests.helpers.ports import free_pair, free_port
from tests.helpers.recording import Recorder, decode, failing, failing_with, record
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PATIENCE = 90.0
CHUNKS = 90
LOGIN = Credentials("alice", "secret")
AUTO, TCP, UDP = RtspTransport.AUTO, RtspTransport.TCP, RtspTransport.UDP


@dataclass(frozen=True)
class Server:
    """Paths `open`, `closed` (for alice) and, at MediaMTX, `empty`."""

    port: int
    secure_port: int = 0
    fingerprint: str = ""

    def spec(self, path: str, transport: RtspTransport = AUTO) -> RtspSpec:
        return RtspSpec(url=f"rtsp://127.0.0.1:{self.port}/{path}", transport=transport)

    def secure(self, path: str, fingerprint: str | None = None) -> RtspSpec:
        url = f"rtsps://127.0.0.1:{self.secure_port}/{path}"
        return RtspSpec(url=url, fingerprint=fingerprint or self.fingerprint)


@asynccontextmanager
async def mediamtx(folder: Path, method: str = "basic") -> AsyncIterator[Server]:
    path = tool(toolchain.mediamtx)
    udp, secure_udp = free_pair(), free_pair()
    server = Server(free_port(), free_port(), write_certificate(folder / "server.pem"))
    async with standalone() as agent:
        source = agent.whep.replace("http", "whep", 1)
        off = "\n".join(f"{name}: no" for name in ("rtmp", "hls", "webrtc", "srt", "moq", "api"))
        (folder / "mediamtx.yml").write_text(
            f"{off}\nrtspTransports: [udp, tcp]\nrtspAuthMethods: [{method}]\nrtspEncryption: optional\n"
            f"rtspAddress: 127.0.0.1:{server.port}\nrtspsAddress: 127.0.0.1:{server.secure_port}\n"
            f"rtpAddress: 127.0.0.1:{udp}\nrtcpAddress: 127.0.0.1:{udp + 1}\n"
            f"srtpAddress: 127.0.0.1:{secure_udp}\nsrtcpAddress: 127.0.0.1:{secure_udp + 1}\n"
            "rtspServerKey: server.pem\nrtspServerCert: server.pem\n"
            "authInternalUsers:\n"
            "- {user: any, permissions: [{action: read, path: open}, {action: read, path: empty}]}\n"
            "- {user: alice, pass: secret, permissions: [{action: read, path: closed}]}\n"
            f"paths:\n  open: {{source: '{source}'}}\n  closed: {{source: '{source}'}}\n  empty: {{}}\n"
        )
        async with program(path, "mediamtx.yml", folder=folder):
            await listening(server.port)
            yield server


@asynccontextmanager
async def go2rtc(agent: Standalone, folder: Path) -> AsyncIterator[Server]:
    path, server = tool(toolchain.go2rtc), Server(free_port())
    (folder / "go2rtc.yaml").write_text(
        f"api: {{listen: '127.0.0.1:{free_port()}'}}\nrtsp: {{listen: '127.0.0.1:{server.port}'}}\n"
        f"webrtc: {{listen: '127.0.0.1:{free_port()}', "
        "filters: {networks: [udp4], ips: [127.0.0.1], loopback: true}}\n"
        f"srtp: {{listen: ''}}\nstreams: {{open: 'webrtc:{agent.whep}'}}\n"
    )
    async with program(path, "-config", "go2rtc.yaml", folder=folder):
        await listening(server.port)
        yield server


async def assert_pictures(spec: RtspSpec, credentials: Credentials | None = None) -> None:
    """As soon as the server has its stream: pictures that decode, in their order and at their times."""
    async with asyncio.timeout(PATIENCE):
        while True:
            recorder = Recorder(CHUNKS)
            try:
                await record(RtspSource(spec, credentials), recorder)
                break
            except SourceError as error:
                if error.reason is SourceReason.AUTHENTICATION_FAILED:
                    raise
                await asyncio.sleep(0.2)
    assert set(decode(recorder.chunks)) == {(640, 360)}
    # On a busy machine the pattern itself, or the server between, leaves pictures out; none may come twice or go back.
    assert {step % 3000 for step in recorder.steps} == {0}
    assert 0 < min(recorder.steps) <= max(recorder.steps) < 90_000


async def reason(spec: RtspSpec, credentials: Credentials | None = None) -> SourceReason:
    return (await failing(RtspSource(spec, credentials))).reason


@pytest.mark.parametrize("transport", [TCP, UDP])
async def test_mediamtx(transport: RtspTransport, tmp_path: Path) -> None:
    async with mediamtx(tmp_path) as server:
        await assert_pictures(server.spec("open", transport))
        assert await reason(server.spec("empty", transport)) is SourceReason.NOT_FOUND


@pytest.mark.parametrize("method", ["basic", "digest"])
async def test_mediamtx_with_a_password(method: str, tmp_path: Path) -> None:
    async with mediamtx(tmp_path, method) as server:
        await assert_pictures(server.spec("closed"), LOGIN)
        for wrong in (None, Credentials("alice", "wrong")):
            assert await reason(server.spec("closed"), wrong) is SourceReason.AUTHENTICATION_FAILED


async def test_mediamtx_encrypted(tmp_path: Path) -> None:
    async with mediamtx(tmp_path, "digest") as server:
        await assert_pictures(server.secure("closed"), LOGIN)
        assert await reason(server.secure("open", "00" * 32)) is SourceReason.UNREACHABLE


async def test_go2rtc(tmp_path: Path) -> None:
    """It has no password for who is on its own machine."""
    async with standalone() as agent, go2rtc(agent, tmp_path) as server:
        await assert_pictures(server.spec("open?video"))
        assert await reason(server.spec("nothing?video")) is SourceReason.NOT_FOUND


async def test_a_camera_that_freezes_is_noticed() -> None:
    """Its connection stands, but nothing comes: the process is stopped in the middle."""
    async with rtsp_camera("127.0.0.1", "--size", "320x240") as camera:
        loop = asyncio.get_running_loop()
        recorder, heard = Recorder(10_000), [0.0]

        def look(number: int) -> None:
            heard[0] = loop.time()
            if number == 30:
                os.kill(camera.pid, signal.SIGSTOP)

        recorder.on_chunk = look
        try:
            error = await failing_with(RtspSource(RtspSpec(url=camera.url), None), recorder)
        finally:
            os.kill(camera.pid, signal.SIGCONT)
        assert error.reason is SourceReason.STALLED
        assert loop.time() - heard[0] < 2 * STALL_SECONDS
