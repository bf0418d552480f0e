"""Watched cameras move: the new agent first, the viewers in their time, then the old one goes; and drained nodes."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD
from sightline_model import names
from sightline_model.agent import SessionReport
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from sightline_operator import build, generations, pods
from sightline_operator.handover import BATCH, GOODBYE_SECONDS, SILENT_SECONDS, Drain, Move, drain
from tests.operator.looks import phase_is
from tests.operator.samples import NOW, ago, link, pod, running, waiting
from tests.operator.virtualtime import run, until
from tests.operator.world import FakeAgent, World, names_of, world

IMAGE_2 = {"spec": {"agent": {"image": "agent:2"}}}


def viewers(count: int, phase: SessionPhase = SessionPhase.STREAMING) -> list[SessionReport]:
    return [
        SessionReport(id=f"s-{number:03}", user="alice", phase=phase, requested_at=ago(90)) for number in range(count)
    ]


def drained(
    age: float, watching: int = 1, *, move: Move | None = None, phase: SessionPhase = SessionPhase.STREAMING
) -> Drain:
    """The verdict on a pod whose successor has run for `age` seconds; its viewers have a minute by default."""
    old, new = pod("old"), pod("new", running(age), age)
    return drain(old, new, link(*viewers(watching, phase)), move or Move(drain=60.0), NOW)


@pytest.mark.parametrize(
    ("age", "watching", "keep", "ended", "again"),
    [
        (0, 0, False, 0, None),
        (0, 1, True, 0, 60.0),
        (59, 1, True, 0, 1.0),
        (60, 1, True, 1, 0.5),
        (60, 100, True, BATCH, 0.5),
        (60 + GOODBYE_SECONDS, 1, False, 0, None),
    ],
)
def test_viewers_have_their_time(age: float, watching: int, keep: bool, ended: int, again: float | None) -> None:
    verdict = drained(age, watching)
    assert verdict.keep is keep
    assert len(verdict.hang_up.sessions if verdict.hang_up else ()) == ended
    assert verdict.look_again == again


@pytest.mark.parametrize(("said", "made", "left"), [(-3600, 20, 40.0), (3600, 20, 40.0), (10, 20, 50.0)])
def test_a_node_whose_clock_is_wrong_gives_viewers_neither_no_time_nor_too_much(
    said: float, made: float, left: float
) -> None:
    new = pod("new", running(said), made)
    assert drain(pod("old"), new, link(*viewers(1)), Move(drain=60.0), NOW).look_again == left


def test_ended_sessions_and_lost_links_keep_nothing() -> None:
    assert not drained(0, 3, phase=SessionPhase.ENDED).keep
    unready = pod("old", status=UNREADY)
    assert not drain(unready, pod("new"), link(*viewers(1), connected=False), Move(drain=60.0), NOW).keep


UNREADY = running() | {"conditions": []}
SILENT: dict[str, Any] = {"connected": False, "report": None, "changed_at": None}


@pytest.mark.parametrize(
    ("said", "keep"),
    [
        # Another operator has just started, and the successor was the first to answer.
        ({**SILENT, "followed_at": ago(3)}, True),
        ({**SILENT, "followed_at": ago(3), "changed_at": ago(1)}, True),
        ({**SILENT, "followed_at": ago(SILENT_SECONDS)}, False),
        # Its stream broke a moment ago.
        ({"connected": False, "changed_at": ago(3)}, True),
        ({"connected": False, "changed_at": ago(SILENT_SECONDS)}, False),
    ],
)
def test_an_agent_that_is_out_of_hearing_for_a_moment_keeps_its_viewers(said: dict[str, Any], keep: bool) -> None:
    sessions = viewers(0 if "report" in said else 1)
    old, new, minute = pod("old", status=UNREADY), pod("new", status=running(5)), Move(drain=60.0)
    verdict = drain(old, new, link(*sessions, **said), minute, NOW)
    assert (verdict.keep, verdict.hang_up) == (keep, None)
    assert verdict.look_again == (7.0 if keep else None)
    # Not for longer than its viewers have, nor once its container has ended.
    assert not drain(old, pod("new", age=70), link(*sessions, **said), minute, NOW).keep
    ended = pod("old", status={"phase": "Running", "podIP": "10.0.0.1"} | waiting("CrashLoopBackOff"))
    assert not drain(ended, new, link(*sessions, **said), minute, NOW).keep


@pytest.mark.parametrize(("seconds", "ready", "kept"), [(3, False, True), (10, False, False), (600, True, True)])
def test_a_broken_stream_deletes_no_pod_whose_successor_is_on_its_way(seconds: float, ready: bool, kept: bool) -> None:
    before = {names.HASH_ANNOTATION: "before"}
    old, new = pod("old", None if ready else UNREADY, 600.0, annotations=before), pod("new", status={}, age=1.0)
    links = {"camera-gate-old": link(*viewers(1), connected=False, changed_at=ago(seconds))}
    chosen = generations.choose([old, new], links, pods.desired_hash(new), NOW, Move(drain=60.0))
    assert chosen.superfluous == (() if kept else (old,))
    assert chosen.standing == (old if kept else new)
    assert bool(chosen.look_again) is kept


def test_who_watches_has_time_though_the_operator_hears_nobody_as_long_as_the_kubelet_does() -> None:
    """The way from the operator to the agents is not the viewers'."""
    old, lost = pod("old"), link(*viewers(1), connected=False, changed_at=ago(30))
    verdict = drain(old, pod("new", status=running(40)), lost, Move(drain=60.0), NOW)
    assert (verdict.keep, verdict.hang_up, verdict.look_again) == (True, None, SILENT_SECONDS)
    assert not drain(old, pod("new", age=75), lost, Move(drain=60.0), NOW).keep
    idle = link(*viewers(1, SessionPhase.ENDED), connected=False, changed_at=ago(30))
    assert not drain(old, pod("new", status=running(40)), idle, Move(drain=60.0), NOW).keep


