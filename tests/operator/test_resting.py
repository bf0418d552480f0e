"""Scale to zero: when a camera gives its pod back, what is told of it, and what brings the pod again."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD
from sightline_model.camera import CameraStatus
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_operator.decide import Decision, decide
from sightline_operator.facts import CameraFacts, LinkState
from tests.operator.looks import has_pods, phase_is, reason_is
from tests.operator.samples import NOW, ago, camera, children, facts, link, pod, report, session_report, text, well
from tests.operator.virtualtime import now, run, until
from tests.operator.world import World, default_class, world

SOURCE = {"rtsp": {"url": "rtsp://camera.example/one"}}
WHY = "Why. Look at the camera and the network; the agent connects again by itself."


def spec(after: str = "1m", **more: Any) -> dict[str, Any]:
    return {"source": SOURCE, "lifecycle": {"scaleToZeroAfter": after, **more}}


def resting(heard: LinkState, status: dict[str, Any] | None = None, **changes: Any) -> CameraFacts:
    """A camera that may rest, with one pod."""
    wish = changes.pop("spec", spec())
    given = well(camera=camera(wish, status=status), links={"camera-gate-one": heard}, **changes)
    return replace(given, **children(given))


def told(decision: Decision) -> dict[str, tuple[str, str]]:
    assert decision.status
    return {item.type: (item.status.value, item.reason) for item in decision.status.conditions}


def asleep(source: SourceReason = SourceReason.IDLE) -> CameraStatus:
    status = decide(resting(link(report=report(source, message="why"), idle_since=ago(61))), NOW).status
    assert status
    return status


@pytest.mark.parametrize(
    ("wish", "heard", "demand", "rests", "again"),
    [
        (spec(), link(idle_since=ago(59)), False, False, 1.0),
        (spec(), link(idle_since=ago(60)), False, True, None),
        (spec(), link(idle_since=ago(60)), True, False, 60.0),
        (spec(), link(session_report(SessionPhase.STREAMING), idle_since=ago(60)), False, False, 60.0),
        (spec(), link(session_report(SessionPhase.CONNECTING), idle_since=ago(60)), False, False, 60.0),
        (spec(), link(session_report(SessionPhase.ENDED, EndReason.HANGUP), idle_since=ago(60)), False, True, None),
        (spec("Never"), link(idle_since=ago(9999)), False, False, None),
        (spec(start="Always"), link(idle_since=ago(9999)), False, False, 5.0),  # the agent is told of it
        (spec(), link(report=report(SourceReason.CONNECTING), idle_since=ago(60)), False, False, 60.0),
        (spec(), link(connected=False, idle_since=ago(9999)), False, False, None),
        (spec(), link(idle_since=None), False, False, 60.0),
    ],
)
def test_when_a_camera_rests(
    wish: dict[str, Any], heard: LinkState, demand: bool, rests: bool, again: float | None
) -> None:
    decision = decide(resting(heard, spec=wish, demand=demand), NOW)
    assert (told(decision)["AgentReady"][1] == "ScaledToZero") is rests
    assert decision.requeue_after == again
    assert decision.delete == ()  # the status comes first


def test_what_is_told_of_a_camera_that_rests() -> None:
    status = asleep()
    rows = {item.type: (item.status.value, item.reason) for item in status.conditions}
    assert rows["AgentReady"] == ("False", "ScaledToZero")
    assert rows["NetworkReady"] == ("Unknown", "ScaledToZero")
    assert rows["SourceReady"] == ("True", "Idle")
    assert rows["Live"] == ("False", "NotStreaming")
    assert rows["Ready"] == ("True", "ScaledToZero")
    assert (status.agent, status.phase.value, status.viewers) == (None, "Idle", 0)


def test_a_source_that_fails_keeps_the_camera_from_being_ready() -> None:
    rows = {
        item.type: (item.status.value, item.reason, item.message) for item in asleep(SourceReason.STALLED).conditions
    }
    assert rows["SourceReady"] == ("False", "Stalled", WHY)
    assert rows["Ready"] == ("False", "SourceNotReady", WHY)


def test_the_pod_goes_when_the_status_says_so_and_nothing_comes_after() -> None:
    stored = asleep().to_wire()
    decision = decide(resting(link(idle_since=ago(61)), stored), NOW)
    assert [item.name for item in decision.delete] == ["camera-gate-one"]
    assert decision.status == asleep()
    for gone in ((), (pod(deletionTimestamp=text(NOW)),)):
        after = decide(resting(LinkState(), stored, pods=gone), NOW + timedelta(hours=1))
        assert (after.delete, after.new_pod, after.requeue_after) == ((), (), None)
        assert after.status == asleep()


@pytest.mark.parametrize(
    "changes",
    [
        {"demand": True},
        {"spec": spec("Never")},
        {"spec": spec(start="Always")},
    ],
)
def test_what_wakes_it(changes: dict[str, Any]) -> None:
    decision = decide(resting(LinkState(), asleep().to_wire(), pods=(), **changes), NOW)
    assert [obj["kind"] for obj in decision.new_pod][-1:] == ["Pod"]
    assert told(decision)["AgentReady"] == ("False", "Starting")
    assert told(decision)["Ready"] == ("True", "ScaledToZero")  # a start is a blip, not a trouble


def test_an_edited_camera_is_tried() -> None:
    given = facts(camera=camera(spec(), status=asleep().to_wire(), generation=2))
    assert decide(given, NOW).new_pod


def test_a_lost_status_is_no_rest() -> None:
    assert decide(facts(camera=camera(spec())), NOW).new_pod


@pytest.mark.parametrize("source", [SourceReason.IDLE, SourceReason.STALLED])
def test_a_camera_that_is_refused_for_a_while_keeps_resting(source: SourceReason) -> None:
    """Its class goes and comes again: the status that says both that it rests and that it is refused wakes nobody."""
    rests = asleep(source)
    away = replace(resting(LinkState(), rests.to_wire(), pods=()), camera_class=None)
    refused = decide(away, NOW).status
    assert refused
    rows = {item.type: (item.status.value, item.reason) for item in refused.conditions}
    assert rows["Accepted"] == ("False", "ClassNotFound")
    assert rows["AgentReady"] == ("False", "ScaledToZero")
    assert rows["Ready"] == ("False", "NotAccepted")
    assert refused.phase.value == "Refused"
    # Nobody is told that a viewer brings the agent back.
    said = {item.type: item.message for item in refused.conditions}
    assert said["AgentReady"] == "No agent is made for a camera that is not accepted; before that nobody watched it."
    assert decide(replace(away, camera=camera(spec(), status=refused.to_wire())), NOW).status == refused
    again = decide(resting(LinkState(), refused.to_wire(), pods=()), NOW)
    assert (again.new_pod, again.status) == ((), rests)
    # A viewer who came meanwhile has not been forgotten, and neither is an edit.
    assert decide(resting(LinkState(), refused.to_wire(), pods=(), demand=True), NOW).new_pod
    edited = camera(spec(), status=refused.to_wire(), generation=2)
    assert decide(facts(camera=edited), NOW).new_pod


def test_a_camera_that_is_edited_while_it_is_refused_rests_no_more() -> None:
    edited = camera(spec(), status=asleep().to_wire(), generation=2)
    refused = decide(facts(camera=edited, camera_class=None), NOW)
    assert told(refused)["AgentReady"] == ("False", "NotWanted")


async def _resting(here: World) -> bool:
    return await reason_is(here, "AgentReady", "ScaledToZero") and not await here.pods()


def test_a_camera_rests_wakes_for_a_session_and_rests_again() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: _resting(here))
            assert 25 < loop.time() - began < 35
            assert await here.is_ready()
            here.recording.calls.clear()
            await here.settled(700)
            assert here.recording.calls == []
            await here.add_session("s-1")
            await until(lambda: has_pods(here), 1)
            await until(lambda: reason_is(here, "AgentReady", "Ready"), 3)
            assert await here.is_ready()
            here.agent().set_session("s-1", SessionPhase.STREAMING)
            await until(lambda: phase_is(here, "s-1", "Streaming"))
            await here.settled(100)
            assert await here.pods()
            here.agent().set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            began = loop.time()
            await until(lambda: _resting(here))
            assert 29 < loop.time() - began < 35

    run(main)


def test_another_operator_leaves_a_resting_camera_at_rest() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            await until(lambda: _resting(here))
            await here.settled()
            await here.restart()
            here.recording.calls.clear()
            await here.settled(400)
            assert here.recording.calls == []
            assert await here.pods() == []

    run(main)


def test_cameras_that_rest_are_not_started_when_their_class_comes_again() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            await until(lambda: _resting(here))
            await here.settled()
            await here.cluster.delete(CAMERA_CLASS, None, "default")
            await until(lambda: reason_is(here, "Accepted", "ClassNotFound"))
            await here.settled()
            await here.restart()
            await here.settled()
            here.recording.calls.clear()
            await here.cluster.create(default_class())
            await until(here.is_ready)
            await here.settled(400)
            assert here.recording.count("apply", "Pod") == 0
            assert await _resting(here)
            await here.add_session("s-1")
            await until(lambda: reason_is(here, "AgentReady", "Ready"), 10)

    run(main)


def test_a_session_that_nobody_opens_lets_the_camera_rest_again() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            await until(lambda: _resting(here))
            await here.add_session("s-1")
            await until(lambda: has_pods(here), 1)
            await until(lambda: phase_is(here, "s-1", "Ended"))
            await until(lambda: _resting(here), 60)

    run(main)


def test_a_session_made_with_kubectl_waits_for_its_endpoint() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            await until(lambda: _resting(here))
            here.kubelet.start_seconds = 4.0
            await here.add_session("s-1")
            await asyncio.sleep(1)
            session = await here.session("s-1")
            assert session is not None
            connected = next(item for item in session["status"]["conditions"] if item["type"] == "Connected")
            assert (connected["reason"], session["status"].get("endpoint")) == ("WaitingForAgent", "")
            assert session["status"]["timestamps"].get("agentReady") is None

            async def endpoint() -> str:
                return str(((await here.session("s-1")) or {})["status"].get("endpoint") or "")

            async def known() -> bool:
                return bool(await endpoint())

            await until(known, 10)
            assert await endpoint() == "http://camera-gate.default.svc:8080/whep"
            session = await here.session("s-1")
            assert session is not None
            times = session["status"]["timestamps"]
            assert times["requested"] < times["agentReady"] <= now().isoformat()

    run(main)


def test_a_viewer_who_comes_while_the_pod_goes_gets_another_one() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera(lifecycle={"scaleToZeroAfter": "30s"})
            (one,) = await here.pods()
            await until(lambda: reason_is(here, "AgentReady", "ScaledToZero"))
            await here.add_session("s-1")
            await until(lambda: reason_is(here, "AgentReady", "Ready"), 10)
            await here.settled()
            (other,) = await here.pods()
            assert other["metadata"]["name"] != one["metadata"]["name"]
            await here.cluster.delete(CAMERA, "default", "gate")
            await here.settled()
            assert (await here.cluster.list(POD, "default")).items == []

    run(main)
