"""Spare agents in a small world: cameras that find one need no cold start, and the pool fills up again."""

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import ConflictError, ForbiddenError, UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, SECRET, STREAM_SESSION
from sightline_model import names
from sightline_model.agent import SourceCredentials
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from sightline_operator import pods
from sightline_operator.settings import OperatorSettings
from tests.operator.virtualtime import run, until
from tests.operator.warm import ON, WARM, agent_ready, class_condition, class_is, full, spares, story
from tests.operator.world import OPTIONS, URL, FakeAgent, World, evicted_status, names_of, world

RESTS: dict[str, Any] = {"lifecycle": {"scaleToZeroAfter": "20s"}}
CREDENTIALS: dict[str, Any] = {"source": {"rtsp": {"url": URL, "credentialsRef": {"name": "door"}}}}


async def add_secret(here: World, **data: str) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"name": "door", "namespace": "default"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}
    await here.cluster.create(secret)


def serving(here: World, pod: Obj) -> FakeAgent:
    return here.links.agents[pods.address(pod)]


def test_a_new_camera_adopts_a_spare_and_another_one_comes() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        assert await class_condition(here) == ("True", "Ready")
        waiting = names_of(await spares(here))
        began = asyncio.get_running_loop().time()
        await here.add_camera("gate")
        await here.ready()
        assert asyncio.get_running_loop().time() - began < here.kubelet.start_seconds
        (pod,) = await here.pods()
        assert pod["metadata"]["name"] in waiting
        assert pod["metadata"]["labels"][names.SPARE_LABEL] == names.SPARE_ADOPTED
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Camera", "gate")
        assert serving(here, pod).config.camera.name == "gate"
        assert pods.name_of(pod) == (await here.camera())["status"]["agent"]["pod"]
        await until(lambda: full(here))
        assert pods.name_of(pod) not in names_of(await spares(here))

    story(tell)


def test_nothing_is_written_while_nothing_changes() -> None:
    async def tell(here: World) -> None:
        await here.add_camera()
        await until(lambda: full(here))
        await here.settled(60)
        here.recording.calls.clear()
        here.recording.reads = True
        await asyncio.sleep(1000)
        assert here.recording.calls == []

    story(tell)


def test_a_camera_that_rests_wakes_in_a_spare_and_rests_again() -> None:
    async def tell(here: World) -> None:
        await here.add_camera(**RESTS)
        await here.ready()
        await until(lambda: _pods_are(here, 0))
        await until(lambda: full(here))
        await asyncio.sleep(3600)  # spares have been idle for long, which is nothing to a camera
        began = asyncio.get_running_loop().time()
        await here.add_session("s-1")
        await until(lambda: agent_ready(here))
        assert asyncio.get_running_loop().time() - began < here.kubelet.start_seconds
        await here.cluster.delete(STREAM_SESSION, "default", "s-1")
        await asyncio.sleep(10)
        assert await _pods_are(here, 1)  # it counts from the adoption
        await until(lambda: _pods_are(here, 0))
        await until(lambda: full(here))

    story(tell)


def test_credentials_go_with_the_config_and_again_when_the_container_is_started_again() -> None:
    async def tell(here: World) -> None:
        await add_secret(here, username="admin", password="one\n", other="x")
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.add_camera(**CREDENTIALS)
        await here.ready()
        (pod,) = await here.pods()
        given = {"main": SourceCredentials(username="admin", password="one")}
        assert serving(here, pod).credentials == given
        await here.kubelet.crash("default", pods.name_of(pod))
        assert serving(here, pod).config.revision == ""
        await until(lambda: _serves(here, pod, "gate"))
        assert serving(here, pod).credentials == given
        assert names_of(await here.pods()) == [pods.name_of(pod)]
        # The camera refuses them; somebody corrects the Secret, which nobody watches.
        serving(here, pod).set_source(SourceReason.AUTHENTICATION_FAILED, message="no")
        await asyncio.sleep(61)
        text = base64.b64encode(b"two").decode()
        await here.cluster.merge_patch(SECRET, "default", "door", {"data": {"password": text}})
        await until(lambda: _knows(here, pod, "two"))
        here.recording.reads = True
        serving(here, pod).set_source(SourceReason.IDLE)
        here.recording.calls.clear()
        await asyncio.sleep(300)
        assert here.recording.count("get", "Secret") == 0

    story(tell)


