"""What a blip is, and that the summary does not flip for one."""

import asyncio

import pytest

from sightline_model.conditions import Condition
from sightline_model.reasons import AgentReason, ConditionStatus, SourceReason
from sightline_operator import damping, verdicts
from sightline_operator.decide import decide
from tests.operator.samples import NOW, ago, camera, link, report, text, well
from tests.operator.virtualtime import run, until
from tests.operator.world import world

BEFORE = Condition(type="Ready", status=ConditionStatus.TRUE, reason="Ready", message="m", last_transition_time=ago(60))
TROUBLE = verdicts.no("AgentNotReady", "gone")


@pytest.mark.parametrize(
    ("cause", "age", "status"),
    [
        (AgentReason.AGENT_ENDED, 0.0, "True"),
        (AgentReason.AGENT_ENDED, 4.9, "True"),
        (AgentReason.AGENT_ENDED, 5.0, "False"),
        (AgentReason.STARTING, 1.0, "True"),
        (AgentReason.UNREACHABLE, 4.0, "True"),
        (AgentReason.CRASH_LOOP, 1.0, "False"),
        (AgentReason.IMAGE_PULL_FAILED, 1.0, "False"),
        (AgentReason.QUOTA_EXCEEDED, 1.0, "False"),
        (AgentReason.NOT_WANTED, 1.0, "False"),
        (SourceReason.STALLED, 4.0, "True"),
        (SourceReason.STALLED, 6.0, "False"),
        # By the clock of a node, which may be ahead: a little does no harm, and more must not hide a trouble.
        (SourceReason.CONNECTING, -4.0, "True"),
        (SourceReason.CONNECTING, -3600.0, "False"),
        (SourceReason.AUTHENTICATION_FAILED, 1.0, "False"),
        (SourceReason.CODEC_UNSUPPORTED, 1.0, "False"),
    ],
)
def test_only_young_trouble_that_may_pass_is_held_back(cause: str, age: float, status: str) -> None:
    told = damping.steady(TROUBLE, cause, ago(age), [BEFORE], NOW)
    assert told.status.value == status
    if status == "True":
        assert (told.reason, told.message) == ("Ready", "m")
        assert told.look_again == ago(age - 5.0)
    else:
        assert told == TROUBLE


def test_what_was_not_ready_stays_so() -> None:
    unready = BEFORE.model_copy(update={"status": ConditionStatus.FALSE})
    for previous in ([], [unready]):
        assert damping.steady(TROUBLE, AgentReason.AGENT_ENDED, NOW, previous, NOW) == TROUBLE


def test_trouble_of_unknown_age_is_told() -> None:
    assert damping.steady(TROUBLE, AgentReason.STARTING, None, [BEFORE], NOW) == TROUBLE


@pytest.mark.parametrize(("failed", "status"), [(ago(1), "True"), (ago(9), "False"), (None, "False")])
def test_a_source_that_stalls_shortly(failed: object, status: str) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": text(ago(60))}
    said = link(report=report(SourceReason.STALLED, message="no picture"), source_failed_at=failed)
    decision = decide(well(links={"camera-gate-one": said}, camera=camera(status={"conditions": [ready]})), NOW)
    assert decision.status
    told = {item.type: item.status.value for item in decision.status.conditions}
    assert told["SourceReady"] == "False"
    assert told["Ready"] == status
    assert decision.requeue_after == (pytest.approx(4.0) if status == "True" else None)


def test_a_container_that_is_back_at_once_and_a_stall_are_no_news() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            since = (await here.camera())["status"]["conditions"][-1]["lastTransitionTime"]
            (one,) = await here.pods()
            await here.kubelet.crash("default", one["metadata"]["name"])
            await here.settled(20)
            here.agent().set_source(SourceReason.STALLED)
            await asyncio.sleep(3)
            here.agent().set_source(SourceReason.STREAMING)
            await here.settled(20)
            last = (await here.camera())["status"]["conditions"][-1]
            assert (last["type"], last["status"], last["lastTransitionTime"]) == ("Ready", "True", since)
            here.agent().set_source(SourceReason.STALLED)
            await asyncio.sleep(4)
            assert await here.is_ready()
            await asyncio.sleep(3)
            assert not await here.is_ready()

    run(main)


def test_sessions_of_an_agent_that_ended_are_told_at_once() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            await here.settled()
            (one,) = await here.pods()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await here.kubelet.crash("default", one["metadata"]["name"])

            async def ended() -> bool:
                return await here.phase("s-1") == "Ended"

            await until(ended)
            assert loop.time() - began < 3
            assert await here.is_ready()

    run(main)
