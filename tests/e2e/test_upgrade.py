"""Another version by Helm and back again, while somebody in real Chromium watches.

The version is these very images under another tag. Where the agents' template stays as it is, nothing of theirs is
touched; where it changes, a newer agent is there before the old one goes.
"""

import asyncio
import json
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hack.cluster.images import COMPONENTS
from hack.cluster.paths import node_dir
from hack.cluster.runtime import Runtime
from tests.e2e.test_node import has_ended, until
from tests.helpers.browser import Player, new_page
from tests.helpers.demo import Demo

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

FPS = 30
CAMERA = "test-pattern"
NEXT = "next"
PARTS = ("operator", "api")


@dataclass(frozen=True)
class Version:
    """What is installed."""

    registry: str
    tag: str

    def image(self, component: str) -> str:
        """The full name of an image."""
        return f"{self.registry}/{component}:{self.tag}"


@pytest.fixture
def installed(demo: Demo) -> Version:
    image = json.loads(demo.helm("get", "values", "sightline", "--all", "--output=json"))["image"]
    return Version(image["registry"], image["tag"])


@contextmanager
def following(version: Version) -> Iterator[Version]:
    """A version with the same content and another name."""
    runtime, following = Runtime(node_dir()), Version(version.registry, NEXT)
    for component in COMPONENTS:
        runtime.tag(version.image(component), following.image(component))
    try:
        yield following
    finally:
        runtime.forget([following.image(component) for component in COMPONENTS])


def agent(demo: Demo) -> dict[str, Any]:
    """The pod that serves the camera."""
    name = demo.kubectl.get("camera", CAMERA)["status"]["agent"]["pod"]
    return demo.kubectl.get("pod", name)


def restarts(pod: dict[str, Any]) -> list[int]:
    """How often its containers were started again."""
    return [status["restartCount"] for status in pod["status"]["containerStatuses"]]


def images(demo: Demo) -> dict[str, set[str]]:
    """What the pods of operator and front door run."""
    found = {part: demo.kubectl.list("pods", f"app.kubernetes.io/component={part}", demo.namespace) for part in PARTS}
    return {
        part: {pod["spec"]["containers"][0]["image"] for pod in pods if not pod["metadata"].get("deletionTimestamp")}
        for part, pods in found.items()
    }


def watching(demo: Demo) -> set[str]:
    """Sessions of the camera that stream."""
    return {
        session["metadata"]["name"]
        for session in demo.kubectl.list("streamsessions")
        if session["spec"]["cameraRef"]["name"] == CAMERA and session["status"]["phase"] == "Streaming"
    }


async def until_watching(demo: Demo, others: set[str]) -> str:
    """The one session that streams beside those of others, as soon as that is written."""
    async with asyncio.timeout(90):
        while len(found := await asyncio.to_thread(watching, demo) - others) != 1:
            await asyncio.sleep(0.3)
    return found.pop()


async def until_running(demo: Demo, version: Version) -> None:
    """Wait until operator and front door are of that version alone."""
    async with asyncio.timeout(90):
        while await asyncio.to_thread(images, demo) != {part: {version.image(part)} for part in PARTS}:
            await asyncio.sleep(0.3)


async def settled(demo: Demo) -> None:
    """Wait until all agents run what their class asks for, and no old one is left."""
    async with asyncio.timeout(180):
        while True:
            status = (await asyncio.to_thread(demo.kubectl.get, "cameraclass", "default"))["status"]
            rolled = {item["type"]: item["status"] for item in status["conditions"]}["RolledOut"]
            pods = await asyncio.to_thread(demo.kubectl.list, "pods", f"sightline.dev/camera={CAMERA}")
            if rolled == "True" and len(pods) == 1:
                return
            await asyncio.sleep(0.3)


async def test_agents_are_left_alone_when_their_template_is_the_same(demo: Demo, installed: Version) -> None:
    """Operator and front door change and change back: the same agent, the same session, no frame is waited for."""
    async with new_page() as page:
        player, others = Player(page), watching(demo)
        await player.open(demo.url, demo.token, f"default/{CAMERA}")
        await player.wait_for("playing")
        await player.remember_states()
        before, session = agent(demo), await until_watching(demo, others)
        with following(installed) as newer:
            kept = f"operator.agentImage={installed.image('agent')}"
            await asyncio.to_thread(demo.helm_set, f"image.tag={newer.tag}", kept)
            try:
                await until_running(demo, newer)
                await _undisturbed(demo, player, before, session)
            finally:
                await asyncio.to_thread(demo.helm_rollback)
            await until_running(demo, installed)
            await _undisturbed(demo, player, before, session)


async def _undisturbed(demo: Demo, player: Player, before: dict[str, Any], session: str) -> None:
    """The player has never stopped playing, and the operator has found everything as it was."""
    await player.wait_for_frames(3 * FPS - 12, 3.0)
    await settled(demo)
    now = agent(demo)
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(now) == restarts(before)
    assert session in watching(demo)
    assert await player.states() == []


async def test_a_changed_agent_comes_before_the_old_one_goes(demo: Demo, installed: Version) -> None:
    """Watched agents are replaced too, in the end: the viewer has drainTimeout, then moves by himself."""
    async with new_page() as page:
        player, others = Player(page), watching(demo)
        await player.open(demo.url, demo.token, f"default/{CAMERA}")
        await player.wait_for("playing")
        with following(installed) as newer:
            step = asyncio.to_thread(
                demo.helm_set, f"image.tag={newer.tag}", "defaultClass.spec.rollout.drainTimeout=5s"
            )
            try:
                await _moved(demo, player, step, others)
                assert agent(demo)["spec"]["containers"][0]["image"] == newer.image("agent")
            finally:
                back = asyncio.to_thread(demo.helm_rollback)
                await _moved(demo, player, back, others)
            assert agent(demo)["spec"]["containers"][0]["image"] == installed.image("agent")
        # What the upgrade had written into the default class is gone with it.
        assert demo.kubectl.get("cameraclass", "default")["spec"]["rollout"]["drainTimeout"] == "60s"


async def _moved(demo: Demo, player: Player, step: Awaitable[None], others: set[str]) -> None:
    """The step moves the viewer to another agent; there was one that answered all the time."""
    before, session = agent(demo), await until_watching(demo, others)
    await player.remember_states()
    seen: list[dict[str, Any]] = []
    looking = asyncio.create_task(_look(demo, seen))
    try:
        await step
        await player.wait_for_return(120)
        ended = await until(demo, "streamsession", session, has_ended)  # it stays for a minute
        assert ended["status"]["endReason"] == "Moved"
        await player.wait_for_frames(3 * FPS - 12, 3.0)
        await settled(demo)
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    now = agent(demo)
    assert now["metadata"]["uid"] != before["metadata"]["uid"]
    assert [status["phase"] for status in seen if not _answers(status)] == []
    both = [status for status in seen if status.get("formerAgents")]
    assert {status["agent"]["pod"] for status in both} == {now["metadata"]["name"]}
    assert {former["pod"] for status in both for former in status["formerAgents"]} == {before["metadata"]["name"]}
    assert "failed" not in await player.states()


async def _look(demo: Demo, seen: list[dict[str, Any]]) -> None:
    """Read the camera's status again and again."""
    while True:
        seen.append((await asyncio.to_thread(demo.kubectl.get, "camera", CAMERA))["status"])
        await asyncio.sleep(0.2)


def _answers(status: dict[str, Any]) -> bool:
    return ("AgentReady", "True") in {(item["type"], item["status"]) for item in status["conditions"]}
