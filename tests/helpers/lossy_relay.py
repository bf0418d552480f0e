"""A bad network on loopback: a UDP relay between viewers and an agent.

A viewer is sent to the relay by `divert`, which puts the relay's address into the agent's answer; the agent sees each
viewer at an address of its own, so several of them and moves of theirs work. Each direction is a `Path`: it loses a
share of the datagrams, delays them, has so much bandwidth with a short queue in front, or is cut; all may be changed at
any time. Chances are drawn from a seed.
"""

import asyncio
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from playwright.async_api import Page, Route

HOST = "127.0.0.1"
_CANDIDATE = re.compile(r"(a=candidate:\S+ \d+ udp \d+) \S+ \d+ (typ host.*\r?\n)", re.IGNORECASE)
_DATAGRAM = 65_536
_SOCKET_BUFFER = 4 << 20
"""The relay itself shall lose nothing."""
_MOST_VIEWERS = 64
_MOST_WAITING = 20_000
"""Datagrams of one direction that are on their way."""

Deliver = Callable[[bytes], None]


@dataclass
class Path:
    """One direction, for all viewers together."""

    random: Random
    loss: float = 0.0
    """Probability that a datagram is lost."""
    delay: float = 0.0
    """Seconds."""
    bandwidth: float = 0.0
    """Bits per second; 0 is without limit."""
    queue: float = 0.1
    """Seconds that a datagram waits for bandwidth at most; a longer queue loses it."""
    cut: bool = False
    """Lose everything."""
    passed: int = 0
    lost: int = 0
    _busy_until: float = 0.0
    _waiting: deque[tuple[float, Deliver, bytes]] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes, deliver: Deliver) -> None:
        """Deliver it, now or later, or lose it."""
        now = asyncio.get_running_loop().time()
        if self.cut or self.random.random() < self.loss or not self._has_room(now):
            self.lost += 1
            return
        self.passed += 1
        if self.bandwidth:
            self._busy_until = max(now, self._busy_until) + len(data) * 8 / self.bandwidth
        due = max(now, self._busy_until) + self.delay
        if due <= now and not self._waiting:
            deliver(data)
            return
        self._waiting.append((due, deliver, data))
        self._arm()

    def close(self) -> None:
        """Forget what is on its way."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _has_room(self, now: float) -> bool:
        return self._busy_until - now <= self.queue and len(self._waiting) < _MOST_WAITING

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._waiting[0][0], self._flush)

    def _flush(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now:
            _, deliver, data = self._waiting.popleft()
            deliver(data)
        self._arm()


class LossyRelay:
    """Made by `lossy_relay`."""

    def __init__(self, agent: tuple[str, int], seed: int) -> None:
        self._agent = agent
        self._front = _socket((HOST, 0))
        self._behind: dict[Any, socket.socket] = {}
        self.port: int = self._front.getsockname()[1]
        """Where viewers send to."""
        self.up = Path(Random(seed))
        """From viewers to the agent."""
        self.down = Path(Random(seed + 1))
        """From the agent to viewers."""
        asyncio.get_running_loop().add_reader(self._front, self._from_viewer)

    def cut(self, off: bool = True) -> None:
        """Cut both directions, or mend them."""
        self.up.cut = self.down.cut = off

    def divert(self, answer: str) -> str:
        """The agent's SDP, or fragment, with the relay as its one candidate."""
        first = _CANDIDATE.search(answer)
        if first is None:
            return answer
        rest = _CANDIDATE.sub("", answer[first.end() :])
        return f"{answer[: first.start()]}{first[1]} {HOST} {self.port} {first[2]}{rest}"

    async def divert_page(self, page: Page, pattern: str = "**/whep*") -> None:
        """All offers that the page POSTs get diverted answers."""

        async def handle(route: Route) -> None:
            if route.request.method != "POST":
                await route.continue_()
                return
            response = await route.fetch()
            text = await response.text()
            await route.fulfill(response=response, body=self.divert(text) if response.ok else text)

        await page.route(pattern, handle)

    def close(self) -> None:
        """Give the sockets back."""
        for sock in (self._front, *self._behind.values()):
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self.up.close()
        self.down.close()

    def _from_viewer(self) -> None:
        while (received := _receive(self._front)) is not None:
            data, viewer = received
            behind = self._behind.get(viewer) or self._welcome(viewer)
            if behind is not None:
                self.up.send(data, lambda datagram, sock=behind: _send(sock, datagram, self._agent))  # type: ignore[misc]

    def _welcome(self, viewer: Any) -> socket.socket | None:
        if len(self._behind) >= _MOST_VIEWERS:
            return None
        behind = self._behind[viewer] = _socket((HOST, 0))
        asyncio.get_running_loop().add_reader(behind, self._from_agent, behind, viewer)
        return behind

    def _from_agent(self, behind: socket.socket, viewer: Any) -> None:
        while (received := _receive(behind)) is not None:
            self.down.send(received[0], lambda datagram: _send(self._front, datagram, viewer))


@asynccontextmanager
async def lossy_relay(media_port: int, seed: int = 1, host: str = HOST) -> AsyncIterator[LossyRelay]:
    """A relay to the agent whose media port that is."""
    relay = LossyRelay((host, media_port), seed)
    try:
        yield relay
    finally:
        relay.close()


def _socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
    sock.bind(address)
    return sock


def _receive(sock: socket.socket) -> tuple[bytes, Any] | None:
    try:
        return sock.recvfrom(_DATAGRAM)
    except (BlockingIOError, ConnectionError):
        return None


def _send(sock: socket.socket, data: bytes, address: Any) -> None:
    """A full socket or a peer that has gone loses it, as a network would."""
    try:
        sock.sendto(data, address)
    except OSError:
        return
