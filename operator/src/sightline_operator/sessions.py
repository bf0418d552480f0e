"""What should be done about one StreamSession: a pure function of facts and the time.

The agent owns a session's live state; the operator copies what matters and ends what nobody holds any more. Budget: a
session costs at most three writes in its life (made, streaming, ended), so `Connecting` is only written when it is the
first thing that is known. `Ended` is final: should an agent still hold an ended session, the agent is told to end it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import CONTROL_PORT, SessionReport
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.conditions import Finding, find, merge
from sightline_model.reasons import (
    PENDING,
    AuthorizedReason,
    ConditionStatus,
    ConditionType,
    ConnectedReason,
    EndReason,
)
from sightline_model.session import SessionPhase, SessionTimestamps, StreamSessionSpec, StreamSessionStatus
from sightline_operator import accept, pods
from sightline_operator.clock import after, seconds_until, soonest
from sightline_operator.facts import AgentView, SessionFacts
from sightline_operator.verdicts import looked_at, sentence

UNKNOWN_TO_AGENT_SECONDS = 5.0
"""On top of the class's connectTimeout: how long a session may be without any agent that knows it."""
CAMERA_GRACE_SECONDS = 5.0
"""How long a new session waits for a camera that the caches may not have yet."""
"""On every session that the front door has made."""


@dataclass(frozen=True, slots=True)
class SessionDecision:
    """What to do about a session."""

    status: StreamSessionStatus | None = None
    """To be written; None: the stored one is good enough."""
    hang_up: tuple[str, ...] = ()
    """Pods whose agents are to end it."""
    reason: EndReason = EndReason.REVOKED
    """What those agents are told."""
    delete_at: datetime | None = None
    """When its retention is over."""
    requeue_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """A session that exists, with everything parsed."""

    facts: SessionFacts
    spec: StreamSessionSpec
    stored: StreamSessionStatus
    created: datetime
    camera_class: CameraClassSpec
    held_by: AgentView | None
    report: SessionReport | None
    now: datetime


@dataclass(frozen=True, slots=True)
class _End:
    reason: EndReason
    message: str
    authorized: bool = True


def decide(facts: SessionFacts, now: datetime) -> SessionDecision:
    """The decision about one session."""
    # Deleted by somebody while it ran: that is how a session is revoked with kubectl.
    if facts.session is None:
        return SessionDecision(hang_up=_holders(facts)) if facts.revoked else SessionDecision()
    stored = stored_status(facts.session)
    camera_class = accept.class_spec_or_default(facts.camera_class)
    # Ended is final; it stays for the retention.
    if stored.phase is SessionPhase.ENDED:
        ended = stored.timestamps.ended or pods.created_at(facts.session) or now
        return SessionDecision(
            hang_up=_holders(facts),
            reason=stored.end_reason or EndReason.REVOKED,
            delete_at=after(min(ended, now), retention(camera_class)),
        )
    spec = accept.session(facts.session)
    # Not something that this version can do.
    if isinstance(spec, str):
        end = _End(EndReason.REJECTED, spec)
        return _ended(_end_of(facts, stored, end, None, now), _holders(facts), camera_class)
    case = _case(facts, spec, stored, camera_class, now)
    # A camera that the caches do not have yet may still come.
    wait = _camera_grace(case)
    if wait > 0:
        return SessionDecision(requeue_after=wait)
    for check in (_camera_gone, _agent_says_ended, _expired, _agent_lost, _never_connected):
        end_now = check(case)
        if end_now is not None:
            return _ended(
                _end_of(facts, stored, end_now, case.report, now, case.held_by), _holders(facts), camera_class
            )
    status = _current(case)
    return SessionDecision(
        status=status if _worth_writing(stored, status) else None,
        requeue_after=soonest(seconds_until(_expires_at(case), now), _connect_wait(case)),
    )


def stored_status(session: Obj) -> StreamSessionStatus:
    """The status as it stands; an unreadable one counts as none."""
    try:
        return StreamSessionStatus.model_validate(session.get("status") or {})
    except ValidationError:
        return StreamSessionStatus()


def answered(session: Obj) -> bool:
    """Whether the operator has written the session's status before."""
    return bool(((session.get("status") or {}).get("timestamps") or {}).get("authorized"))


