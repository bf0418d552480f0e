"""The Lease that says who works, and what to do about it: pure functions of what was seen and the time.

Nobody's wall clock decides: renewTime is for people. A contender takes a Lease that it has itself seen unchanged for as
long as its holder promised, by its own clock; the holder stops well before that. Every write names the resourceVersion
that was read, so of several contenders one wins.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.kinds import LEASE


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. A holder that cannot renew stops after `give_up`; the rest of `duration` is for writes on their way."""

    duration: int = 15
    give_up: float = 10.0
    renew: float = 2.0
    look: float = 0.5
    """How often a contender looks; short, so that a Lease that was given back is taken at once."""

    @classmethod
    def of(cls, duration: int) -> "Times":
        """The usual proportions."""
        return cls(duration, duration * 2 / 3, duration * 2 / 15)


@dataclass(frozen=True, slots=True)
class Sight:
    """The Lease as it is, and since when this process has known it to be so."""

    lease: Obj | None
    since: float
    promised_until: float = 0.0
    """When the last promise of a holder ends that was seen: a Lease that somebody deleted may still be believed in."""


class Move(Enum):
    """What a contender may do."""

    WAIT = "wait"
    CREATE = "create"
    TAKE = "take"


def seen(before: Sight | None, lease: Obj | None, now: float, default: int) -> Sight:
    """What is known after a look."""
    if before is not None and version(before.lease) == version(lease):
        return before
    if lease is None:
        return Sight(None, now, before.promised_until if before else 0.0)
    return Sight(lease, now, now + _promise(lease, default) if holder(lease) else 0.0)


def step(sight: Sight, identity: str, now: float) -> Move:
    """What to do about a Lease that this process does not hold."""
    if sight.lease is None:
        return Move.CREATE if now >= sight.promised_until else Move.WAIT
    # Its own name may stand there already: the answer to an earlier attempt was lost.
    if holder(sight.lease) in ("", identity) or now >= sight.promised_until:
        return Move.TAKE
    return Move.WAIT


def held_by(place: tuple[str, str], found: Obj | None, identity: str, times: Times, now: datetime) -> Obj:
    """The Lease with `identity` as its holder, to be created or to replace the one that was found."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec: dict[str, Any] = dict((found or {}).get("spec") or {})
    if holder(found) != identity:
        spec["acquireTime"] = moment
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1 if found else 0
    spec |= {"holderIdentity": identity, "leaseDurationSeconds": times.duration, "renewTime": moment}
    metadata = found["metadata"] if found else {"namespace": place[0], "name": place[1]}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


def given_back(found: Obj) -> Obj:
    """The Lease without a holder: the next one need not wait."""
    spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
    return {**found, "spec": spec}


def holder(lease: Obj | None) -> str:
    """Who holds it; empty when nobody does."""
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def version(lease: Obj | None) -> tuple[str, str]:
    """What differs as soon as anything was written."""
    metadata = (lease or {}).get("metadata") or {}
    return str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or "")


def _promise(lease: Obj, default: int) -> int:
    value = (lease.get("spec") or {}).get("leaseDurationSeconds")
    return value if isinstance(value, int) and value > 0 else default