def test_a_camera_whose_credentials_cannot_be_read_starts_as_ever() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        waiting = names_of(await spares(here))
        await here.add_camera(**CREDENTIALS)
        await until(lambda: _pods_are(here, 1))
        (pod,) = await here.pods()
        assert pods.name_of(pod) not in waiting
        assert "credentials" in [volume["name"] for volume in pod["spec"]["volumes"]]
        assert names_of(await spares(here)) == waiting
        assert here.operator.metrics.registry.get_sample_value(
            "sightline_adoptions_total", {"result": "no credentials"}
        )

    story(tell)


def test_working_credentials_outlive_a_secret_that_cannot_be_read_for_a_while() -> None:
    async def tell(here: World) -> None:
        await add_secret(here, username="admin", password="one")
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.add_camera(**CREDENTIALS)
        await here.ready()
        (pod,) = await here.pods()
        before = serving(here, pod)
        forbidden = ForbiddenError("not now")
        here.recording.reads = True
        here.recording.fail = lambda verb, kind, name: forbidden if (verb, kind) == ("get", SECRET) else None
        await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"access": {"maxViewers": 3}}})
        await asyncio.sleep(30)
        assert before.credentials["main"].password == "one"
        assert before.config.max_viewers != 3
        assert here.recording.count("get", "Secret") < 15
        here.recording.fail = lambda verb, kind, name: None
        await until(lambda: before.config.max_viewers == 3)
        assert before.credentials["main"].password == "one"
        assert names_of(await here.pods()) == names_of([pod])
        # A process that was started again has none to lose: it is told its camera, and says what it lacks.
        here.recording.fail = lambda verb, kind, name: forbidden if (verb, kind) == ("get", SECRET) else None
        await here.kubelet.crash("default", pods.name_of(pod))
        await until(lambda: _serves(here, pod, "gate"))
        assert serving(here, pod).credentials == {}

    story(tell)


def test_a_namespace_that_is_switched_off_keeps_no_adopted_agent_that_needs_credentials() -> None:
    async def tell(here: World) -> None:
        await add_secret(here, username="admin", password="one")
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.start_camera("plain")
        await until(lambda: full(here))
        await here.add_camera(**CREDENTIALS)
        await here.ready()
        (pod,), (plain,) = await here.pods(), await here.pods("plain")
        assert pods.name_of(pod).startswith("spare-")
        before = serving(here, pod)
        await here.stop()
        await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"access": {"maxViewers": 3}}})
        here.options = OPTIONS
        here.recording.reads = True
        here.recording.calls.clear()
        here.start()
        await until(lambda: _another(here, pod))
        assert before.credentials["main"].password == "one"
        await here.ready()
        await here.settled(60)
        (after,) = await here.pods()
        assert "credentials" in [volume["name"] for volume in after["spec"]["volumes"]]
        assert serving(here, after).config.max_viewers == 3
        assert names_of(await here.pods("plain")) == names_of([plain])
        assert here.recording.count("get", "Secret") == 0
        assert await spares(here) == []

    story(tell)


def test_no_secret_is_read_where_spares_are_not_switched_on() -> None:
    async def main() -> None:
        async with world(WARM, replace(OPTIONS, spare_namespaces=frozenset({"other"}))) as here:
            here.recording.reads = True
            await add_secret(here, username="admin", password="one")
            await here.add_camera(**CREDENTIALS)
            await here.ready()
            await here.settled(60)
            assert await spares(here) == []
            assert here.recording.count("get", "Secret") == 0
            assert await class_condition(here) == ("False", "NoCamera")

    run(main)


def test_a_class_that_wants_spares_where_no_namespace_is_switched_on_says_so() -> None:
    async def main() -> None:
        async with world(WARM) as here:
            await here.start_camera()
            await until(lambda: class_is(here, ("False", "NotSwitchedOn")))
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"warmAgents": 0}})
            await until(lambda: class_is(here, ("", "")))

    run(main)


def test_spares_of_an_old_template_end_and_none_of_them_is_adopted() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        old = names_of(await spares(here))
        image = {"spec": {"agent": {"image": "agent:2"}}}
        await here.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
        await here.start_camera()
        (pod,) = await here.pods()
        assert pods.name_of(pod) not in old
        await until(lambda: full(here))
        assert not set(names_of(await spares(here))) & set(old)
        assert {spare["spec"]["containers"][0]["image"] for spare in await spares(here)} == {"agent:2"}

    story(tell)


def test_an_adopted_agent_follows_its_class_like_any_other() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.start_camera()
        (adopted,) = await here.pods()
        await here.settled(120)
        assert names_of(await here.pods()) == names_of([adopted])
        image = {"spec": {"agent": {"image": "agent:2"}}}
        await here.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
        await until(lambda: _runs(here, "agent:2"))
        await here.ready()
        assert len(await here.pods()) == 1

    story(tell)


