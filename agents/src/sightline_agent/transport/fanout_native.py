"""The fan-out in Rust (`agents/fanout`, the optional package `sightline_fanout`), behind the same interface.

Semantics are the pure-Python one's, with one freedom used: a frame is encrypted as a whole before any of it is sent, so
where one is given up half-way all its packets have used up their numbers, and the gap is that much larger.

What stays here: random numbers, clock and ticks, callbacks, where the group of pictures under way begins, and which
socket reaches an address. Sockets are passed to each call by their descriptors, asked for anew each time: one that was
closed is then -1, and never somebody else's.
"""

import importlib
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import call
from typing import Any, Protocol, cast

import structlog

from sightline_agent.media.frames import CLOCK_RATE, MAX_PAYLOAD, Chunk
from sightline_agent.media.gop import GopCache
from sightline_agent.transport.fanout import Address, Carried, FanOutTotals, Moment, Viewer, ViewerStats
from sightline_agent.transport.fanout_python import RESEND_BURST, RESEND_SHARE, DatagramSender, Sockets
from sightline_agent.transport.pacing import Later, Pace, Ticker, on_loop
from sightline_agent.transport.ring import MAX_BYTES, MAX_PACKETS
from sightline_agent.transport.rtcp import CNAME
from sightline_agent.transport.srtp import WINDOW, SrtpError

INTERFACE = 9
"""What this adapter expects of the extension; one built from other sources is not used."""
SEGMENTS = 16
"""Packets per segmented datagram. A frame leaves back to back however it is cut, so this changes nothing for who
receives it; 16 hold a whole frame of 4 Mbit/s at 30 per second, and cost a tenth less than 8. More gain nothing."""
SHARD_LEAST = 64
"""Viewers per thread, at least: a frame for so many takes about a millisecond, a thread is made in 30 us."""

TICK_MOST = 960
"""Packets per tick to all viewers who are behind: a millisecond's work here, as fewer are in Python."""

Report = tuple[list[int], list[int], bool]
"""Who got the first packet, who never gets one again, whether anybody is behind."""
Link = int | Callable[[memoryview, Address], int]

log = structlog.get_logger(__name__)


class NativeUnavailableError(Exception):
    """The extension is not installed, cannot be loaded, or is of another version."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is bounded, and how; defaults are those of the pure-Python fan-out."""

    ring_packets: int = MAX_PACKETS
    ring_bytes: int = MAX_BYTES
    max_payload: int = MAX_PAYLOAD
    resend_burst: float = RESEND_BURST
    resend_share: float = RESEND_SHARE
    window: int = WINDOW
    segments: int = SEGMENTS
    threads: int = 1
    """That may serve viewers, the loop's own counted in; sockets alone are shared among them."""
    shard_least: int = SHARD_LEAST


class _Extension(Protocol):
    """`sightline_fanout.FanOut`."""

    @property
    def method(self) -> str: ...

    def add(self, viewer: Viewer, link: int, numbers: tuple[int, int, int]) -> int: ...

    def remove(self, handle: int) -> None: ...

    def move(self, handle: int, address: Address, link: int) -> None: ...

    def send(self, chunk: Chunk, links: list[Link], now: float) -> Report: ...

    def release(self, handle: int) -> object | None: ...

    def adopt(self, carried: object, link: int, clock_rate: float, now: float) -> int: ...

    def is_behind(self, handle: int) -> bool: ...

    def burst(self, handle: int, index: int, now: float) -> bool: ...

    def catch_up(self, links: list[Link], group: int | None, now: float) -> Report: ...

    def resend(self, handle: int, numbers: list[int], links: list[Link]) -> None: ...

    def report(
        self, handle: int, cname: str, moment: tuple[float, int], clock_rate: float, correction: int, links: list[Link]
    ) -> int | None: ...

    def stats(self, handle: int) -> tuple[int, int, int, int, int, float] | None: ...

    def totals(self) -> tuple[int, int, int, int, int, int, int, int]: ...