def test_of_two_equal_agents_neither_goes_before_an_operator_that_has_just_started_has_heard_of_them() -> None:
    """A node that was drained is back while viewers move: both agents are as they should be."""
    watched, other = pod("watched", age=600.0), pod("other", age=20.0)
    fresh = link(connected=False, report=None, changed_at=None, followed_at=ago(3))
    links = {"camera-gate-watched": fresh, "camera-gate-other": fresh}
    chosen = generations.choose([watched, other], links, pods.desired_hash(other), NOW, Move(drain=60.0))
    assert (chosen.superfluous, chosen.make, chosen.look_again) == ((), False, 7.0)
    heard = {"camera-gate-watched": link(*viewers(1)), "camera-gate-other": fresh}
    chosen = generations.choose([watched, other], heard, pods.desired_hash(other), NOW, Move(drain=60.0))
    assert chosen.standing == watched
    silent = link(connected=False, report=None, changed_at=None, followed_at=ago(SILENT_SECONDS))
    links = {"camera-gate-watched": silent, "camera-gate-other": silent}
    chosen = generations.choose([watched, other], links, pods.desired_hash(other), NOW, Move(drain=60.0))
    assert len(chosen.superfluous) == 1


def test_an_edit_of_the_camera_itself_is_followed_at_once() -> None:
    old, new = pod("old", annotations={names.HASH_ANNOTATION: "before"}), pod("new", status=running(0))

    def told(*leaving: str) -> bool:
        move = Move(frozenset(leaving), 60.0, frozenset({"camera-gate-old"}))
        return drain(old, new, link(*viewers(1)), move, NOW).hang_up is not None

    assert told()
    assert not told("camera-gate-old")


def test_viewers_of_an_equal_pod_have_their_time_too() -> None:
    assert drained(0, move=Move(drain=60.0, edited=frozenset({"camera-gate-old"}))).look_again == 60.0


