"""How many spare agents a class has in one namespace, which of them end, and which a camera may have: pure.

A spare that could not be adopted any more (another template, range of ports or set of keys, a node that has to be
left) is ended and replaced; one that failed keeps its place until its backoff is over, so that a pod that cannot run is
not made again and again. Nothing is decided by silence: a spare that does not answer is merely not offered.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.agent import SPARE_UID
from sightline_model.cameraclass import PortRange
from sightline_model.reasons import AgentReason
from sightline_operator import diagnosis, network, nodes, pods
from sightline_operator.backoff import Backoff
from sightline_operator.clock import after, seconds_until, soonest
from sightline_operator.diagnosis import AgentCase
from sightline_operator.facts import LinkState

AGAIN = Backoff(base=5.0, cap=300.0)
"""Between a spare's failure and the next one: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class SpareFacts:
    """The spares of one class in one namespace."""

    wanted: int
    """How many are to wait; 0 where the class, or the namespace, has none."""
    hash: str
    """Of a spare as it would be made now."""
    class_uid: str
    spares: Sequence[Obj]
    """Pods that wait and are not being handed over."""
    links: Mapping[str, LinkState]
    nodes: Mapping[str, Obj] = field(default_factory=dict)
    within: PortRange | None = None
    """Where a spare's port has to be; None where the mode leases none."""


@dataclass(frozen=True, slots=True)
class SpareDecision:
    """What to do."""

    make: int = 0
    attempt: int = 0
    """What new ones note as theirs."""
    end: tuple[Obj, ...] = ()
    ready: int = 0
    """How many could be adopted now."""
    trouble: str = ""
    """What keeps one from answering, and what to do; empty while it merely starts."""
    look_again: float | None = None


def decide(facts: SpareFacts, now: datetime) -> SpareDecision:
    """The decision about one class in one namespace."""
    there = [spare for spare in facts.spares if not pods.deleting(spare)]
    unfit = [spare for spare in there if not _fits(spare, facts) or _taken(spare, facts.links)]
    rest = [spare for spare in there if spare not in unfit]
    dead = [spare for spare in rest if pods.failed(spare) or pods.given_up(spare)]
    living = _best_first([spare for spare in rest if spare not in dead], facts.links)
    waits = {pods.name_of(spare): _wait(spare, now) for spare in dead}
    over = [spare for spare in dead if waits[pods.name_of(spare)] <= 0]
    resting = [spare for spare in dead if spare not in over]
    room = max(0, facts.wanted - len(living))
    trouble, look = _trouble((*living[: facts.wanted], *dead[:room]), facts, now)
    make = max(0, room - len(resting))
    return SpareDecision(
        make=make,
        attempt=max((pods.attempt(spare) + 1 for spare in over), default=0) if make else 0,
        end=(*unfit, *over, *living[facts.wanted :], *resting[room:]),
        ready=sum(answers(spare, facts.links) for spare in living[: facts.wanted]),
        trouble=trouble,
        look_again=soonest(look, *(waits[pods.name_of(spare)] for spare in resting[:room])),
    )


def offer(facts: SpareFacts) -> Obj | None:
    """The spare that a camera of the class may adopt: the one that has waited longest of those that answer."""
    good = [
        spare
        for spare in facts.spares
        if pods.live(spare)
        and not pods.given_up(spare)
        and _fits(spare, facts)
        and answers(spare, facts.links)
        and not _taken(spare, facts.links)
    ]
    return min(good, key=lambda spare: (not pods.kubelet_ready(spare), _born(spare)), default=None)


def answers(spare: Obj, links: Mapping[str, LinkState]) -> bool:
    """Whether the spare's agent talks to the operator and has said what to seal to."""
    link = links.get(pods.name_of(spare))
    return link is not None and link.connected and link.report is not None and bool(link.report.sealing_key)


def _fits(spare: Obj, facts: SpareFacts) -> bool:
    """Whether a camera of the class could use it as it is."""
    node = facts.nodes.get(pods.node(spare))
    leaves = node is not None and nodes.to_leave(node, spare)
    alike = pods.controller_uid(spare) == facts.class_uid and pods.desired_hash(spare) == facts.hash
    return alike and not leaves and _port_fits(spare, facts.within)


def _port_fits(spare: Obj, within: PortRange | None) -> bool:
    """Whether its port, which is its own and so not in its hash, is one that the class would lease today."""
    if within is None:
        return network.leased(spare) is None
    return within.first <= network.listens(spare, "media") <= within.last


def _taken(spare: Obj, links: Mapping[str, LinkState]) -> bool:
    """Whether its process says that it serves a camera, against what its labels say: it could serve no other one."""
    link = links.get(pods.name_of(spare))
    return link is not None and link.report is not None and bool(link.report.revision)


def _wait(spare: Obj, now: datetime) -> float:
    """Seconds until a failed one is replaced. Jitter by the pod: the decision is to be the same in every pass."""
    ended = pods.failed_at(spare) or now
    delay = AGAIN.delay(pods.attempt(spare), lambda: zlib.crc32(pods.uid_of(spare).encode()) / 2**32)
    return seconds_until(after(ended, delay), now)


def _trouble(there: Sequence[Obj], facts: SpareFacts, now: datetime) -> tuple[str, float | None]:
    """The diagnosis of the first that has one, and in how many seconds one may change by time alone."""
    found, again = "", None
    for spare in there:
        node = facts.nodes.get(pods.node(spare))
        link = facts.links.get(pods.name_of(spare), LinkState())
        case = AgentCase(str(spare["metadata"]["namespace"]), spare, link, SPARE_UID, "", now, node=node)
        verdict = diagnosis.agent(case)
        again = soonest(again, seconds_until(verdict.look_again, now) if verdict.look_again else None)
        if not verdict.true and verdict.reason != AgentReason.STARTING:
            found = found or verdict.message
    return found, again


def _best_first(living: list[Obj], links: Mapping[str, LinkState]) -> list[Obj]:
    """Those that answer, then the oldest: what is too many ends from behind."""
    return sorted(living, key=lambda spare: (not answers(spare, links), not pods.kubelet_ready(spare), _born(spare)))


def _born(spare: Obj) -> tuple[str, str]:
    return str(spare["metadata"].get("creationTimestamp") or ""), pods.name_of(spare)
