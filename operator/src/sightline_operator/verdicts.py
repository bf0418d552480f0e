"""The answers that a camera's conditions give, one chain of named checks for each question.

A check returns a Verdict or None ("not my case"); the first that answers wins. Every message of a False says what a
person can do. Messages hold nothing that changes from pass to pass, so an unchanged world gives equal conditions.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.agent import AgentReport
from sightline_model.conditions import Condition, Finding, find
from sightline_model.reasons import (
    PENDING,
    AgentReason,
    ConditionStatus,
    ConditionType,
    LiveReason,
    NetworkReason,
    OutputsReason,
    ReadyReason,
    SourceReason,
)
from sightline_operator import pods
from sightline_operator.build import CONTAINER
from sightline_operator.clock import after
from sightline_operator.facts import LinkState

LINK_GRACE_SECONDS = 5.0
"""A lost event stream counts as a blip for so long."""
CONNECT_SECONDS = 30.0
"""How long a running container may take to answer before it counts as unreachable."""


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


@dataclass(frozen=True, slots=True)
class AgentCase:
    """The pod that stands for the camera's agent now, and what is known of it."""

    namespace: str
    pod: Obj | None
    link: LinkState
    camera_uid: str
    refusal: str
    now: datetime
    credentials: str = ""
    """Name of the Secret with the camera's credentials, if it mounts one."""

    @property
    def report(self) -> AgentReport | None:
        """The last report, if it is this camera's."""
        report = self.link.report
        return report if report is not None and report.camera.uid == self.camera_uid else None


def agent(case: AgentCase) -> Verdict:
    """AgentReady: does the camera have an agent that answers?"""
    if case.pod is None:
        return _without_pod(case)
    for check in (_pod_failed, _unschedulable, _image_missing, _crash_loop, _answers, _blip, _silent):
        verdict = check(case, case.pod)
        if verdict is not None:
            return verdict
    return no(AgentReason.STARTING, _starting_message(case, case.pod))


def network(mode: str, pod: Obj | None) -> Verdict:
    """NetworkReady: has the agent an address that viewers may reach?"""
    if pod is None or not pods.address(pod):
        return no(NetworkReason.ADDRESS_PENDING, "The agent's pod has no address yet.")
    return yes(NetworkReason.ADDRESS_PUBLISHED, f"Viewers reach the agent by {mode}.")


def source(report: AgentReport | None, revision: str) -> Verdict:
    """SourceReady: what the agent says of the source, if it speaks of the configuration that is wanted."""
    if report is None:
        return unknown(PENDING, "No agent has looked at the source yet.")
    if report.revision != revision:
        return unknown(SourceReason.CONNECTING, "The agent is taking over a changed configuration.")
    said = report.source
    if said.reason.failed:
        return no(said.reason, said.message or said.last_error)
    if said.reason is SourceReason.STREAMING:
        return yes(said.reason, said.message)
    if said.reason is SourceReason.IDLE and said.verified:
        return yes(said.reason, said.message or "The source has worked and starts with the next viewer.")
    if said.reason is SourceReason.IDLE:
        return unknown(said.reason, said.message or "The source has not been tried yet; it starts with a viewer.")
    return unknown(said.reason, said.message)


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


def _without_pod(case: AgentCase) -> Verdict:
    if case.refusal:
        return no(
            AgentReason.POD_REFUSED,
            f"The API server refuses what the camera needs: {case.refusal} Check the namespace's quota and Pod "
            "Security level and the operator's RBAC; the operator goes on trying.",
        )
    return no(AgentReason.STARTING, "The agent's pod is being made.")


def _pod_failed(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.failed(pod):
        return None
    status = pod.get("status") or {}
    why = ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
    end = pods.last_end(pod)
    if not why and end:
        why = f"exit code {end.get('exitCode')} {end.get('reason') or ''}".strip()
    return no(
        AgentReason.POD_FAILED,
        f"Pod {pods.name_of(pod)} has failed ({why or 'no reason given'}); another one takes its place.",
    )


def _unschedulable(case: AgentCase, pod: Obj) -> Verdict | None:
    scheduled = pods.condition(pod, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    return no(
        AgentReason.UNSCHEDULABLE,
        f"No node takes pod {pods.name_of(pod)}: {scheduled.get('message') or 'no reason given'} "
        "Add room, or change resources and scheduling in the CameraClass.",
    )


def _image_missing(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.image_missing(pod):
        return None
    image = next((str(item.get("image")) for item in pod["spec"].get("containers") or []), "")
    return no(
        AgentReason.IMAGE_PULL_FAILED,
        f"The node cannot get the image {image}: check its name, pullPolicy and pullSecrets in the CameraClass.",
    )


def _crash_loop(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.crashing(pod):
        return None
    end = pods.last_end(pod)
    return no(
        AgentReason.CRASH_LOOP,
        f"The agent ends again and again (exit code {end.get('exitCode', 'unknown')}, "
        f"{end.get('reason') or 'no reason given'}): see "
        f"kubectl logs -n {case.namespace} {pods.name_of(pod)} -c {CONTAINER} --previous",
    )


def _answers(case: AgentCase, pod: Obj) -> Verdict | None:
    if case.link.connected and case.report is not None:
        return yes(AgentReason.READY, f"Pod {pods.name_of(pod)} answers.")
    return None


def _blip(case: AgentCase, pod: Obj) -> Verdict | None:
    """A stream that broke a moment ago, from a container that still runs, is about to be back."""
    link = case.link
    if case.report is None or link.changed_at is None or pods.running_since(pod) is None:
        return None
    until = after(link.changed_at, LINK_GRACE_SECONDS)
    if case.now >= until:
        return None
    return Verdict(ConditionStatus.TRUE, AgentReason.READY, f"Pod {pods.name_of(pod)} answers.", look_again=until)


def _silent(case: AgentCase, pod: Obj) -> Verdict | None:
    """A container that runs and does not answer: young ones start, others are out of reach."""
    since = pods.running_since(pod)
    if since is None:
        return None
    until = after(since, CONNECT_SECONDS)
    if case.now < until:
        return no(AgentReason.STARTING, _starting_message(case, pod), look_again=until)
    return no(
        AgentReason.UNREACHABLE,
        f"Pod {pods.name_of(pod)} runs, but does not answer the operator "
        f"({case.link.error or 'no connection'}): check NetworkPolicies and "
        f"kubectl logs -n {case.namespace} {pods.name_of(pod)} -c {CONTAINER}",
    )


def _starting_message(case: AgentCase, pod: Obj) -> str:
    message = f"Pod {pods.name_of(pod)} is starting."
    why = pods.waiting(pod)
    if why.get("reason") == "CreateContainerConfigError" and why.get("message"):
        return f"{message} The kubelet says: {why['message']}"
    if case.credentials and pods.running_since(pod) is None:
        return f"{message} It needs the Secret {case.credentials} in namespace {case.namespace}."
    return message
