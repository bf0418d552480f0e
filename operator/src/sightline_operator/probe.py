"""Is the agent at the address that viewers shall dial? One STUN binding request there and back, from the operator.

It proves the way through host ports, node ports, load balancers and firewalls as far as it can be gone from inside the
cluster. `core` asks for a probe when a decision wants one and looks at the camera again when it is over; what was found
is a fact like any other. Nothing here decides.
"""

import asyncio
import logging
import os
import zlib
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sightline_operator.clock import Clock, utc_now

log = logging.getLogger(__name__)

ATTEMPTS = 3
ATTEMPT_SECONDS = 0.4
AT_A_TIME = 16
WAITING = 4096
"""Probes that may wait; one that finds no room is dropped and counted, and its camera asks again."""

_MAGIC = bytes.fromhex("2112a442")
_REQUEST = b"\0\1"
_RESPONSE = b"\1\1"
_SOFTWARE = b"sightline-operator".ljust(32)
"""Long enough that no answer is longer than its request, or agents would give none."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to probe, for whom."""

    namespace: str
    camera: str
    pod: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of the last probe of a pod."""

    target: Target
    at: datetime
    answered: bool


Listener = Callable[[Target], None]


class Prober(Protocol):
    """What the operator needs; `StunProber` in production."""

    outcomes: Tally[str]

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every probe that is over."""
        ...

    def ask(self, target: Target) -> None:
        """Probe soon, unless that is under way."""
        ...

    def result(self, namespace: str, pod: str) -> Probed | None:
        """The last result for a pod."""
        ...

    def forget(self, namespace: str, pod: str) -> None:
        """The pod is gone."""
        ...

    async def run(self) -> None:
        """Probe until cancelled."""
        ...


class StunProber:
    """Probes over UDP, a bounded number at a time."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self.outcomes: Tally[str] = Tally()
        """How many probes were answered, silent, or dropped for want of room."""
        self._clock = clock
        self._queue: asyncio.Queue[Target] = asyncio.Queue(WAITING)
        self._pending: set[Target] = set()
        self._results: dict[tuple[str, str], Probed] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every probe that is over."""
        self._listeners.append(listener)

    def ask(self, target: Target) -> None:
        """Probe soon, unless that is under way."""
        if target in self._pending:
            return
        try:
            self._queue.put_nowait(target)
        except asyncio.QueueFull:
            self.outcomes["dropped"] += 1
            return
        self._pending.add(target)

    def result(self, namespace: str, pod: str) -> Probed | None:
        """The last result for a pod."""
        return self._results.get((namespace, pod))

    def forget(self, namespace: str, pod: str) -> None:
        """The pod is gone; nobody wants to know what its probe finds, should one be under way."""
        self._results.pop((namespace, pod), None)
        self._pending = {target for target in self._pending if (target.namespace, target.pod) != (namespace, pod)}

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(AT_A_TIME):
                group.create_task(self._work(), name=f"probe {number}")

    async def _work(self) -> None:
        while True:
            target = await self._queue.get()
            if target not in self._pending:
                continue
            answered = await answers(target.address, target.port)
            if target not in self._pending:
                continue
            self._pending.discard(target)
            log.info("probe of %s:%d: %s", target.address, target.port, "answered" if answered else "no answer")
            self.outcomes["answered" if answered else "silent"] += 1
            self._results[target.namespace, target.pod] = Probed(target, self._clock(), answered)
            for listener in self._listeners:
                listener(target)


async def answers(address: str, port: int, attempts: int = ATTEMPTS, seconds: float = ATTEMPT_SECONDS) -> bool:
    """Whether a STUN server (an agent) answers there."""
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.create_datagram_endpoint(_Pinger, remote_addr=(address, port))
    except OSError:
        return False
    try:
        for _ in range(attempts):
            transport.sendto(protocol.request)
            try:
                await asyncio.wait_for(asyncio.shield(protocol.answered), seconds)
            except TimeoutError:
                continue
            return True
        return False
    finally:
        transport.close()


class _Pinger(asyncio.DatagramProtocol):
    """One transaction. An ICMP error is no answer: the agent may be about to listen."""

    def __init__(self) -> None:
        transaction = os.urandom(12)
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.request = _binding_request(transaction)
        self._expected = _MAGIC + transaction

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == _RESPONSE and data[4:20] == self._expected and not self.answered.done():
            self.answered.set_result(None)

    def error_received(self, exc: Exception) -> None:
        log.debug("probe: %s", exc)


def _binding_request(transaction: bytes) -> bytes:
    """A binding request with SOFTWARE and FINGERPRINT (RFC 8489), without credentials."""
    software = b"\x80\x22" + len(_SOFTWARE).to_bytes(2, "big") + _SOFTWARE
    head = _REQUEST + (len(software) + 8).to_bytes(2, "big") + _MAGIC + transaction + software
    return head + b"\x80\x28\0\4" + (zlib.crc32(head) ^ 0x5354554E).to_bytes(4, "big")
