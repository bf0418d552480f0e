"""The answers that a camera's conditions give; that about its agent is a chapter of its own (`diagnosis`).

Every message of a False says what a person can do. Messages hold nothing that changes from pass to pass, so an
unchanged world gives equal conditions.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_model.agent import AgentReport
from sightline_model.conditions import Condition, Finding, find
from sightline_model.reasons import (
    PENDING,
    ConditionStatus,
    ConditionType,
    LiveReason,
    OutputsReason,
    ReadyReason,
    SourceReason,
)
from sightline_model.words import sentence as whole

_SOURCE_ADVICE = {
    SourceReason.UNREACHABLE: "Check that the camera is on, its address and port, and the way from the cluster to it.",
    SourceReason.AUTHENTICATION_FAILED: "Correct the Secret that the source names.",
    SourceReason.NO_FRAMES: "Check the path of the stream and the camera's settings.",
    SourceReason.CODEC_UNSUPPORTED: "Set the camera to H.264, or leave spec.transcode at Auto if it sends H.265.",
    SourceReason.NOT_FOUND: "Correct the path in the source's address.",
    SourceReason.DEVICE_OFFLINE: "Connect the device.",
    SourceReason.STALLED: "Look at the camera and the network; the agent connects again by itself.",
    SourceReason.PROTOCOL_ERROR: "Check that this is the address of a stream; else the camera's firmware is at fault.",
}
_SOURCE_WAITS = {
    SourceReason.IDLE: "The source has not been tried yet; it starts with a viewer.",
    SourceReason.CONNECTING: "The agent is connecting to the source.",
    SourceReason.WAITING_FOR_PUBLISHER: "Nobody publishes yet.",
}
_SAID_CHARACTERS = 800
"""Of an agent's words, so that the advice has room in a condition's message."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer, and when it may change by time alone."""

    status: ConditionStatus
    reason: str
    message: str = ""
    look_again: datetime | None = None

    def finding(self, type_: ConditionType) -> Finding:
        """The verdict as the answer to that question."""
        return Finding(type=type_, status=self.status, reason=self.reason, message=self.message)

    @property
    def true(self) -> bool:
        """Whether the answer is yes."""
        return self.status is ConditionStatus.TRUE


def looked_at(conditions: list[Condition]) -> list[Condition]:
    """The conditions without the CRD's defaults, whose time (1970) is no time at which anything changed."""
    return [condition for condition in conditions if condition.last_transition_time.year > 1970]


def yes(reason: str, message: str = "") -> Verdict:
    """True."""
    return Verdict(ConditionStatus.TRUE, reason, message)


def no(reason: str, message: str, look_again: datetime | None = None) -> Verdict:
    """False, with what to do."""
    return Verdict(ConditionStatus.FALSE, reason, message, look_again)


def unknown(reason: str, message: str = "") -> Verdict:
    """Not known yet."""
    return Verdict(ConditionStatus.UNKNOWN, reason, message)


def source(report: AgentReport | None, revision: str) -> Verdict:
    """SourceReady: what the agent says of the source, if it speaks of the configuration that is wanted."""
    if report is None:
        return unknown(PENDING, "No agent has looked at the source yet.")
    if report.revision != revision:
        return unknown(SourceReason.CONNECTING, "The agent is taking over a changed configuration.")
    said = report.source
    if said.reason.failed:
        return no(said.reason, f"{sentence(said.message or said.last_error)} {_SOURCE_ADVICE[said.reason]}".lstrip())
    if said.reason is SourceReason.STREAMING:
        return yes(said.reason, sentence(said.message))
    if said.reason is SourceReason.IDLE and said.verified:
        return yes(said.reason, sentence(said.message) or "The source has worked and starts with the next viewer.")
    return unknown(said.reason, sentence(said.message) or _SOURCE_WAITS.get(said.reason, ""))


def sentence(words: str) -> str:
    """What an agent says, as long as there is room for."""
    return whole(words[:_SAID_CHARACTERS])


def live(streaming: bool) -> Verdict:
    """Live: does the camera send pictures at this moment?"""
    if streaming:
        return yes(LiveReason.STREAMING, "Pictures come from the source.")
    return no(LiveReason.NOT_STREAMING, "No pictures come from the source now.")


def outputs() -> Verdict:
    """OutputsReady: this version has no outputs, so none of them can fail."""
    return yes(OutputsReason.NO_OUTPUTS)


@dataclass(frozen=True, slots=True)
class Parts:
    """The answers that the summary rests on."""

    accepted: Verdict
    agent: Verdict
    network: Verdict
    source: Verdict
    verified: bool
    """Whether the configuration in force has ever delivered a key frame."""


def ready(parts: Parts, previous: list[Condition]) -> Verdict:
    """Ready: could somebody watch now?"""
    if not parts.accepted.true:
        return no(ReadyReason.NOT_ACCEPTED, parts.accepted.message)
    if not parts.agent.true:
        return no(ReadyReason.AGENT_NOT_READY, parts.agent.message)
    if not parts.network.true:
        return no(ReadyReason.NETWORK_NOT_READY, parts.network.message)
    if parts.source.true:
        return yes(ReadyReason.READY, "The camera can be watched.")
    if parts.source.status is ConditionStatus.FALSE:
        return no(ReadyReason.SOURCE_NOT_READY, parts.source.message)
    return _while_connecting(parts, previous)


def deleting() -> Verdict:
    """Ready, for a camera that is on its way out."""
    return no(ReadyReason.DELETING, "The camera is being deleted.")


def _while_connecting(parts: Parts, previous: list[Condition]) -> Verdict:
    """A source that has worked keeps its verdict while it connects again: viewers come and go all the time."""
    before = find(previous, ConditionType.READY)
    if parts.verified and before is not None:
        if before.status is ConditionStatus.TRUE:
            return yes(before.reason, before.message)
        if before.reason == ReadyReason.SOURCE_NOT_READY and before.status is ConditionStatus.FALSE:
            return no(before.reason, before.message)
    return unknown(ReadyReason.SOURCE_NOT_READY, parts.source.message)
