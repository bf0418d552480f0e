"""The qualities of a camera on virtual time: each has its own source, which runs while it is watched."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sightline_agent.attachment import Wanted
from sightline_agent.errors import ProblemError
from sightline_agent.hub import Hub, Outside, Tracks
from sightline_agent.renditions import Renditions
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.base import SourceError
from sightline_model.agent import AgentConfig, AgentLifecycle, CameraIdentity, SourceReport
from sightline_model.camera import Profile, StartMode
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.problems import ProblemCode
from sightline_model.reasons import SourceReason
from tests.agents.test_hub import Camera, Recorder
from tests.helpers.virtual_time import run


def source(width: int) -> SourceSpec:
    return SourceSpec(test_pattern=TestPatternSpec(width=width))


def config(*profiles: tuple[str, int], start: StartMode = StartMode.ON_DEMAND) -> AgentConfig:
    return AgentConfig(
        camera=CameraIdentity(namespace="default", name="door", uid="1"),
        source=source(1280),
        profiles=[Profile(name=name, source=source(width)) for name, width in profiles],
        lifecycle=AgentLifecycle(start=start, idle_timeout=30, start_timeout=10),
    )


class World:
    def __init__(self, first: AgentConfig) -> None:
        self.cameras: dict[str, Camera] = {}
        self.pictures: dict[str, Recorder] = {}
        self.told: list[SourceReport] = []
        self.renditions = Renditions(first, self._make, lambda *_: pytest.fail("nothing to transcode"))
        self.renditions.subscribe(self.told.append)

    def _make(self, name: str, of_it: AgentConfig) -> Hub:
        self.cameras[name], self.pictures[name] = Camera(), Recorder()
        tracks = Tracks(self.pictures[name], Soundtrack(Recorder))
        return Hub(of_it, self.cameras[name].make, tracks, Outside(random=lambda: 0.0), name)

    def running(self) -> list[str]:
        return [name for name, camera in self.cameras.items() if camera.running]


def story(first: AgentConfig, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        world = World(first)
        task = asyncio.create_task(world.renditions.run())
        await scenario(world)
        task.cancel()
        await asyncio.wait({task})
        assert world.running() == []

    run(tell())


SD = config(("sd", 320))


def test_only_the_main_source_is_looked_at_before_anybody_watches() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        assert (world.cameras["main"].runs, world.cameras["sd"].runs) == (1, 0)
        assert world.renditions.names == ["main", "sd"]
        assert [report.profile for report in world.renditions.reports()] == ["sd"]

    story(SD, scenario)


@pytest.mark.parametrize("start", list(StartMode))
def test_each_runs_while_it_is_watched(start: StartMode) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        place = await world.renditions.attach(Wanted("sd"))
        assert place.profile == "sd"
        always = ["main"] if start is StartMode.ALWAYS else []
        assert world.running() == [*always, "sd"]
        assert world.cameras["sd"].specs == [source(320)]
        place.leave()
        await asyncio.sleep(31)
        assert world.running() == always

    story(config(("sd", 320), start=start), scenario)


def test_failures_of_one_are_its_own() -> None:
    async def scenario(world: World) -> None:
        world.cameras["sd"].error = SourceError(SourceReason.NOT_FOUND, "no such stream")
        place = await world.renditions.attach(Wanted("main"))
        with pytest.raises(SourceError):
            await world.renditions.attach(Wanted("sd"))
        await asyncio.sleep(100)
        assert world.running() == ["main"]
        assert world.cameras["sd"].runs == 1  # nobody watches it: it is not tried again
        assert world.renditions.report().reason is SourceReason.STREAMING
        assert world.renditions.reports()[0].reason is SourceReason.NOT_FOUND
        place.leave()

    story(SD, scenario)


def test_qualities_come_and_go_with_the_configuration() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(5)
        watched = [await world.renditions.attach(Wanted(name)) for name in ("main", "sd")]
        world.renditions.reconfigure(config(("tiny", 160)))
        await asyncio.sleep(1)
        assert world.renditions.names == ["main", "tiny"]
        assert world.running() == ["main"]
        assert world.cameras["main"].runs == 2  # the look at first, and this viewer's
        gone = next(report for report in reversed(world.told) if report.profile == "sd")
        assert gone.reason is SourceReason.IDLE
        with pytest.raises(ProblemError) as caught:
            await world.renditions.attach(Wanted("sd"))
        assert caught.value.problem.code is ProblemCode.PROFILE_NOT_FOUND
        for place in (*watched, await world.renditions.attach(Wanted("tiny"))):
            place.leave()

    story(SD, scenario)


def test_who_waits_for_a_quality_that_goes_is_told() -> None:
    async def scenario(world: World) -> None:
        world.cameras["sd"].hang = True
        waiting = asyncio.create_task(world.renditions.attach(Wanted("sd")))
        await asyncio.sleep(1)
        world.renditions.reconfigure(config())
        with pytest.raises(SourceError, match="no more"):
            await waiting

    story(SD, scenario)


def test_another_source_of_a_quality_leaves_the_others_alone() -> None:
    async def scenario(world: World) -> None:
        places = [await world.renditions.attach(Wanted(name)) for name in ("main", "sd")]
        runs = world.cameras["main"].runs
        world.renditions.reconfigure(config(("sd", 640)))
        await asyncio.sleep(1)
        assert world.cameras["sd"].specs == [source(320), source(640)]
        assert world.cameras["main"].runs == runs
        for place in places:
            place.leave()

    story(SD, scenario)


def test_a_hub_that_fails_ends_the_agent() -> None:
    async def tell() -> None:
        world = World(SD)

        async def broken() -> None:
            raise RuntimeError("a bug")

        world.renditions._hubs["sd"].run = broken  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="a bug"):
            await world.renditions.run()

    run(tell())