def camera_of(session: Obj) -> str:
    """The name of the session's camera."""
    return str(((session.get("spec") or {}).get("cameraRef") or {}).get("name") or "")


def retention(camera_class: CameraClassSpec) -> float:
    """How long an ended session of the class stays."""
    return accept.span(camera_class.sessions.retention, 60.0)


def _case(
    facts: SessionFacts,
    spec: StreamSessionSpec,
    stored: StreamSessionStatus,
    camera_class: CameraClassSpec,
    now: datetime,
) -> _Case:
    held_by = _best_holder(facts)
    return _Case(
        facts=facts,
        spec=spec,
        stored=stored,
        created=pods.created_at(facts.session or {"metadata": {}}) or now,
        camera_class=camera_class,
        held_by=held_by,
        report=held_by.link.sessions[facts.name] if held_by else None,
        now=now,
    )


def _best_holder(facts: SessionFacts) -> AgentView | None:
    """The agent that knows the session; one that has it alive before one that has seen its end."""
    holders = [agent for agent in facts.agents if facts.name in agent.link.sessions]
    return min(holders, key=lambda agent: _is_over(agent.link.sessions[facts.name]), default=None)


def _holders(facts: SessionFacts) -> tuple[str, ...]:
    """Pods whose agents say that the session lives."""
    return tuple(
        pods.name_of(agent.pod)
        for agent in facts.agents
        if agent.link.connected and facts.name in agent.link.sessions and not _is_over(agent.link.sessions[facts.name])
    )


def _is_over(report: SessionReport) -> bool:
    return report.phase is SessionPhase.ENDED


def _camera_grace(case: _Case) -> float:
    """Seconds to wait for the camera of a session that has not been looked at before."""
    if case.facts.camera is not None or _seen(case.stored):
        return 0.0
    return seconds_until(after(case.created, CAMERA_GRACE_SECONDS), case.now)


def _seen(stored: StreamSessionStatus) -> bool:
    """Whether the operator has written this status before: a default has no times."""
    return stored.timestamps.authorized is not None


def _camera_gone(case: _Case) -> _End | None:
    camera, name = case.facts.camera, case.spec.camera_ref.name
    if camera is None and not _seen(case.stored):
        return _End(EndReason.CAMERA_DELETED, f"There is no camera {name}.", authorized=False)
    made = pods.created_at(camera) if camera else None
    if camera is None or pods.deleting(camera) or (made is not None and made > case.created):
        return _End(EndReason.CAMERA_DELETED, f"Camera {name} was deleted.")
    return None


def _agent_says_ended(case: _Case) -> _End | None:
    if case.report is None or not _is_over(case.report):
        return None
    return _End(case.report.end_reason or EndReason.HANGUP, sentence(case.report.message))


def _expired(case: _Case) -> _End | None:
    if case.now < _expires_at(case):
        return None
    return _End(EndReason.EXPIRED, "The session's time is over.")


def _agent_lost(case: _Case) -> _End | None:
    """A session that an agent once had, and that no agent has or can have any more."""
    if case.held_by is not None:
        lost = _dead(case.held_by)
    else:
        had = case.stored.phase is not SessionPhase.REQUESTED
        lost = had and not any(_may_hold(agent, case) for agent in case.facts.agents)
    return _End(EndReason.AGENT_LOST, "The agent that had the session is gone.") if lost else None


def _dead(agent: AgentView) -> bool:
    """A pod that has failed, or whose agent is silent and does not run any more."""
    return pods.failed(agent.pod) or (not agent.link.connected and pods.running_since(agent.pod) is None)


def _may_hold(agent: AgentView, case: _Case) -> bool:
    """Whether an agent that is out of hearing may still have a session that was last heard of at its stored times."""
    if agent.link.connected or pods.failed(agent.pod):
        return False
    since = pods.running_since(agent.pod)
    # By its node's clock, which may be ahead; the pod's own age is the API server's word.
    if since is not None and since > case.now:
        since = pods.created_at(agent.pod) or case.now
    heard = max(_moments(case.stored.timestamps), default=None)
    return since is not None and (heard is None or since <= heard)


def _never_connected(case: _Case) -> _End | None:
    left = _connect_wait(case)
    if left is None or left > 0:
        return None
    return _End(EndReason.CONNECT_TIMEOUT, "Nobody connected in time: send the offer to the endpoint at once.")


