"""The viewers as a process: joins, counts and measures as it is told, one JSON object per line on standard input.

    {"do": "join", "to": 32}            connects viewers until there are so many
    {"do": "measure", "seconds": 5}     one window: what the server spent and what the viewers got
    {"do": "first_frames", "count": 10} single viewers that join at random moments and wait for a picture
    {"do": "churn", "count": 500}       viewers that come and go

The second viewer is plain aiortc: it decrypts, checks that sequence numbers are continuous, decodes, and reads the
number in each picture. The others make the same handshake, then the native receiver drains their sockets. Each sends
one receiver report per second.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpReceiverInfo, RtcpRrPacket

from tests.bench import camera, clip, latency, measures
from tests.bench.client import Client, Clients, ConnectError, use_loopback
from tests.bench.janus import Janus
from tests.bench.receiver import Receiver, Stats, widen

Result = dict[str, Any]

_AT_ONCE = 4
_LATENCY_VIEWERS = 32
_FIRST_TRIES_SECONDS = 15.0
_FRAME_SECONDS = 15.0


@dataclass
class Decoder:
    """What the decoding viewer saw."""

    packets: int = 0
    gaps: int = 0
    pictures: int = 0
    breaks: int = 0
    """Pictures whose number does not follow the one before."""
    first: asyncio.Event = field(default_factory=asyncio.Event)
    first_at: float = 0.0
    _sequence: dict[int, int] = field(default_factory=dict)
    _number: int | None = None

    def watch(self, receiver: Any) -> None:
        """Look at each packet before aiortc does."""
        handle = receiver._handle_rtp_packet

        async def noting(packet: Any, arrival_time_ms: int) -> None:
            last = self._sequence.get(packet.ssrc)
            self.packets += 1
            self.gaps += last is not None and (packet.sequence_number - last) & 0xFFFF != 1
            self._sequence[packet.ssrc] = packet.sequence_number
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = noting

    async def decode(self, receiver: Any) -> None:
        """Take pictures until the end."""
        while True:
            try:
                picture = await receiver.track.recv()
            except MediaStreamError:
                return
            if not self.pictures:
                self.first_at = time.monotonic()
                self.first.set()
            self.pictures += 1
            number = clip.number_of(picture)
            self.breaks += self._number is not None and number != (self._number + 1) % clip.FRAMES
            self._number = number


@dataclass
class Counted:
    """A cheap viewer."""

    client: Client
    index: int
    port: int


class Viewers:
    """All viewers of one server."""

    def __init__(self, clients: Clients, receiver: Receiver, options: argparse.Namespace) -> None:
        self._clients = clients
        self._receiver = receiver
        self._server: int = options.server
        self._core: int = options.core
        self._log: Path = options.log
        self._counted: list[Counted] = []
        self._decoder = Decoder()
        self._decoding: Client | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, to: int) -> Result:
        """More viewers, a few at a time."""
        started, spent = time.monotonic(), measures.cpu_seconds(measures.family(self._server))
        before = self._count()
        took: list[float] = []
        if not self._counted:
            took.append(await self._join_first())
        if to > 1 and self._decoding is None:
            took.append(await self._join_decoding())
        if self._count() < to:  # what joining costs is told by these: the first ones also wait for a picture
            started, spent = time.monotonic(), measures.cpu_seconds(measures.family(self._server))
            before = self._count()
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with gate:
                took.append(await self._join_counted())

        done = await asyncio.gather(*(one() for _ in range(to - self._count())), return_exceptions=True)
        failed = [str(error) for error in done if isinstance(error, BaseException)]
        return {
            "viewers": self._count(),
            "joined": self._count() - before,
            "failed": len(failed),
            "why": failed[:1],
            "seconds": time.monotonic() - started,
            "cpu": measures.cpu_seconds(measures.family(self._server)) - spent,
            "connect_ms": latency.percentile(took, 0.5) * 1e3 if took else None,
        }

    def _count(self) -> int:
        return len(self._counted) + (self._decoding is not None)

    async def _join_first(self) -> float:
        """The server may still be waiting for its camera."""
        deadline = time.monotonic() + _FIRST_TRIES_SECONDS
        while True:
            try:
                return await self._join_counted()
            except ConnectError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.3)

    async def _join_decoding(self) -> float:
        self._decoding = client = await self._clients.connect(self._decoder.watch)
        widen(client.socket)
        self._start(self._decoder.decode(client.receiver))
        await asyncio.wait_for(self._decoder.first.wait(), _FRAME_SECONDS)
        return client.connected - client.asked

    async def _join_counted(self) -> float:
        client = await self._clients.connect(_ignore)
        sock = client.socket
        asyncio.get_running_loop()._remove_reader(sock.fileno())  # type: ignore[attr-defined]
        index = self._receiver.add(sock, client.datagrams.datagram_received)
        self._counted.append(Counted(client, index, sock.getsockname()[1]))
        return client.connected - client.asked

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def report(self) -> None:
        """One receiver report per cheap viewer and second, spread evenly."""
        turn = 0
        while True:
            viewers = self._counted
            await asyncio.sleep(1 / max(1, len(viewers)))
            if not viewers:
                continue
            turn = (turn + 1) % len(viewers)
            viewer = viewers[turn]
            stats = self._receiver.stats(viewer.index)
            if not stats.packets:
                continue
            info = RtcpReceiverInfo(stats.ssrc, 0, 0, stats.highest, 10, 0, 0)
            try:
                await viewer.client.dtls._send_rtp(bytes(RtcpRrPacket(ssrc=1 + viewer.index, reports=[info])))
            except ConnectionError:
                continue

    async def measure(self, seconds: float) -> Result:
        """One window."""
        before = self._look()
        await asyncio.sleep(seconds)
        after = self._look()
        length = after.at - before.at
        pairs = list(zip(before.stats, after.stats, strict=True))
        packets = [new.packets - old.packets for old, new in pairs]
        frames = [new.frames - old.frames for old, new in pairs]
        decoded = after.decoder.packets - before.decoder.packets
        total = sum(packets) + decoded
        spent = after.cpu - before.cpu
        viewers = self._count()
        ports = {viewer.port for viewer in self._counted}
        pids = measures.family(self._server)
        return {
            "viewers": viewers,
            "gone": sum(viewer.client.connection.connectionState != "connected" for viewer in self._counted),
            "seconds": length,
            "cpu": spent,
            "ms_per_viewer_second": spent / length / viewers * 1e3,
            "us_per_packet": spent / max(1, total) * 1e6,
            "packets_per_viewer_second": total / length / viewers,
            "missing": sum(new.missing - old.missing for old, new in pairs),
            "late": sum(new.late - old.late for old, new in pairs),
            "dropped_by_kernel": sum(after.drops.get(port, 0) - before.drops.get(port, 0) for port in ports),
            "fps": [min(frames, default=0) / length, max(frames, default=0) / length],
            "latency": self._latency(before, after),
            "decoded_fps": (after.decoder.pictures - before.decoder.pictures) / length,
            "decoded_packets_per_second": decoded / length,
            "decoded_gaps": after.decoder.gaps - before.decoder.gaps,
            "decoded_breaks": after.decoder.breaks - before.decoder.breaks,
            "memory_mb": measures.memory_mb(pids),
            "core_busy": (after.core.busy - before.core.busy) / length,
            "core_stolen": (after.core.stolen - before.core.stolen) / length,
            "receivers_cpu": (after.own - before.own) / length,
        }

    def _look(self) -> "_Look":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        seen = self._decoder
        return _Look(
            at=time.monotonic(),
            cpu=measures.cpu_seconds(measures.family(self._server)),
            core=measures.core_time(self._core),
            own=usage.ru_utime + usage.ru_stime,
            drops=measures.udp_drops(),
            stats=[self._receiver.stats(viewer.index) for viewer in self._counted],
            decoder=Decoder(seen.packets, seen.gaps, seen.pictures, seen.breaks),
        )

    def _latency(self, before: "_Look", after: "_Look") -> Result:
        departures = [latency.Departure(*record) for record in camera.RECORD.iter_unpack(_whole(self._log))]
        step = max(1, len(self._counted) // _LATENCY_VIEWERS)
        values: list[float] = []
        unmatched = 0
        for number in range(0, len(self._counted), step):
            span = before.stats[number].frames, after.stats[number].frames
            arrivals = self._receiver.arrivals(self._counted[number].index, *span)
            found = latency.latencies(departures, arrivals)
            unmatched += found is None
            values += found or []
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {name: latency.percentile(values, share) if values else None for name, share in shares.items()} | {
            "frames": len(values),
            "unmatched_viewers": unmatched,
        }

    async def first_frames(self, count: int) -> Result:
        """Milliseconds from asking to the first decoded picture, of single viewers one after the other."""
        times: list[float] = []
        failed = 0
        for _ in range(count):
            await asyncio.sleep(random.uniform(0.0, 1.0))
            decoder = Decoder()
            try:
                client = await self._clients.connect(decoder.watch)
            except ConnectError:
                failed += 1
                continue
            task = asyncio.create_task(decoder.decode(client.receiver))
            try:
                await asyncio.wait_for(decoder.first.wait(), _FRAME_SECONDS)
                times.append((decoder.first_at - client.asked) * 1e3)
            except TimeoutError:
                failed += 1
            await self._leave(client)
            await task
        return {"ms": times, "failed": failed}

    async def churn(self, count: int) -> Result:
        """Viewers that connect and leave; what is left of the server's memory afterwards."""
        pids = measures.family(self._server)
        samples = [measures.memory_mb(pids)]
        spent, started = measures.cpu_seconds(pids), time.monotonic()
        gate = asyncio.Semaphore(_AT_ONCE)
        failed = 0

        async def one() -> None:
            nonlocal failed
            async with gate:
                try:
                    await self._leave(await self._clients.connect(_ignore))
                except ConnectError:
                    failed += 1

        for begin in range(0, count, max(1, count // 10)):
            await asyncio.gather(*(one() for _ in range(min(max(1, count // 10), count - begin))))
            samples.append(measures.memory_mb(pids))
        return {
            "count": count,
            "failed": failed,
            "memory_mb": samples,
            "seconds": time.monotonic() - started,
            "cpu": measures.cpu_seconds(pids) - spent,
        }

    async def _leave(self, client: Client) -> None:
        await client.leave()
        await client.connection.close()


@dataclass
class _Look:
    """Everything at one moment."""

    at: float
    cpu: float
    core: measures.CoreTime
    own: float
    drops: dict[int, int]
    stats: list[Stats]
    decoder: Decoder


def _whole(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: len(data) - len(data) % camera.RECORD.size]


def _ignore(receiver: Any) -> None:
    """Packets that come before the native receiver has the socket are not decoded."""

    async def nothing(_packet: Any, arrival_time_ms: int) -> None:
        del arrival_time_ms

    receiver._handle_rtp_packet = nothing


async def main(options: argparse.Namespace) -> None:
    """Obey until standard input ends."""
    use_loopback()
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        janus = await stack.enter_async_context(Janus(http, options.janus)) if options.janus else None
        viewers = Viewers(Clients(http, options.whep, janus), Receiver(options.library), options)
        reporting = asyncio.create_task(viewers.report())
        known: dict[str, Callable[..., Awaitable[Result]]] = {
            "join": viewers.join,
            "measure": viewers.measure,
            "first_frames": viewers.first_frames,
            "churn": viewers.churn,
        }
        async for line in commands:
            command = json.loads(line)
            try:
                result = await known[command.pop("do")](**command)
            except (ConnectError, TimeoutError) as error:
                result = {"error": f"{type(error).__name__} {error}"}
            print(json.dumps(result), flush=True)
        reporting.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--whep", default="")
    parser.add_argument("--janus", default="")
    parser.add_argument("--server", type=int, required=True)
    parser.add_argument("--core", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    asyncio.run(main(parser.parse_args()))
