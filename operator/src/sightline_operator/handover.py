"""Moving a watched camera from one pod to another: the new agent first, then the viewers, then the old one goes.

Pure. When the successor answers, whoever comes goes there. Those who watch the old agent may go on for the class's
drainTimeout; then they are hung up with the reason Moved, a few at a time, so that the new agent is not stormed by the
players that connect again. Whoever does not go is cut off with the pod. The clock starts with the successor's
container, so another operator goes on where this one ended.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.session import SessionPhase
from sightline_operator import pods
from sightline_operator.clock import after, seconds_until, soonest
from sightline_operator.facts import LinkState

BATCH = 32
"""So many viewers are hung up at a time."""
BATCH_SECONDS = 0.5
GOODBYE_SECONDS = 10.0
SILENT_SECONDS = 10.0
"""An agent that runs and is out of hearing may have viewers for so long: its stream broke a moment ago, or the operator
has only just started to ask."""
"""How long after the last chance an agent with viewers stays to hang them up."""


@dataclass(frozen=True, slots=True)
class Move:
    """Why pods may have to be left, and how patiently."""

    leaving: frozenset[str] = frozenset()
    """Pods whose node is drained or lost, and adopted ones that cannot be told a config any more."""
    drain: float = 0.0
    """How long viewers have to move."""
    edited: frozenset[str] = frozenset()
    """Pods whose camera itself has been edited since: that is followed at once."""

    def patience(self, pod: Obj, successor: Obj) -> float:
        """How long viewers of this pod have. Its successor may be its equal: a lost node is back."""
        name = pods.name_of(pod)
        own_edit = name in self.edited and pods.desired_hash(pod) != pods.desired_hash(successor)
        return 0.0 if own_edit and name not in self.leaving else self.drain


STAY = Move()
"""No pod has to be left."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Sessions to be ended because their agent goes."""

    pod: str
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drain:
    """What becomes of one pod that has a successor."""

    keep: bool
    hang_up: HangUp | None = None
    look_again: float | None = None


def may_answer(pod: Obj, link: LinkState | None, now: datetime) -> float:
    """For how many seconds more a running agent that is out of hearing may be about to answer; 0 for any other. With
    viewers that may be long: the way from the operator is not theirs, and the kubelet calls the agent ready."""
    if link is None or link.connected or pods.running_since(pod) is None:
        return 0.0
    if pods.kubelet_ready(pod) and _watching(link):
        return SILENT_SECONDS
    since = link.followed_at if link.report is None else link.changed_at
    return seconds_until(after(since, SILENT_SECONDS), now) if since else 0.0


def drain(pod: Obj, successor: Obj, link: LinkState | None, move: Move, now: datetime) -> Drain:
    """Whether the pod stays for its viewers."""
    if link is None:
        return Drain(keep=False)
    live = _watching(link)
    silent = may_answer(pod, link, now)
    if not (live or link.report is None) or not (link.connected or silent):
        return Drain(keep=False)
    deadline = after(_began(successor, now), move.patience(pod, successor))
    left = seconds_until(deadline, now)
    if left > 0:
        return Drain(keep=True, look_again=soonest(left, silent or None))
    if now >= after(deadline, GOODBYE_SECONDS):
        return Drain(keep=False)
    if not link.connected:
        return Drain(keep=True, look_again=silent)
    return Drain(keep=True, hang_up=HangUp(pods.name_of(pod), tuple(live[:BATCH])), look_again=BATCH_SECONDS)


def _began(successor: Obj, now: datetime) -> datetime:
    """Since when there is a successor. Its node's clock says when the container began; where that cannot be, the API
    server's says when the pod was made."""
    made, since = pods.created_at(successor) or now, pods.running_since(successor) or now
    return since if made <= since <= now else made


def _watching(link: LinkState) -> list[str]:
    """Sessions that have not ended, as far as they are known."""
    return sorted(session.id for session in link.sessions.values() if session.phase is not SessionPhase.ENDED)
