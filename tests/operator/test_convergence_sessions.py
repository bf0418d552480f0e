"""Sessions on the in-memory cluster: what they cost, and every way in which they end."""

import asyncio

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.kinds import STREAM_SESSION
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from sightline_operator.sessions import answered
from tests.operator.looks import phase_is
from tests.operator.virtualtime import now, run, until
from tests.operator.world import World, world


def test_a_session_costs_three_writes() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            here.recording.calls.clear()
            await here.add_session("s-1")
            await here.settled(0.1)
            agent = here.agent()
            for phase in (SessionPhase.CONNECTING, SessionPhase.STREAMING):
                agent.set_session("s-1", phase)
                await here.settled(0.5)
            assert await here.phase("s-1") == "Streaming"
            assert (await here.camera())["status"]["viewers"] in (0, 1)
            await here.settled(12)
            assert (await here.camera())["status"]["viewers"] == 1
            agent.set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            await until(lambda: phase_is(here, "s-1", "Ended"))
            await until(lambda: phase_is(here, "s-1", "absent"), 70)
            writes = [call for call in here.recording.calls if call[1] == "StreamSession"]
            assert [verb for verb, _, _ in writes] == ["replace_status"] * 3 + ["delete"]

    run(main)


def test_a_viewer_of_some_seconds_makes_nobody_look_at_the_camera() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.add_session("s-1")
            await here.settled(20)
            looks = looks_at_cameras(here)
            here.agent().set_session("s-1", SessionPhase.STREAMING)
            await here.settled(3)
            here.agent().set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            await here.settled(20)
            assert looks_at_cameras(here) == looks
            await here.add_session("s-2")
            here.agent().set_session("s-2", SessionPhase.STREAMING)
            await here.settled(6)
            assert looks_at_cameras(here) > looks
            assert (await here.camera())["status"]["viewers"] == 1

    run(main)


def looks_at_cameras(here: World) -> float:
    registry = here.operator.metrics.registry
    count = registry.get_sample_value("controller_runtime_reconcile_time_seconds_count", {"controller": "Camera"})
    assert count is not None
    return count


def test_what_the_operator_writes_makes_it_look_at_nothing() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.add_session("s-1")
            await here.settled(0.1)
            passes = here.operator.metrics.passes.labels("StreamSession", "requeue_after")
            before = passes._value.get()
            here.agent().set_session("s-1", SessionPhase.STREAMING)
            await here.settled(0.5)
            assert await here.phase("s-1") == "Streaming"
            assert passes._value.get() == before + 1
            # Whatever others do to it is looked at.
            await here.cluster.merge_patch(STREAM_SESSION, "default", "s-1", {"metadata": {"labels": {"by": "others"}}})
            await here.settled(0.5)
            assert passes._value.get() == before + 2

    run(main)


def test_a_session_that_nobody_connects_to_times_out() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            made = await here.add_session("s-1")
            assert made["metadata"]["name"] == "s-1"
            await here.settled(1)
            session = await here.session("s-1")
            assert session is not None
            assert session["status"]["endpoint"] == "http://camera-gate.default.svc:8080/whep"
            await until(lambda: phase_is(here, "s-1", "Ended"), 30)
            session = await here.session("s-1")
            assert session is not None
            assert session["status"]["endReason"] == "ConnectTimeout"
            await until(lambda: phase_is(here, "s-1", "absent"), 65)

    run(main)


def test_an_expired_session_is_ended_at_the_agent() -> None:
    async def main() -> None:
        async with world({"sessions": {"maxDuration": "30s"}}) as here:
            await here.start_camera()
            await here.watch("s-1")
            await here.settled(5)
            assert await here.phase("s-1") == "Streaming"
            await until(lambda: phase_is(here, "s-1", "Ended"), 30)
            assert here.agent().ended == [("s-1", EndReason.EXPIRED)]
            await here.settled()
            assert len(here.agent().ended) == 1

    run(main)


def test_a_deleted_session_is_revoked_at_the_agent() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            await here.settled(1)
            await here.cluster.delete(STREAM_SESSION, "default", "s-1")
            await until(lambda: here.agent().ended == [("s-1", EndReason.REVOKED)])

    run(main)


def test_a_session_deleted_while_its_agent_is_out_of_hearing_is_revoked_later() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            await here.settled(1)
            (address,) = here.links.agents
            here.links.disconnect(address)
            await here.cluster.delete(STREAM_SESSION, "default", "s-1")
            await here.settled(3)
            assert here.agent().ended == []
            here.links.connect(address)
            await until(lambda: here.agent().ended == [("s-1", EndReason.REVOKED)])

    run(main)


def test_a_new_session_is_answered_at_once_while_many_others_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server has little CPU: what is under way at the same time takes the longer."""

    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            for number in range(80):
                await here.add_session(f"s-{number}")
            await here.settled(2)
            write, under_way = here.cluster.replace_status, 0

            async def starved(obj: Obj) -> Obj:
                nonlocal under_way
                under_way += 1
                await asyncio.sleep(0.02 * under_way)
                under_way -= 1
                return await write(obj)

            monkeypatch.setattr(here.cluster, "replace_status", starved)
            waits = []
            for number in range(12):
                began = now()
                await here.add_session(f"new-{number}")
                if not number:
                    for other in range(80):
                        here.agent().set_session(f"s-{other}", SessionPhase.STREAMING)
                while not answered(await here.session(f"new-{number}") or {}):
                    await asyncio.sleep(0.005)
                waits.append((now() - began).total_seconds())
            assert max(waits) < 0.1
            assert await here.phase("s-79") == "Requested"
            await until(lambda: phase_is(here, "s-79", "Streaming"), 10)

    run(main)
