"""The whole operator on the in-memory cluster: create, change, lose and delete, and see that it comes right."""

import asyncio
import random
from functools import partial

import pytest

from sightline_kube.cluster import EventType
from sightline_kube.errors import ForbiddenError, NotFoundError, UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, SERVICE, Kind
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from sightline_operator.core import KINDS
from tests.operator.looks import another, has_pods, key, names_are, phase_is, reason_is
from tests.operator.virtualtime import run, until
from tests.operator.world import Recording, decoded, evicted_status, names_of, waiting_status, world


def test_a_camera_becomes_ready_and_a_second_pass_writes_nothing() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            (pod,) = await here.pods()
            status = (await here.camera())["status"]
            assert status["phase"] == "Idle"
            assert status["agent"]["pod"] == pod["metadata"]["name"]
            assert status["agent"]["address"] == pod["status"]["podIP"]
            assert status["network"]["external"] == [
                {"ip": pod["status"]["podIP"], "port": 5004, "transport": "udp", "scope": "lan"}
            ]
            assert (await here.cluster.get(SERVICE, "default", "camera-gate"))["metadata"]["ownerReferences"]
            here.recording.calls.clear()
            for kind in KINDS:
                for obj in here.cache.list(kind):
                    here.operator._routes.changed(key(kind, obj), obj, obj)
            await here.settled(400)  # the full pass is among it
            assert here.recording.calls == []

    run(main)


def test_three_children_and_few_status_writes() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            applied = [call[1] for call in here.recording.calls if call[0] == "apply"]
            assert applied.count("PodDisruptionBudget") == 1  # the namespace's
            applied.remove("PodDisruptionBudget")
            assert applied == ["Secret", "Service", "Pod"]
            assert here.recording.count("replace_status", "Camera") <= 4

    run(main)


def test_the_class_counts_its_cameras() -> None:
    async def main() -> None:
        async with world() as here:
            for name in ("a", "b", "c"):
                await here.add_camera(name)
            await here.settled()
            await here.cluster.delete(CAMERA, "default", "b")
            await here.settled()
            status = (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]
            assert status["cameras"] == 2
            assert status["conditions"][0]["reason"] == "Accepted"

    run(main)


def test_an_edited_url_is_followed_without_another_pod() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            (before,) = await here.pods()
            url = "rtsp://other.example/stream"
            await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"source": {"rtsp": {"url": url}}}})
            await until(lambda: bool(here.agent().configs))
            rtsp = here.agent().config.source.rtsp
            assert rtsp is not None
            assert rtsp.url == url
            secret = await here.cluster.get(SECRET, "default", "camera-gate")
            assert decoded(secret)["source"]["rtsp"]["url"] == url
            here.agent().set_source(SourceReason.IDLE, verified=True)
            await here.ready()
            (after,) = await here.pods()
            assert before["metadata"]["uid"] == after["metadata"]["uid"]
            assert len(here.agent().configs) == 1

    run(main)


def test_a_push_that_fails_is_tried_again() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            here.links.deaf = True
            url = "rtsp://other.example/stream"
            await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"source": {"rtsp": {"url": url}}}})
            await here.settled()
            assert here.agent().configs == []
            here.links.deaf = False
            await until(lambda: len(here.agent().configs) == 1)

    run(main)


def test_a_new_image_makes_the_new_pod_first() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            (before,) = await here.pods()
            here.kubelet.hold = True
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"agent": {"image": "agent:2"}}})
            await here.settled()
            both = await here.pods()
            assert len(both) == 2
            assert before["metadata"]["name"] in names_of(both)
            assert await here.is_ready()
            here.kubelet.hold = False
            new = next(name for name in names_of(both) if name != before["metadata"]["name"])
            await here.kubelet.pod("default", new)
            await until(lambda: names_are(here, [new]))
            await here.settled()
            assert await here.is_ready()
            assert (await here.camera())["status"]["agent"]["pod"] == new

    run(main)


