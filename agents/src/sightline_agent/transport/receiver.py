"""The receiving half of the native part: what viewers send while nothing changes is digested there (`receive.rs`).

The mux and its endpoints are the reference and decide everything. An endpoint whose peer has proved its address and is
not about to change anything places its association here; from then on ICE checks from there are answered, and RTCP that
only reports is noted, without a word to Python. Whoever wants to know asks (`Association.times`, `heard`). All else
comes back to the mux. A native thread reads the sockets (`port.rs`), so the event loop is woken only by what is left
for it. Where the extension is not installed there is no receiver, and the mux does all of it.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from sightline_agent.transport.fanout import Address, SendKeys
from sightline_agent.transport.fanout_choice import VARIABLE
from sightline_agent.transport.fanout_native import NativeUnavailableError, load
from sightline_agent.transport.rtcp import ReceptionReport, reception_report

Left = tuple[bytes, str, int, int]
"""A datagram, host and port of its source, and the association whose RTCP it is in clear (0: it is as it came)."""
Counts = tuple[int, int, int, int, int]
"""Checks answered, those whose answer found the socket full, datagrams of media taken, those that found the inbox full,
and defects of ours."""
Harvest = tuple[list[Left], Counts]
"""What is left to do, and what is done."""
_Noted = tuple[int, int, int, int, int, int, int, float]

INBOX_LENGTH = 4096
"""Datagrams that wait for the event loop, at most 8 MB, as in a socket's buffer: a second of everything that some
hundred viewers send who all join at once. Policy: the newest goes."""


class _Extension(Protocol):
    """`sightline_fanout.Receiver`."""

    def open(self) -> int: ...

    def close(self, id_: int) -> None: ...

    def unlock(self, id_: int, profile: str, key: bytes, salt: bytes) -> None: ...

    def place(self, id_: int, address: Address, ufrag: bytes, password: bytes) -> None: ...

    def lift(self, id_: int) -> None: ...

    def unprotect(self, id_: int, data: bytes) -> bytes | None: ...

    def times(self, id_: int) -> tuple[float | None, float | None]: ...

    def heard(self, id_: int) -> list[_Noted]: ...

    def listen(self, sockets: list[int]) -> int: ...

    def stop(self) -> None: ...

    def collect(self, most: int) -> Harvest: ...

    def digest(self, data: bytes, address: Address, now: tuple[float, float]) -> tuple[bytes | None, Harvest]: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """A report, the newest of `count` that came since the last time, with the wall clock's time of its arrival."""

    report: ReceptionReport
    count: int
    at: float


class Association:
    """One session's part of the receiver, which its endpoint alone changes."""

    def __init__(self, extension: _Extension) -> None:
        self._extension = extension
        self._counts: dict[int, int] = {}
        self.id = extension.open()

    def unlock(self, keys: SendKeys) -> None:
        """RTCP under these keys, the peer's, is opened here and nowhere else. ValueError where they fit no profile."""
        self._extension.unlock(self.id, keys.profile, keys.key, keys.salt)

    def unprotect(self, data: bytes) -> bytes | None:
        """RTCP that came another way, in clear; None when it is not authentic, or was there before."""
        return self._extension.unprotect(self.id, data)

    def place(self, address: Address, ufrag: str, password: bytes) -> None:
        """The peer is there, and nothing is about to change."""
        self._extension.place(self.id, address, ufrag.encode(), password)

    def lift(self) -> None:
        """Everything goes to the mux again."""
        self._extension.lift(self.id)

    def times(self) -> tuple[float, float]:
        """When a check was answered and when RTCP was authentic, by the mux's clock; -inf: never."""
        checked, reported = self._extension.times(self.id)
        return _or_never(checked), _or_never(reported)

    def heard(self) -> list[Heard]:
        """What was reported since the last call."""
        heard = []
        for ssrc, count, lost, highest, jitter, last, delay, at in self._extension.heard(self.id):
            new = count - self._counts.get(ssrc, 0)
            if new:
                self._counts[ssrc] = count
                heard.append(Heard(reception_report((ssrc, lost, highest, jitter, last, delay)), new, at))
        return heard

    def close(self) -> None:
        """Forget it, keys included."""
        self._extension.close(self.id)


class NativeReceiver:
    """The process's receiver; one mux uses it."""

    def __init__(self, wall_clock: Callable[[], float] = time.time, *, inbox: int = INBOX_LENGTH) -> None:
        """Raises `NativeUnavailableError`."""
        self._extension = cast("_Extension", load().Receiver(inbox))
        self._wall_clock = wall_clock

    def associate(self) -> Association:
        """A new session's part."""
        return Association(self._extension)

    def listen(self, sockets: Iterable[socket.socket]) -> int:
        """Have a thread read these from now on, by the system's clocks: the descriptor that is readable while something
        is left. OSError when there can be no thread."""
        return self._extension.listen([sock.fileno() for sock in sockets])

    def stop(self) -> None:
        """End the thread; the sockets may be closed then."""
        self._extension.stop()

    def collect(self, most: int) -> Harvest:
        """What is left, at most so many datagrams, and what was counted since the last time."""
        return self._extension.collect(most)

    def digest(self, data: bytes, source: Address, now: float) -> tuple[bytes | None, Harvest]:
        """Digest a datagram that was read elsewhere: the answer to it, if any, and what is left."""
        return self._extension.digest(data, source, (now, self._wall_clock()))


def choose_receiver() -> NativeReceiver | None:
    """The native one where it is installed and not ruled out, like the fan-out."""
    if os.environ.get(VARIABLE) == "python":
        return None
    try:
        return NativeReceiver()
    except NativeUnavailableError:
        return None


def _or_never(seconds: float | None) -> float:
    return float("-inf") if seconds is None else seconds
