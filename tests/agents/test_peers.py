"""Peers against an unmodified aiortc client over loopback: pictures, repair, and every way to end."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from sightline_agent.media.frames import Chunk, VideoFormat
from sightline_agent.peers import Peer, PeerFactory, Timings, liveness
from sightline_agent.signaling.sdp import SdpError
from sightline_agent.transport.dtls import new_certificate
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.fanout_python import DatagramSender, PythonFanOut
from sightline_agent.transport.mux import UdpMux
from sightline_agent.transport.stun import build_request
from sightline_model.reasons import EndReason

WIDTH, HEIGHT, RATE, GOP = 320, 240, 30, 10
FORMAT = VideoFormat("H264", "42e01f", WIDTH, HEIGHT)
PATIENCE = 20.0


def packetize(access_unit: bytes, limit: int = 1000) -> list[bytes]:
    """RFC 6184: single NAL units and FU-A."""
    payloads = []
    for unit in (u.removesuffix(b"\0") for u in access_unit.split(b"\0\0\1")):
        if not unit:
            continue
        if len(unit) <= limit:
            payloads.append(unit)
            continue
        parts = [unit[at : at + limit - 2] for at in range(1, len(unit), limit - 2)]
        for i, part in enumerate(parts):
            flags = (0x80 if i == 0 else 0) | (0x40 if i == len(parts) - 1 else 0)
            payloads.append(bytes((unit[0] & 0xE0 | 28, unit[0] & 31 | flags)) + part)
    return payloads


def encode_clip(frames: int) -> list[Chunk]:
    """A moving gradient."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, RATE)
    encoder.options = {
        "profile": "baseline",
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": str(GOP),
        "x264-params": "repeat-headers=1:scenecut=0",
    }
    chunks = []
    for i in range(frames):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane in frame.planes:
            plane.update(
                bytes((x * 7 + y * 3 + i * 5) & 255 for y in range(plane.height) for x in range(plane.line_size))
            )
        frame.pts = i
        chunks += [
            Chunk(tuple(packetize(bytes(packet))), i * 90000 // RATE, True, packet.is_keyframe)
            for packet in encoder.encode(frame)
        ]
    return chunks


@pytest.fixture(scope="module")
def clip() -> list[Chunk]:
    return encode_clip(3 * GOP)


class Camera:
    """Plays the clip in a loop, at its rate."""

    def __init__(self, clip: list[Chunk], fanout: PythonFanOut) -> None:
        self.clip, self.fanout, self.played = clip, fanout, 0
        self._handle = asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        turn, at = divmod(self.played, len(self.clip))
        chunk = self.clip[at]
        shift = turn * len(self.clip) * 90000 // RATE
        self.fanout.send(Chunk(chunk.payloads, chunk.timestamp + shift, chunk.last, chunk.key))
        self.played += 1
        self._handle = asyncio.get_running_loop().call_later(1 / RATE, self._tick)

    def stop(self) -> None:
        self._handle.cancel()


class Lossy:
    """A socket that loses what `lose` names."""

    def __init__(self, inner: DatagramSender, lose: Callable[[bytes], bool]) -> None:
        self.inner, self.lose, self.lost = inner, lose, 0

    def sendto(self, data: memoryview, address: Address, /) -> int:
        if self.lose(bytes(data)):
            self.lost += 1
            return len(data)
        return self.inner.sendto(data, address)


class LossySockets:
    def __init__(self, mux: UdpMux) -> None:
        self.mux = mux
        self.lose: Callable[[bytes], bool] = lambda _: False
        self.made: list[Lossy] = []

    def socket_for(self, address: Address) -> Lossy:
        self.made.append(Lossy(self.mux.socket_for(address), lambda data: self.lose(data)))
        return self.made[-1]


@dataclass
class Observer:
    """Writes down what it hears."""

    heard: list[str] = field(default_factory=list)
    end: tuple[EndReason, str] | None = None
    closings: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def _hear(self, what: str) -> None:
        if what not in self.heard:
            self.heard.append(what)
        self.changed.set()

    def connected(self) -> None:
        self._hear("connected")

    def media(self) -> None:
        self._hear("media")

    def alive(self) -> None:
        self._hear("alive")

    def key_frame_wanted(self) -> None:
        self._hear("key_frame_wanted")

    def closed(self, reason: EndReason, message: str) -> None:
        self.end = (reason, message)
        self.closings += 1
        self._hear("closed")

    async def until(self, what: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while what not in self.heard:
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Stage:
    """An agent's media half."""

    mux: UdpMux
    sockets: LossySockets
    fanout: PythonFanOut
    factory: PeerFactory
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def peer(self, observer: Observer, name: str = "s-1") -> Peer:
        return self.factory.make(name, FORMAT, observer)

    def run(self, peer: Peer) -> asyncio.Task[None]:
        task = asyncio.create_task(peer.run())
        self.tasks.append(task)
        return task


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    mux = UdpMux("127.0.0.1", 0)
    await mux.start()
    sockets = LossySockets(mux)
    fanout = PythonFanOut(sockets)
    factory = PeerFactory(
        mux, fanout, new_certificate(), list, timings=Timings(report_least=0.1, report_most=0.2, watch=0.05)
    )
    stage = Stage(mux, sockets, fanout, factory)
    yield stage
    for task in stage.tasks:
        task.cancel()
    await asyncio.gather(*stage.tasks, return_exceptions=True)
    mux.close()


@contextlib.contextmanager
def playing(clip: list[Chunk], fanout: PythonFanOut) -> Iterator[Camera]:
    camera = Camera(clip, fanout)
    try:
        yield camera
    finally:
        camera.stop()


@dataclass
class Client:
    """The viewer's side: aiortc as it comes."""

    connection: RTCPeerConnection
    track: MediaStreamTrack | None = None

    async def frames(self, count: int) -> list[av.VideoFrame]:
        assert self.track is not None
        received: list[av.VideoFrame] = []
        async with asyncio.timeout(PATIENCE):
            while len(received) < count:
                frame = await self.track.recv()
                assert isinstance(frame, av.VideoFrame)
                received.append(frame)
        return received


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    client = Client(connection)
    connection.on("track", lambda track: setattr(client, "track", track))
    connection.addTransceiver("video", direction="recvonly")
    yield client
    await connection.close()


async def connect(client: Client, stage: Stage, peer: Peer) -> asyncio.Task[None]:
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    answer = peer.answer(connection.localDescription.sdp)
    task = stage.run(peer)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return task


async def test_an_unmodified_client_plays(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        await connect(client, stage, stage.peer(observer))
        frames = await client.frames(2 * GOP)
        await observer.until("alive")
    assert {(frame.width, frame.height) for frame in frames} == {(WIDTH, HEIGHT)}
    assert observer.heard[:2] == ["connected", "media"]


async def test_losses_are_repaired(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    seen = 0

    def every_tenth(data: bytes) -> bool:
        nonlocal seen
        seen += 1
        return seen % 10 == 0

    with playing(clip, stage.fanout):
        await connect(client, stage, stage.peer(Observer()))
        await client.frames(GOP)
        stage.sockets.lose = every_tenth
        frames = await client.frames(2 * GOP)
    # No frame is missing, so whatever was lost was repaired.
    times = [frame.pts for frame in frames if frame.pts is not None]
    assert {b - a for a, b in pairwise(times)} == {90000 // RATE}
    assert sum(wire.lost for wire in stage.sockets.made) > 0
    assert stage.fanout.totals().resent > 0


def assert_nothing_stays(stage: Stage, observer: Observer) -> None:
    assert observer.closings == 1
    assert not stage.mux._by_ufrag
    assert not stage.mux._by_address
    assert not stage.fanout._streams


async def test_the_client_hangs_up(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await client.frames(1)
        await client.connection.close()
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.HANGUP
    assert_nothing_stays(stage, observer)


async def test_the_session_is_closed(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        task = await connect(client, stage, peer)
        await client.frames(1)
        transport = client.connection.getReceivers()[0].transport
        peer.close(EndReason.REVOKED, "by the owner")
        peer.close(EndReason.HANGUP)
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.REVOKED, "by the owner")
    assert_nothing_stays(stage, observer)
    # The viewer was told.
    assert transport._task is not None
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({transport._task})
    assert transport.state == "closed"


async def test_the_agent_stops(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await observer.until("media")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert observer.end is not None
    assert observer.end[0] is EndReason.AGENT_LOST
    assert_nothing_stays(stage, observer)


async def test_a_viewer_that_vanishes(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await observer.until("media")
        # From here on nothing of the viewer reaches us.
        asyncio.get_running_loop().remove_reader(stage.mux.socket_for(("127.0.0.1", 1)).fileno())
        stage.factory.timings = Timings(silence=0.2, watch=0.05)
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.SOCKET_LOST
    assert_nothing_stays(stage, observer)


async def test_nobody_comes(stage: Stage, client: Client) -> None:
    observer = Observer()
    stage.factory.timings = Timings(connect=0.05)
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    await asyncio.wait_for(peer.run(), PATIENCE)
    assert observer.end == (EndReason.CONNECT_TIMEOUT, "no ICE check arrived within 0.05 s")
    assert_nothing_stays(stage, observer)


async def test_a_handshake_that_never_ends(stage: Stage, client: Client) -> None:
    observer = Observer()
    stage.factory.timings = Timings(connect=0.1)
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    stage.mux.datagram(nominating_check(peer), ("127.0.0.1", 9))
    await asyncio.wait_for(peer.run(), PATIENCE)
    assert observer.end == (EndReason.CONNECT_TIMEOUT, "the DTLS handshake was not finished within 0.1 s")
    assert_nothing_stays(stage, observer)


async def test_closed_during_the_handshake(stage: Stage, client: Client) -> None:
    observer = Observer()
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    stage.mux.datagram(nominating_check(peer), ("127.0.0.1", 9))
    task = stage.run(peer)
    asyncio.get_running_loop().call_soon(peer.close, EndReason.REVOKED)
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.REVOKED, "")
    assert_nothing_stays(stage, observer)


async def test_a_defect_ends_the_peer_and_nothing_stays(stage: Stage, client: Client) -> None:
    observer = Observer()

    def broken() -> None:
        raise RuntimeError("a defect")

    observer.connected = broken  # type: ignore[method-assign]
    task = await connect(client, stage, stage.peer(observer))
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.AGENT_LOST, "an internal error")
    assert_nothing_stays(stage, observer)


async def test_somebody_else_comes(stage: Stage, client: Client) -> None:
    """The certificate is not the one of the offer."""
    observer = Observer()
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    digest = "a=fingerprint:sha-256 " + ":".join(["00"] * 32)
    answer = peer.answer(re.sub(r"a=fingerprint:sha-256 \S+", digest, connection.localDescription.sdp))
    task = stage.run(peer)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.REJECTED
    assert "connected" not in observer.heard
    assert_nothing_stays(stage, observer)


async def test_closed_before_it_ran(stage: Stage) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    assert stage.mux._by_ufrag
    peer.close(EndReason.REJECTED, "no")
    peer.close(EndReason.HANGUP)
    assert observer.end == (EndReason.REJECTED, "no")
    assert_nothing_stays(stage, observer)
    await peer.run()
    assert observer.closings == 1


async def test_an_offer_without_an_answer_frees_the_peer_when_it_is_closed(stage: Stage) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with pytest.raises(SdpError):
        peer.answer("v=0\r\n")
    peer.close(EndReason.REJECTED)
    assert_nothing_stays(stage, observer)


async def test_a_passive_client_is_served_too(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    """FFmpeg offers so; here aiortc is made to."""
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(Observer())
    answer = peer.answer(connection.localDescription.sdp.replace("a=setup:actpass", "a=setup:passive"))
    assert "a=setup:active" in answer
    with playing(clip, stage.fanout):
        stage.run(peer)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await client.frames(2)


async def test_a_key_frame_is_asked_for(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        await client.frames(1)
        await client.connection.getReceivers()[0]._send_rtcp_pli(peer._ssrc)
        await observer.until("key_frame_wanted")


async def test_the_viewers_reports_are_read(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        # Once a sender report has come back in a receiver report, the way is known.
        async with asyncio.timeout(PATIENCE):
            while peer.reception.round_trip is None:
                observer.changed.clear()
                await observer.changed.wait()
    assert 0 <= peer.reception.round_trip < PATIENCE
    assert peer.reception.packets_lost == 0


async def test_a_viewer_roams(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    loop = asyncio.get_running_loop()
    with playing(clip, stage.fanout), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.setblocking(False)
        await connect(client, stage, peer)
        await observer.until("media")
        elsewhere.sendto(nominating_check(peer), ("127.0.0.1", stage.mux.port))
        async with asyncio.timeout(PATIENCE):
            data = b""
            while data[8:12] != peer._ssrc.to_bytes(4, "big"):
                data = await loop.sock_recv(elsewhere, 2048)


def nominating_check(peer: Peer) -> bytes:
    credentials = peer._endpoint.credentials
    attributes = [(0x0006, f"{credentials.ufrag}:x".encode()), (0x0025, b"")]
    return build_request(bytes(12), attributes, credentials.password.encode())


async def test_an_ice_restart(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    peer = stage.peer(Observer())
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        await client.frames(1)
        before = peer.etag
        old = client.connection.localDescription.sdp.split("a=ice-ufrag:")[1].split()[0]
        assert peer.trickle(f"a=ice-ufrag:{old}\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n") is None
        assert peer.trickle("a=end-of-candidates\r\n") is None
        assert peer.etag == before
        answer = peer.trickle("a=ice-ufrag:fresh\r\na=ice-pwd:0123456789012345678901\r\n")
        assert answer is not None
        assert peer.etag != before
        assert f"a=ice-ufrag:{peer.etag}\r\n" in answer
        # The same name again is the same restart, and frames go on meanwhile.
        assert peer.trickle("a=ice-ufrag:fresh\r\n") is None
        await client.frames(3)


async def test_many_viewers_share_one_port(stage: Stage, clip: list[Chunk]) -> None:
    clients = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(3)]
    observers = [Observer() for _ in clients]
    try:
        with playing(clip, stage.fanout):
            for i, connection in enumerate(clients):
                connection.addTransceiver("video", direction="recvonly")
                await connect(Client(connection), stage, stage.peer(observers[i], f"s-{i}"))
            for observer in observers:
                await observer.until("alive")
        assert len(set(stage.mux._by_address.values())) == 3
    finally:
        for connection in clients:
            await connection.close()
    for observer in observers:
        await observer.until("closed")


@pytest.mark.parametrize(
    ("check", "rtcp", "gone"),
    [
        (100, 100, False),
        (91, 80, False),
        (71, 91, False),
        (89.9, 89.9, True),
        (69.9, 100, True),
        (60, float("-inf"), True),
    ],
)
def test_liveness(check: float, rtcp: float, gone: bool) -> None:
    outcome = liveness(100, check, rtcp, Timings(silence=10, consent=30))
    assert (outcome is not None) is gone
    assert outcome is None or outcome.reason is EndReason.SOCKET_LOST
