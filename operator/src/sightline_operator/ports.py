"""Who holds which port of the nodes: leases for HostPort, HostNetwork and NodePort, and their quarantine.

A viewer that lost its agent goes on sending to the old port for a while, and connection tracking on nodes leads those
packets wherever the entry says. So a port that was given up is handed out again only when every such entry is gone.

The lease itself is written on what holds it: the port in the pod's and the Service's spec. The ledger is fed from the
cache, so a new operator knows all of them; what was given up is in the class's `status.ports` together with what is
held, and the part of it that nobody holds is in quarantine from the new operator's start.

No two objects ever get one port: only the leader hands out, `lease` reserves without waiting for anything, and a
reservation lasts until its object was seen, or cannot come any more.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from sightline_kube.kinds import POD
from sightline_model.cameraclass import PortRange
from sightline_operator.clock import Clock, after

QUARANTINE_SECONDS = 180.0
"""Linux forgets a UDP stream after 120 s without a packet (net.netfilter.nf_conntrack_udp_timeout_stream), before 5.0
after 180 s."""
RESERVED_SECONDS = 120.0
"""A write that has not been seen by now was lost: two sweeps have passed."""
MAX_TEXT = 8000
"""Characters of `status.ports`."""
_RUN_TEXT = len("65535-65535,")

Holder = tuple[str, str, str]
"""Kind, namespace and name of an object."""


@dataclass(slots=True)
class _Lease:
    holders: set[Holder]
    seen: bool = False
    """Whether any of its objects was ever there."""
    used: bool = True
    """Whether an agent may have listened there: a Service alone leads no packet anywhere."""


class PortLedger:
    """Leases and quarantines of all classes: nodes have one set of ports."""

    def __init__(
        self, clock: Clock, quarantine: float = QUARANTINE_SECONDS, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._clock = clock
        self._quarantine = quarantine
        self._changed = changed
        self._leases: dict[int, _Lease] = {}
        self._held: dict[Holder, int] = {}
        self._reserved: dict[Holder, datetime] = {}
        """Since when those hold a port that nobody has seen yet."""
        self._until: dict[int, datetime] = {}
        self._offered: dict[tuple[int, int], int] = {}
        """By range, what `free` has answered last: it is asked in each pass of each camera."""
        self._last = 0
        """The port that was handed out last: the next one follows it, so that each rests as long as possible."""

    def free(self, within: PortRange) -> int | None:
        """The port that `lease` should take; None while there is none. Asking changes nothing."""
        self._tidy()
        place = (within.first, within.last)
        offered = self._offered.get(place)
        if offered is not None and not self._taken(offered):
            return offered
        start = self._last + 1 if within.first <= self._last < within.last else within.first
        ports = chain(range(start, within.last + 1), range(within.first, start))
        found = next((port for port in ports if not self._taken(port)), None)
        if found is not None:
            self._offered[place] = found
        return found

    def free_at(self, within: PortRange) -> datetime | None:
        """When the first quarantine in the range ends; None when there is none."""
        self._tidy()
        return min((until for port, until in self._until.items() if within.first <= port <= within.last), default=None)

    def may_lease(self, port: int, *holders: Holder) -> bool:
        """Whether `lease` would take it: it is free, or held by one of these alone."""
        self._tidy()
        lease = self._leases.get(port)
        return lease.holders <= set(holders) if lease is not None else port not in self._until

    def lease(self, port: int, *holders: Holder) -> None:
        """Reserve a port for objects that are about to be made, or are tried again."""
        if not self.may_lease(port, *holders):
            raise ValueError(f"port {port} is taken")
        lease = self._leases.setdefault(port, _Lease(set(), used=False))
        for holder in holders:
            if holder in self._reserved:
                # Nobody knows what became of it the last time, so a refusal now does not tell that it is not there.
                lease.seen = lease.used = True
            if holder in self._reserved or holder not in lease.holders:
                self._reserved[holder] = self._clock()
        lease.holders.update(holders)
        self._held.update(dict.fromkeys(holders, port))
        self._last = port
        self._changed()

    def refused(self, holder: Holder) -> None:
        """The API server has refused an object of a lease; a port at which nobody ever was need not rest."""
        port = self._held.get(holder)
        if port is None or holder not in self._reserved:
            return
        if self._leases[port].seen:
            self._release(port, holder)
            return
        for one in self._leases.pop(port).holders:
            self._held.pop(one)
            self._reserved.pop(one)

    def avoid(self, port: int) -> None:
        """Somebody else has it: leave it alone for a while."""
        self._until[port] = after(self._clock(), self._quarantine)

    def seen(self, holder: Holder, port: int | None) -> None:
        """An object is there and holds that port, or is gone or holds none (None)."""
        before = self._held.get(holder)
        if before is not None and before != port:
            self._release(before, holder)
        if port is None:
            return
        self._until.pop(port, None)
        lease = self._leases.setdefault(port, _Lease(set()))
        new = holder not in lease.holders
        lease.holders.add(holder)
        lease.seen = True
        lease.used = lease.used or holder[0] == POD.kind
        self._held[holder] = port
        self._reserved.pop(holder, None)
        if new:
            self._changed()

    def recover(self, text: str) -> None:
        """What an operator before this one has written: nobody knows since when the ports without a holder are free."""
        until = after(self._clock(), self._quarantine)
        for port in parse_ports(text):
            if port not in self._leases:
                self._until[port] = max(until, self._until.get(port, until))

    def outside(self, within: PortRange | None) -> Iterator[tuple[int, Holder]]:
        """Who holds which port that is not in the range."""
        for port, lease in self._leases.items():
            if within is None or not within.first <= port <= within.last:
                yield from ((port, holder) for holder in lease.holders)

    def text(self, within: PortRange | None, own: Set[int] = frozenset(), noted: str = "") -> str:
        """What `status.ports` of a class has to name: what is held or in quarantine in its range and, from before an
        edit of that, its `own` ports that are held and those in quarantine that the status has `noted`."""
        self._tidy()
        known = {*self._leases, *self._until} if within else set()
        inside = {port for port in known if within and within.first <= port <= within.last}
        return write_ports(inside | (own & self._leases.keys()) | (self._until.keys() & set(parse_ports(noted))))

    def states(self) -> dict[str, int]:
        """How many ports are held and how many in quarantine."""
        self._tidy()
        return {"held": len(self._leases), "quarantined": len(self._until)}

    def _taken(self, port: int) -> bool:
        return port in self._leases or port in self._until

    def _release(self, port: int, holder: Holder) -> None:
        self._held.pop(holder, None)
        self._reserved.pop(holder, None)
        lease = self._leases[port]
        lease.holders.discard(holder)
        if not lease.holders:
            del self._leases[port]
            if lease.used:
                self._until[port] = after(self._clock(), self._quarantine)
            self._changed()

    def _tidy(self) -> None:
        """End what time ends."""
        now = self._clock()
        for port, until in list(self._until.items()):
            if until <= now:
                del self._until[port]
        for holder, since in list(self._reserved.items()):
            if after(since, RESERVED_SECONDS) <= now:
                port = self._held[holder]
                self._leases[port].used = True  # nobody knows what became of it
                self._release(port, holder)


def write_ports(ports: Iterable[int]) -> str:
    """Ports as text, in runs. A text that would be too long names some too many: never too few."""
    runs: list[tuple[int, int]] = []
    for port in sorted(ports):
        if runs and port <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    text = _written(runs)
    return text if len(text) <= MAX_TEXT else _written(_merged(runs, MAX_TEXT // _RUN_TEXT))


def parse_ports(text: str) -> Iterator[int]:
    """The ports that a text names; what cannot be read is left out."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            yield from range(int(first), min(int(last or first), 65535) + 1)


def names_port(text: str, port: int) -> bool:
    """Whether a text names that port; `parse_ports` without the ports."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal() and int(first) <= port <= int(last or first):
            return True
    return False


def _merged(runs: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """So many runs at most: the widest gaps stay."""
    gaps = sorted(range(1, len(runs)), key=lambda index: runs[index - 1][1] - runs[index][0])
    borders = sorted(gaps[: most - 1])
    return [(runs[a][0], runs[b - 1][1]) for a, b in zip([0, *borders], [*borders, len(runs)], strict=True)]


def _written(runs: list[tuple[int, int]]) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
