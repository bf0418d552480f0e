"""An agent's media half on a real port, a camera for it, and an unmodified aiortc client over loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from sightline_agent.attachment import Attachment
from sightline_agent.liveness import Timings
from sightline_agent.media.frames import Chunk, MediaFormat, VideoFormat
from sightline_agent.peers import Peer, PeerFactory
from sightline_agent.transport.dtls import new_certificate
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.fanout_python import DatagramSender, PythonFanOut
from sightline_agent.transport.mux import UdpMux
from sightline_agent.transport.receiver import NativeReceiver
from sightline_model.reasons import EndReason

WIDTH, HEIGHT, RATE, GOP = 320, 240, 30, 10
FORMAT = MediaFormat(VideoFormat("H264", "42e01f", WIDTH, HEIGHT))
PATIENCE = 60.0


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
    sound: PythonFanOut
    factory: PeerFactory
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def peer(self, observer: Observer, name: str = "s-1") -> Peer:
        place = Attachment("main", FORMAT, self.fanout, self.sound, lambda: None, lambda: None)
        return self.factory.make(name, place, observer)

    def run(self, peer: Peer) -> asyncio.Task[None]:
        task = asyncio.create_task(peer.run())
        self.tasks.append(task)
        return task


@contextlib.asynccontextmanager
async def open_stage(receiver: NativeReceiver | None = None) -> AsyncIterator[Stage]:
    mux = UdpMux("127.0.0.1", 0, receiver=receiver)
    await mux.start()
    sockets = LossySockets(mux)
    fanout = PythonFanOut(sockets)
    factory = PeerFactory(mux, new_certificate(), list, timings=Timings(report_least=0.1, report_most=0.2, watch=0.05))
    stage = Stage(mux, sockets, fanout, PythonFanOut(sockets), factory)
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


@contextlib.asynccontextmanager
async def open_client() -> AsyncIterator[Client]:
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
