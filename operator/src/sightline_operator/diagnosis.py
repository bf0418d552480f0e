"""AgentReady: the diagnosis of a camera's agent, a chain of named checks from the plainest cause to the vaguest.

A check returns a Verdict or None ("not my case"); the first that answers wins. What the cluster knows (node, scheduler,
image, container) comes before what the operator hears, and a container that ended before one that is silent.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cluster import Obj
from sightline_model.agent import AgentReport
from sightline_model.reasons import AgentReason, ConditionStatus
from sightline_model.words import ended
from sightline_operator import nodes, pods
from sightline_operator.build import CONTAINER
from sightline_operator.clock import after
from sightline_operator.facts import NOT_TRUSTED, UNREADABLE, LinkState
from sightline_operator.verdicts import Verdict, no, yes

LINK_GRACE_SECONDS = 5.0
"""A lost event stream counts as a blip for so long."""
CONNECT_SECONDS = 30.0
"""How long a running container may take to answer before it counts as out of reach."""


@dataclass(frozen=True, slots=True)
class AgentCase:
    """The pod that stands for the camera's agent now, and what is known of it."""

    namespace: str
    pod: Obj | None
    link: LinkState
    camera_uid: str
    refusal: str
    now: datetime
    credentials: tuple[str, ...] = ()
    """Names of the Secrets with the camera's credentials that it mounts."""
    node: Obj | None = None
    """The pod's node, where it is known."""

    @property
    def report(self) -> AgentReport | None:
        """The last report, if it is this camera's."""
        report = self.link.report
        return report if report is not None and report.camera.uid == self.camera_uid else None


def agent(case: AgentCase) -> Verdict:
    """Does the camera have an agent that answers?"""
    if case.pod is None:
        return _without_pod(case)
    for check in (
        _pod_failed,
        _unschedulable,
        _image_missing,
        _given_up,
        _crash_loop,
        _answers,
        _blip,
        _node_lost,
        _ended,
        _wrong_version,
        _silent,
    ):
        verdict = check(case, case.pod)
        if verdict is not None:
            return verdict
    return no(AgentReason.STARTING, _starting_message(case, case.pod))


def trouble_since(case: AgentCase) -> datetime | None:
    """Since when an agent that is not ready has not been: the loss of its link, else the birth of its pod."""
    if case.pod is None:
        return None
    if case.report is not None and not case.link.connected:
        return case.link.changed_at
    return pods.created_at(case.pod)


def _without_pod(case: AgentCase) -> Verdict:
    if "exceeded quota" in case.refusal:
        return no(
            AgentReason.QUOTA_EXCEEDED,
            f"The ResourceQuota of namespace {case.namespace} leaves no room: {ended(case.refusal)} Raise it, "
            "delete what is not needed, or ask for less in the CameraClass's resources; the operator goes on trying.",
        )
    if case.refusal:
        return no(
            AgentReason.POD_REFUSED,
            f"The API server refuses what the camera needs: {ended(case.refusal)} Check the namespace's Pod "
            "Security level and the operator's RBAC; the operator goes on trying.",
        )
    return no(AgentReason.STARTING, "The agent's pod is being made.")


def _pod_failed(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.failed(pod):
        return None
    status = pod.get("status") or {}
    why = ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
    return no(
        AgentReason.POD_FAILED,
        f"Pod {pods.name_of(pod)} has failed ({why or _how_it_ended(pod)}); another one takes its place.",
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


def _given_up(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.given_up(pod):
        return None
    return no(
        AgentReason.AGENT_ENDED,
        f"The agent in pod {pods.name_of(pod)} has ended once more ({_how_it_ended(pod)}); another pod takes its "
        f"place. {_advice(case, pod)}",
    )


def _crash_loop(case: AgentCase, pod: Obj) -> Verdict | None:
    if not pods.crashing(pod):
        return None
    return no(
        AgentReason.CRASH_LOOP,
        f"The agent ends again and again soon after its start ({_how_it_ended(pod)}). {_advice(case, pod)}",
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


def _node_lost(case: AgentCase, pod: Obj) -> Verdict | None:
    if case.node is None or not nodes.lost(case.node):
        return None
    name = pods.node(pod)
    return no(
        AgentReason.NODE_LOST,
        f"Node {name} of pod {pods.name_of(pod)} does not answer the cluster: see kubectl describe node {name}. "
        "Another pod is made where there is room.",
    )


def _ended(case: AgentCase, pod: Obj) -> Verdict | None:
    """A container that ended and is not running again yet."""
    if pods.running_since(pod) is not None or not pods.last_end(pod):
        return None
    return no(
        AgentReason.AGENT_ENDED,
        f"The agent in pod {pods.name_of(pod)} has ended ({_how_it_ended(pod)}) and is started again. "
        f"{_advice(case, pod)}",
    )


def _wrong_version(case: AgentCase, pod: Obj) -> Verdict | None:
    if case.link.error != UNREADABLE:
        return None
    image = next((str(item.get("image")) for item in pod["spec"].get("containers") or []), "")
    return no(
        AgentReason.WRONG_VERSION,
        f"Pod {pods.name_of(pod)} answers with what this operator cannot read: use an agent image of the operator's "
        f"version in the CameraClass instead of {image}.",
    )


def _silent(case: AgentCase, pod: Obj) -> Verdict | None:
    """A container that runs and does not answer: young ones start; others hang, or are out of reach."""
    since = pods.running_since(pod)
    if since is None:
        return None
    until = after(since, CONNECT_SECONDS)
    if case.now < until:
        return no(AgentReason.STARTING, _starting_message(case, pod), look_again=until)
    name = pods.name_of(pod)
    if not pods.kubelet_ready(pod):
        return no(
            AgentReason.UNRESPONSIVE,
            f"The agent in pod {name} runs, but answers neither the kubelet nor the operator "
            f"({case.link.error or 'no connection'}); the kubelet starts it again if that stays. {_advice(case, pod)}",
        )
    if case.link.error == NOT_TRUSTED:
        return no(
            AgentReason.UNREACHABLE,
            f"Pod {name} does not know the operator's signing key ({NOT_TRUSTED}); it gets the new one with a new pod, "
            "which a camera that is paused has to wait for.",
        )
    return no(
        AgentReason.UNREACHABLE,
        f"Pod {name} runs, but does not answer the operator ({case.link.error or 'no connection'}): check "
        f"NetworkPolicies and {_logs(case, pod)}",
    )


def _starting_message(case: AgentCase, pod: Obj) -> str:
    message = f"Pod {pods.name_of(pod)} is starting."
    why = pods.waiting(pod)
    if why.get("reason") == "CreateContainerConfigError" and why.get("message"):
        return f"{message} The kubelet says: {why['message']}"
    if case.credentials and pods.running_since(pod) is None:
        wanted = " and ".join(case.credentials)
        return f"{message} It needs the Secret {wanted} in namespace {case.namespace}."
    return message


def _how_it_ended(pod: Obj) -> str:
    end = pods.last_end(pod)
    if not end:
        return "no reason given"
    return f"exit code {end.get('exitCode', 'unknown')}, {end.get('reason') or 'no reason given'}"


def _advice(case: AgentCase, pod: Obj) -> str:
    if pods.last_end(pod).get("reason") == "OOMKilled":
        return "It had too little memory: raise resources.limits.memory in the CameraClass."
    return f"See {_logs(case, pod)}{' --previous' if pods.last_end(pod) else ''}"


def _logs(case: AgentCase, pod: Obj) -> str:
    return f"kubectl logs -n {case.namespace} {pods.name_of(pod)} -c {CONTAINER}"
