"""`kubectl drain` of a node while somebody in real Chromium watches a camera on it.

The local cluster has one node. So the successor finds no place at first, and the viewer goes on as before. Then the
test does what the scheduler would do with another node: it binds the successor, to the only node that there is. The
viewer is handed over, and the drain comes to its end by itself.
"""

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.test_node import camera_manifest, has_ended, until
from tests.helpers.browser import Player, new_page
from tests.helpers.demo import Demo

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

FPS = 30
CAMERA = "drained"
SELECTOR = f"sightline.dev/camera={CAMERA}"


@pytest.fixture
def node(demo: Demo) -> Iterator[str]:
    """The node's name; its camera may be watched, and it takes pods again at the end."""
    name = demo.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    spec = {"rollout": {"drainTimeout": "3s"}, "agent": {"pullPolicy": "IfNotPresent"}}
    demo.kubectl.apply(
        {"apiVersion": "sightline.dev/v1alpha1", "kind": "CameraClass", "metadata": {"name": CAMERA}, "spec": spec}
    )
    demo.kubectl.apply(camera_manifest(CAMERA, {"testPattern": {"fps": FPS}}, className=CAMERA))
    try:
        demo.kubectl.wait("camera", CAMERA, "condition=Ready")
        yield name
    finally:
        demo.kubectl("uncordon", name)
        demo.kubectl("delete", "camera", CAMERA, "--wait=true")
        demo.kubectl("delete", "cameraclass", CAMERA)


async def test_a_drain_waits_for_the_viewer_to_be_handed_over(demo: Demo, node: str) -> None:
    async with new_page() as page:
        player = Player(page)
        await player.open(demo.url, demo.token, f"default/{CAMERA}")
        await player.wait_for("playing")
        await player.remember_states()
        (old,) = _pods(demo)
        (session,) = _sessions(demo)
        async with _drain(demo, node) as drain:
            seen = await until(
                demo, "camera", CAMERA, lambda found: "Another one is to take over" in _agent_says(found)
            )
            assert seen["status"]["agent"]["pod"] == old
            await player.wait_for_frames(2 * FPS, 3.0)
            assert await player.states() == []
            assert drain.returncode is None

            (successor,) = _pods(demo) - {old}
            _bind(demo, successor, node)
            await player.wait_for_return()
            ended = await until(demo, "streamsession", session, has_ended)  # it stays for a minute
            assert ended["status"]["endReason"] == "Moved"
            await player.wait_for_frames(2 * FPS, 3.0)
            assert "failed" not in await player.states()
            assert await drain.wait() == 0
        assert old not in _pods(demo)


@asynccontextmanager
async def _drain(demo: Demo, node: str) -> AsyncIterator[Process]:
    """`kubectl drain` of the camera's pods, ended with the context."""
    which = ("--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector={SELECTOR}")
    command = (demo.kubectl.program, f"--kubeconfig={demo.kubectl.kubeconfig}", "drain", node, *which)
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _bind(demo: Demo, pod: str, node: str) -> None:
    """Put a pod on the node, cordoned or not."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}
    demo.kubectl("create", "--raw", f"/api/v1/namespaces/default/pods/{pod}/binding", "-f", "-", manifest=binding)


def _pods(demo: Demo) -> set[str]:
    """Pods of the camera that are not on their way out."""
    found = demo.kubectl.list("pods", SELECTOR)
    return {pod["metadata"]["name"] for pod in found if not pod["metadata"].get("deletionTimestamp")}


def _sessions(demo: Demo) -> list[str]:
    """Sessions of the camera."""
    found = demo.kubectl.list("streamsessions")
    return [item["metadata"]["name"] for item in found if item["spec"]["cameraRef"]["name"] == CAMERA]


def _agent_says(camera: dict[str, Any]) -> str:
    return next(str(item["message"]) for item in camera["status"]["conditions"] if item["type"] == "AgentReady")
