"""Who goes first when many keys wait at once."""

from typing import Any

import pytest

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, STREAM_SESSION
from sightline_kube.memory import MemoryCluster
from sightline_model.reasons import AgentReason
from sightline_operator.core import KINDS, Operator
from tests.operator.samples import camera, camera_class, session
from tests.operator.virtualtime import now, run
from tests.operator.world import OPTIONS, FakeLinks

MANY = 100
ADDED, MODIFIED = EventType.ADDED, EventType.MODIFIED
SESSION = Key(STREAM_SESSION, "site", "s-1")
ANSWERED = {"phase": "Streaming", "timestamps": {"authorized": "2026-11-21T12:00:00Z"}}
RESTS = {"conditions": [{"type": "AgentReady", "status": "False", "reason": AgentReason.SCALED_TO_ZERO}]}
SERVES = {"conditions": [{"type": "AgentReady", "status": "True", "reason": AgentReason.READY}]}


def at(version: int, obj: Obj) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


class Waiting:
    """An operator of which no key is looked at, and the cache that tells it things."""

    def __init__(self) -> None:
        self.cache = Cache(KINDS)
        self.operator = Operator(MemoryCluster(clock=now), self.cache, FakeLinks(), OPTIONS, clock=now)
        self.operator.queue.open = True

    def edit_of_the_class(self) -> None:
        """Brings all cameras back."""
        self.cache.observe(CAMERA_CLASS, MODIFIED, at(5000, camera_class({"warmAgents": 1})))

    def session(self, version: int, status: dict[str, Any] | None = None) -> None:
        self.cache.observe(STREAM_SESSION, ADDED, at(version, session(status)))

    async def place_of(self, wanted: Key) -> int:
        """How many are looked at before it."""
        before = 0
        while len(self.operator.queue):
            key = await self.operator.queue.get()
            self.operator.queue.done(key)
            if key == wanted:
                return before
            before += 1
        raise AssertionError(f"{wanted} does not wait")


async def busy(status: dict[str, Any] | None = None) -> Waiting:
    """Many cameras are to be looked at; `gate` is the last one."""
    here = Waiting()
    here.cache.observe(CAMERA_CLASS, ADDED, at(1, camera_class()))
    for number in range(MANY):
        here.cache.observe(CAMERA, ADDED, at(number + 2, camera(name=f"c-{number}")))
    here.cache.observe(CAMERA, ADDED, at(MANY + 2, camera(status=status)))
    await here.place_of(Key(CAMERA, "site", "gate"))
    here.edit_of_the_class()
    return here


def test_a_new_session_does_not_wait_behind_all_cameras() -> None:
    async def main() -> None:
        here = await busy()
        assert len(here.operator.queue) >= MANY
        here.session(6000)
        assert await here.place_of(SESSION) == 0

    run(main)


def test_sessions_come_before_cameras_that_serve_them() -> None:
    async def main() -> None:
        here = await busy(SERVES)
        here.session(6000, ANSWERED)
        here.operator.queue.add(Key(CAMERA, "site", "gate"))
        assert await here.place_of(SESSION) == 0
        assert await here.place_of(Key(CAMERA, "site", "gate")) > MANY // 2

    run(main)


@pytest.mark.parametrize("status", [RESTS, {}])
def test_a_camera_whose_agent_is_waited_for_does_not_wait_behind_the_others(status: dict[str, Any]) -> None:
    async def main() -> None:
        here = await busy(status)
        here.session(6000)
        assert await here.place_of(SESSION) == 0
        here.operator.queue.add(Key(CAMERA, "site", "gate"))
        assert await here.place_of(Key(CAMERA, "site", "gate")) == 0

    run(main)


def test_without_sessions_all_cameras_are_alike() -> None:
    async def main() -> None:
        here = await busy(RESTS)
        assert await here.place_of(Key(CAMERA, "site", "gate")) >= MANY

    run(main)


@pytest.mark.parametrize(("generation", "first"), [(2, True), (1, False)])
def test_an_edit_does_not_wait_behind_all_that_is_only_looked_at_again(generation: int, first: bool) -> None:
    async def main() -> None:
        here, well = Waiting(), {"observedGeneration": 1}
        here.cache.observe(CAMERA_CLASS, ADDED, at(1, camera_class()))
        for number in range(MANY):
            here.cache.observe(CAMERA, ADDED, at(number + 2, camera(status=well, name=f"c-{number}")))
        here.cache.observe(CAMERA, ADDED, at(MANY + 2, camera(status=well)))
        while len(here.operator.queue):
            here.operator.queue.done(await here.operator.queue.get())
        here.edit_of_the_class()
        here.cache.observe(CAMERA, MODIFIED, at(6000, camera(status=well, generation=generation)))
        assert (await here.place_of(Key(CAMERA, "site", "gate")) == 0) is first

    run(main)
