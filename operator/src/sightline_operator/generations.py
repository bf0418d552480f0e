"""Which pods of a camera to keep, to make and to delete.

At most one pod serves; a changed template is followed by making the new pod first and deleting the old one when the
new one answers. Failed pods are replaced under a new name, later each time they fail in a row: the count travels in an
annotation, so that it survives the operator. Pods on their way out (a drained or lost node) count as gone at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_operator import pods
from sightline_operator.backoff import Backoff
from sightline_operator.clock import after, seconds_until
from sightline_operator.facts import LinkState

REPLACEMENT = Backoff(base=2.0, cap=120.0)
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
    look_again: float | None = None
    """Seconds until the backoff of a failed pod is over."""


def choose(own: Sequence[Obj], links: Mapping[str, LinkState], wanted_hash: str, now: datetime) -> Generations:
    """The verdict on the pods that the camera controls."""
    living = _best_first([pod for pod in own if pods.live(pod)], links)
    current = [pod for pod in living if pods.desired_hash(pod) == wanted_hash]
    outdated = [pod for pod in living if pods.desired_hash(pod) != wanted_hash]
    dead = [pod for pod in own if pods.failed(pod) and not pods.deleting(pod)]
    # The wanted generation answers: everything else goes.
    if current and answers(current[0], links):
        return Generations(current[0], (current[0],), tuple(current[1:] + outdated + dead))
    # It is on its way: what answers of the old one, or may be about to, serves until then.
    if current:
        keep = [pod for pod in outdated if answers(pod, links) or _may_answer(pod, links, now)]
        drop = [pod for pod in outdated if pod not in keep]
        standing = keep[0] if keep else current[0]
        return Generations(standing, (current[0], *keep[:1]), tuple(current[1:] + drop + keep[1:] + dead))
    # Only an old generation is there: make the new one beside it.
    if outdated:
        return Generations(outdated[0], (outdated[0],), tuple(outdated[1:] + dead), make=True)
    return _replacement(dead, now)


def standing(own: Sequence[Obj], links: Mapping[str, LinkState], wanted_hash: str) -> Obj | None:
    """The pod that stands for the agent while nothing may be changed."""
    living = _best_first([pod for pod in own if pods.live(pod)], links)
    rest = [pod for pod in own if pods.failed(pod)]
    return next(iter(living + rest), None)


def answers(pod: Obj, links: Mapping[str, LinkState]) -> bool:
    """Whether the pod's agent talks to the operator."""
    link = links.get(pods.name_of(pod))
    return link is not None and link.connected and link.report is not None


def _may_answer(pod: Obj, links: Mapping[str, LinkState], now: datetime) -> bool:
    """Whether the pod runs and the operator has not had the time to hear from it."""
    link = links.get(pods.name_of(pod))
    return link is not None and link.fresh(now) and pods.running_since(pod) is not None


def _replacement(dead: list[Obj], now: datetime) -> Generations:
    """No pod lives: make one, at once or when the failed ones' backoff is over."""
    if not dead:
        return Generations(None, make=True)
    newest = max(dead, key=lambda pod: (pods.created_at(pod) or now, pods.name_of(pod)))
    ended, made = pods.failed_at(newest) or now, pods.created_at(newest) or now
    attempt = 1 if (ended - made).total_seconds() > LONG_LIFE_SECONDS else pods.attempt(newest) + 1
    # The first failure in a row is answered at once. No jitter: the decision is to be the same in every pass.
    wait = REPLACEMENT.delay(attempt - 2, lambda: 1.0) if attempt > 1 else 0.0
    left = seconds_until(after(ended, wait), now)
    if left > 0:
        return Generations(newest, superfluous=tuple(pod for pod in dead if pod is not newest), look_again=left)
    return Generations(newest, superfluous=tuple(dead), make=True, attempt=attempt)


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
