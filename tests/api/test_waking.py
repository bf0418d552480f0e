"""Viewers of a camera whose agent rests: parked until it is there, told why when it does not come."""

import asyncio
from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from tests.api.world import OFFER, SDP, VIEWER, WHEP, FakeAgent, World, camera, condition

ACCEPTED = condition("Accepted", "True", "Accepted")
RESTING = [ACCEPTED, condition("AgentReady", "False", "ScaledToZero", "nobody watches")]
STARTING = [ACCEPTED, condition("AgentReady", "False", "Starting", "it starts")]
READY = [ACCEPTED, condition("AgentReady", "True", "Ready")]
SPEC: dict[str, Any] = {"lifecycle": {"scaleToZeroAfter": "1m", "startTimeout": "5s"}}


async def watch(world: World) -> Any:
    return await world.call("POST", WHEP, VIEWER, content=OFFER, headers=SDP)


async def sessions(world: World) -> list[Obj]:
    return (await world.cluster.list(STREAM_SESSION, "default")).items


async def arrived(world: World, count: int = 1) -> None:
    """Wait until so many viewers are parked."""
    async with asyncio.timeout(60):
        while len(await sessions(world)) < count:
            await asyncio.sleep(0)


async def write(world: World, **status: Any) -> None:
    known = await world.cluster.get(CAMERA, "default", "front")
    world.cache.observe(CAMERA, None, await world.cluster.replace_status({**known, "status": status}))


@pytest.mark.parametrize("before", [RESTING, STARTING])
async def test_viewers_wait_until_the_agent_is_there(world: World, before: list[dict[str, Any]]) -> None:
    await world.add(camera(**SPEC), conditions=before)
    waiting = [asyncio.ensure_future(watch(world)) for _ in range(3)]
    await arrived(world, 3)
    # An address alone is not enough: the container may not listen yet.
    await write(world, conditions=STARTING, agent=world.agent_status())
    assert world.agent.calls == []
    await write(world, conditions=READY, agent=world.agent_status())
    assert [(await one).status_code for one in waiting] == [201] * 3
    assert len(world.agent.calls) == 3
    assert world.app.state.door.cameras._waiting == {}


async def test_a_session_wakes_its_camera_before_anybody_opens_it(world: World) -> None:
    await world.add(camera(**SPEC), conditions=RESTING)
    body = {"namespace": "default", "camera": "front"}
    response = await world.call("POST", "/v1/sessions", VIEWER, json=body)
    assert response.status_code == 201
    assert len(await sessions(world)) == 1


async def test_an_agent_that_does_not_come_is_told_and_leaves_no_session(world: World) -> None:
    short: dict[str, Any] = {"lifecycle": {"scaleToZeroAfter": "1m", "startTimeout": "100ms"}}
    await world.add(camera(**short), conditions=RESTING)
    response = await watch(world)
    assert (response.status_code, response.json()["code"]) == (503, "camera-not-ready")
    assert response.json()["detail"] == "nobody watches"
    assert "Retry-After" in response.headers
    await world.app.state.door.recorder.idle()
    assert await sessions(world) == []
    assert world.app.state.door.cameras._waiting == {}


async def test_why_an_agent_cannot_start_ends_the_wait(world: World) -> None:
    await world.add(camera(**SPEC), conditions=RESTING)
    waiting = asyncio.ensure_future(watch(world))
    await arrived(world)
    await write(world, conditions=[ACCEPTED, condition("AgentReady", "False", "QuotaExceeded", "no room")])
    response = await waiting
    assert (response.status_code, response.json()["detail"]) == (503, "no room")


async def test_a_camera_that_is_deleted_meanwhile_ends_the_wait(world: World) -> None:
    await world.add(camera(**SPEC), conditions=RESTING)
    waiting = asyncio.ensure_future(watch(world))
    await arrived(world)
    await world.cluster.delete(CAMERA, "default", "front")
    assert (await waiting).json()["code"] == "camera-not-found"


async def test_a_session_at_the_agent_before_is_found(world: World) -> None:
    await world.add_running()
    location = (await watch(world)).headers["Location"].removeprefix("http://door.test")
    (sid,) = world.agent.live
    async with FakeAgent().running() as successor:
        agent = {"pod": "camera-front-new", "address": successor.address, "port": successor.port}
        await write(world, conditions=READY, agent=agent, formerAgents=[world.agent_status()])
        assert (await watch(world)).status_code == 201
        assert [call.method for call in successor.calls] == ["POST"]
        assert (await world.call("DELETE", location)).status_code == 200
        assert sid not in world.agent.live
        gone = await world.call("DELETE", location)
        assert (gone.status_code, gone.json()["code"]) == (404, "session-not-found")


async def test_a_session_at_the_agent_before_is_found_while_the_one_after_it_does_not_answer(world: World) -> None:
    await world.add_running()
    location = (await watch(world)).headers["Location"].removeprefix("http://door.test")
    silent = {"pod": "camera-front-new", "address": "127.0.0.1", "port": 1}
    await write(world, conditions=READY, agent=silent, formerAgents=[world.agent_status()])
    assert (await world.call("DELETE", location)).status_code == 200
    # Whether the silent one has it nobody knows.
    unknown = await world.call("DELETE", location)
    assert (unknown.status_code, unknown.json()["code"]) == (503, "agent-unavailable")


async def test_an_agent_that_leaves_as_the_viewer_comes_is_waited_for(world: World) -> None:
    gone = {"pod": "camera-front-old", "address": "127.0.0.1", "port": 1}
    await world.add(camera(**SPEC), conditions=READY, agent=gone)
    real = world.app.state.door.watcher._agents.send

    async def send(base: Any, request: Any) -> Any:
        if base.port == 1:
            await write(world, conditions=RESTING)
            asyncio.get_running_loop().call_later(0.01, later.set)
        return await real(base, request)

    later = asyncio.Event()
    world.app.state.door.watcher._agents.send = send
    waiting = asyncio.ensure_future(watch(world))
    await later.wait()
    await write(world, conditions=READY, agent=world.agent_status())
    assert (await waiting).status_code == 201
