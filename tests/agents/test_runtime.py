"""The whole agent in this process, watched by a stock aiortc client."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import httpx2
import pytest
import structlog
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from sightline_agent.admission import Rules
from sightline_agent.media import h264
from sightline_agent.runtime import Runtime, prepare
from sightline_agent.settings import Settings, parse
from sightline_agent.standalone import parse_source
from sightline_agent.transport.mux import MuxCount
from sightline_model.agent import AgentConfig, AgentReport, CameraIdentity
from sightline_model.tokens import Signer, TokenRole, generate_private_key_pem
from tests.helpers.rtsp_server import Habits, serve

pytestmark = pytest.mark.stacks


def standalone(source: str) -> list[str]:
    return ["--standalone", "--source", source, "--port", "0", "--udp-port", "0"]


@asynccontextmanager
async def agent(arguments: list[str]) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient]]:
    runtime = Runtime(prepare(parse(arguments)))
    running = asyncio.create_task(runtime.run())
    while not runtime.control_port and not running.done():
        await asyncio.sleep(0)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{runtime.control_port}", timeout=20) as client:
        try:
            yield runtime, client
        finally:
            runtime.stop.set()
            await running


PATTERN = "testpattern://?width=320&height=240&fps=30"
SDP = {"Content-Type": "application/sdp"}


async def status(client: httpx2.AsyncClient) -> AgentReport:
    return AgentReport.model_validate((await client.get("/status")).json())


async def count(track: MediaStreamTrack, frames: asyncio.Queue[tuple[int, int]]) -> None:
    try:
        while True:
            frame = await track.recv()
            frames.put_nowait((frame.width, frame.height))  # type: ignore[union-attr]
    except MediaStreamError:
        return


async def watch(client: httpx2.AsyncClient, frames: int, token: str = "", answers: list[str] | None = None) -> str:
    """Play some frames as any WHEP player would; the session's path."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", direction="recvonly")
    got: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    readers: list[asyncio.Task[None]] = []
    connection.on("track", lambda track: readers.append(asyncio.create_task(count(track, got))))
    headers = {**SDP, "Authorization": f"Bearer {token}"} if token else SDP
    try:
        await connection.setLocalDescription(await connection.createOffer())
        response = await client.post("/whep", content=connection.localDescription.sdp, headers=headers)
        assert response.status_code == 201, response.text
        if answers is not None:
            answers.append(response.text)
        await connection.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        for _ in range(frames):
            assert await got.get() == (320, 240)
    finally:
        await connection.close()
        await asyncio.gather(*readers)
    return response.headers["location"]


async def test_a_stock_client_watches_the_test_pattern() -> None:
    async with agent(standalone(PATTERN)) as (runtime, client):
        first, second = await asyncio.gather(watch(client, 20), watch(client, 20))
        assert first != second
        report = await status(client)
        assert report.source.verified
        assert report.stats.packets_sent > 0
        assert len(report.sessions) == 2
        assert report.capacity is not None
        assert report.capacity.remaining_viewers > 0
        assert runtime.renditions.report().reconnects == 0