def _connect_wait(case: _Case) -> float | None:
    """Seconds that are left to a session that no agent has known yet; None when one has. An agent that has to be
    started for it has the camera's startTimeout for that."""
    if case.report is not None or case.stored.phase is not SessionPhase.REQUESTED:
        return None
    patience = accept.span(case.camera_class.defaults.connect_timeout, 20.0) + UNKNOWN_TO_AGENT_SECONDS
    if _waits(case.stored):
        lifecycle = ((case.facts.camera or {}).get("spec") or {}).get("lifecycle") or {}
        patience += accept.span(str(lifecycle.get("startTimeout", "")), 10.0)
    left = seconds_until(after(case.created, patience), case.now)
    return UNKNOWN_TO_AGENT_SECONDS if left <= 0 and _unheard(case) else left


def _unheard(case: _Case) -> bool:
    """Whether somebody may watch without our knowing: the agent was there before the session and is out of hearing, or
    it has not had the time to tell. Ended is final, so an operator that was away must not be hasty."""
    return any(_may_hold(agent, case) or agent.link.fresh(case.now) for agent in case.facts.agents)


def _expires_at(case: _Case) -> datetime:
    if case.spec.expires_at is not None:
        return case.spec.expires_at
    return after(case.created, accept.span(case.camera_class.sessions.max_duration, 12 * 3600.0))


def _current(case: _Case) -> StreamSessionStatus:
    """The status of a session that lives."""
    report = case.report
    phase = report.phase if report else case.stored.phase
    findings = [
        _authorized(case.facts, granted=True),
        _connected(case, phase),
        Finding(type=ConditionType.ENDED, status=ConditionStatus.FALSE, reason=PENDING),
    ]
    generation = _generation(case.facts)
    return StreamSessionStatus(
        observed_generation=generation,
        conditions=merge(looked_at(case.stored.conditions), findings, generation, case.now.replace(microsecond=0)),
        phase=phase,
        endpoint="" if _without_endpoint(case) else _endpoint(case.facts, case.spec.camera_ref.name),
        node=pods.node(case.held_by.pod) if case.held_by else case.stored.node,
        timestamps=_times(case.facts, case.stored, report, case.now),
    )


def _connected(case: _Case, phase: SessionPhase) -> Finding:
    if phase is SessionPhase.STREAMING:
        return Finding(type=ConditionType.CONNECTED, status=ConditionStatus.TRUE, reason=ConnectedReason.STREAMING)
    waits = phase is SessionPhase.REQUESTED and not _answered(case.facts)
    return Finding(
        type=ConditionType.CONNECTED,
        status=ConditionStatus.FALSE,
        reason=ConnectedReason.WAITING_FOR_AGENT if waits else ConnectedReason.CONNECTING,
        message="The camera's agent is being started." if waits else "Send the offer to the endpoint.",
    )


def _waits(stored: StreamSessionStatus) -> bool:
    """Whether it is written that the session waits for an agent."""
    connected = find(stored.conditions, ConditionType.CONNECTED)
    return connected is not None and connected.reason == ConnectedReason.WAITING_FOR_AGENT


def _answered(facts: SessionFacts) -> bool:
    """Whether the camera has an agent that answers."""
    return any(agent.link.connected for agent in facts.agents)


def _without_endpoint(case: _Case) -> bool:
    """Whether there is nothing yet to send an offer to. The front door takes one at any time and keeps it waiting, and
    for the sessions that it makes itself nobody reads the endpoint."""
    labels = (case.facts.session or {})["metadata"].get("labels") or {}
    patient = bool(case.facts.public_url) or names.USER_LABEL in labels
    return not (patient or case.report is not None or case.stored.endpoint or _answered(case.facts))


def _ended(status: StreamSessionStatus, hang_up: tuple[str, ...], camera_class: CameraClassSpec) -> SessionDecision:
    ended = status.timestamps.ended
    return SessionDecision(
        status=status,
        hang_up=hang_up,
        reason=status.end_reason or EndReason.REVOKED,
        delete_at=after(ended, retention(camera_class)) if ended else None,
    )


