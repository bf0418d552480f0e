"""A loop whose clock jumps: an hour of timers runs in no time, in the right order, on one thread.

`run(scenario())` runs a coroutine on such a loop. When nothing is ready, the clock jumps to the next timer instead of
waiting for it. Loopback sockets work, because the clock waits for what was written to one until it can be read from the
other; threads do not, because the clock would not wait for them.
"""

import asyncio
import selectors
import socket
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_GLANCE_SECONDS = 0.002
"""Real time that the kernel gets besides, for what leaves only when something else has come."""


class _Pigeon:
    """A datagram to ourselves over loopback: what was sent before it is there once it is. On a busy machine the kernel
    may take its time with both."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())

    def fly(self) -> None:
        """There and back."""
        self._socket.send(b"x")
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: tells the loop instead how far the clock may jump."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self._pigeon: _Pigeon | None = None
        self.now = 0.0

    def has_sockets(self) -> bool:
        return len(self._real.get_map()) > 1  # the loop's own wake-up socket does not count

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if self.has_sockets():
            self._pigeon = self._pigeon or _Pigeon()
            self._pigeon.fly()
            ready = self._real.select(_GLANCE_SECONDS)
        if ready:
            return ready
        if timeout is None:
            return self._real.select(1.0)
        self.now += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
        if self._pigeon is not None:
            self._pigeon.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, beginning at 0."""

    _ready: Collection[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    """asyncio's own: what runs next, and the heap of timers."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def quiet(self) -> float:
        """Seconds until the next timer; none while anything else may come about: what is ready to run, sockets."""
        if self._ready or not self._scheduled or self._jumping.has_sockets():
            return 0.0
        return max(0.0, self._scheduled[0].when() - self.time())

    def stand_still(self, seconds: float) -> None:
        """As if the process had not run for so long: what fell due meanwhile comes now, in its order."""
        self._jumping.now += seconds


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)


async def settle() -> None:
    """Let everything that is ready run, without letting time pass."""
    for _ in range(20):
        await asyncio.sleep(0)
