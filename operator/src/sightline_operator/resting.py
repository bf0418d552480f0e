"""Scale to zero: a camera that nobody has watched for long gives its pod back, and gets one when somebody comes.

Pure. The status is written first and the pod goes in the pass after it, so whoever restarts in between finds out from
the status alone that no pod is missing. Awake again makes: a session that has not ended, an edited spec, a class whose
cameras are not to rest. A camera that is refused meanwhile, its class being away, is still written down as one that
rests: else all of a class would start at once when it comes again. A status that was lost costs one start and another
rest.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.camera import CameraSpec, CameraStatus, Phase, StartMode
from sightline_model.conditions import Finding, find, merge
from sightline_model.durations import seconds
from sightline_model.reasons import (
    AgentReason,
    ConditionStatus,
    ConditionType,
    NetworkReason,
    ReadyReason,
    SourceReason,
)
from sightline_model.session import SessionPhase
from sightline_operator import pods, verdicts
from sightline_operator.clock import after, seconds_until
from sightline_operator.facts import CameraFacts, LinkState
from sightline_operator.generations import Generations, answers
from sightline_operator.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Rest:
    """Whether a camera rests."""

    resting: bool = False
    """The status is to say so."""
    told: bool = False
    """It does already: the pods may go."""
    wait: float | None = None
    """Seconds until another look."""


def look(facts: CameraFacts, spec: CameraSpec, chosen: Generations, now: datetime) -> Rest:
    """Whether the camera may rest now."""
    patience = patience_of(spec)
    if patience is None:
        return Rest()
    # Somebody watches, or is about to.
    if facts.demand or any(watched(link) for link in facts.links.values()):
        return Rest(wait=patience)
    if rested(facts.camera or {}):
        return Rest(resting=True, told=True)
    # Whoever does not answer has its own story, and a source that is being tried has none yet.
    if chosen.standing is None or not answers(chosen.standing, facts.links):
        return Rest()
    link = facts.links[pods.name_of(chosen.standing)]
    trying = link.report is None or link.report.source.reason is SourceReason.CONNECTING
    if trying or link.idle_since is None:
        return Rest(wait=patience)
    left = seconds_until(after(link.idle_since, patience), now)
    return Rest(resting=True) if left <= 0 else Rest(wait=left)


def patience_of(spec: CameraSpec) -> float | None:
    """How long an agent without viewers keeps its pod; None: for ever."""
    lifecycle = spec.lifecycle
    if lifecycle.start is not StartMode.ON_DEMAND or lifecycle.scale_to_zero_after == "Never":
        return None
    return seconds(lifecycle.scale_to_zero_after)


def watched(link: LinkState) -> bool:
    """Whether the agent has sessions."""
    return any(session.phase is not SessionPhase.ENDED for session in link.sessions.values())


def without_pods(own: tuple[Obj, ...]) -> Generations:
    """The verdict on the pods of a camera that rests."""
    return Generations(None, superfluous=tuple(pod for pod in own if not pods.deleting(pod)))


def refused(camera: Obj, stored: CameraStatus, found: CameraStatus, now: datetime) -> CameraStatus:
    """The status of a camera that rested when it began to be refused: it also says what the next pass that may run it
    has to know. `found` is what is true of it besides."""
    findings = [
        _AGENT_REFUSED.finding(ConditionType.AGENT_READY),
        _NETWORK.finding(ConditionType.NETWORK_READY),
        _kept(stored, ConditionType.SOURCE_READY),
    ]
    generation = int(camera["metadata"].get("generation") or 0)
    merged = merge(verdicts.looked_at(stored.conditions), findings, generation, now.replace(microsecond=0))
    kept = {condition.type: condition for condition in merged[: len(findings)]}
    conditions = [kept.get(condition.type, condition) for condition in found.conditions]
    return found.model_copy(update={"conditions": conditions, "network": stored.network})


def status(camera: Obj, stored: CameraStatus, awake: CameraStatus, told: bool, now: datetime) -> CameraStatus:
    """The status of a camera that rests: what was found out about the source still holds."""
    base = stored if told else awake
    source = find(base.conditions, ConditionType.SOURCE_READY)
    findings = [
        _kept(awake, ConditionType.ACCEPTED),
        _AGENT.finding(ConditionType.AGENT_READY),
        _NETWORK.finding(ConditionType.NETWORK_READY),
        _kept(base, ConditionType.SOURCE_READY),
        verdicts.live(False).finding(ConditionType.LIVE),
        verdicts.outputs().finding(ConditionType.OUTPUTS_READY),
        _ready(source is None or source.status is not ConditionStatus.FALSE, source.message if source else "").finding(
            ConditionType.READY
        ),
    ]
    generation = int(camera["metadata"].get("generation") or 0)
    conditions = merge(verdicts.looked_at(stored.conditions), findings, generation, now.replace(microsecond=0))
    network = base.network
    return CameraStatus(
        observed_generation=generation,
        conditions=conditions,
        phase=Phase.IDLE,
        network=network.model_copy(update={"internal": [], "external": [], "port_lease": None}) if network else None,
    )


_AGENT = verdicts.no(AgentReason.SCALED_TO_ZERO, "Nobody watches, so no agent runs; it starts with the next viewer.")
_AGENT_REFUSED = verdicts.no(
    AgentReason.SCALED_TO_ZERO, "No agent is made for a camera that is not accepted; before that nobody watched it."
)
_NETWORK = verdicts.unknown(NetworkReason.SCALED_TO_ZERO, "No agent runs that viewers could reach.")


def _ready(works: bool, message: str) -> Verdict:
    if works:
        return verdicts.yes(ReadyReason.SCALED_TO_ZERO, "The camera can be watched; its agent starts with the viewer.")
    return verdicts.no(ReadyReason.SOURCE_NOT_READY, message)


def _kept(status: CameraStatus, type_: ConditionType) -> Finding:
    found = find(status.conditions, type_)
    if found is None:
        return verdicts.unknown("Pending").finding(type_)
    return Finding(type=type_, status=found.status, reason=found.reason, message=found.message)


def rested(camera: Obj) -> bool:
    """Whether the status says of this very spec that the camera rests."""
    try:
        status = CameraStatus.model_validate(camera.get("status") or {})
    except ValueError:
        return False
    found = find(status.conditions, ConditionType.AGENT_READY)
    generation = int(camera["metadata"].get("generation") or 0)
    return found is not None and (found.reason, found.observed_generation) == (AgentReason.SCALED_TO_ZERO, generation)
