"""The status of a camera: what its conditions, addresses and numbers are, from facts alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import AgentReport, SourceReport
from sightline_model.camera import (
    AgentStatus,
    CameraStatus,
    Phase,
    ProfileStatus,
    PublisherStatus,
    SourceStatus,
)
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.conditions import find, merge
from sightline_model.reasons import (
    AcceptedReason,
    AgentReason,
    ConditionStatus,
    ConditionType,
    NetworkReason,
    SourceReason,
)
from sightline_model.session import SessionPhase, SessionRole
from sightline_operator import build, damping, diagnosis, network, pods, reachable, verdicts
from sightline_operator.accept import AcceptedCamera
from sightline_operator.clock import seconds_until
from sightline_operator.diagnosis import AgentCase
from sightline_operator.facts import CameraFacts, LinkState
from sightline_operator.reachable import NetworkCase
from sightline_operator.verdicts import Parts, Verdict


class _Reader:
    """Reads the status that a camera has. A pass asks for the same one five times; objects do not change."""

    def __init__(self) -> None:
        self._last: tuple[Obj, CameraStatus] = ({}, CameraStatus())

    def stored(self, camera: Obj) -> CameraStatus:
        """The status as it stands; an unreadable one counts as none."""
        if camera is self._last[0]:
            return self._last[1]
        try:
            status = CameraStatus.model_validate(camera.get("status") or {})
        except ValidationError:
            status = CameraStatus()
        self._last = (camera, status)
        return status


stored = _Reader().stored


def of(
    facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, revision: str, now: datetime
) -> tuple[CameraStatus, float | None]:
    """The true status, and in how many seconds it may change by time alone."""
    camera = facts.camera or {}
    before = stored(camera)
    case = agent_case(facts, accepted, standing, now)
    agent = diagnosis.agent(case) if accepted.spec or standing else _not_wanted()
    # What a lost agent said last holds while the loss counts as a blip, and not longer.
    report = case.report if agent.true else None
    wanted = revision or (report.revision if report else "")
    net = network_case(facts, accepted, standing, report is not None and report.revision == wanted)
    reached = reachable.verdict(net)
    if reached.reason == NetworkReason.PORTS_EXHAUSTED and not case.refusal:
        agent = verdicts.no(AgentReason.STARTING, f"No pod can be made. {reached.message}")
    source = verdicts.source(report, wanted)
    streaming = report is not None and any(
        said.reason is SourceReason.STREAMING for said in (report.source, *report.profiles)
    )
    parts = Parts(
        accepted.verdict,
        agent,
        reached,
        source,
        verified=report is not None and report.revision == wanted and report.source.verified,
    )
    ready = verdicts.ready(parts, before.conditions)
    ready = damping.steady(ready, *_trouble(parts, case, report, before), before.conditions, now)
    findings = [
        accepted.verdict.finding(ConditionType.ACCEPTED),
        agent.finding(ConditionType.AGENT_READY),
        parts.network.finding(ConditionType.NETWORK_READY),
        source.finding(ConditionType.SOURCE_READY),
        verdicts.live(streaming).finding(ConditionType.LIVE),
        verdicts.outputs().finding(ConditionType.OUTPUTS_READY),
        ready.finding(ConditionType.READY),
    ]
    generation = int(camera["metadata"].get("generation") or 0)
    status = CameraStatus(
        observed_generation=generation,
        conditions=merge(verdicts.looked_at(before.conditions), findings, generation, now.replace(microsecond=0)),
        phase=_phase(parts, streaming),
        agent=agent_status(standing, report),
        network=reachable.status(net, parts.network.true),
        source=_source(report.source) if report else None,
        profiles=[_profile(said) for said in report.profiles] if report else [],
        viewers=viewers_of(case.link) if report else 0,
        publisher=_publisher(case.link) if report else None,
        live=streaming,
    )
    again = min((verdict.look_again for verdict in (agent, reached, ready) if verdict.look_again), default=None)
    return status, seconds_until(again, now) if again else None


def paused(status: CameraStatus) -> CameraStatus:
    """The status of a camera that somebody has asked to be left alone."""
    words = f"Accepted, and left as it is: the annotation {names.PAUSE_ANNOTATION} is true. Take it away to go on."
    conditions = [
        condition.model_copy(update={"reason": AcceptedReason.PAUSED.value, "message": words})
        if condition.type == ConditionType.ACCEPTED
        else condition
        for condition in status.conditions
    ]
    return status.model_copy(update={"conditions": conditions})


def network_case(facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, told: bool) -> NetworkCase:
    """What NetworkReady is judged by."""
    settings = network.effective(_class(accepted).network, standing)
    way = reachable.reach(facts, settings, standing)
    return NetworkCase(facts, settings, standing, told, stored(facts.camera or {}), way)


def still_holds(camera: Obj, standing: Obj | None, links: Mapping[str, LinkState], now: datetime) -> bool:
    """Whether the stored status says of a pod that its agent answers, and the link to that pod is too new to differ."""
    if standing is None or pods.running_since(standing) is None:
        return False
    before = stored(camera)
    verdict = find(before.conditions, ConditionType.AGENT_READY)
    same_pod = before.agent is not None and before.agent.pod == pods.name_of(standing)
    well = verdict is not None and verdict.status is ConditionStatus.TRUE
    link = links.get(pods.name_of(standing), LinkState())
    return same_pod and well and link.fresh(now)


def while_deleting(facts: CameraFacts, accepted: AcceptedCamera, now: datetime) -> CameraStatus:
    """The last status of a camera that is on its way out."""
    camera = facts.camera or {}
    before = stored(camera)
    generation = int(camera["metadata"].get("generation") or 0)
    kept = [
        accepted.verdict.finding(ConditionType.ACCEPTED),
        verdicts.live(False).finding(ConditionType.LIVE),
        verdicts.deleting().finding(ConditionType.READY),
    ]
    return before.model_copy(
        update={
            "observed_generation": generation,
            "conditions": merge(verdicts.looked_at(before.conditions), kept, generation, now.replace(microsecond=0)),
            "live": False,
        }
    )


def agent_case(facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, now: datetime) -> AgentCase:
    secrets = build.credentials(accepted.spec) if accepted.spec else {}
    return AgentCase(
        namespace=facts.namespace,
        pod=standing,
        link=facts.links.get(pods.name_of(standing), LinkState()) if standing else LinkState(),
        camera_uid=pods.uid_of(facts.camera or {"metadata": {}}),
        refusal=network.explained(facts.refusal, _class(accepted).network.mode),
        now=now,
        credentials=tuple(dict.fromkeys(secrets.values())),
        node=facts.nodes.get(pods.node(standing)) if standing else None,
    )


def _without_since(before: CameraStatus, now: datetime) -> datetime:
    """Since when there is no pod, by what is written: a camera that rested has just been woken."""
    told = find(before.conditions, ConditionType.AGENT_READY)
    if told is None or told.status is ConditionStatus.TRUE or told.reason == AgentReason.SCALED_TO_ZERO:
        return now
    return told.last_transition_time


def _trouble(
    parts: Parts, case: AgentCase, report: AgentReport | None, before: CameraStatus
) -> tuple[str, datetime | None]:
    """Why the camera is not ready, if it is not, and since when."""
    if not parts.agent.true:
        return parts.agent.reason, diagnosis.trouble_since(case) if case.pod else _without_since(before, case.now)
    if not parts.network.true:
        return parts.network.reason, pods.created_at(case.pod) if case.pod else None
    if parts.source.status is ConditionStatus.FALSE:
        return parts.source.reason, case.link.source_failed_at
    return parts.source.reason, report.started_at if report else None


def _class(accepted: AcceptedCamera) -> CameraClassSpec:
    return accepted.camera_class or CameraClassSpec()


def _not_wanted() -> Verdict:
    return verdicts.no(AgentReason.NOT_WANTED, "No agent is made for a camera that is not accepted.")


def _phase(parts: Parts, streaming: bool) -> Phase:
    """One word for people."""
    if not parts.accepted.true:
        return Phase.REFUSED
    if not parts.agent.true:
        return Phase.STARTING if parts.agent.reason == AgentReason.STARTING else Phase.DEGRADED
    if parts.source.status is ConditionStatus.FALSE:
        return Phase.DEGRADED
    if streaming:
        return Phase.STREAMING
    connecting = parts.source.reason == SourceReason.CONNECTING
    return Phase.STARTING if connecting or not parts.network.true else Phase.IDLE


def agent_status(standing: Obj | None, report: AgentReport | None) -> AgentStatus | None:
    if standing is None:
        return None
    return AgentStatus(
        pod=pods.name_of(standing),
        node=pods.node(standing),
        address=pods.address(standing),
        port=network.listens(standing, "control") if pods.address(standing) else 0,
        started_at=report.started_at if report else None,
        version=report.version if report else "",
    )


def _source(said: SourceReport) -> SourceStatus:
    return SourceStatus(
        profile=said.profile,
        video_codec=said.video_codec,
        audio_codec=said.audio_codec,
        width=said.width,
        height=said.height,
        fps=round(said.fps),
        bitrate=_two_digits(said.bitrate),
        keyframe_interval=_interval(said.keyframe_interval),
        last_frame_time=_whole_second(said.last_frame_time),
        running_since=_whole_second(said.running_since),
        reconnects=said.reconnects,
        last_error=said.last_error[:1024],
    )


def _profile(said: SourceReport) -> ProfileStatus:
    return ProfileStatus(
        name=said.profile,
        state=said.reason,
        video_codec=said.video_codec,
        audio_codec=said.audio_codec,
        width=said.width,
        height=said.height,
        last_error=said.last_error[:1024],
    )


def viewers_of(link: LinkState) -> int:
    """Counted from the sessions, which are told at once; the statistics come seconds later."""
    return sum(
        session.role is SessionRole.VIEW and session.phase is SessionPhase.STREAMING
        for session in link.sessions.values()
    )


def _publisher(link: LinkState) -> PublisherStatus | None:
    for session in link.sessions.values():
        if session.role is SessionRole.PUBLISH and session.phase is SessionPhase.STREAMING:
            since = session.connected_at or session.requested_at
            return PublisherStatus(user=session.user, since=since, session_name=session.id)
    return None


def _two_digits(number: int) -> int:
    """The number with two digits exact: a bitrate wobbles, its status should not."""
    size = int("1" + "0" * max(0, len(str(abs(number))) - 2))
    return round(number / size) * size


def _interval(value: float) -> str:
    """Seconds as a duration, exact to a tenth."""
    tenths = round(value * 10)
    if tenths <= 0:
        return ""
    return f"{tenths // 10}s" if tenths % 10 == 0 else f"{tenths * 100}ms"


def _whole_second(moment: Any) -> Any:
    return moment.replace(microsecond=0) if isinstance(moment, datetime) else None
