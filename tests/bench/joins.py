"""Viewers that come, see a picture and go: does the agent's memory stay flat over thousands of them?

    python -m tests.bench.joins --joins 2000

An agent runs as a process of its own with the test pattern (or `--source`). The viewers are real as far as the agent
can tell (WHEP, ICE, DTLS, SRTP that arrives) but decode nothing: our own STUN and DTLS, a few milliseconds each. They
leave in turn by DELETE, by close_notify, and now and then by DELETE before the handshake.
"""

import argparse
import asyncio
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sightline_agent.transport.dtls import Certificate, DtlsSession
from sightline_agent.transport.stun import build_request, build_response, parse_request

CONTROL, MEDIA = 18480, 18404
AT_ONCE = 4
SAMPLES = 10
_PATIENCE = 20.0
_PAGE = 4096
_OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=mid:0
a=recvonly
a=rtcp-mux
a=setup:actpass
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 FINGERPRINT
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42e01f
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a viewer needs of the agent's answer."""

    location: str
    ufrag: str
    password: str
    fingerprint: str


class Wire(asyncio.DatagramProtocol):
    """A viewer's socket, and the ICE transport that its DTLS wants."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None
        self._dtls: asyncio.Queue[bytes] = asyncio.Queue()
        self.reached, self.seen = asyncio.Event(), asyncio.Event()
        self.association: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.check()

    def check(self) -> None:
        """An ICE check, which is also what keeps a viewer's consent alive."""
        username = f"{self._answer.ufrag}:abcd".encode()
        attributes = [(0x0006, username), (0x0024, bytes(4)), (0x802A, bytes(8)), (0x25, b"")]
        self.send(build_request(os.urandom(12), attributes, self._answer.password.encode()))

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if data[:2] == b"\0\1":
            self.send(build_response(parse_request(data), b"0123456789012345678901", ("127.0.0.1", 1)))
        elif data[0] < 4:
            self.reached.set()
        elif 20 <= data[0] <= 63:
            self._dtls.put_nowait(data)
        elif data[0] >> 6 == 2 and data[1] & 0x7F == 96:
            self.seen.set()

    def send(self, data: bytes) -> None:
        """To the agent, as long as the socket is there."""
        if self._transport is not None:
            self._transport.sendto(data)

    async def receive(self) -> bytes:
        """The next datagram of the handshake."""
        return await self._dtls.get()

    def close(self) -> None:
        """Give the socket back."""
        if self._transport is not None:
            self._transport.close()


def _ask(method: str, path: str, body: str = "") -> tuple[int, str, str]:
    """Status, body and Location."""
    connection = http.client.HTTPConnection("127.0.0.1", CONTROL, timeout=_PATIENCE)
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/sdp"} if body else {})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers.get("Location", "")
    finally:
        connection.close()


def _value(text: str, attribute: str) -> str:
    match = re.search(rf"a={attribute}(\S+)", text)
    if match is None:
        raise ValueError(f"the answer has no {attribute}")
    return match[1]


async def join(number: int, certificate: Certificate, stay: float = 0.0) -> str:
    """One viewer's life; what became of it."""
    offer = _OFFER.replace("FINGERPRINT", certificate.fingerprint).replace("\n", "\r\n")
    status, text, location = await asyncio.to_thread(_ask, "POST", "/whep", offer)
    if status != 201:
        return f"status {status}"
    loop = asyncio.get_running_loop()
    answer = Answer(location, *(_value(text, name) for name in ("ice-ufrag:", "ice-pwd:", "fingerprint:sha-256 ")))
    _, wire = await loop.create_datagram_endpoint(lambda: Wire(answer), remote_addr=("127.0.0.1", MEDIA))
    try:
        async with asyncio.timeout(_PATIENCE + stay):
            return await _watch(number, answer, wire, certificate, stay)
    except TimeoutError:
        return "timeout"
    finally:
        wire.close()


async def _watch(number: int, answer: Answer, wire: Wire, certificate: Certificate, stay: float) -> str:
    await wire.reached.wait()
    if number % 10 == 9 and not stay:
        await asyncio.to_thread(_ask, "DELETE", answer.location)
        return "left before the handshake"
    dtls = DtlsSession(cast("Any", wire), certificate, passive=False)
    await dtls.handshake([("sha-256", answer.fingerprint)])
    await wire.seen.wait()
    until = time.monotonic() + stay
    while time.monotonic() < until:
        wire.check()
        await asyncio.sleep(2.0)
    if number % 2:
        await asyncio.to_thread(_ask, "DELETE", answer.location)
        await dtls.close()
        return "deleted"
    await dtls.close()
    return "said goodbye"


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


async def run(joins: int, pid: int, warm_up: float) -> list[int]:
    """The agent's memory after each tenth of the joins; before them its buffers of packets are filled."""
    certificate, outcomes = Certificate(), Counter[str]()
    if warm_up:
        print(f"warm-up: {await join(0, certificate, warm_up)}, {resident(pid) / 1e6:.1f} MB", flush=True)
    numbers = iter(range(joins))
    samples = [resident(pid)]

    async def worker() -> None:
        for number in numbers:
            outcomes[await join(number, certificate)] += 1
            if sum(outcomes.values()) % max(1, joins // SAMPLES) == 0:
                samples.append(resident(pid))
                print(f"{sum(outcomes.values()):6} joins  {samples[-1] / 1e6:7.1f} MB", flush=True)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    print(f"{joins / (time.perf_counter() - began):.0f} joins per second: {dict(outcomes)}")
    return samples


def main() -> int:
    """1 when the second half of the joins cost more than a megabyte per thousand."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.joins")
    parser.add_argument("--joins", type=int, default=2000)
    parser.add_argument("--source", default="test")
    parser.add_argument("--warm-up", type=float, default=75.0, help="seconds; 12 MB of packets are kept at most")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "sightline_agent",
        "--standalone",
        "--source",
        options.source,
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(CONTROL), "--udp-port", str(MEDIA), "--log-level", "warning"]
    with subprocess.Popen(command, env={**os.environ, "MALLOC_ARENA_MAX": "2"}) as agent:
        try:
            _wait_for_port()
            samples = asyncio.run(run(options.joins, agent.pid, options.warm_up))
        finally:
            agent.send_signal(signal.SIGTERM)
    growth = samples[-1] - samples[len(samples) // 2]
    per_thousand = growth / (options.joins / 2) * 1000
    print(f"second half: {growth / 1e6:+.2f} MB, {per_thousand / 1e6:+.2f} MB per 1000 joins")
    return 1 if per_thousand > 1_000_000 else 0


def _wait_for_port() -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", CONTROL)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the agent did not start")


if __name__ == "__main__":
    sys.exit(main())