def _end_of(
    facts: SessionFacts,
    stored: StreamSessionStatus,
    end: _End,
    report: SessionReport | None,
    now: datetime,
    held_by: AgentView | None = None,
) -> StreamSessionStatus:
    """The last status of a session."""
    findings = [
        _authorized(facts, end.authorized),
        Finding(
            type=ConditionType.CONNECTED,
            status=ConditionStatus.FALSE,
            reason=ConnectedReason.DISCONNECTED,
        ),
        Finding(type=ConditionType.ENDED, status=ConditionStatus.TRUE, reason=end.reason, message=end.message),
    ]
    generation = _generation(facts)
    times = _times(facts, stored, report, now)
    ended = report.ended_at if report and report.ended_at else now
    # By the agent's clock, which may be wrong.
    if not (pods.created_at(facts.session or {"metadata": {}}) or now) <= ended <= now:
        ended = now
    return StreamSessionStatus(
        observed_generation=generation,
        conditions=merge(looked_at(stored.conditions), findings, generation, now.replace(microsecond=0)),
        phase=SessionPhase.ENDED,
        end_reason=end.reason,
        message=end.message[:1024],
        endpoint=stored.endpoint or _endpoint(facts, camera_of(facts.session or {})),
        node=pods.node(held_by.pod) if held_by else stored.node,
        timestamps=times.model_copy(update={"ended": ended}),
    )


def _authorized(facts: SessionFacts, granted: bool) -> Finding:
    if not granted:
        return Finding(
            type=ConditionType.AUTHORIZED,
            status=ConditionStatus.FALSE,
            reason=AuthorizedReason.CAMERA_NOT_FOUND,
            message="Name a camera of the session's own namespace in spec.cameraRef.",
        )
    labels = (facts.session or {})["metadata"].get("labels") or {}
    by_front_door = names.USER_LABEL in labels
    return Finding(
        type=ConditionType.AUTHORIZED,
        status=ConditionStatus.TRUE,
        reason=AuthorizedReason.FRONT_DOOR if by_front_door else AuthorizedReason.GRANTED,
        message="The front door has checked the user's right."
        if by_front_door
        else "Made with Kubernetes' own rights.",
    )


def _times(
    facts: SessionFacts, stored: StreamSessionStatus, report: SessionReport | None, now: datetime
) -> SessionTimestamps:
    """The stored times, with those that have become known."""
    before = stored.timestamps
    requested = pods.created_at(facts.session or {"metadata": {}})
    there = now if _answered(facts) else None
    times = SessionTimestamps(
        requested=before.requested or requested,
        authorized=before.authorized or now,
        agent_ready=before.agent_ready or (report.requested_at if report else there),
        answered=before.answered,
        connected=before.connected,
        first_media=before.first_media,
        ended=before.ended,
    )
    if report is None:
        return times
    return times.model_copy(
        update={
            "answered": report.answered_at or before.answered,
            "connected": report.connected_at or before.connected,
            "first_media": report.first_media_at or before.first_media,
        }
    )


def _moments(times: SessionTimestamps) -> Iterable[datetime]:
    known = (times.requested, times.agent_ready, times.answered, times.connected, times.first_media)
    return (moment for moment in known if moment is not None)


def _worth_writing(stored: StreamSessionStatus, status: StreamSessionStatus) -> bool:
    """The budget: the first sight of a session, and the moment when it streams. The end is written in any case; the
    moment when a session that waits for its agent gets an endpoint is one more."""
    if not _seen(stored):
        return True
    if _waits(stored) and status.endpoint and not stored.endpoint:
        return True
    return status.phase is SessionPhase.STREAMING and stored.phase is not SessionPhase.STREAMING


def _endpoint(facts: SessionFacts, camera: str) -> str:
    """Where to send the offer: through the front door if its address is known, else to the agent's Service."""
    profile = ((facts.session or {}).get("spec") or {}).get("profile")
    query = f"?profile={profile}" if profile else ""
    if facts.public_url:
        return f"{facts.public_url.rstrip('/')}/v1/namespaces/{facts.namespace}/cameras/{camera}/whep{query}"
    return f"http://{names.agent_service(camera)}.{facts.namespace}.svc:{CONTROL_PORT}/whep{query}"


def _generation(facts: SessionFacts) -> int:
    return int((facts.session or {"metadata": {}})["metadata"].get("generation") or 0)
