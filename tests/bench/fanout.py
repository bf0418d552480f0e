"""What one packet to one viewer costs in each fan-out: `python -m tests.bench.fanout`.

Frames of a stream of 1080p30 at 4 Mbit/s go to synthetic viewers on loopback, at their real pace; another process, on
another core where there is one, takes them in and counts them. The cost is the CPU time of the thread that sends, in
the kernel and out of it. Loopback charges much of receiving to who sends, so it is more than a network card would cost.
"""

import argparse
import multiprocessing
import os
import select
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.transport.fanout import Address, FanOut, SendKeys, Viewer
from sightline_agent.transport.fanout_native import Limits, NativeFanOut, NativeUnavailableError, load
from sightline_agent.transport.fanout_python import PythonFanOut

FPS = 30
GOP = 60
KEY_PACKETS = 71
FRAME_PACKETS = 14
RECEIVERS = 16
RECEIVE_BUFFER_BYTES = 8 << 20
SEND_BUFFER_BYTES = 16 << 20
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
KEY_BYTES = {
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}


@dataclass(frozen=True)
class Result:
    """One run."""

    microseconds: float
    """Of CPU, per packet."""
    milliseconds: float
    """Of CPU, per viewer and second of video."""
    slowest_frame: float
    """Milliseconds that `send` took at most."""
    lost: int
    """Packets that were sent and not received."""
    dropped: int


def frames(seconds: float) -> Iterator[Chunk]:
    """A GOP of 2 s; the last packet of each frame is short."""
    payload = os.urandom(MAX_PAYLOAD)
    for number in range(int(seconds * FPS)):
        key = number % GOP == 0
        packets = (KEY_PACKETS if key else FRAME_PACKETS) - 1
        yield Chunk((*(payload,) * packets, payload[:700]), number * 3000, last=True, key=key)


class Peers:
    """Receiving sockets, drained by a process of their own."""

    def __init__(self) -> None:
        self.sockets = [_udp(SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES) for _ in range(RECEIVERS)]
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_drain, args=(self.sockets, theirs), daemon=True)
        self._process.start()

    def addresses(self) -> list[Address]:
        return [each.getsockname() for each in self.sockets]

    def received(self) -> int:
        """Packets since the last time it was asked."""
        self._pipe.send("count")
        count = self._pipe.recv()
        assert isinstance(count, int)
        return count

    def close(self) -> None:
        self._pipe.send("end")
        self._process.join()
        for each in self.sockets:
            each.close()


def _udp(force: int, plain: int, size: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, size)
    return sock


def _drain(sockets: list[socket.socket], pipe: Connection) -> None:
    _pin(-1)
    by_fd = {each.fileno(): each.recv_into for each in sockets}
    poll = select.epoll()
    for fd in (*by_fd, pipe.fileno()):
        poll.register(fd, select.EPOLLIN)
    buffer = bytearray(2048)
    count = 0
    while True:
        ready = [fd for fd, _ in poll.poll()]
        for fd in ready:
            if fd in by_fd:
                receive = by_fd[fd]
                try:
                    while True:
                        receive(buffer)
                        count += 1
                except BlockingIOError:
                    pass
        # Asked only when nothing is left to read.
        if ready == [pipe.fileno()]:
            if pipe.recv() == "end":
                return
            pipe.send(count)
            count = 0


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core]})


class OneSocket:
    """A mux of one socket."""

    def __init__(self) -> None:
        self.socket = _udp(SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def socket_for(self, address: Address) -> socket.socket:
        return self.socket


def measure(fanout: FanOut, peers: Peers, *, viewers: int, profile: str, seconds: float) -> Result:
    """Play the stream to so many viewers."""
    addresses = peers.addresses()
    key, salt = KEY_BYTES[profile]
    for i in range(viewers):
        keys = SendKeys(profile, os.urandom(key), os.urandom(salt))
        fanout.add(Viewer(addresses[i % len(addresses)], keys, 2 * i + 1, 96, 2 * i + 2, 97))
    peers.received()
    cpu = slowest = 0.0
    due = time.monotonic()
    for chunk in frames(seconds):
        started, cpu_before = time.monotonic(), time.thread_time()
        fanout.send(chunk)
        cpu += time.thread_time() - cpu_before
        slowest = max(slowest, time.monotonic() - started)
        due += 1 / FPS
        time.sleep(max(0.0, due - time.monotonic()))
    totals = fanout.totals()
    return Result(
        microseconds=cpu / totals.packets * 1e6,
        milliseconds=cpu / viewers / seconds * 1e3,
        slowest_frame=slowest * 1e3,
        lost=totals.packets - peers.received(),
        dropped=totals.dropped + totals.delayed,
    )


def _never(delay: float, callback: Callable[[], None]) -> None:
    """Nobody catches up here: who falls behind shows as dropped."""


def candidates(segments: list[int]) -> Iterator[tuple[str, Callable[[OneSocket], FanOut]]]:
    """All there is to compare."""
    try:
        load()
    except NativeUnavailableError as error:
        sys.stderr.write(f"no native fan-out: {error}\n")
    else:
        for count in segments:
            limits = Limits(segments=count)
            yield (
                f"native gso {count}",
                lambda sockets, limits=limits: NativeFanOut(  # type: ignore[misc]
                    sockets, method="gso", limits=limits, later=_never
                ),
            )
        yield "native sendmmsg", lambda sockets: NativeFanOut(sockets, method="sendmmsg", later=_never)
        yield "native sendto", lambda sockets: NativeFanOut(sockets, method="sendto", later=_never)
    yield "python", lambda sockets: PythonFanOut(sockets, later=_never)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 8, 128])
    parser.add_argument("--segments", type=int, nargs="+", default=[8])
    parser.add_argument("--profile", choices=sorted(KEY_BYTES), default="SRTP_AEAD_AES_128_GCM")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3, help="alternating; medians are shown")
    parser.add_argument("--only", default="", help="those whose name contains this")
    options = parser.parse_args()
    peers = Peers()
    _pin(0)
    chosen = [(name, make) for name, make in candidates(options.segments) if options.only in name]
    sys.stdout.write(f"{options.profile}, {options.rounds} rounds of {options.seconds:g} s\n")
    sys.stdout.write(
        f"{'':18}{'viewers':>8}{'us/packet':>11}{'ms/viewer-s':>13}{'frame ms':>10}{'lost':>7}{'dropped':>9}\n"
    )
    for viewers in options.viewers:
        results: dict[str, list[Result]] = {name: [] for name, _ in chosen}
        for _ in range(options.rounds):
            for name, make in chosen:
                sockets = OneSocket()
                results[name].append(
                    measure(make(sockets), peers, viewers=viewers, profile=options.profile, seconds=options.seconds)
                )
                sockets.socket.close()
        for name, runs in results.items():
            sys.stdout.write(
                f"{name:18}{viewers:8}{statistics.median(r.microseconds for r in runs):11.2f}"
                f"{statistics.median(r.milliseconds for r in runs):13.2f}"
                f"{statistics.median(r.slowest_frame for r in runs):10.1f}"
                f"{sum(r.lost for r in runs):7}{sum(r.dropped for r in runs):9}\n"
            )
        sys.stdout.flush()
    peers.close()


if __name__ == "__main__":
    main()
