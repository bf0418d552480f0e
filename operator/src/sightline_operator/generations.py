"""Which pods of a camera to keep, to make and to delete.

At most one pod serves; a changed template, or a node that is drained, is followed by making the new pod first and
deleting the old one when the new one answers and the viewers have moved (`handover`). Failed pods are replaced under a
new name, later each time they fail in a row: the count travels in an annotation, so that it survives the operator. So
are pods whose agent served well and now waits in the kubelet's crash back-off, which knows no difference. Pods on their
way out count as gone at once.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_operator import pods
from sightline_operator.backoff import Backoff
from sightline_operator.clock import after, seconds_until, soonest
from sightline_operator.facts import LinkState
from sightline_operator.handover import STAY, HangUp, Move, drain, may_answer

REPLACEMENT = Backoff(base=2.0, cap=120.0)
AFTER_SERVICE = Backoff(base=0.5, cap=8.0)
"""For pods that had served well: whatever ends them again and again, viewers wait."""
MOVE_AGAIN_SECONDS = 10.0
"""A pod that has to leave its node is let alone for so long, however often its nodes are drained."""
LONG_LIFE_SECONDS = 600.0
"""A pod that lived so long did not fail in a row with the one before."""


@dataclass(frozen=True, slots=True)
class Generations:
    """The verdict on a camera's pods."""

    standing: Obj | None
    """Stands for the agent in the status: the pod that serves, else the one that comes, else the one that failed."""
    serving: tuple[Obj, ...] = ()
    """Live pods that are kept."""
    superfluous: tuple[Obj, ...] = ()
    """To be deleted."""
    make: bool = False
    """Whether another pod is to be made now."""
    attempt: int = 0
    """What the new pod notes as its attempt."""
    hang_up: tuple[HangUp, ...] = ()
    """Sessions that end because they have to move."""
    look_again: float | None = None
    """Seconds until the backoff of a failed pod is over, or viewers have had their time."""


def choose(
    own: Sequence[Obj], links: Mapping[str, LinkState], wanted_hash: str, now: datetime, move: Move = STAY
) -> Generations:
    """The verdict on the pods that the camera controls."""
    living = _best_first([pod for pod in own if pods.live(pod) and not pods.given_up(pod)], links)
    outdated = [pod for pod in living if pods.desired_hash(pod) != wanted_hash or pods.name_of(pod) in move.leaving]
    current = [pod for pod in living if pod not in outdated]
    dead = [pod for pod in own if not pods.deleting(pod) and (pods.failed(pod) or pods.given_up(pod))]
    moving = _Moving(links, move, now)
    # The wanted generation answers: everything else goes, the watched ones when their viewers have moved.
    if current and answers(current[0], links):
        return _handed_over(Generations(current[0], (current[0],), tuple(dead)), current[1:] + outdated, moving)
    # It is on its way: what answers of the old one, or may be about to, serves until then.
    if current:
        return _coming(current, outdated, dead, moving)
    # Only an old generation is there: make the new one beside it.
    if outdated:
        return _successor(outdated, dead, wanted_hash, moving)
    return _replacement(dead, now)


@dataclass(frozen=True, slots=True)
class _Moving:
    links: Mapping[str, LinkState]
    move: Move
    now: datetime


def _coming(current: list[Obj], outdated: list[Obj], dead: list[Obj], moving: _Moving) -> Generations:
    """The verdict while nobody of the wanted generation answers yet; equals of the one that comes may have viewers."""
    links = moving.links
    silent = {
        pods.name_of(pod): may_answer(pod, links.get(pods.name_of(pod)), moving.now) for pod in current + outdated
    }
    keep = [pod for pod in outdated if answers(pod, links) or silent[pods.name_of(pod)]]
    equals = [pod for pod in current[1:] if silent[pods.name_of(pod)]]
    drop = [pod for pod in current[1:] + outdated if pod not in keep and pod not in equals]
    again = silent[pods.name_of(keep[0])] if keep else 0.0
    standing = keep[0] if keep else current[0]
    chosen = Generations(standing, (current[0], *keep[:1]), tuple(drop + dead), look_again=again or None)
    return _handed_over(chosen, keep[1:] + equals, moving)