@pytest.mark.parametrize("coming", [False, True])
@pytest.mark.parametrize(("age", "kept", "ended"), [(20.0, True, 0), (61.0, True, 1), (71.0, False, 0)])
def test_viewers_keep_their_time_when_their_new_agent_has_to_go_too(
    coming: bool, age: float, kept: bool, ended: int
) -> None:
    """Another change, or another node drained, while viewers of the first agent are still being moved to the second."""
    oldest, second = pod("oldest", age=600.0), pod("second", age=age)
    third = [pod("third", status={"phase": "Pending"}, age=1.0)] if coming else []
    links = {"camera-gate-oldest": link(*viewers(1)), "camera-gate-second": link()}
    leaving = Move(frozenset(links), 60.0)
    chosen = generations.choose([oldest, second, *third], links, pods.desired_hash(oldest), NOW, leaving)
    assert chosen.standing == second
    assert (oldest in chosen.serving, oldest in chosen.superfluous) == (kept, not kept)
    assert len(chosen.hang_up) == ended


async def begin_roll_out(here: World, *cameras: str) -> None:
    """Cameras that run, and then another image, whose pods do not come up."""
    for name in cameras:
        await here.start_camera(name)
    here.kubelet.hold = True
    await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)


async def watch(here: World, agent: FakeAgent, sid: str, camera: str = "gate") -> None:
    await here.add_session(sid, camera)
    agent.set_session(sid, SessionPhase.STREAMING)
    await until(lambda: phase_is(here, sid, "Streaming"))


async def rolled(here: World) -> tuple[str, str, str]:
    status = (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]
    found = next(item for item in status["conditions"] if item["type"] == "RolledOut")
    return found["status"], found["reason"], found.get("message", "")


async def former(here: World) -> list[str]:
    agents = (await here.camera())["status"].get("formerAgents") or []
    return [agent["pod"] for agent in agents]


def test_a_watched_camera_is_handed_over() -> None:
    async def main() -> None:
        async with world({"rollout": {"drainTimeout": "30s"}}) as here:
            await here.start_camera()
            old = here.agent()
            await watch(here, old, "s-1")
            (before,) = await here.pods()
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)
            await asyncio.sleep(10)
            # The new one is there, and whoever comes goes there; the viewer goes on watching the old one.
            status = (await here.camera())["status"]
            assert len(await here.pods()) == 2
            assert status["agent"]["pod"] != before["metadata"]["name"]
            assert await former(here) == [before["metadata"]["name"]]
            assert status["viewers"] == 1
            assert "have 30s to move" in (await here.condition("AgentReady"))[2]
            assert await here.phase("s-1") == "Streaming"
            assert await here.is_ready()
            assert (await rolled(here))[:2] == ("False", "Moving")
            assert "default/gate" in (await rolled(here))[2]
            await until(lambda: phase_is(here, "s-1", "Ended"), 30)
            assert old.ended == [("s-1", EndReason.MOVED)]
            session = await here.session("s-1")
            assert session is not None
            assert session["status"]["endReason"] == "Moved"
            await here.settled()
            (after,) = await here.pods()
            assert after["spec"]["containers"][0]["image"] == "agent:2"
            assert await former(here) == []
            assert (await rolled(here))[:2] == ("True", "UpToDate")

    run(main)


def test_a_viewer_who_leaves_ends_the_wait() -> None:
    async def main() -> None:
        async with world({"rollout": {"drainTimeout": "1h"}}) as here:
            await here.start_camera()
            old = here.agent()
            await watch(here, old, "s-1")
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)
            await here.settled(100)
            assert len(await here.pods()) == 2
            old.set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            await here.settled()
            assert len(await here.pods()) == 1

    run(main)


def test_another_operator_goes_on_where_one_ended() -> None:
    async def main() -> None:
        async with world({"rollout": {"drainTimeout": "60s"}}) as here:
            await here.start_camera()
            await watch(here, here.agent(), "s-1")
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)
            await asyncio.sleep(40)
            await here.restart()
            await here.settled()
            assert await here.phase("s-1") == "Streaming"
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: phase_is(here, "s-1", "Ended"))
            assert loop.time() - began < 25

    run(main)


