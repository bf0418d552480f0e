"""Conditions in the shape of `metav1.Condition`, and the one function that changes a list of them."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sightline_model.base import LenientModel, Timestamp
from sightline_model.reasons import PENDING, ConditionStatus, ConditionType


class Condition(LenientModel):
    """One answered question about an object."""

    type: Annotated[str, Field(max_length=64)]
    """The question."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9]*)$")] = PENDING
    """The answer in one stable word."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """The answer in words, with what to do."""
    observed_generation: int = 0
    """Generation of the spec that was looked at."""
    last_transition_time: Timestamp
    """When the status last changed."""


class Finding(LenientModel):
    """A condition without its times: what a decision says."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""


def merge(current: list[Condition], findings: list[Finding], generation: int, now: datetime) -> list[Condition]:
    """The conditions after `findings`, in the findings' order.

    `lastTransitionTime` moves only where the status changed (API conventions, "Typical status properties"); an
    unchanged finding yields an equal Condition, so that a caller who compares finds nothing to write. Types that
    `findings` does not name are kept at the end.
    """
    before = {condition.type: condition for condition in current}
    merged = []
    for finding in findings:
        old = before.pop(finding.type, None)
        changed = old is None or old.status != finding.status
        merged.append(
            Condition(
                type=finding.type,
                status=finding.status,
                reason=finding.reason,
                message=finding.message[:1024],
                observed_generation=generation,
                last_transition_time=now if old is None or changed else old.last_transition_time,
            )
        )
    return merged + list(before.values())


def find(conditions: list[Condition], type_: ConditionType) -> Condition | None:
    """The condition of that type, if it is there."""
    return next((condition for condition in conditions if condition.type == type_), None)
