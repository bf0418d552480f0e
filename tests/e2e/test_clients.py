"""Viewers that we did not write, against a standalone agent over loopback: each must show pictures.

GStreamer decodes by itself. MediaMTX and go2rtc pull the agent's WHEP and hand the stream on by RTSP, which PyAV
decodes here. The restart of ICE is done by aiortc, through the front door. Chromium is in test_dev.py.
"""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import av
import httpx2
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from hack.cluster import toolchain
from hack.cluster.errors import ClusterError
from sightline_model.reasons import EndReason
from tests.helpers import dev
from tests.helpers.agent import Standalone, standalone
from tests.helpers.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

FRAMES = 60
SIZE = (640, 360)
PATIENCE = 60.0
GST_PYTHON = "/usr/bin/python3"
GST_VIEWER = Path(__file__).parents[1] / "helpers/gst_viewer.py"
GST_ELEMENTS = ("webrtcbin", "nicesrc", "avdec_h264")


@pytest.fixture
async def agent() -> AsyncIterator[Standalone]:
    async with standalone() as running:
        yield running


def missing_of_gstreamer() -> str:
    """What GStreamer lacks here, in words; empty if nothing."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is not None:
        for element in GST_ELEMENTS:
            if subprocess.run([inspect, element], stdout=subprocess.DEVNULL, check=False).returncode:
                return f"GStreamer's {element} (packages gstreamer1.0-plugins-bad, -nice, -libav)"
    bindings = "import gi; gi.require_version('GstWebRTC', '1.0')"
    if not Path(GST_PYTHON).exists() or subprocess.run([GST_PYTHON, "-c", bindings], check=False).returncode:
        return "GStreamer's bindings (packages python3-gi, gir1.2-gst-plugins-bad-1.0)"
    return ""


async def test_gstreamer(agent: Standalone) -> None:
    if missing := missing_of_gstreamer():
        pytest.skip(f"this machine lacks {missing}")
    process = await asyncio.create_subprocess_exec(
        *(GST_PYTHON, str(GST_VIEWER), "--frames", str(FRAMES), "--seconds", f"{PATIENCE:.0f}", agent.whep),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    assert process.returncode == 0, errors.decode()
    assert json.loads(output) == {"frames": FRAMES, "size": "640x360", "hungUp": 200}


def tool(build: Callable[[], Path]) -> Path:
    """A program that is built from source when it is not there yet."""
    try:
        return build()
    except ClusterError as error:
        pytest.skip(f"cannot be built here: {error}")


@asynccontextmanager
async def program(path: Path, *arguments: str, folder: Path) -> AsyncIterator[None]:
    """Run it in `folder`, its words in a file there."""
    with (folder / "log.txt").open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            str(path), *arguments, cwd=folder, stdout=words, stderr=asyncio.subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


def decode(url: str, frames: int) -> set[tuple[int, int]]:
    """The sizes of so many pictures."""
    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=PATIENCE) as stream:
        pictures = stream.decode(video=0)
        return {(picture.width, picture.height) for picture, _ in zip(pictures, range(frames), strict=False)}


async def listening(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def assert_watched_once(agent: Standalone) -> None:
    async with asyncio.timeout(PATIENCE):  # the figures are counted anew each second
        while (report := await agent.report()).stats.packets_sent <= FRAMES:
            await asyncio.sleep(0.1)
    (session,) = [one for one in report.sessions if one.first_media_at]
    assert session.end_reason in (None, EndReason.HANGUP)


async def test_mediamtx(agent: Standalone, tmp_path: Path) -> None:
    mediamtx, port = tool(toolchain.mediamtx), free_port()
    servers = "\n".join(f"{name}: no" for name in ("rtmp", "hls", "webrtc", "srt", "moq", "api"))
    source = agent.whep.replace("http://", "whep://")
    (tmp_path / "mediamtx.yml").write_text(
        f"rtspAddress: 127.0.0.1:{port}\nrtspTransports: [tcp]\n{servers}\n"
        f"paths:\n  cam:\n    source: {source}\n    sourceOnDemand: yes\n    sourceOnDemandStartTimeout: 60s\n"
    )
    async with program(mediamtx, "mediamtx.yml", folder=tmp_path):
        await listening(port)
        assert await asyncio.to_thread(decode, f"rtsp://127.0.0.1:{port}/cam", FRAMES) == {SIZE}
        await assert_watched_once(agent)


async def test_go2rtc(agent: Standalone, tmp_path: Path) -> None:
    go2rtc, port, media = tool(toolchain.go2rtc), free_port(), free_port()
    (tmp_path / "go2rtc.yaml").write_text(
        f"api: {{listen: '127.0.0.1:{free_port()}'}}\nrtsp: {{listen: '127.0.0.1:{port}'}}\n"
        f"webrtc: {{listen: '127.0.0.1:{media}', filters: {{networks: [udp4], ips: [127.0.0.1], loopback: true}}}}\n"
        f"srtp: {{listen: ''}}\nstreams: {{cam: 'webrtc:{agent.whep}'}}\n"
    )
    async with program(go2rtc, "-config", "go2rtc.yaml", folder=tmp_path):
        await listening(port)
        assert await asyncio.to_thread(decode, f"rtsp://127.0.0.1:{port}/cam?video", FRAMES) == {SIZE}
        await assert_watched_once(agent)


WHEP = "/v1/namespaces/default/cameras/test-pattern/whep"
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
NEW = ("freshfrag", "a-password-of-22-letters-or-more")


async def frames_of(track: MediaStreamTrack, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        for _ in range(count):
            await track.recv()


async def post_when_ready(client: httpx2.AsyncClient, offer: str) -> httpx2.Response:
    """201, as soon as the camera's agent is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            response = await client.post(WHEP, content=offer, headers={"Content-Type": "application/sdp"}, timeout=30)
            if response.status_code != 503:
                assert response.status_code == 201, response.text
                return response
            await asyncio.sleep(0.1)


