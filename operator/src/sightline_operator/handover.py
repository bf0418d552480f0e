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
from sightline_operator.build import CLASS_HASH_ANNOTATION
from sightline_operator.clock import after, seconds_until
from sightline_operator.facts import LinkState

BATCH = 32
"""So many viewers are hung up at a time."""
BATCH_SECONDS = 0.5
GOODBYE_SECONDS = 10.0
"""How long after the last chance an agent with viewers stays to hang them up."""


@dataclass(frozen=True, slots=True)
class Move:
    """Why pods may have to be left, and how patiently."""

    leaving: frozenset[str] = frozenset()
    """Pods whose node is drained or lost, and adopted ones that cannot be told a config any more."""
    drain: float = 0.0
    """How long viewers have to move."""
    class_hash: str = ""
    """Of pods as the class wants them now: a camera's own edit is followed at once."""

    def patience(self, pod: Obj, successor: Obj) -> float:
        """How long viewers of this pod have. Its successor may be its equal: a lost node is back."""
        of_class = pods.annotation(pod, CLASS_HASH_ANNOTATION) == self.class_hash
        own_edit = of_class and pods.desired_hash(pod) != pods.desired_hash(successor)
        return 0.0 if own_edit and pods.name_of(pod) not in self.leaving else self.drain


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


def drain(pod: Obj, successor: Obj, link: LinkState | None, move: Move, now: datetime) -> Drain:
    """Whether the pod stays for its viewers."""
    if link is None or not link.connected:
        return Drain(keep=False)
    live = sorted(session.id for session in link.sessions.values() if session.phase is not SessionPhase.ENDED)
    if not live:
        return Drain(keep=False)
    deadline = after(pods.running_since(successor) or now, move.patience(pod, successor))
    left = seconds_until(deadline, now)
    if left > 0:
        return Drain(keep=True, look_again=left)
    if now >= after(deadline, GOODBYE_SECONDS):
        return Drain(keep=False)
    return Drain(keep=True, hang_up=HangUp(pods.name_of(pod), tuple(live[:BATCH])), look_again=BATCH_SECONDS)
