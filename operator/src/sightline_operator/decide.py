"""What should be done about one camera: a pure function of facts and the time.

`decide` first finds out whether the spec can be run, then which pods to keep, make or delete, then what is true. Who
calls it (`core`) carries the decision out and writes the status; running it again on an unchanged world decides nothing
new. A spec that is refused leaves what runs alone: viewers do not pay for a typing error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, POD, SERVICE, UDP_ROUTE, Kind
from sightline_model import names
from sightline_model.agent import AgentConfig, AgentReport
from sightline_model.camera import CameraStatus
from sightline_model.cameraclass import NetworkMode
from sightline_model.reasons import SourceReason
from sightline_operator import (
    accept,
    build,
    camerastatus,
    exposure,
    generations,
    network,
    nodes,
    pods,
    reachable,
    resting,
    sparepods,
    successors,
)
from sightline_operator.accept import AcceptedCamera
from sightline_operator.build import Plan
from sightline_operator.clock import after, seconds_until, soonest
from sightline_operator.drift import drifted
from sightline_operator.facts import FRESH_SECONDS, NOT_TRUSTED, CameraFacts, LinkState
from sightline_operator.generations import Generations
from sightline_operator.handover import HangUp, Move
from sightline_operator.probe import Target
from sightline_operator.rollout import Progress

PUSH_AGAIN_SECONDS = 5.0
"""An agent that has been told a config and does not report it is told again after so long."""
CREDENTIALS_AGAIN_SECONDS = 60.0
"""An adopted agent whose camera refuses its credentials is told those of the Secret again after so long."""
FORMER_CAMERA_SECONDS = 1.0
STUCK_SECONDS = 10.0
"""A container that has not started for so long may lack the config Secret, which nobody reads: it is written again."""
STUCK_MOST_SECONDS = 300.0
"""And again, after twice the time, up to this pause."""


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
    credentials: Mapping[str, str] | None = None
    """For an agent that began as a spare, which mounts none: Secrets to be read, by the qualities' names."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A spare agent that becomes the camera's."""

    patch: dict[str, Any]
    push: Push


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order: apply, make the pod, push, delete, write the status, look again."""

    apply: tuple[Obj, ...] = ()
    new_pod: tuple[Obj, ...] = ()
    """A pod to be made, and what it needs to start; a roll-out may put it off."""
    takeover: Takeover | None = None
    """In place of a new pod, and of everything else in this pass: a spare."""
    push: tuple[Push, ...] = ()
    hang_up: tuple[HangUp, ...] = ()
    """Viewers of an agent that has a successor and goes."""
    delete: tuple[Deletion, ...] = ()
    probe: Target | None = None
    """An agent to be asked at the address that viewers will dial."""
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
        own = _own_pods(facts, uid)
        status, again = camerastatus.of(facts, accepted, generations.standing(own, facts.links, ""), "", now)
        if resting.rested(facts.camera) and not any(map(pods.live, own)):
            status = resting.refused(facts.camera, camerastatus.stored(facts.camera), status, now)
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
    configs = _Configs(plan, facts)
    config = configs.of(None)
    move = _move(plan, facts)
    wanted_hash = build.pod_hash(plan)
    chosen = generations.choose(_own_pods(facts, uid), facts.links, wanted_hash, now, move)
    rest = resting.look(facts, plan.spec, chosen, now)
    if rest.told:
        chosen = resting.without_pods(_own_pods(facts, uid))
    revision = configs.of(chosen.standing).revision
    status, again = camerastatus.of(facts, accepted, chosen.standing, revision, now)
    probe, probe_again = _probe(facts, accepted, chosen.standing, revision, now)
    status = successors.told(status, facts, accepted, chosen, now)
    # An operator that has just started has not heard from an agent that was well: what is written stands.
    if camerastatus.still_holds(facts.camera, chosen.standing, facts.links, now):
        status, again = None, FRESH_SECONDS
    if rest.resting and status is not None:
        status = resting.status(facts.camera, camerastatus.stored(facts.camera), status, rest.told, now)
        again = None
    # A person asked for hands off: tell the truth, change nothing.
    if pods.annotation(facts.camera, names.PAUSE_ANNOTATION) == "true":
        return Decision(status=status and camerastatus.paused(status), requeue_after=again)
    # Children of a former camera of this name still hold the names: clear them away first.
    if former:
        return Decision(delete=former, status=status, requeue_after=FORMER_CAMERA_SECONDS)
    takeover = _takeover(plan, chosen, facts, configs)
    push, push_again = _pushes(plan, facts, chosen, configs, now)
    secret = build.config_secret(plan, config)
    service = drifted(build.service(plan, pods.desired_hash(secret)), facts.service)
    config_wait = _config_wait(secret, chosen, facts, now)
    config_due = config_wait is not None and config_wait <= 0
    exposed, unexposed = exposure.changes(plan, facts, _own_pods(facts, uid), chosen)
    route, stale_route = exposure.route(plan, facts.service)
    if stale_route:
        service = (build.service(plan, pods.desired_hash(secret)),)  # takes the note of it away
    return Decision(
        apply=((secret,) if config_due else ()) + route + service + exposed,
        takeover=takeover,
        new_pod=_new_pod(plan, chosen, facts, () if config_due or _config_is_fresh(secret, facts, now) else (secret,)),
        push=push,
        hang_up=chosen.hang_up,
        delete=(
            *(_deletion(POD, pod) for pod in chosen.superfluous),
            *(_deletion(SERVICE, service) for service in unexposed),
            *(_deletion(UDP_ROUTE, route) for route in stale_route),
        ),
        probe=probe,
        status=status,
        requeue_after=soonest(again, rest.wait, chosen.look_again, push_again, probe_again, _config_again(config_wait)),
        rollout=_progress(wanted_hash, chosen, move),
    )