def _handed_over(chosen: Generations, others: Sequence[Obj], moving: _Moving) -> Generations:
    """The verdict with the pods that its standing one has taken over from, or takes over from in between: they stay for
    those who watch them."""
    first = chosen.standing
    if first is None or not others:
        return chosen
    rest = [(pod, drain(pod, first, moving.links.get(pods.name_of(pod)), moving.move, moving.now)) for pod in others]
    return replace(
        chosen,
        serving=(*chosen.serving, *(pod for pod, verdict in rest if verdict.keep)),
        superfluous=(*(pod for pod, verdict in rest if not verdict.keep), *chosen.superfluous),
        hang_up=tuple(verdict.hang_up for _, verdict in rest if verdict.hang_up),
        look_again=soonest(chosen.look_again, *(verdict.look_again for _, verdict in rest)),
    )


def standing(own: Sequence[Obj], links: Mapping[str, LinkState], wanted_hash: str) -> Obj | None:
    """The pod that stands for the agent while nothing may be changed."""
    living = _best_first([pod for pod in own if pods.live(pod)], links)
    rest = [pod for pod in own if pods.failed(pod)]
    return next(iter(living + rest), None)


def answers(pod: Obj, links: Mapping[str, LinkState]) -> bool:
    """Whether the pod's agent talks to the operator."""
    link = links.get(pods.name_of(pod))
    return link is not None and link.connected and link.report is not None


def _replacement(dead: list[Obj], now: datetime) -> Generations:
    """No pod lives: make one, at once or when the failed ones' backoff is over."""
    if not dead:
        return Generations(None, make=True)
    newest = max(dead, key=lambda pod: (pods.created_at(pod) or now, pods.name_of(pod)))
    ended, made = pods.failed_at(newest) or now, pods.created_at(newest) or now
    attempt = 1 if (ended - made).total_seconds() > LONG_LIFE_SECONDS else pods.attempt(newest) + 1
    backoff = AFTER_SERVICE if pods.given_up(newest) else REPLACEMENT
    # The first failure in a row is answered at once. Jitter by the pod: the decision is to be the same in every pass.
    wait = backoff.delay(attempt - 2, lambda: _lot(newest)) if attempt > 1 else 0.0
    left = seconds_until(after(ended, wait), now)
    if left > 0:
        return Generations(newest, superfluous=tuple(pod for pod in dead if pod is not newest), look_again=left)
    return Generations(newest, superfluous=tuple(dead), make=True, attempt=attempt)


def _successor(outdated: list[Obj], dead: list[Obj], wanted_hash: str, moving: _Moving) -> Generations:
    """Make another pod, at once or a while after one that came to a node that has to be left too."""
    rest, left, now = outdated[1:], 0.0, moving.now
    wanted = [pod for pod in outdated if pods.desired_hash(pod) == wanted_hash]
    if wanted:
        newest = max(wanted, key=lambda pod: pods.created_at(pod) or now)
        left = seconds_until(after(pods.created_at(newest) or now, MOVE_AGAIN_SECONDS), now)
        rest = [pod for pod in rest if pod is not newest] if left else rest
    chosen = Generations(outdated[0], (outdated[0],), tuple(dead), make=not left, look_again=left or None)
    return _handed_over(chosen, rest, moving)


def _lot(pod: Obj) -> float:
    """A number in [0, 1) that is the pod's own: cameras that were lost together do not come back in step."""
    return zlib.crc32(pods.uid_of(pod).encode()) / 2**32


def _best_first(candidates: list[Obj], links: Mapping[str, LinkState]) -> list[Obj]:
    """Those that answer first, then those that the kubelet calls ready, then the newest."""
    return sorted(
        candidates,
        key=lambda pod: (
            answers(pod, links),
            pods.kubelet_ready(pod),
            str(pod["metadata"].get("creationTimestamp") or ""),
            pods.name_of(pod),
        ),
        reverse=True,
    )
