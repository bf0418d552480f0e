"""What is true of one CameraClass: whether it can be used, and how many cameras do."""

from datetime import datetime

from pydantic import ValidationError

from sightline_kube.cluster import Obj
from sightline_model.cameraclass import CameraClassStatus
from sightline_model.conditions import merge
from sightline_model.reasons import ConditionType
from sightline_operator import accept
from sightline_operator.facts import ClassFacts
from sightline_operator.verdicts import looked_at


def stored(camera_class: Obj) -> CameraClassStatus:
    """The status as it stands; an unreadable one counts as none."""
    try:
        return CameraClassStatus.model_validate(camera_class.get("status") or {})
    except ValidationError:
        return CameraClassStatus()


def status_of(facts: ClassFacts, now: datetime) -> CameraClassStatus:
    """The true status."""
    verdict, _ = accept.camera_class(facts.camera_class)
    generation = int(facts.camera_class["metadata"].get("generation") or 0)
    before = stored(facts.camera_class).conditions
    findings = [verdict.finding(ConditionType.ACCEPTED)]
    return CameraClassStatus(
        observed_generation=generation,
        conditions=merge(looked_at(before), findings, generation, now.replace(microsecond=0)),
        cameras=facts.cameras,
    )