async def test_an_ice_restart_through_the_front_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Refused checks end the connection, but not before the answer to the PATCH has come.
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 300)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks: asyncio.Queue[MediaStreamTrack] = asyncio.Queue()
    connection.on("track", tracks.put_nowait)
    connection.addTransceiver("video", direction="recvonly")
    async with dev.running(tmp_path) as door, httpx2.AsyncClient(base_url=door.url, trust_env=False) as client:
        client.headers["Authorization"] = f"Bearer {dev.TOKEN}"
        try:
            await connection.setLocalDescription(await connection.createOffer())
            offer = connection.localDescription.sdp
            opened = await post_when_ready(client, offer)
            assert opened.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
            await connection.setRemoteDescription(RTCSessionDescription(opened.text, "answer"))
            track = await asyncio.wait_for(tracks.get(), PATIENCE)
            await frames_of(track, 10)

            session = opened.headers["Location"]
            fragment = f"a=ice-ufrag:{NEW[0]}\r\na=ice-pwd:{NEW[1]}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
            answer = await client.patch(session, content=fragment, headers={**FRAGMENT, "If-Match": "*"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"].startswith("application/trickle-ice-sdpfrag")
            tag = answer.headers["ETag"]
            assert tag != opened.headers["ETag"]
            found = re.search(r"a=ice-ufrag:(\S+)\r\na=ice-pwd:(\S+)\r\n", answer.text)
            assert found is not None
            assert tag == f'"{found[1]}"'
            assert re.search(r"a=candidate:1 1 udp \d+ 127\.77\.0\.\d+ 5004 typ host", answer.text)

            ice = connection.getReceivers()[0].transport.transport._connection
            ice._local_username, ice._local_password = NEW
            ice.remote_username, ice.remote_password = found.groups()
            await frames_of(track, 30)
            monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 20)
            await frames_of(track, 120)  # some forty checks with the new credentials

            late = {**FRAGMENT, "If-Match": opened.headers["ETag"]}
            assert (await client.patch(session, content=fragment, headers=late)).status_code == 412
            again = await client.patch(session, content=fragment, headers={**FRAGMENT, "If-Match": tag})
            assert (again.status_code, again.content) == (204, b"")
            await frames_of(track, 10)
            assert (await client.delete(session)).status_code == 200
        finally:
            await connection.close()