class NativeFanOut:
    """FanOut over the mux's sockets."""

    def __init__(
        self,
        sockets: Sockets,
        *,
        limits: Limits | None = None,
        method: str | None = None,
        random: Callable[[int], int] = secrets.randbits,
        clock: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
        later: Later = on_loop,
    ) -> None:
        """`method`: `gso`, `sendmmsg` or `sendto`; by default the best that works here.

        Raises `NativeUnavailableError`.
        """
        self._sockets = sockets
        self._random = random
        self._clock = clock
        self._pace = pace or Pace(tick_most=TICK_MOST)
        self._extension = cast("_Extension", load().FanOut(limits or Limits(), self._pace, method))
        self._gop = GopCache()
        self._whole = True
        self._ticker = Ticker(self._catch_up, self._pace.tick, later)
        self._refresh_at: dict[int, float] = {}
        self._senders: list[DatagramSender] = []
        self._links: list[Callable[[], Link]] = []
        """How to reach each of them, asked for by each call."""
        self._on_start: dict[int, Callable[[], None]] = {}
        self._addresses: dict[int, Address] = {}

    @property
    def method(self) -> str:
        """How packets are handed to the kernel."""
        return self._extension.method

    def add(self, viewer: Viewer, on_start: Callable[[], None] | None = None) -> int:
        """Start a viewer with the group of pictures under way, or with the next key frame."""
        link = self._link(viewer.address)
        # Sequence numbers start below 2**15, so that the receiver's guess of the rollover counter is right even if the
        # first packets are lost (RFC 3711 section 3.3.1).
        numbers = (self._random(15), self._random(15), self._random(32))
        try:
            handle = self._extension.add(viewer, link, numbers)
        except ValueError as error:
            raise SrtpError(f"no SRTP context for {viewer.keys.profile}: {error}") from error
        self._addresses[handle] = viewer.address
        if on_start is not None:
            self._on_start[handle] = on_start
        self._burst(handle)
        return handle

    def remove(self, handle: int) -> None:
        """Forget a viewer."""
        self._addresses.pop(handle, None)
        self._on_start.pop(handle, None)
        self._refresh_at.pop(handle, None)
        self._extension.remove(handle)

    def settled(self, handle: int) -> bool:
        """Is the viewer between two frames, and not behind?"""
        return self._whole and not self._extension.is_behind(handle)

    def release(self, handle: int) -> Carried | None:
        """Let a viewer go to another fan-out."""
        carried = self._extension.release(handle)
        if carried is None:
            return None
        self._refresh_at.pop(handle, None)
        return Carried(carried, self._addresses.pop(handle), self._on_start.pop(handle, None))

    def adopt(self, carried: Carried, clock_rate: int = CLOCK_RATE, *, at_once: bool = True) -> int:
        """Take in a viewer that another fan-out of this kind has released."""
        handle = self._extension.adopt(carried.state, self._link(carried.address), clock_rate, self._clock())
        self._addresses[handle] = carried.address
        if carried.on_start is not None:
            self._on_start[handle] = carried.on_start
        if at_once:
            self._burst(handle)
        return handle

    def refresh(self, handle: int) -> bool:
        """Send the group under way to a viewer again; not too often."""
        return self._clock() >= self._refresh_at.get(handle, float("-inf")) and self._burst(handle)

    def cut(self) -> None:
        """Who joins now waits for the next key frame."""
        self._gop.clear()

    def gop_seconds(self) -> float | None:
        """How much a viewer who joined now would get at once."""
        return None if self._gop.start is None else self._gop.seconds

    def move(self, handle: int, address: Address) -> None:
        """The viewer roamed."""
        self._extension.move(handle, address, self._link(address))
        if handle in self._addresses:
            self._addresses[handle] = address

    def send(self, chunk: Chunk) -> None:
        """Send a chunk to everybody who is neither waiting for a key frame nor behind."""
        if not chunk.payloads:
            return
        started, failed, behind = self._extension.send(chunk, list(map(call, self._links)), self._clock())
        self._gop.add(chunk)
        self._whole = chunk.last
        if started or failed:
            self._tell(started, failed)
        if behind:
            self._ticker.start()

    def resend(self, handle: int, sequence_numbers: list[int]) -> None:
        """Send packets again: those since the viewer's last start that are still kept, within its budget."""
        self._extension.resend(handle, sequence_numbers, list(map(call, self._links)))

    def report(self, handle: int, moment: Moment, clock_rate: int = CLOCK_RATE, correction: int = 0) -> int | None:
        """Send a viewer a sender report."""
        links = list(map(call, self._links))
        return self._extension.report(handle, CNAME, (moment.now, moment.ntp), clock_rate, correction, links)

    def stats(self, handle: int) -> ViewerStats | None:
        """Counters of a viewer."""
        counters = self._extension.stats(handle)
        return None if counters is None else ViewerStats(*counters)

    def totals(self) -> FanOutTotals:
        """Counters of all."""
        return FanOutTotals(*self._extension.totals(), gops_dropped=self._gop.dropped.total())

    def _burst(self, handle: int) -> bool:
        start, now = self._gop.start, self._clock()
        if start is None or not self._extension.burst(handle, start, now):
            return False
        self._refresh_at[handle] = now + max(self._pace.refresh, self._gop.seconds)
        self._ticker.start()
        return True

    def _catch_up(self) -> bool:
        """Is anybody still behind?"""
        links = list(map(call, self._links))
        started, failed, behind = self._extension.catch_up(links, self._gop.start, self._clock())
        self._tell(started, failed)
        return behind

    def _tell(self, started: list[int], failed: list[int]) -> None:
        """Tell those concerned."""
        for handle in failed:
            log.error("srtp refused to encrypt; the viewer gets nothing more", handle=handle)
        # Called last: a callback may remove viewers.
        for on_start in [self._on_start.pop(handle, None) for handle in started]:
            if on_start is not None:
                on_start()

    def _link(self, address: Address) -> int:
        sender = self._sockets.socket_for(address)
        for link, known in enumerate(self._senders):
            if known is sender:
                return link
        self._senders.append(sender)
        # The descriptor of a socket; anything else that can send is called.
        self._links.append(sender.fileno if isinstance(sender, socket.socket) else lambda: sender.sendto)
        return len(self._senders) - 1


def load() -> Any:
    """The extension's module; raises `NativeUnavailableError` with the reason."""
    try:
        module = importlib.import_module("sightline_fanout")
    except ImportError as error:
        raise NativeUnavailableError(str(error)) from error
    found = getattr(module, "INTERFACE", None)
    if found != INTERFACE:
        raise NativeUnavailableError(f"sightline_fanout has interface {found}, not {INTERFACE}: build it again")
    return module