def test_two_cameras_never_get_the_same_spare() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        cameras = [f"c-{number}" for number in range(6)]
        await asyncio.gather(*(here.add_camera(name) for name in cameras))
        for name in cameras:
            await here.ready(name)
        found = [names_of(await here.pods(name)) for name in cameras]
        assert all(len(one) == 1 for one in found)
        assert len({one[0] for one in found}) == 6
        assert sum(one[0].startswith("spare-") for one in found) == 2
        await until(lambda: full(here))

    story(tell)


def test_a_spare_that_dies_while_it_is_adopted_is_nobodys() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        failed: list[str] = []

        def fail(verb: str, kind: Any, name: str) -> Any:
            if verb == "merge_patch" and kind == POD and len(failed) < 5:
                failed.append(name)
                return ConflictError("it has changed")
            return None

        here.recording.fail = fail
        await here.start_camera()
        assert len(failed) == len(set(failed)) == 2  # each was tried once as it was, then a pod was made
        (pod,) = await here.pods()
        assert pods.name_of(pod).startswith("camera-gate-")
        await until(lambda: full(here))

    story(tell)


@pytest.mark.parametrize("told_first", [True, False])
def test_nothing_is_remembered_of_an_adoption_whose_answer_was_lost(told_first: bool) -> None:
    """It had come about, so the next attempt meets a conflict; the pod waits no more and can come to nobody else."""

    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        patch = here.cluster.merge_patch
        failed: list[str] = []

        async def lossy(kind: Any, namespace: str | None, name: str, change: Obj) -> Obj:
            adoption = kind == POD and "ownerReferences" in change.get("metadata", {})
            if not adoption:
                return await patch(kind, namespace, name, change)
            failed.append(name)
            if len(failed) == 1:
                await here._feed.stop()
                await patch(kind, namespace, name, change)
                raise UnavailableError("no answer in time")
            if told_first:
                here._feed.start()
                await asyncio.sleep(0.1)
            return await patch(kind, namespace, name, change)

        here.cluster.merge_patch = lossy  # type: ignore[method-assign,assignment]
        await here.add_camera()
        await until(lambda: len(failed) > 1)
        if not told_first:
            await asyncio.sleep(0.1)
            here._feed.start()
        await here.ready()
        await here.settled(30)
        assert failed[:2] == [failed[0]] * 2
        assert here.operator._pool._spoiled == {}

    story(tell)


def test_spares_leave_a_cordoned_node_and_end_with_the_last_camera() -> None:
    async def tell(here: World) -> None:
        await here.add_camera()
        await until(lambda: full(here))
        here.kubelet.node = "node-2"
        cordoned = {"metadata": {"name": "node-1"}, "spec": {"unschedulable": True}}
        await here.cluster.create({"apiVersion": "v1", "kind": "Node", **cordoned})
        await until(lambda: _are_on(here, "node-2"))
        await here.cluster.delete(NODE, None, "node-1")
        await here.cluster.delete(CAMERA, "default", "gate")
        await until(lambda: _none(here))
        await until(lambda: class_is(here, ("False", "NoCamera")))

    story(tell)


def test_the_end_of_a_class_is_the_end_of_its_spares() -> None:
    async def tell(here: World) -> None:
        await here.add_camera()
        await until(lambda: full(here))
        await here.cluster.delete(CAMERA_CLASS, None, "default")
        await until(lambda: _none(here))
        assert len(await here.pods()) == 1

    story(tell)


def test_a_spare_that_fails_is_replaced_and_not_too_often() -> None:
    async def tell(here: World) -> None:
        await here.add_camera()
        await until(lambda: full(here))
        for spare in await spares(here):
            here.links.died(pods.address(spare))
            await here.kubelet.write(spare, evicted_status())
        here.recording.calls.clear()
        await until(lambda: full(here))
        assert here.recording.count("create", "Pod") == 2

    story(tell)


def test_a_quota_that_is_full_is_told_and_tried_again() -> None:
    async def tell(here: World) -> None:
        def fail(verb: str, kind: Any, name: str) -> Any:
            spare = verb == "create" and kind == POD
            return ForbiddenError(f'pods "{name}" is forbidden: exceeded quota') if spare else None

        here.recording.fail = fail
        await here.start_camera()
        await until(lambda: class_is(here, ("False", "Refused")))
        here.recording.calls.clear()
        await asyncio.sleep(300)
        assert here.recording.count("create", "Pod") <= 11
        assert here.recording.count("replace_status", "CameraClass") == 0
        here.recording.fail = lambda verb, kind, name: None
        await until(lambda: full(here))

    story(tell)


