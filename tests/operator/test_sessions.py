"""The decision about one session, case by case."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_kube.cluster import Obj
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase, StreamSessionStatus
from sightline_operator.facts import AgentView, LinkState, SessionFacts
from sightline_operator.sessions import SessionDecision, decide
from tests.operator.samples import (
    NOW,
    ago,
    camera,
    camera_class,
    link,
    pod,
    running,
    session,
    session_facts,
    session_report,
    text,
)

CONNECTING, STREAMING, ENDED = SessionPhase.CONNECTING, SessionPhase.STREAMING, SessionPhase.ENDED


def agent(*known: Any, **changes: Any) -> AgentView:
    return AgentView(pod(age=120), link(*known, **changes))


def status_of(decision: SessionDecision) -> StreamSessionStatus:
    assert decision.status
    return decision.status


def stored(phase: SessionPhase, age: float = 5.0, **more: Any) -> dict[str, Any]:
    """A status as the operator has written it before."""
    times = {"requested": text(ago(age + 5)), "authorized": text(ago(age + 5)), "connected": text(ago(age))}
    return {"phase": phase.value, "timestamps": times, "observedGeneration": 1, **more}


def conditions(status: StreamSessionStatus) -> dict[str, tuple[str, str]]:
    return {item.type: (item.status.value, item.reason) for item in status.conditions}


def test_the_first_look_gives_an_endpoint() -> None:
    decision = decide(session_facts(agent()), NOW)
    status = status_of(decision)
    assert status.endpoint == "http://camera-gate.site.svc:8080/whep"
    assert status.phase is SessionPhase.REQUESTED
    assert conditions(status) == {
        "Authorized": ("True", "FrontDoor"),
        "Connected": ("False", "Connecting"),
        "Ended": ("False", "Pending"),
    }
    assert decision.requeue_after == pytest.approx(15.0)


def test_a_public_address_comes_before_the_service() -> None:
    given = session_facts(agent(), public_url="https://watch.example/")
    assert status_of(decide(given, NOW)).endpoint == "https://watch.example/v1/namespaces/site/cameras/gate/whep"


def test_the_endpoint_names_the_quality() -> None:
    made = session()
    made["spec"]["profile"] = "sd"
    assert status_of(decide(session_facts(agent(), session=made), NOW)).endpoint.endswith("/whep?profile=sd")


def test_a_session_made_with_kubectl_is_granted_by_kubernetes() -> None:
    made = session()
    made["metadata"]["labels"] = {}
    assert conditions(status_of(decide(session_facts(session=made), NOW)))["Authorized"] == ("True", "Granted")


@pytest.mark.parametrize(
    ("before", "reported", "written"),
    [
        ({}, None, SessionPhase.REQUESTED),
        ({}, CONNECTING, CONNECTING),
        ({}, STREAMING, STREAMING),
        (stored(SessionPhase.REQUESTED), CONNECTING, None),
        (stored(SessionPhase.REQUESTED), STREAMING, STREAMING),
        (stored(CONNECTING), CONNECTING, None),
        (stored(CONNECTING), STREAMING, STREAMING),
        (stored(STREAMING), STREAMING, None),
        (stored(STREAMING), ENDED, ENDED),
        (stored(SessionPhase.REQUESTED), ENDED, ENDED),
        ({}, ENDED, ENDED),
    ],
)
def test_what_is_written(before: dict[str, Any], reported: SessionPhase | None, written: SessionPhase | None) -> None:
    known = (session_report(reported, EndReason.HANGUP if reported is ENDED else None),) if reported else ()
    decision = decide(session_facts(agent(*known), session=session(before)), NOW)
    assert (decision.status.phase if decision.status else None) == written
    if written is STREAMING:
        status = status_of(decision)
        assert status.node == "node-1"
        assert status.timestamps.connected == ago(3)
        assert conditions(status)["Connected"] == ("True", "Streaming")


def gone_camera(**changes: Any) -> dict[str, Any]:
    return {"session": session(stored(STREAMING)), "camera": None, **changes}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (session_facts(agent(session_report(ENDED, EndReason.IDLE))), EndReason.IDLE),
        (session_facts(agent(session_report(ENDED))), EndReason.HANGUP),
        (session_facts(agent(), session=session(age=26)), EndReason.CONNECT_TIMEOUT),
        (
            session_facts(
                agent(), session=session(age=11), camera_class=camera_class({"defaults": {"connectTimeout": "5s"}})
            ),
            EndReason.CONNECT_TIMEOUT,
        ),
        (session_facts(**gone_camera()), EndReason.CAMERA_DELETED),
        (session_facts(**gone_camera(camera=camera(deletionTimestamp=text(NOW)))), EndReason.CAMERA_DELETED),
        (session_facts(**gone_camera(camera=camera(creationTimestamp=text(ago(1))))), EndReason.CAMERA_DELETED),
        (session_facts(camera=None, session=session(age=6)), EndReason.CAMERA_DELETED),
        # No pod is left.
        (session_facts(session=session(stored(STREAMING))), EndReason.AGENT_LOST),
        # The same pod, another process: its snapshot does not have the session.
        (session_facts(agent(), session=session(stored(STREAMING))), EndReason.AGENT_LOST),
        # A pod that has come after the session was last heard of.
        (
            session_facts(AgentView(pod(age=1), LinkState()), session=session(stored(STREAMING, age=60), age=120)),
            EndReason.AGENT_LOST,
        ),
        # A pod that has failed with the session in it.
        (
            session_facts(
                AgentView(pod(status={"phase": "Failed"}), link(session_report(STREAMING), connected=False)),
                session=session(stored(STREAMING)),
            ),
            EndReason.AGENT_LOST,
        ),
        (session_facts(session=session(role="Publish")), EndReason.REJECTED),
        (session_facts(session=session(user="")), EndReason.REJECTED),
    ],
)
def test_what_ends_a_session(given: SessionFacts, reason: EndReason) -> None:
    decision = decide(given, NOW)
    status = status_of(decision)
    assert (status.phase, status.end_reason) == (ENDED, reason)
    assert conditions(status)["Ended"] == ("True", reason.value)
    assert conditions(status)["Connected"] == ("False", "Disconnected")
    assert status.timestamps.ended == NOW
    assert decision.delete_at == ago(-60)


def test_a_camera_that_never_was() -> None:
    status = status_of(decide(session_facts(camera=None, session=session(age=6)), NOW))
    assert conditions(status)["Authorized"] == ("False", "CameraNotFound")


def test_a_camera_that_may_still_come_is_waited_for() -> None:
    decision = decide(session_facts(camera=None, session=session(age=1)), NOW)
    assert decision.status is None
    assert decision.requeue_after == pytest.approx(4.0)


@pytest.mark.parametrize(
    "view",
    [
        # Out of hearing, but its container was there when the session was last heard of.
        AgentView(pod(age=120), link(connected=False, sessions={})),
        AgentView(pod(age=120), LinkState()),
        # The stream broke a moment ago.
        AgentView(pod(age=120), link(session_report(STREAMING), connected=False)),
    ],
)
def test_an_agent_that_may_have_the_session_is_waited_for(view: AgentView) -> None:
    decision = decide(session_facts(view, session=session(stored(STREAMING))), NOW)
    assert decision.status is None
    assert decision.requeue_after is not None
    assert decision.requeue_after > 60


@pytest.mark.parametrize(
    ("view", "before"),
    [
        # The operator was away when the session was made, and has not been told by the agent yet.
        (AgentView(pod(age=120), LinkState()), {}),
        (AgentView(pod(age=120), link(connected=False)), stored(SessionPhase.REQUESTED, age=40)),
        # Likewise, at a node whose clock is ahead.
        (AgentView(pod(age=120, status=running(-3000)), LinkState()), stored(SessionPhase.REQUESTED, age=40)),
        # The agent was started for the session, and the operator a moment ago.
        (AgentView(pod(age=20), LinkState(followed_at=ago(1))), stored(SessionPhase.REQUESTED, age=40)),
    ],
)
def test_a_session_that_nobody_has_told_of_is_kept_while_its_agent_is_out_of_hearing(
    view: AgentView, before: dict[str, Any]
) -> None:
    decision = decide(session_facts(view, session=session(before, age=60)), NOW)
    assert decision.status is None or decision.status.phase is SessionPhase.REQUESTED
    assert decision.requeue_after == pytest.approx(5.0)


def test_an_agent_that_was_started_for_a_session_and_says_nothing_is_not_waited_for() -> None:
    view = AgentView(pod(age=20), link(connected=False, report=None))
    before = stored(SessionPhase.REQUESTED, age=40)
    decision = decide(session_facts(view, session=session(before, age=60)), NOW)
    assert status_of(decision).end_reason is EndReason.CONNECT_TIMEOUT


@pytest.mark.parametrize(
    "more", [{"spec": {"expiresAt": text(ago(1))}}, {"class": {"sessions": {"maxDuration": "5s"}}}]
)
def test_an_expired_session_is_ended_here_and_there(more: dict[str, Any]) -> None:
    decision = decide(
        session_facts(
            agent(session_report(STREAMING)),
            session=session(stored(STREAMING), **more.get("spec", {})),
            camera_class=camera_class(more.get("class")),
        ),
        NOW,
    )
    assert status_of(decision).end_reason is EndReason.EXPIRED
    assert (decision.hang_up, decision.reason) == (("camera-gate-one",), EndReason.EXPIRED)


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_an_agent_whose_clock_is_wrong_keeps_no_ended_session_for_long_and_none_goes_unread(skew: float) -> None:
    said = session_report(SessionPhase.ENDED, EndReason.HANGUP).model_copy(update={"ended_at": ago(-skew)})
    decision = decide(session_facts(AgentView(pod(), link(said))), NOW)
    assert decision.status is not None
    assert decision.status.timestamps.ended == NOW
    assert decision.delete_at == ago(-60)
    # Nor does one whose end was written so by somebody else.
    stored = {**decision.status.to_wire(), "timestamps": {"ended": text(ago(-86400))}}
    assert decide(session_facts(session=session(stored)), NOW).delete_at == ago(-60)


def test_an_ended_session_is_only_deleted() -> None:
    before = stored(ENDED, endReason="Hangup")
    before["timestamps"]["ended"] = text(ago(10))
    decision = decide(session_facts(agent(), session=session(before)), NOW)
    assert decision == SessionDecision(reason=EndReason.HANGUP, delete_at=ago(-50))
    class_spec = {"sessions": {"retention": "10s"}}
    short = session_facts(agent(), session=session(before), camera_class=camera_class(class_spec))
    assert decide(short, NOW).delete_at == NOW


def test_an_agent_that_still_has_an_ended_session_is_told() -> None:
    given = session_facts(agent(session_report(STREAMING)), session=session(stored(ENDED, endReason="AgentLost")))
    decision = decide(given, NOW)
    assert decision.status is None
    assert (decision.hang_up, decision.reason) == (("camera-gate-one",), EndReason.AGENT_LOST)


def test_a_deleted_session_is_revoked() -> None:
    known = agent(session_report(STREAMING))
    assert decide(session_facts(known, session=None, revoked=True), NOW).hang_up == ("camera-gate-one",)
    assert decide(session_facts(known, session=None), NOW) == SessionDecision()


def test_an_agent_that_moves_its_session_is_followed() -> None:
    old = AgentView(pod("old", running(200)), link(session_report(ENDED, EndReason.AGENT_LOST)))
    new = AgentView(pod("new"), link(session_report(STREAMING)))
    assert status_of(decide(session_facts(old, new), NOW)).phase is STREAMING


moments = st.sampled_from([ago(100), ago(30), ago(5), NOW])
phases = st.sampled_from([None, CONNECTING, STREAMING, ENDED])


@given(
    before=st.sampled_from([None, *SessionPhase]),
    reported=phases,
    connected=st.booleans(),
    has_camera=st.booleans(),
    age=st.sampled_from([1, 10, 40]),
    now=moments,
)
def test_three_writes_at_most_whatever_happens(
    before: SessionPhase | None,
    reported: SessionPhase | None,
    connected: bool,
    has_camera: bool,
    age: int,
    now: datetime,
) -> None:
    """From any state: whatever is written moves the session on, and writing the same again never happens."""
    known = (session_report(reported, EndReason.HANGUP if reported is ENDED else None),) if reported else ()
    made: Obj = session(stored(before) if before else {}, age=age)
    facts = session_facts(agent(*known, connected=connected), session=made, camera=camera() if has_camera else None)
    decision = decide(facts, now)
    if decision.status is None:
        return
    assert before is not ENDED
    order = [SessionPhase.REQUESTED, CONNECTING, STREAMING, ENDED]
    if before is not None:
        assert order.index(decision.status.phase) > order.index(before)
    written = {**made, "status": decision.status.to_wire()}
    again = decide(session_facts(*facts.agents, session=written, camera=facts.camera), now)
    assert again.status is None