def test_a_changed_class_reaches_one_camera_after_the_other_idle_ones_first() -> None:
    async def main() -> None:
        async with world() as here:
            cameras = ["a", "b", "c", "d"]
            for name in cameras:
                await here.start_camera(name)
            await here.add_session("s-1", "a")
            watched = next(agent for agent in here.links.agents.values() if agent.config.camera.name == "a")
            watched.set_session("s-1", SessionPhase.STREAMING)
            await here.settled()
            old = {name: names_of(await here.pods(name)) for name in cameras}
            patch = {"spec": {"agent": {"image": "agent:2"}}}
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", patch)
            moved: list[str] = []
            while len(moved) < len(cameras):
                await asyncio.sleep(0.05)
                counts = [len(await here.pods(name)) for name in cameras]
                assert sum(count > 1 for count in counts) <= 1
                for name in cameras:
                    pods = names_of(await here.pods(name))
                    if name not in moved and len(pods) == 1 and pods != old[name]:
                        moved.append(name)
            assert moved == ["b", "c", "d", "a"]
            await here.settled()
            assert here.operator._rollouts._classes == {}

    run(main)


def test_a_broken_image_stops_at_the_first_camera() -> None:
    async def main() -> None:
        async with world() as here:
            for name in ("a", "b"):
                await here.start_camera(name)
            here.kubelet.hold = True
            patch = {"spec": {"agent": {"image": "agent:broken"}}}
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", patch)
            await here.settled(400)
            assert [len(await here.pods(name)) for name in ("a", "b")] == [2, 1]
            assert await here.is_ready("a")
            assert await here.is_ready("b")
            good = {"spec": {"agent": {"image": "agent:good"}}}
            here.kubelet.hold = False
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", good)
            await here.settled(30)
            images = [(await here.pods(name))[0]["spec"]["containers"][0]["image"] for name in ("a", "b")]
            assert images == ["agent:good", "agent:good"]
            assert [len(await here.pods(name)) for name in ("a", "b")] == [1, 1]

    run(main)


def test_a_killed_agent_is_lost_and_back() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            here.agent().set_source(SourceReason.STREAMING)
            await until(lambda: phase_is(here, "s-1", "Streaming"))
            (pod,) = await here.pods()
            await here.kubelet.crash("default", pod["metadata"]["name"])
            await until(lambda: phase_is(here, "s-1", "Ended"))
            session = await here.session("s-1")
            assert session is not None
            assert session["status"]["endReason"] == "AgentLost"
            await here.ready()
            assert len(await here.pods()) == 1

    run(main)


def test_a_lost_pod_is_replaced_at_once() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            await until(lambda: phase_is(here, "s-1", "Streaming"))
            (pod,) = await here.pods()
            name = pod["metadata"]["name"]
            await here.cluster.delete(POD, "default", name, grace_seconds=0)
            here.links.died(pod["status"]["podIP"])
            await until(lambda: phase_is(here, "s-1", "Ended"))
            await here.settled()
            assert await here.is_ready()
            (other,) = await here.pods()
            assert other["metadata"]["name"] != name

    run(main)


def test_failed_pods_are_replaced_later_each_time() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            loop = asyncio.get_running_loop()
            waits = []
            for _ in range(4):
                (pod,) = await here.pods()
                here.links.died(pod["status"]["podIP"])
                await here.kubelet.write(pod, evicted_status())
                began = loop.time()
                await until(partial(another, here, pod), 200)
                waits.append(loop.time() - began)
                await here.settled()
            assert waits[0] < 1
            assert waits[1] < 3
            assert 3 <= waits[3] < 9  # 8 s, less up to half; times of pods are whole seconds

    run(main)


def test_a_pod_that_the_api_server_refuses_is_told() -> None:
    async def main() -> None:
        async with world() as here:

            def fail(verb: str, kind: Kind, name: str) -> ForbiddenError | None:
                return ForbiddenError("exceeded quota: pods=1.") if verb == "apply" and kind == POD else None

            here.recording.fail = fail
            await here.add_camera()
            await until(lambda: reason_is(here, "AgentReady", "QuotaExceeded"))
            assert "exceeded quota" in (await here.condition("AgentReady"))[2]
            await here.settled(120)
            here.recording.calls.clear()
            await here.settled(300)
            assert here.recording.count("replace_status", "Camera") == 0
            here.recording.fail = lambda verb, kind, name: None
            await here.ready()

    run(main)