def test_the_class_says_why_a_spare_does_not_start() -> None:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient memory."}

    async def tell(here: World) -> None:
        await here.start_camera()
        await until(lambda: full(here))
        here.kubelet.hold = True
        await here.add_camera("other")
        await until(lambda: _one_is_pending(here))
        (pending,) = [spare for spare in await spares(here) if not pods.node(spare)]
        await here.kubelet.write(pending, {"phase": "Pending", "conditions": [refused]})
        await until(lambda: _class_says(here, "1 of 2 spare agents answer. No node takes pod"))
        here.recording.calls.clear()
        await asyncio.sleep(300)
        assert here.recording.count("replace_status", "CameraClass") == 0

    story(tell)


def test_an_operator_that_starts_finds_its_spares_and_writes_nothing() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.start_camera()
        await until(lambda: full(here))
        await here.settled(60)
        here.recording.calls.clear()
        await here.restart()
        await asyncio.sleep(400)
        assert [call for call in here.recording.calls if call[0] != "replace_status"] == []
        assert here.recording.count("replace_status", "CameraClass") <= 2  # how many answer

    story(tell)


def test_an_adopted_agent_that_trusts_no_key_of_today_gets_a_successor() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.start_camera()
        (pod,) = await here.pods()
        here.options = replace(ON, token_keys=({"kty": "OKP", "kid": "k2"},))
        await here.restart()
        await here.ready()
        await here.settled(60)
        assert names_of(await here.pods()) == names_of([pod])  # it has been told the new key
        await until(lambda: full(here))
        here.links.refuse(pods.address(pod))  # it was started again, with the key of its birth
        await until(lambda: _another(here, pod))
        await here.ready()

    story(tell)


def test_a_watched_camera_keeps_its_adopted_agent() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.start_camera()
        (pod,) = await here.pods()
        await here.add_session("s-1")
        serving(here, pod).set_session("s-1", SessionPhase.STREAMING)
        await until(lambda: _phase_is(here, "s-1", "Streaming"))
        await here.restart()
        await here.settled(400)
        assert names_of(await here.pods()) == names_of([pod])
        assert await here.phase("s-1") == "Streaming"

    story(tell)


async def _pods_are(here: World, count: int) -> bool:
    return len(await here.pods()) == count


async def _serves(here: World, pod: Obj, camera: str) -> bool:
    return serving(here, pod).config.camera.name == camera


async def _knows(here: World, pod: Obj, password: str) -> bool:
    return serving(here, pod).credentials["main"].password == password


async def _class_says(here: World, words: str) -> bool:
    status = (await here.cluster.get(CAMERA_CLASS, None, "default")).get("status") or {}
    found = [item["message"] for item in status.get("conditions") or [] if item["type"] == "SparesReady"]
    return any(words in message for message in found)


async def _one_is_pending(here: World) -> bool:
    """Whether there is a spare that no node has."""
    return any(not pods.node(spare) for spare in await spares(here))


async def _runs(here: World, image: str) -> bool:
    return [pod["spec"]["containers"][0]["image"] for pod in await here.pods()] == [image]


async def _are_on(here: World, node: str) -> bool:
    return [pods.node(spare) for spare in await spares(here)] == [node, node]


async def _none(here: World) -> bool:
    return not await spares(here)


async def _another(here: World, gone: Obj) -> bool:
    found = names_of(await here.pods())
    return bool(found) and pods.name_of(gone) not in found


async def _phase_is(here: World, sid: str, phase: str) -> bool:
    return await here.phase(sid) == phase


def test_a_camera_whose_agents_fail_does_not_use_up_the_spares() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.add_camera()
        await here.ready()
        for _ in range(4):
            await until(lambda: _lives(here))
            (pod,) = [one for one in await here.pods() if pods.live(one)]
            here.links.died(pods.address(pod))
            await here.kubelet.write(pod, evicted_status())
            await asyncio.sleep(1)
        await here.ready()
        assert here.operator.metrics.registry.get_sample_value("sightline_adoptions_total", {"result": "adopted"}) == 2
        await until(lambda: full(here))

    story(tell)


async def _lives(here: World) -> bool:
    return any(pods.live(pod) and pods.address(pod) for pod in await here.pods())


@pytest.mark.parametrize(
    ("served", "warm", "expected"),
    [("", "", set()), ("", "doors, gates", {"doors", "gates"}), ("doors,yard", "doors,gates", {"doors"})],
)
def test_spares_are_kept_in_namespaces_that_are_served(served: str, warm: str, expected: set[str]) -> None:
    settings = OperatorSettings(agent_image="agent:1", namespaces=served, spare_namespaces=warm)
    assert settings.spare_namespace_set == expected