@pytest.mark.parametrize("moves", [1, 2])
def test_another_operator_that_hears_of_the_oldest_agent_last_cuts_nobody_off(moves: int) -> None:
    async def main() -> None:
        async with world({"rollout": {"drainTimeout": "60s"}}) as here:
            await here.start_camera()
            (oldest,) = await here.pods()
            await watch(here, here.agent(), "s-1")
            for number in range(moves):
                image = {"spec": {"agent": {"image": f"agent:{number + 2}"}}}
                await here.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
                await asyncio.sleep(5)
            address = oldest["status"]["podIP"]
            agent = here.links.agents.pop(address)  # slow to answer
            await here.restart()
            await asyncio.sleep(4)
            here.links.started(address, agent)
            await here.settled()
            assert oldest["metadata"]["name"] in names_of(await here.pods())
            assert await here.phase("s-1") == "Streaming"
            await until(lambda: phase_is(here, "s-1", "Ended"))
            assert agent.ended == [("s-1", EndReason.MOVED)]

    run(main)


@pytest.mark.parametrize("first", ["a", "b", "c"])
def test_a_broken_image_stops_at_the_first_cameras_however_often_the_operator_starts(first: str) -> None:
    async def main() -> None:
        async with world() as here:
            for name in ("c", "b", "a"):
                await here.start_camera(name)
            for name in {"a", "b", "c"} - {first}:
                (one,) = await here.pods(name)
                await watch(here, here.links.agents[one["status"]["podIP"]], f"s-{name}", name)
            here.kubelet.hold = True
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)
            await here.settled()
            for agent in here.links.agents.values():
                for sid in list(agent.sessions):
                    agent.set_session(sid, SessionPhase.ENDED, EndReason.HANGUP)
            await here.settled(20)
            for _ in range(3):
                assert {name: len(await here.pods(name)) for name in "abc"} == dict.fromkeys("abc", 1) | {first: 2}
                await here.restart()
                await here.settled(20)

    run(main)


def test_an_operator_with_another_image_begins_with_idle_cameras_though_it_has_heard_of_nobody() -> None:
    async def main() -> None:
        async with world() as here:
            for name in ("a", "b", "c"):
                await here.start_camera(name)
            for name in ("a", "b"):
                (one,) = await here.pods(name)
                await watch(here, here.links.agents[one["status"]["podIP"]], f"s-{name}", name)
            here.kubelet.hold = True
            agents, here.links.agents = here.links.agents, {}
            here.options = replace(here.options, agent_image="agent:2")
            await here.restart()
            await asyncio.sleep(4)
            for address, agent in agents.items():
                here.links.started(address, agent)
            await here.settled(20)
            assert [len(await here.pods(name)) for name in ("a", "b", "c")] == [1, 1, 2]

    run(main)


def test_cameras_with_credentials_take_their_turn_too() -> None:
    """How credentials are mounted is the operator's business, not the camera's."""

    async def main() -> None:
        async with world() as here:
            secret = {"credentialsRef": {"name": "login"}}
            for name in ("a", "b", "c"):
                await here.start_camera(name, source={"rtsp": {"url": "rtsp://camera.example/one", **secret}})
            here.kubelet.hold = True
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(build, "_volume", lambda profile: f"secret-{profile}")
                await here.restart()
                await here.settled(20)
                assert sorted([len(await here.pods(name)) for name in ("a", "b", "c")]) == [1, 1, 2]

    run(main)


def test_a_camera_whose_credentials_are_edited_need_not_wait_for_its_turn() -> None:
    async def main() -> None:
        async with world() as here:
            await begin_roll_out(here, "a", "b")
            await here.settled()
            waits = "a" if len(await here.pods("a")) == 1 else "b"
            edit = {"spec": {"source": {"rtsp": {"credentialsRef": {"name": "login"}}}}}
            await here.cluster.merge_patch(CAMERA, "default", waits, edit)
            await here.settled()
            assert len(await here.pods(waits)) == 2

    run(main)


