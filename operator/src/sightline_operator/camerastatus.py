"""The status of a camera: what its conditions, addresses and numbers are, from facts alone."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from sightline_kube.cluster import Obj
from sightline_model.agent import CONTROL_PORT, MEDIA_PORT, AgentReport, SourceReport
from sightline_model.camera import (
    AgentStatus,
    CameraStatus,
    ExternalAddress,
    InternalAddress,
    NetworkStatus,
    Phase,
    PublisherStatus,
    SourceStatus,
)
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.conditions import find, merge
from sightline_model.reasons import AgentReason, ConditionStatus, ConditionType, SourceReason
from sightline_model.session import SessionPhase, SessionRole
from sightline_operator import build, pods, verdicts
from sightline_operator.accept import AcceptedCamera
from sightline_operator.clock import seconds_until
from sightline_operator.facts import CameraFacts, LinkState
from sightline_operator.verdicts import AgentCase, Parts, Verdict


def stored(camera: Obj) -> CameraStatus:
    """The status as it stands; an unreadable one counts as none."""
    try:
        return CameraStatus.model_validate(camera.get("status") or {})
    except ValidationError:
        return CameraStatus()


def of(
    facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, revision: str, now: datetime
) -> tuple[CameraStatus, float | None]:
    """The true status, and in how many seconds it may change by time alone."""
    camera = facts.camera or {}
    before = stored(camera)
    case = _case(facts, accepted, standing, now)
    agent = verdicts.agent(case) if accepted.spec or standing else _not_wanted()
    # What a lost agent said last holds while the loss counts as a blip, and not longer.
    report = case.report if agent.true else None
    wanted = revision or (report.revision if report else "")
    mode = (accepted.camera_class or CameraClassSpec()).network.mode.value
    source = verdicts.source(report, wanted)
    streaming = report is not None and report.source.reason is SourceReason.STREAMING
    parts = Parts(
        accepted.verdict,
        agent,
        verdicts.network(mode, standing),
        source,
        verified=report is not None and report.revision == wanted and report.source.verified,
    )
    ready = verdicts.ready(parts, before.conditions)
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
        agent=_agent(standing, report),
        network=_network(standing, report, mode, accepted.camera_class),
        source=_source(report.source) if report else None,
        viewers=_viewers(case.link) if report else 0,
        publisher=_publisher(case.link) if report else None,
        live=streaming,
    )
    return status, seconds_until(agent.look_again, now) if agent.look_again else None


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


def _case(facts: CameraFacts, accepted: AcceptedCamera, standing: Obj | None, now: datetime) -> AgentCase:
    reference = build.credentials(accepted.spec) if accepted.spec else None
    return AgentCase(
        namespace=facts.namespace,
        pod=standing,
        link=facts.links.get(pods.name_of(standing), LinkState()) if standing else LinkState(),
        camera_uid=pods.uid_of(facts.camera or {"metadata": {}}),
        refusal=facts.refusal,
        now=now,
        credentials=reference.name if reference else "",
    )


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


def _agent(standing: Obj | None, report: AgentReport | None) -> AgentStatus | None:
    if standing is None:
        return None
    return AgentStatus(
        pod=pods.name_of(standing),
        node=pods.node(standing),
        address=pods.address(standing),
        port=CONTROL_PORT if pods.address(standing) else 0,
        started_at=report.started_at if report else None,
        version=report.version if report else "",
    )


def _network(
    standing: Obj | None, report: AgentReport | None, mode: str, camera_class: CameraClassSpec | None
) -> NetworkStatus | None:
    address = pods.address(standing) if standing else ""
    if not address:
        return None
    port = report.media_port if report else MEDIA_PORT
    advertised = camera_class.network.advertise if camera_class else []
    external = [*advertised, *([] if address in advertised else [address])]
    return NetworkStatus(
        mode=mode,
        internal=[InternalAddress(ip=address, port=port)],
        external=[ExternalAddress(ip=ip, port=port) for ip in external],
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


def _viewers(link: LinkState) -> int:
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
