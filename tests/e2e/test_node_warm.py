"""Spare agents under a real kubelet: a camera with a password adopts one and plays in real Chromium.

The namespace allows pods of the `restricted` profile alone, and the chart is switched on for spares as a platform team
would, by an upgrade. A class is deleted at the end: its spare goes, and the pod that was one stays with its viewer.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_node import camera_manifest, condition, pods_of, until
from tests.helpers.browser import Player, new_page
from tests.helpers.demo import Demo
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.timeout(400)]

FPS = 30
CLASS = "warm"
FIRST, SECOND = "warm-first", "warm-second"
WAITING = f"sightline.dev/spare=waiting,sightline.dev/class={CLASS}"
ENFORCE = "pod-security.kubernetes.io/enforce"
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": SECOND, "namespace": "default"},
    "stringData": {"username": "u", "password": "p"},
}


@pytest.fixture
def spare(demo: Demo) -> Iterator[str]:
    """The pod of a spare that waits in the namespace; all of it is taken away at the end."""
    demo.kubectl("label", "namespace", "default", f"{ENFORCE}=restricted")
    demo.helm_set("warmAgents.namespaces={default}")
    spec = {"warmAgents": 1, "agent": {"pullPolicy": "IfNotPresent"}}
    demo.kubectl.apply(
        {"apiVersion": "sightline.dev/v1alpha1", "kind": "CameraClass", "metadata": {"name": CLASS}, "spec": spec}
    )
    demo.kubectl.apply(SECRET)
    # Spares are kept where the class has a camera.
    demo.kubectl.apply(camera_manifest(FIRST, {"testPattern": {"fps": FPS}}, className=CLASS))
    try:
        demo.kubectl.wait("cameraclass", CLASS, "condition=SparesReady")
        (name,) = _waiting(demo)
        yield name
    finally:
        demo.kubectl("delete", "camera", FIRST, SECOND, "--ignore-not-found")
        demo.kubectl("delete", "cameraclass", CLASS, "--ignore-not-found")
        demo.kubectl("delete", "secret", SECOND)
        demo.helm_rollback()
        demo.kubectl("label", "namespace", "default", f"{ENFORCE}-")


async def test_a_camera_adopts_a_spare_plays_and_keeps_it(demo: Demo, spare: str) -> None:
    async with rtsp_camera(demo.host, "--user", "u", "--password", "p") as source, new_page() as page:
        described = {"rtsp": {"url": source.url, "credentialsRef": {"name": SECOND}}}
        demo.kubectl.apply(camera_manifest(SECOND, described, className=CLASS))
        await asyncio.to_thread(demo.kubectl.wait, "camera", SECOND, "condition=Ready")
        assert pods_of(demo, SECOND) == [spare]
        player = Player(page)
        await player.open(demo.url, demo.token, f"default/{SECOND}")
        await player.wait_for("playing")
        await player.wait_for_frames(3 * FPS - 12, 3.0)
        async with asyncio.timeout(90):  # the pool fills up again
            while not await asyncio.to_thread(_stands_by, demo, spare):
                await asyncio.sleep(0.3)

        # The kubelet starts its container again, with nothing of the camera in it: the operator tells it all again.
        await player.remember_states()
        await asyncio.to_thread(demo.kill_agent, SECOND)
        await player.wait_for_return()
        await player.wait_for_frames(3 * FPS - 12, 3.0)
        await until(demo, "camera", SECOND, lambda seen: _ready_in(seen, spare))
        await until(demo, "pod", spare, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] >= 1)

        await player.remember_states()
        demo.kubectl("delete", "cameraclass", CLASS)
        async with asyncio.timeout(90):
            while await asyncio.to_thread(_waiting, demo):
                await asyncio.sleep(0.3)
        await player.wait_for_frames(3 * FPS - 12, 3.0)
        assert await player.states() == []
        assert pods_of(demo, SECOND) == [spare]


def _waiting(demo: Demo) -> list[str]:
    """Spares of the class that no camera has."""
    return [pod["metadata"]["name"] for pod in demo.kubectl.list("pods", WAITING)]


def _stands_by(demo: Demo, adopted: str) -> bool:
    """Whether there is another spare, and the class knows it."""
    said = condition(demo.kubectl.get("cameraclass", CLASS), "SparesReady")
    return said["status"] == "True" and adopted not in (there := _waiting(demo)) and len(there) == 1


def _ready_in(camera: dict[str, Any], pod: str) -> bool:
    agent = camera["status"].get("agent", {})
    return condition(camera, "Ready")["status"] == "True" and bool(agent.get("pod") == pod)
