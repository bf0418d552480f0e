"""Ready does not flip for a blip: scripts that wait for it and people who are paged by it should not see one.

The other conditions tell of a trouble at once; only the summary waits. Trouble that does not pass by itself, such as a
wrong password or a refused pod, is no blip however young it is. Pure: since when the trouble lasts is a fact.
"""

from datetime import datetime

from sightline_model.conditions import Condition, find
from sightline_model.reasons import AgentReason, ConditionStatus, ConditionType, NetworkReason, SourceReason
from sightline_operator.clock import after
from sightline_operator.verdicts import Verdict

BLIP_SECONDS = 5.0
"""A container starts again, and a camera comes back from a broken connection, within so long."""
_PASSING = frozenset(
    {
        AgentReason.STARTING,
        AgentReason.AGENT_ENDED,
        AgentReason.POD_FAILED,
        AgentReason.NODE_LOST,
        AgentReason.UNREACHABLE,
        AgentReason.UNRESPONSIVE,
        NetworkReason.ADDRESS_PENDING,
        SourceReason.IDLE,  # not tried yet, by an agent that has just started
        SourceReason.CONNECTING,
        SourceReason.UNREACHABLE,
        SourceReason.NO_FRAMES,
        SourceReason.STALLED,
        SourceReason.PROTOCOL_ERROR,
    }
)


def steady(verdict: Verdict, cause: str, since: datetime | None, previous: list[Condition], now: datetime) -> Verdict:
    """Ready as it should be told: `verdict`, or what was told before while a trouble (`cause`) is young."""
    before = find(previous, ConditionType.READY)
    if verdict.true or cause not in _PASSING or since is None:
        return verdict
    if before is None or before.status is not ConditionStatus.TRUE:
        return verdict
    until = after(since, BLIP_SECONDS)
    # Some moments come from nodes' clocks: what begins in the future is not young.
    if now >= until or since > after(now, BLIP_SECONDS):
        return verdict
    return Verdict(before.status, before.reason, before.message, look_again=until)