def _move(plan: Plan, facts: CameraFacts) -> Move:
    """Which pods have to be left whatever they are like, and how long viewers have to move."""
    leaving = (
        pods.name_of(pod)
        for pod in facts.pods
        if pods.node(pod) in facts.nodes and nodes.to_leave(facts.nodes[pods.node(pod)], pod)
    )
    # Its process was started again and trusts none of the keys of today: it could never be told its config.
    strangers = (
        pods.name_of(pod)
        for pod in facts.pods
        if sparepods.began_as_spare(pod)
        and not sparepods.trusts(pod, facts.options)
        and facts.links.get(pods.name_of(pod), LinkState()).error == NOT_TRUSTED
    )
    locked_out = (pods.name_of(pod) for pod in facts.pods if _locked_out(plan, facts, pod))
    # A load balancer's one Service follows the pod that serves: whoever watches another loses the way at once.
    stays = plan.camera_class.network.mode is not NetworkMode.LOAD_BALANCER
    drain = accept.span(plan.camera_class.rollout.drain_timeout, 60.0) if stays else 0.0
    edited = (pods.name_of(pod) for pod in facts.pods if _edited(plan, pod))
    return Move(frozenset((*leaving, *strangers, *locked_out)), drain, frozenset(edited))


def _locked_out(plan: Plan, facts: CameraFacts, pod: Obj) -> bool:
    """Whether it can be told no credentials any more: its namespace was switched off for spares since it was adopted,
    so nobody may read the camera's Secrets."""
    needs = sparepods.began_as_spare(pod) and bool(build.credentials(plan.spec))
    return needs and facts.namespace not in facts.options.spare_namespaces


def _edited(plan: Plan, pod: Obj) -> bool:
    """Whether the camera itself has asked for another pod since this one was made: it names other Secrets."""
    noted = pods.annotation(pod, build.CREDENTIALS_ANNOTATION)
    return bool(noted) and noted != build.credentials_hash(plan.spec)


def _progress(wanted_hash: str, chosen: Generations, move: Move) -> Progress:
    """A camera's own edit, and a node that is drained, are followed at once; what else needs another pod (its class, or
    how this operator makes pods) reaches one camera after the other."""
    at_once = move.leaving | move.edited
    old = [pod for pod in chosen.serving if pods.desired_hash(pod) != wanted_hash and pods.name_of(pod) not in at_once]
    if not old:
        return Progress.NONE
    return Progress.WANTED if chosen.make else Progress.UNDER_WAY


def _config_wait(secret: Obj, chosen: Generations, facts: CameraFacts, now: datetime) -> float | None:
    """In how many seconds the config Secret is to be written; None: not by what is known now.

    At once when neither this process nor the Service knows it as written, or when something else was tried since.
    Later, and later each time, while a container does not start: its Secret may be gone, and another write repairs that
    without reading.
    """
    wanted, last = pods.desired_hash(secret), facts.config_write
    noted = pods.annotation(facts.service, names.CONFIG_HASH_ANNOTATION) if facts.service else ""
    known = noted == wanted if last is None else last.hash == wanted and (last.done or noted == wanted)
    if not known:
        return 0.0
    since = min((at for at in map(pods.stuck_since, chosen.serving) if at), default=None)
    if since is None:
        return None
    due = after(since, STUCK_SECONDS)
    if last is not None and last.at >= due:
        due = after(last.at, min((last.at - since).total_seconds(), STUCK_MOST_SECONDS))
    return seconds_until(due, now)


def _config_is_fresh(secret: Obj, facts: CameraFacts, now: datetime) -> bool:
    """Whether the Secret was written a moment ago, so that a pod made now will find it."""
    last = facts.config_write
    return (
        last is not None
        and last.done
        and last.hash == pods.desired_hash(secret)
        and (now - last.at).total_seconds() < STUCK_SECONDS
    )


def _config_again(wait: float | None) -> float | None:
    """When to look again: when the Secret is to be written, or to see whether that helped."""
    return wait if wait is None or wait > 0 else STUCK_SECONDS


