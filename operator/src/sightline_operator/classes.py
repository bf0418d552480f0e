"""What is true of one CameraClass: whether it can be used, and how many cameras do."""

from datetime import datetime

from pydantic import ValidationError

from sightline_kube.cluster import Obj
from sightline_model.cameraclass import CameraClassStatus
from sightline_model.conditions import merge
from sightline_model.reasons import ConditionType, RolledOutReason, SparesReason
from sightline_operator import accept
from sightline_operator.facts import ClassFacts, SpareStanding
from sightline_operator.verdicts import Verdict, looked_at, no, yes

_NAMED = 5
"""So many cameras are named in a message."""


def stored(camera_class: Obj) -> CameraClassStatus:
    """The status as it stands; an unreadable one counts as none."""
    try:
        return CameraClassStatus.model_validate(camera_class.get("status") or {})
    except ValidationError:
        return CameraClassStatus()


def status_of(facts: ClassFacts, now: datetime) -> CameraClassStatus:
    """The true status."""
    verdict, spec = accept.camera_class(facts.camera_class)
    generation = int(facts.camera_class["metadata"].get("generation") or 0)
    before = stored(facts.camera_class).conditions
    findings = [verdict.finding(ConditionType.ACCEPTED), _rolled_out(facts).finding(ConditionType.ROLLED_OUT)]
    if spec is not None and spec.warm_agents:
        findings.append(_spares_ready(facts.spares).finding(ConditionType.SPARES_READY))
    else:
        before = [condition for condition in before if condition.type != ConditionType.SPARES_READY]
    return CameraClassStatus(
        observed_generation=generation,
        conditions=merge(looked_at(before), findings, generation, now.replace(microsecond=0)),
        cameras=facts.cameras,
        moving=len(facts.rollout.moving),
        waiting=facts.rollout.waiting,
        spares=facts.spares.ready,
        ports=facts.ports,
    )


def _spares_ready(standing: SpareStanding) -> Verdict:
    """Do as many spare agents wait as the class asks for?"""
    if not standing.switched_on:
        return no(
            SparesReason.NOT_SWITCHED_ON,
            "Spare agents are kept in namespaces that are switched on for them, and none is: name some in the chart's "
            "value warmAgents.namespaces.",
        )
    if standing.problem:
        return no(SparesReason.REFUSED, f"Not all spare agents can be made: {standing.problem}")
    if not standing.wanted:
        return no(
            SparesReason.NO_CAMERA,
            "No camera of this class is in a namespace that is switched on for spare agents (the chart's value "
            "warmAgents.namespaces).",
        )
    if standing.ready < standing.wanted:
        count = f"{standing.ready} of {standing.wanted} spare agents answer."
        return no(SparesReason.STARTING, f"{count} {standing.trouble}".rstrip())
    return yes(SparesReason.READY)


def _rolled_out(facts: ClassFacts) -> Verdict:
    """Do all agents run what the class asks for?"""
    standing = facts.rollout
    if not standing.moving and not standing.waiting:
        return yes(RolledOutReason.UP_TO_DATE)
    named = ", ".join(f"{namespace}/{name}" for namespace, name in standing.moving[:_NAMED])
    more = f" and {len(standing.moving) - _NAMED} more" if len(standing.moving) > _NAMED else ""
    moving = f"Being moved: {named}{more}. " if named else ""
    watched = f", {standing.watched} of them with viewers, which come last" if standing.watched else ""
    return no(RolledOutReason.MOVING, f"{moving}Waiting for their turn: {standing.waiting}{watched}.")