def real_pictures() -> tuple[tuple[bytes, ...], ...]:
    """Access units of a small clip, encoded once."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.time_base, encoder.gop_size = Fraction(1, 25), 10
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    units = []
    for number in range(20):
        frame = av.VideoFrame(320, 240, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([number * 12]) * plane.buffer_size)
        frame.pts = number
        units += [tuple(h264.split_annex_b(bytes(packet))) for packet in encoder.encode(frame)]
    return tuple(units)


async def test_viewers_of_a_camera_share_one_connection() -> None:
    async with (
        serve(Habits(access_units=real_pictures())) as camera,
        agent(standalone(camera.url)) as (runtime, client),
    ):
        while not runtime.renditions.report().verified:
            await asyncio.sleep(0.01)
        probes = camera.connections
        await asyncio.gather(*(watch(client, 10) for _ in range(3)))
        assert (probes, camera.connections, camera.open) == (1, 2, 1)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("arguments", "client_address", "families"),
    [
        pytest.param(["--host", "::1"], "::1", {"IPv6"}, id="IPv6 only"),
        pytest.param([], "::1", {"IPv4", "IPv6"}, id="dual stack, IPv6 viewer"),
        pytest.param([], "127.0.0.1", {"IPv4", "IPv6"}, id="dual stack, IPv4 viewer"),
    ],
)
async def test_viewers_of_both_families(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], client_address: str, families: set[str]
) -> None:
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: [client_address])
    if not arguments:
        monkeypatch.setattr(Settings, "bind", ("127.0.0.1", "::1"))
    async with agent([*standalone(PATTERN), *arguments]) as (runtime, _):
        host = f"[{client_address}]" if ":" in client_address else client_address
        async with httpx2.AsyncClient(base_url=f"http://{host}:{runtime.control_port}", timeout=20) as client:
            answers: list[str] = []
            await watch(client, 5, answers=answers)
            assert len((await status(client)).sessions) == 1
        candidates = re.findall(r"a=candidate:\d+ 1 udp \d+ (\S+) \d+ typ host", answers[0])
        assert {"IPv6" if ":" in address else "IPv4" for address in candidates} == families
        assert candidates == sorted(candidates, key=lambda address: ":" in address)  # who takes the first takes IPv4
        assert runtime.mux.counters[MuxCount.DTLS] > 0


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_every_address_is_of_both_families(host: str) -> None:
    async with agent([*standalone(PATTERN), "--host", host]) as (runtime, client):
        async with httpx2.AsyncClient(base_url=f"http://[::1]:{runtime.control_port}", timeout=20) as other:
            assert (await status(other)).media_port == (await status(client)).media_port == runtime.mux.port
        assert await watch(client, 5)


async def test_in_a_pod_nobody_watches_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer.from_pem(generate_private_key_pem())
    identity = CameraIdentity(namespace="default", name="door", uid="1")
    source, _ = parse_source(PATTERN)
    config = AgentConfig(camera=identity, source=source, token_keys=[signer.public_jwk()])
    (tmp_path / "agent.json").write_text(json.dumps(config.to_wire()))
    monkeypatch.setenv("POD_IP", "127.0.0.1")
    monkeypatch.setenv("SIGHTLINE_AGENT_CONTROL_PORT", "0")
    monkeypatch.setenv("SIGHTLINE_AGENT_MEDIA_PORT", "0")

    def token(role: TokenRole, sid: str) -> str:
        return signer.sign(identity.audience, "alice", role, sid, datetime.now(UTC))

    async with agent(["--config", str(tmp_path)]) as (_, client):
        response = await client.post("/whep", content="v=0", headers=SDP)
        assert response.status_code == 401
        ticket = token("View", "s-one")
        assert await watch(client, 5, ticket) == "/whep/s-one"
        with pytest.raises(AssertionError, match="conflict"):  # a token opens one session
            await watch(client, 1, ticket)
        control = {"Authorization": f"Bearer {token('Control', '')}"}
        report = AgentReport.model_validate((await client.get("/v1/status", headers=control)).json())
        assert [(session.id, session.user) for session in report.sessions] == [("s-one", "alice")]
        assert (await client.get("/status")).status_code == 404


async def test_an_agent_without_cpu_refuses_whom_it_could_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_AGENT_CPU_BUDGET", "0.0001")
    async with agent(standalone(PATTERN)) as (runtime, client):
        rules, runtime.gate._rules = runtime.gate._rules, Rules(floor=0)
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTransceiver("video", direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        response = await client.post("/whep", content=connection.localDescription.sdp, headers=SDP)
        await connection.close()
        runtime.gate._rules = rules
        assert (response.status_code, response.json()["code"]) == (503, "agent-overloaded")
        assert int(response.headers["retry-after"]) > 0
        page = (await client.get("/metrics")).text
        assert 'sightline_agent_viewers_refused_total{code="agent-overloaded"} 1.0' in page
        assert await watch(client, 3)  # the first few are always let in


async def test_the_events_tell_the_story() -> None:
    async with agent(standalone(PATTERN)) as (runtime, client):
        names: list[str] = []
        async with client.stream("GET", "/v1/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            watching = asyncio.create_task(watch(client, 5))
            async for line in lines:
                if line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    names.append(event["type"])
                    if event["type"] == "session" and event["session"]["phase"] == "Ended":
                        break
            await watching
        while runtime.events.subscribers:  # who hangs up is forgotten
            await asyncio.sleep(0.01)
        assert names[0] == "snapshot"
        assert {"session", "source"} <= set(names)


async def test_the_log_tells_what_the_source_does_once() -> None:
    with structlog.testing.capture_logs() as lines:
        async with agent(standalone(PATTERN)) as (_, client):
            await watch(client, 5)
    told = [line["state"] for line in lines if line["event"] == "source"]
    assert "Streaming" in told
    assert all(before != after for before, after in pairwise(told))


async def test_a_wrong_password_is_in_the_answer_and_nothing_more() -> None:
    async with serve(Habits(username="admin", password="right")) as camera:
        url = camera.url.replace("rtsp://", "rtsp://admin:hunter2@")
        async with agent(standalone(url)) as (_, client):
            connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            connection.addTransceiver("video", direction="recvonly")
            await connection.setLocalDescription(await connection.createOffer())
            offer = connection.localDescription.sdp
            response = await client.post("/whep", content=offer, headers=SDP)
            await connection.close()
            body = response.json()
            assert (response.status_code, body["code"]) == (409, "source-authentication-failed")
            assert body["reason"] == "AuthenticationFailed"
            assert response.headers["retry-after"]
            everything = response.text + (await client.get("/status")).text
            assert "hunter2" not in everything
            assert "admin" not in everything