def _new_pod(plan: Plan, chosen: Generations, facts: CameraFacts, needs: tuple[Obj, ...]) -> tuple[Obj, ...]:
    if not chosen.make:
        return ()
    within = network.port_range(plan.camera_class.network)
    if within is None:
        return (*needs, build.agent_pod(plan, facts.fresh_suffix, chosen.attempt))
    port = facts.ports.fresh
    if port is None:
        return ()
    pod = build.agent_pod(plan, facts.fresh_suffix, chosen.attempt, port)
    # The Service first: whether its port can be had decides whether there is a point in the pod.
    service = build.exposing_service(plan, pods.name_of(pod), port)
    return (*needs, *((service,) if service else ()), pod)


def _takeover(plan: Plan, chosen: Generations, facts: CameraFacts, configs: "_Configs") -> Takeover | None:
    """A spare in place of the new pod, where somebody may be waiting: nothing answers yet. Successors have time, and a
    camera whose agents fail one after the other would use up those of all others."""
    spare = facts.spare
    if spare is None or not chosen.make or chosen.attempt > 1:
        return None
    if any(generations.answers(pod, facts.links) for pod in chosen.serving):
        return None
    push = Push(pods.name_of(spare), configs.of(spare), build.credentials(plan.spec))
    return Takeover(sparepods.adoption(plan, spare, chosen.attempt), push)


class _Configs:
    """The config of each pod: all the same, but for the addresses that a pod is to name."""

    def __init__(self, plan: Plan, facts: CameraFacts) -> None:
        self._plan = plan
        self._facts = facts
        self._common = build.agent_config(plan)
        self._known: dict[str, AgentConfig] = {}

    def of(self, pod: Obj | None) -> AgentConfig:
        """The pod's own, or what every pod starts from."""
        if pod is None:
            return self._common
        name = pods.name_of(pod)
        if name not in self._known:
            self._known[name] = self._of(pod)
        return self._known[name]

    def _of(self, pod: Obj) -> AgentConfig:
        way = reachable.reach(self._facts, self._plan.camera_class.network, pod)
        if way.own and self._common.own_addresses:
            return self._common
        return build.agent_config(self._plan, way)


def _probe(
    facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, revision: str, now: datetime
) -> tuple[Target | None, float | None]:
    """Whether the agent is to be asked for at the address that viewers will dial."""
    if standing is None:
        return None, None
    link = facts.links.get(pods.name_of(standing), LinkState())
    told = link.connected and link.report is not None and link.report.revision == revision
    case = camerastatus.network_case(facts, accepted, standing, told)
    return reachable.probe(case, reachable.verdict(case), now)


def _pushes(
    plan: Plan, facts: CameraFacts, chosen: Generations, configs: _Configs, now: datetime
) -> tuple[tuple[Push, ...], float | None]:
    """Running agents whose config is not the one wanted; with a pause after each attempt that they do not report.

    Those that mount other Secrets than the camera names now have a successor coming, and are told nothing.

    Agents that began as spares are told credentials with it, and again, now and then, while a camera refuses those: the
    Secret may have been corrected, and nobody watches Secrets.
    """
    secrets = build.credentials(plan.spec)
    due: list[Push] = []
    again: float | None = None
    for pod in chosen.serving:
        name, config = pods.name_of(pod), configs.of(pod)
        link = facts.links.get(name, LinkState())
        if not link.connected or link.report is None:
            continue
        adopted = sparepods.began_as_spare(pod)
        # It lacks what the config names: it goes on as it is until its successor takes over.
        if not adopted and not build.mounts_secrets_of(plan, pod):
            continue
        if link.report.revision and _locked_out(plan, facts, pod):
            continue  # it would lose those that it has
        pause = PUSH_AGAIN_SECONDS
        if link.report.revision == config.revision:
            if not (adopted and secrets and _refused_by_camera(link.report)):
                continue
            pause = CREDENTIALS_AGAIN_SECONDS
        told = link.pushed_at if link.pushed_revision == config.revision else None
        wait = pause - (now - told).total_seconds() if told else 0.0
        if wait <= 0:
            due.append(Push(name, config, secrets if adopted else None))
        again = soonest(again, wait if wait > 0 else pause)
    return tuple(due), again


def _refused_by_camera(report: AgentReport) -> bool:
    """Whether credentials were not accepted."""
    return any(said.reason is SourceReason.AUTHENTICATION_FAILED for said in (report.source, *report.profiles))


def _own_pods(facts: CameraFacts, uid: str) -> tuple[Obj, ...]:
    return tuple(pod for pod in facts.pods if pods.controller_uid(pod) == uid)


def _former(facts: CameraFacts, uid: str) -> tuple[Deletion, ...]:
    """Children that an earlier camera of the same name controls: ours by label and owner, but not this camera's."""
    children = [(POD, pod) for pod in facts.pods]
    children += [(SERVICE, service) for service in (facts.service, *facts.exposing) if service]
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
