"""What should be done about one camera: a pure function of facts and the time.

`decide` first finds out whether the spec can be run, then which pods to keep, make or delete, then what is true. Who
calls it (`core`) carries the decision out and writes the status; running it again on an unchanged world decides nothing
new. A spec that is refused leaves what runs alone: viewers do not pay for a typing error.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, POD, SECRET, SERVICE, Kind
from sightline_model import names
from sightline_model.agent import AgentConfig
from sightline_model.camera import CameraStatus
from sightline_operator import accept, build, camerastatus, generations, pods
from sightline_operator.build import Plan
from sightline_operator.clock import soonest
from sightline_operator.facts import FRESH_SECONDS, CameraFacts, LinkState
from sightline_operator.generations import Generations
from sightline_operator.rollout import Progress

PUSH_AGAIN_SECONDS = 5.0
"""An agent that has been told a config and does not report it is told again after so long."""
FORMER_CAMERA_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deletion:
    """One object to delete, if it is still that very one."""

    kind: Kind
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Push:
    """A config for a running agent."""

    pod: str
    config: AgentConfig


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order: apply, push, delete, write the status, look again."""

    apply: tuple[Obj, ...] = ()
    push: tuple[Push, ...] = ()
    delete: tuple[Deletion, ...] = ()
    status: CameraStatus | None = None
    requeue_after: float | None = None
    rollout: Progress = Progress.NONE
    """Whether the new pod, if there is one, replaces one that runs because its class has changed."""


def decide(facts: CameraFacts, now: datetime) -> Decision:
    """The decision about one camera."""
    # Gone: its children are collected through their owner references, its sessions end by themselves.
    if facts.camera is None:
        return Decision()
    accepted = accept.camera(facts)
    # On its way out: only say so.
    if pods.deleting(facts.camera):
        return Decision(status=camerastatus.while_deleting(facts, accepted, now))
    uid = pods.uid_of(facts.camera)
    former = _former(facts, uid)
    status: CameraStatus | None
    # Not something that can be run: whatever runs is left alone.
    if accepted.spec is None or accepted.camera_class is None:
        standing = generations.standing(_own_pods(facts, uid), facts.links, "")
        status, again = camerastatus.of(facts, accepted, standing, "", now)
        return Decision(status=status, requeue_after=again)
    plan = Plan(
        facts.namespace,
        facts.name,
        uid,
        facts.class_name,
        accepted.spec,
        accepted.camera_class,
        facts.options,
    )
    config = build.agent_config(plan)
    chosen = generations.choose(_own_pods(facts, uid), facts.links, build.pod_hash(plan), now)
    status, again = camerastatus.of(facts, accepted, chosen.standing, config.revision, now)
    # An operator that has just started has not heard from an agent that was well: what is written stands.
    if camerastatus.still_holds(facts.camera, chosen.standing, facts.links, now):
        status, again = None, FRESH_SECONDS
    # A person asked for hands off: tell the truth, change nothing.
    if pods.annotation(facts.camera, names.PAUSE_ANNOTATION) == "true":
        return Decision(status=status, requeue_after=again)
    # Children of a former camera of this name still hold the names: clear them away first.
    if former:
        return Decision(delete=former, status=status, requeue_after=FORMER_CAMERA_SECONDS)
    push, push_again = _pushes(facts, chosen, config, now)
    return Decision(
        apply=_drifted(plan, config, facts) + _new_pod(plan, chosen, facts),
        push=push,
        delete=tuple(_deletion(POD, pod) for pod in chosen.superfluous),
        status=status,
        requeue_after=soonest(again, chosen.look_again, push_again),
        rollout=_progress(plan, chosen),
    )


def _progress(plan: Plan, chosen: Generations) -> Progress:
    """A camera's own edit is followed at once; a class's reaches one camera after the other."""
    wanted = build.class_hash(plan)
    old = [pod for pod in chosen.serving if pods.annotation(pod, build.CLASS_HASH_ANNOTATION) != wanted]
    if not old:
        return Progress.NONE
    return Progress.WANTED if chosen.make else Progress.UNDER_WAY


def covers(found: object, desired: object) -> bool:
    """Whether everything that we want is so; what others have added does not matter."""
    if isinstance(desired, dict):
        return isinstance(found, dict) and all(covers(found.get(key), item) for key, item in desired.items())
    if isinstance(desired, list):
        return (
            isinstance(found, list)
            and len(found) == len(desired)
            and all(covers(have, want) for have, want in zip(found, desired, strict=True))
        )
    return found == desired


def _drifted(plan: Plan, config: AgentConfig, facts: CameraFacts) -> tuple[Obj, ...]:
    """The Secret and the Service where they are absent or not as they should be, bound to the ones that were seen."""
    wanted = (
        (build.config_secret(plan, config), facts.secret),
        (build.service(plan), facts.service),
    )
    return tuple(_bound(desired, found) for desired, found in wanted if found is None or not covers(found, desired))


def _bound(desired: Obj, found: Obj | None) -> Obj:
    """With the uid of the object that is there, so that the API server refuses if it has been replaced meanwhile."""
    if found is None:
        return desired
    return {**desired, "metadata": {**desired["metadata"], "uid": pods.uid_of(found)}}


def _new_pod(plan: Plan, chosen: Generations, facts: CameraFacts) -> tuple[Obj, ...]:
    return (build.agent_pod(plan, facts.fresh_suffix, chosen.attempt),) if chosen.make else ()


def _pushes(
    facts: CameraFacts, chosen: Generations, config: AgentConfig, now: datetime
) -> tuple[tuple[Push, ...], float | None]:
    """Running agents whose config is not the one wanted; with a pause after each attempt that they do not report."""
    due: list[Push] = []
    again: float | None = None
    for pod in chosen.serving:
        name = pods.name_of(pod)
        link = facts.links.get(name, LinkState())
        if not link.connected or link.report is None or link.report.revision == config.revision:
            continue
        told = link.pushed_at if link.pushed_revision == config.revision else None
        wait = PUSH_AGAIN_SECONDS - (now - told).total_seconds() if told else 0.0
        if wait <= 0:
            due.append(Push(name, config))
        again = soonest(again, wait if wait > 0 else PUSH_AGAIN_SECONDS)
    return tuple(due), again


def _own_pods(facts: CameraFacts, uid: str) -> tuple[Obj, ...]:
    return tuple(pod for pod in facts.pods if pods.controller_uid(pod) == uid)


def _former(facts: CameraFacts, uid: str) -> tuple[Deletion, ...]:
    """Children that an earlier camera of the same name controls: ours by label and owner, but not this camera's."""
    children = [(POD, pod) for pod in facts.pods]
    children += [(SECRET, facts.secret)] if facts.secret else []
    children += [(SERVICE, facts.service)] if facts.service else []
    return tuple(
        _deletion(kind, obj)
        for kind, obj in children
        if not pods.deleting(obj) and _controlled_by_former(obj, facts.name, uid)
    )


def _controlled_by_former(obj: Obj, camera: str, uid: str) -> bool:
    return any(
        owner.get("controller")
        and owner.get("apiVersion") == CAMERA.api_version
        and owner.get("kind") == CAMERA.kind
        and owner.get("name") == camera
        and owner.get("uid") != uid
        for owner in obj["metadata"].get("ownerReferences") or []
    )


def _deletion(kind: Kind, obj: Obj) -> Deletion:
    return Deletion(kind, str(obj["metadata"]["namespace"]), pods.name_of(obj), pods.uid_of(obj))