def test_somebody_elses_service_is_not_taken_over() -> None:
    async def main() -> None:
        async with world() as here:
            spec = {"ports": [{"port": 80}], "selector": {"app": "theirs"}}
            foreign = {"metadata": {"name": "camera-gate", "namespace": "default"}, "spec": spec}
            await here.cluster.create({"apiVersion": "v1", "kind": "Service", **foreign})
            await here.add_camera()
            await until(lambda: reason_is(here, "AgentReady", "PodRefused"))
            service = await here.cluster.get(SERVICE, "default", "camera-gate")
            assert service["spec"] == spec

    run(main)


def test_drift_of_children_is_repaired() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.cluster.merge_patch(
                SERVICE,
                "default",
                "camera-gate",
                {"spec": {"selector": {"sightline.dev/camera": "other"}}, "metadata": {"labels": {"mine": "1"}}},
            )
            await here.settled()
            service = await here.cluster.get(SERVICE, "default", "camera-gate")
            assert service["spec"]["selector"]["sightline.dev/camera"] == "gate"
            assert service["metadata"]["labels"]["mine"] == "1"

    run(main)


def test_a_secret_is_never_read() -> None:
    async def main() -> None:
        async with world() as here:

            def fail(verb: str, kind: Kind, name: str) -> ForbiddenError | None:
                assert kind != SECRET or verb == "apply"
                return None

            here.recording.fail = fail
            here.recording.reads = True
            await here.start_camera()
            url = "rtsp://other.example/stream"
            await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"source": {"rtsp": {"url": url}}}})
            await here.settled()
            await here.cluster.delete(CAMERA, "default", "gate")
            await here.settled()
            assert {call[0] for call in here.recording.calls if call[1] == "Secret"} == {"apply"}
            assert here.recording.count("apply", "Secret") == 2

    run(main)


def test_a_secret_that_was_lost_is_there_for_the_next_pod() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled(10)
            await here.cluster.delete(SECRET, "default", "camera-gate")
            (pod,) = await here.pods()
            here.links.died(pod["status"]["podIP"])
            await here.cluster.delete(POD, "default", pod["metadata"]["name"], grace_seconds=0)
            await here.settled()
            assert await here.is_ready()
            assert decoded(await here.cluster.get(SECRET, "default", "camera-gate"))

    run(main)


def test_a_secret_that_is_lost_before_the_pod_starts_is_written_again() -> None:
    async def main() -> None:
        async with world() as here:
            here.kubelet.start_seconds = 5.0
            await here.add_camera()
            await until(lambda: has_pods(here))
            await here.cluster.delete(SECRET, "default", "camera-gate")
            await until(here.is_ready, 60)
            assert 10 <= asyncio.get_running_loop().time() < 20  # the pod tells of its birth in whole seconds: 0

    run(main)


def test_somebody_elses_secret_is_not_taken_over() -> None:
    async def main() -> None:
        async with world() as here:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "camera-gate", "namespace": "default"}}
            data = {"password": "aHVudGVyMg=="}
            await here.cluster.create({**secret, "data": data})
            await here.add_camera()
            await until(lambda: reason_is(here, "AgentReady", "PodRefused"))
            assert "belongs to somebody else" in (await here.condition("AgentReady"))[2]
            found = await here.cluster.get(SECRET, "default", "camera-gate")
            assert found["data"] == data
            assert not found["metadata"].get("ownerReferences")
            await here.cluster.delete(SECRET, "default", "camera-gate")
            await here.ready()

    run(main)


def test_deleting_the_camera_ends_its_sessions_and_nothing_else() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera("gate")
            agent = here.agent()
            await here.start_camera("yard")
            await here.add_session("s-1", "gate")
            agent.set_session("s-1", SessionPhase.STREAMING)
            await until(lambda: phase_is(here, "s-1", "Streaming"))
            await here.cluster.delete(CAMERA, "default", "gate")
            await until(lambda: phase_is(here, "s-1", "Ended"))
            session = await here.session("s-1")
            assert session is not None
            assert session["status"]["endReason"] == "CameraDeleted"
            await here.settled()
            assert await here.pods("gate") == []
            with pytest.raises(NotFoundError):
                await here.cluster.get(SECRET, "default", "camera-gate")
            assert await here.is_ready("yard")
            await until(lambda: phase_is(here, "s-1", "absent"))

    run(main)