def test_a_roll_out_over_many_cameras_keeps_order_and_pace() -> None:
    async def main() -> None:
        async with world({"rollout": {"maxUnavailable": 3, "drainTimeout": "20s"}}) as here:
            cameras = [f"c{number}" for number in range(12)]
            for name in cameras:
                await here.add_camera(name)
            for name in cameras:
                await here.ready(name)
            watched = cameras[:3]
            for name in watched:
                (one,) = await here.pods(name)
                await watch(here, here.links.agents[one["status"]["podIP"]], f"s-{name}", name)
            order: list[str] = []
            most = 0
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", IMAGE_2)
            while len(order) < len(cameras):
                await asyncio.sleep(0.1)
                living = [one for one in (await here.cluster.list(POD, "default")).items if pods.live(one)]
                counts = Counter(one["metadata"]["labels"][names.CAMERA_LABEL] for one in living)
                order += [name for name in cameras if counts[name] > 1 and name not in order]
                most = max(most, sum(count > 1 for count in counts.values()))
            assert most <= 3
            assert sorted(order[-3:]) == watched
            status = (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]
            assert status["moving"] + status["waiting"] > 0
            await here.settled(120)
            assert (await rolled(here))[:2] == ("True", "UpToDate")

    run(main)


def test_what_waits_says_so() -> None:
    async def main() -> None:
        async with world() as here:
            await begin_roll_out(here, "a", "b")
            await here.settled(10)
            assert "Another one is to take over. Pod camera-a-" in (await here.condition("AgentReady", "a"))[2]
            assert "takes over when the camera's turn comes" in (await here.condition("AgentReady", "b"))[2]
            status, _, message = await rolled(here)
            assert (status, message) == ("False", "Being moved: default/a. Waiting for their turn: 1.")

    run(main)


def node(**spec: Any) -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": spec, "status": status}


def test_a_node_that_is_cordoned_is_left() -> None:
    async def main() -> None:
        async with world({"rollout": {"drainTimeout": "20s"}}) as here:
            await here.cluster.create(node())
            for name in ("gate", "yard"):
                await here.start_camera(name)
            (old,) = await here.pods("gate")
            (idle,) = await here.pods("yard")
            await watch(here, here.links.agents[old["status"]["podIP"]], "s-1")
            here.kubelet.node = "node-2"
            found = await here.cluster.get(NODE, None, "node-1")
            await here.cluster.replace({**found, "spec": {"unschedulable": True}})
            await asyncio.sleep(10)
            assert len(await here.pods("gate")) == 2
            assert names_of(await here.pods("yard")) != names_of([idle])
            assert len(await here.pods("yard")) == 1
            assert await here.phase("s-1") == "Streaming"
            await until(lambda: phase_is(here, "s-1", "Ended"))
            await here.settled()
            assert [pods.node(one) for one in await here.pods("gate")] == ["node-2"]
            assert await here.is_ready()

    run(main)


def test_nodes_that_are_all_drained_do_not_make_pods_without_end() -> None:
    async def main() -> None:
        async with world() as here:
            await here.cluster.create(node(unschedulable=True))
            await here.add_camera()
            await here.settled(100)
            assert await here.is_ready()
            assert here.recording.count("apply", "Pod") <= 11

    run(main)


def test_a_node_without_another_one_keeps_its_viewers() -> None:
    async def main() -> None:
        async with world() as here:
            await here.cluster.create(node())
            await here.start_camera()
            (old,) = await here.pods()
            await watch(here, here.agent(), "s-1")
            here.kubelet.hold = True
            found = await here.cluster.get(NODE, None, "node-1")
            cordoned = await here.cluster.replace({**found, "spec": {"unschedulable": True}})
            await here.settled(300)
            assert len(await here.pods()) == 2
            assert await here.phase("s-1") == "Streaming"
            await here.cluster.replace({**cordoned, "spec": {}})
            await here.settled()
            assert names_of(await here.pods()) == names_of([old])
            assert await here.phase("s-1") == "Streaming"

    run(main)


def test_pods_that_may_stay_on_a_cordoned_node_do() -> None:
    async def main() -> None:
        async with world({"scheduling": {"tolerations": [{"operator": "Exists"}]}}) as here:
            await here.cluster.create(node(unschedulable=True))
            await here.start_camera()
            (one,) = await here.pods()
            await here.settled(100)
            assert names_of(await here.pods()) == names_of([one])
            assert names.HASH_ANNOTATION in one["metadata"]["annotations"]

    run(main)
