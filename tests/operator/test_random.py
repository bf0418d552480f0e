"""Whatever happens, and whenever the operator dies, the world comes right once it is left in peace."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline_kube.cluster import Obj
from sightline_kube.errors import ClusterError, ConflictError, NotFoundError, UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, SECRET, SERVICE, STREAM_SESSION, Kind
from sightline_model import names
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_operator import pods, sparepods
from sightline_operator.facts import Options
from tests.operator.virtualtime import run, until
from tests.operator.world import OPTIONS, World, decoded, evicted_status, world

CAMERAS = ("gate", "yard")
WARM = replace(OPTIONS, spare_namespaces=frozenset({"default"}))
REFUSED = [{"name": "tv", "srt": {"url": "srt://host:1"}}]
Action = Callable[[World, str], Awaitable[None]]


async def add(here: World, name: str) -> None:
    await here.add_camera(name)


async def remove(here: World, name: str) -> None:
    await here.cluster.delete(CAMERA, "default", name)


async def edit_url(here: World, name: str) -> None:
    url = f"rtsp://camera.example/{len(here.recording.calls)}"
    await here.cluster.merge_patch(CAMERA, "default", name, {"spec": {"source": {"rtsp": {"url": url}}}})


async def edit_image(here: World, name: str) -> None:
    image = f"agent:{len(here.recording.calls)}"
    await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"agent": {"image": image}}})


async def refuse(here: World, name: str) -> None:
    await here.cluster.merge_patch(CAMERA, "default", name, {"spec": {"outputs": REFUSED}})


async def accept(here: World, name: str) -> None:
    await here.cluster.merge_patch(CAMERA, "default", name, {"spec": {"outputs": []}})


async def crash(here: World, name: str) -> None:
    for pod in (await here.pods(name))[:1]:
        if pods.address(pod):
            await here.kubelet.crash("default", pod["metadata"]["name"])


async def evict(here: World, name: str) -> None:
    for pod in (await here.pods(name))[:1]:
        here.links.died(pods.address(pod))
        await here.kubelet.write(pod, evicted_status())


async def lose(here: World, name: str) -> None:
    for pod in await here.pods(name):
        here.links.died(pods.address(pod))
        await here.cluster.delete(POD, "default", pod["metadata"]["name"], grace_seconds=0)


async def drift(here: World, name: str) -> None:
    await here.cluster.delete(SECRET, "default", f"camera-{name}")
    await here.cluster.merge_patch(SERVICE, "default", f"camera-{name}", {"spec": {"selector": {"a": "b"}}})


async def blip(here: World, name: str) -> None:
    for address in list(here.links.agents):
        here.links.disconnect(address)


async def source_fails(here: World, name: str) -> None:
    for agent in here.links.agents.values():
        agent.set_source(SourceReason.UNREACHABLE, message="nobody answers")


async def watch(here: World, name: str) -> None:
    sid = f"s-{name}-{len(here.recording.calls)}"
    await here.add_session(sid, name)
    for agent in here.links.agents.values():
        if agent.config.camera.name == name:
            agent.set_session(sid, SessionPhase.CONNECTING)
            agent.set_session(sid, SessionPhase.STREAMING)
            return


async def hang_up(here: World, name: str) -> None:
    for agent in here.links.agents.values():
        for sid in list(agent.sessions):
            agent.set_session(sid, SessionPhase.ENDED, EndReason.HANGUP)


async def rest(here: World, name: str) -> None:
    change = {"spec": {"lifecycle": {"scaleToZeroAfter": "20s"}}}
    await here.cluster.merge_patch(CAMERA, "default", name, change)


async def stay(here: World, name: str) -> None:
    change = {"spec": {"lifecycle": {"scaleToZeroAfter": "Never"}}}
    await here.cluster.merge_patch(CAMERA, "default", name, change)


async def drain(here: World, name: str) -> None:
    """The node that agents run on is cordoned, and there is another one."""
    left = here.kubelet.node
    here.kubelet.node = f"node-{len((await here.cluster.list(NODE)).items) + 2}"
    cordoned = {"metadata": {"name": left}, "spec": {"unschedulable": True}}
    await here.cluster.create({"apiVersion": "v1", "kind": "Node", **cordoned})


async def spares_more(here: World, name: str) -> None:
    await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"warmAgents": 3}})


async def spares_fewer(here: World, name: str) -> None:
    await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"warmAgents": 1}})


async def spare_fails(here: World, name: str) -> None:
    for pod in (await _spares(here))[:1]:
        here.links.died(pods.address(pod))
        await here.kubelet.write(pod, evicted_status())


async def spare_goes(here: World, name: str) -> None:
    for pod in (await _spares(here))[-1:]:
        here.links.died(pods.address(pod))
        await here.cluster.delete(POD, "default", pod["metadata"]["name"], grace_seconds=0)


async def restart(here: World, name: str) -> None:
    await here.restart()


async def pass_time(here: World, name: str) -> None:
    await asyncio.sleep(3.0)


ACTIONS: list[Action] = [
    add,
    remove,
    edit_url,
    edit_image,
    refuse,
    accept,
    crash,
    evict,
    lose,
    drift,
    blip,
    source_fails,
    watch,
    hang_up,
    rest,
    stay,
    drain,
    spares_more,
    spares_fewer,
    spare_fails,
    spare_goes,
    restart,
    pass_time,
]


async def peace(here: World) -> None:
    """Nothing fails any more, agents answer, sources work; then time passes."""
    here.recording.fail = here.recording.lose = lambda verb, kind, name: None
    for _ in range(4):
        for address, agent in list(here.links.agents.items()):
            here.links.connect(address)
            agent.set_source(SourceReason.IDLE, verified=True)
        await asyncio.sleep(60)
    await until(lambda: here.operator.queue.idle)


async def check(here: World) -> None:
    """What must be true of a world in peace."""
    for name in CAMERAS:
        try:
            camera = await here.camera(name)
        except NotFoundError:
            assert await here.pods(name) == []
            for kind in (SECRET, SERVICE):
                with pytest.raises(NotFoundError):
                    await here.cluster.get(kind, "default", f"camera-{name}")
            continue
        if camera["spec"].get("outputs"):
            assert (await here.condition("Accepted", name))[:2] == ("False", "NotSupportedYet")
            continue
        assert await here.is_ready(name), camera["status"]
        if await _rests(here, name):
            continue
        secret = await _secret(here, name)
        if await _rests(here, name):
            continue  # its pod was replaced for the Secret, and nobody watches
        (pod,) = await here.pods(name)
        assert pods.node(pod) == here.kubelet.node
        image = (await here.cluster.get(CAMERA_CLASS, None, "default"))["spec"].get("agent", {}).get("image")
        assert pod["spec"]["containers"][0]["image"] == (image or "agent:1")
        assert await here.is_ready(name), camera["status"]
        agent = here.links.agents[pods.address(pod)]
        for config in (agent.config.to_wire(), *([decoded(secret)] if secret else [])):
            assert config["revision"] == agent.config.revision
            assert config["source"]["rtsp"]["url"] == camera["spec"]["source"]["rtsp"]["url"]
        service = await here.cluster.get(SERVICE, "default", f"camera-{name}")
        assert service["spec"]["selector"]["sightline.dev/camera"] == name
    for session in (await here.cluster.list(STREAM_SESSION)).items:
        assert session["status"]["phase"] == "Streaming"
        sid = session["metadata"]["name"]
        assert any(
            agent.sessions[sid].phase is SessionPhase.STREAMING
            for agent in here.links.agents.values()
            if sid in agent.sessions
        )
    await _check_spares(here)
    here.recording.calls.clear()
    await asyncio.sleep(400)
    assert here.recording.calls == []


async def _check_spares(here: World) -> None:
    """As many wait as the class wants, where they are switched on and there is a camera; none of them serves one."""
    inhabited = here.options.spare_namespaces and (await here.cluster.list(CAMERA)).items
    spec = (await here.cluster.get(CAMERA_CLASS, None, "default"))["spec"]
    found = await _spares(here)
    assert len(found) == (spec.get("warmAgents", 0) if inhabited else 0)
    for spare in found:
        assert pods.node(spare) == here.kubelet.node
        assert spare["spec"]["containers"][0]["image"] == spec.get("agent", {}).get("image", "agent:1")
        agent = here.links.agents[pods.address(spare)]
        assert agent.config.revision == ""


async def _spares(here: World) -> list[Obj]:
    return (await here.cluster.list(POD, "default", labels={names.SPARE_LABEL: names.SPARE_WAITING})).items


async def _rests(here: World, name: str) -> bool:
    """Whether the camera has given its pod back, as it may."""
    if await here.pods(name):
        return False
    assert (await here.condition("AgentReady", name))[1] == "ScaledToZero"
    assert (await here.camera(name))["spec"]["lifecycle"]["scaleToZeroAfter"] != "Never"
    return True


async def _secret(here: World, name: str) -> Obj | None:
    """The config Secret. One that was deleted beside a running pod comes back with the next pod that mounts it, not
    before."""
    try:
        return await here.cluster.get(SECRET, "default", f"camera-{name}")
    except NotFoundError:
        await lose(here, name)
        await peace(here)
    try:
        return await here.cluster.get(SECRET, "default", f"camera-{name}")
    except NotFoundError:
        assert all(sparepods.began_as_spare(pod) for pod in await here.pods(name))
        return None


@pytest.mark.thorough
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.sampled_from(CAMERAS), st.booleans()), min_size=1, max_size=14
    ),
    seed=st.none() | st.integers(0, 2**16),
    warm=st.booleans(),
)
def test_any_order_of_events_converges(steps: list[tuple[Action, str, bool]], seed: int | None, warm: bool) -> None:
    async def main() -> None:
        async with world({"warmAgents": 2}, WARM if warm else OPTIONS) as here:
            for name in CAMERAS:
                await here.start_camera(name)
            if seed is not None:
                dice = random.Random(seed)

                def fail(verb: str, kind: Kind, name: str) -> ClusterError | None:
                    throw = dice.random()
                    if throw < 0.2:
                        return UnavailableError("later")
                    return ConflictError("changed") if throw < 0.3 else None

                def lose(verb: str, kind: Kind, name: str) -> ClusterError | None:
                    return UnavailableError("no answer") if dice.random() < 0.1 else None

                here.recording.fail, here.recording.lose = fail, lose
            for action, name, at_rest in steps:
                try:
                    await action(here, name)
                except ClusterError:
                    continue  # there is no such camera, or it is there already
                if at_rest:
                    await asyncio.sleep(2.0)
            await peace(here)
            await check(here)

    run(main)


@pytest.mark.parametrize("options", [OPTIONS, WARM], ids=["cold", "warm"])
@pytest.mark.parametrize("calls", range(1, 26))
def test_the_operator_may_die_after_any_call(calls: int, options: Options) -> None:
    async def main() -> None:
        async with world({"warmAgents": 1}, options) as here:
            here.recording.freeze_after = calls
            story = asyncio.ensure_future(_story(here))
            death = asyncio.ensure_future(here.recording.frozen.wait())
            await asyncio.wait([story, death], return_when=asyncio.FIRST_COMPLETED)
            here.recording.freeze_after = None
            here.recording.frozen.clear()
            await here.restart()
            await story
            death.cancel()
            await peace(here)
            await check(here)
            sessions = (await here.cluster.list(STREAM_SESSION)).items
            assert sessions == []

    run(main)


async def _story(here: World) -> None:
    """A camera, a viewer, an edit, another viewer, the end."""
    await here.add_camera("gate")
    await asyncio.sleep(3)
    await watch(here, "gate")
    await asyncio.sleep(3)
    await edit_url(here, "gate")
    await asyncio.sleep(3)
    await edit_image(here, "gate")
    await asyncio.sleep(3)
    await hang_up(here, "gate")
    await watch(here, "gate")
    await asyncio.sleep(3)
    await evict(here, "gate")
    await asyncio.sleep(3)