def test_a_camera_made_again_gets_children_of_its_own() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            (before,) = await here.pods()
            await here.cluster.delete(CAMERA, "default", "gate")
            made = await here.start_camera()
            await here.settled()
            (after,) = await here.pods()
            assert after["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
            assert after["metadata"]["name"] != before["metadata"]["name"]

    run(main)


def test_source_failures_are_copied_and_recover() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            here.agent().set_source(SourceReason.AUTHENTICATION_FAILED, message="The camera refuses the password.")
            await until(lambda: reason_is(here, "SourceReady", "AuthenticationFailed"))
            assert not await here.is_ready()
            said, advised = (await here.condition("Ready"))[2].split(". ")
            assert (said, advised) == ("The camera refuses the password", "Correct the Secret that the source names.")
            here.agent().set_source(SourceReason.STREAMING, video_codec="H264", width=1920, height=1080, fps=29.97)
            await here.ready()
            status = (await here.camera())["status"]
            assert (status["live"], status["phase"], status["source"]["fps"]) == (True, "Streaming", 30)

    run(main)


def test_numbers_alone_are_written_every_ten_seconds() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            here.agent().set_source(SourceReason.STREAMING, bitrate=4_000_000)
            await here.settled(15)
            here.recording.calls.clear()
            for second in range(60):
                here.agent().set_source(SourceReason.STREAMING, bitrate=3_000_000 + second * 100_000)
                await asyncio.sleep(1)
            assert 5 <= here.recording.count("replace_status", "Camera") <= 7

    run(main)


def test_an_api_server_that_fails_often_is_outlived() -> None:
    async def main() -> None:
        async with world() as here:
            dice = random.Random(1)

            def fail(verb: str, kind: Kind, name: str) -> UnavailableError | None:
                return UnavailableError("try later") if dice.random() < 0.5 else None

            here.recording.fail = fail
            await here.add_camera()
            await until(here.is_ready, 3600.0)
            await here.settled()
            assert len(await here.pods()) == 1

    run(main)


def test_an_unreachable_agent_is_told_and_a_blip_is_not() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            (pod,) = await here.pods()
            address = pod["status"]["podIP"]
            agent = here.agent()
            here.links.disconnect(address)
            await asyncio.sleep(2)
            here.links.connect(address)
            await here.settled()
            assert await here.is_ready()
            here.links.died(address)
            await asyncio.sleep(40)
            assert (await here.condition("AgentReady"))[:2] == ("False", "Unreachable")
            assert names_of(await here.pods()) == [pod["metadata"]["name"]]
            here.links.started(address, agent)
            await here.ready()

    run(main)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("ImagePullBackOff", "ImagePullFailed"), ("CrashLoopBackOff", "CrashLoop")],
)
def test_a_pod_that_cannot_start_says_why(reason: str, expected: str) -> None:
    async def main() -> None:
        async with world() as here:
            here.kubelet.hold = True
            await here.add_camera()
            await until(lambda: has_pods(here))
            (pod,) = await here.pods()
            await here.kubelet.write(pod, waiting_status("", reason))
            await until(lambda: reason_is(here, "AgentReady", expected))

    run(main)


def test_a_recording_cluster_counts() -> None:
    async def main() -> None:
        async with world() as here:
            recording = Recording(here.cluster)
            with pytest.raises(NotFoundError):
                await recording.delete(CAMERA, "default", "nobody")
            assert recording.calls == [("delete", "Camera", "nobody")]

    run(main)


def test_deleted_events_of_older_versions_do_no_harm() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            (pod,) = await here.pods()
            old = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "1"}}
            here.cache.observe(POD, EventType.DELETED, old)
            await here.settled()
            assert len(await here.pods()) == 1

    run(main)
