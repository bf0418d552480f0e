"""One session and its quality, on virtual time: chosen by the viewer, or by what its link carries."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sightline_agent.adaptation import Rules
from sightline_agent.errors import ProblemError
from sightline_agent.media.frames import MediaFormat, VideoFormat
from sightline_agent.quality import Cause
from sightline_agent.signaling.sessions import OpenRequest
from sightline_agent.sources.base import SourceError
from sightline_model.problems import ProblemCode
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionRole, Transport
from tests.agents.test_registry import FakePeer, World
from tests.helpers.virtual_time import run, settle


class Viewer:
    """A session that plays, with three qualities."""

    def __init__(self) -> None:
        self.world = World()
        self.world.renditions.names = ["main", "sd", "tiny"]

    @property
    def peer(self) -> FakePeer:
        return self.world.peers[0]

    @property
    def profile(self) -> str:
        (report,) = [report for report in self.world.registry.reports() if report.id == "s-1"]
        return report.profile

    async def open(self, profile: str | None = None) -> None:
        request = OpenRequest("s-1", "alice", SessionRole.VIEW, Transport.WHEP, "offer", profile=profile)
        await self.world.registry.open(request)
        await asyncio.sleep(1)

    async def select(self, profile: str | None) -> None:
        await self.world.registry.select("s-1", profile)

    async def refused(self, profile: str | None) -> ProblemCode:
        with pytest.raises(ProblemError) as caught:
            await self.select(profile)
        return caught.value.problem.code

    async def receive(self, seconds: int, loss: float = 0.0) -> None:
        """A report each second."""
        for _ in range(seconds):
            self.peer.reports += 1
            self.peer.loss = loss
            await asyncio.sleep(1)
            self.world.registry._session("s-1").alive()


def story(scenario: Callable[[Viewer], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        viewer = Viewer()
        running = asyncio.create_task(viewer.world.registry.run())
        await scenario(viewer)
        await viewer.world.registry.shutdown(EndReason.AGENT_LOST, "the test is over")
        running.cancel()
        await asyncio.wait({running})
        await settle()
        assert viewer.world.renditions.attached == 0

    run(tell())


def test_a_viewer_gets_what_it_asks_for_at_the_beginning() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open("sd")
        assert viewer.profile == "sd"
        assert not viewer.world.registry.layers("s-1").automatic

    story(scenario)


def test_a_quality_that_nobody_knows_opens_nothing() -> None:
    async def scenario(viewer: Viewer) -> None:
        with pytest.raises(ProblemError) as caught:
            await viewer.open("hd")
        assert caught.value.problem.code is ProblemCode.PROFILE_NOT_FOUND
        assert "main, sd, tiny" in caught.value.problem.detail
        assert viewer.world.renditions.ever == 0
        await viewer.open("sd")  # the session id was not used up

    story(scenario)


def test_a_viewer_changes_and_holds_one_place_only() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        await viewer.select("sd")
        assert (viewer.profile, viewer.peer.places) == ("sd", ["sd"])
        assert viewer.world.renditions.attached == 1
        assert viewer.world.told[-1].profile == "sd"
        await viewer.select("sd")
        assert viewer.peer.places == ["sd"]
        assert viewer.world.registry.quality_changes == {Cause.VIEWER: 1}

    story(scenario)


def test_what_cannot_be_had_leaves_all_as_it_is() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        renditions = viewer.world.renditions
        assert await viewer.refused("hd") is ProblemCode.PROFILE_NOT_FOUND
        renditions.formats["sd"] = MediaFormat(VideoFormat("H265"))
        assert await viewer.refused("sd") is ProblemCode.CODEC_NOT_OFFERED
        renditions.error = SourceError(SourceReason.UNREACHABLE, "away")
        assert await viewer.refused("tiny") is ProblemCode.SOURCE_UNREACHABLE
        assert (viewer.profile, viewer.peer.places, renditions.attached) == ("main", [], 1)
        layers = viewer.world.registry.layers("s-1")
        assert (layers.selected, layers.automatic) == ("main", True)

    story(scenario)


def test_the_newest_wish_is_followed() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        viewer.world.renditions.key_frame_in = 1.0
        first = asyncio.create_task(viewer.refused("sd"))
        await asyncio.sleep(0.5)
        await viewer.select("tiny")
        assert await first is ProblemCode.CONFLICT
        assert viewer.peer.places == ["tiny"]
        assert viewer.world.renditions.attached == 1

    story(scenario)


def test_a_session_that_ends_meanwhile_leaves_nothing() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        viewer.world.renditions.key_frame_in = 100.0
        wish = asyncio.create_task(viewer.refused("sd"))
        await asyncio.sleep(0.5)
        await viewer.world.registry.close("s-1", EndReason.HANGUP)
        assert await wish is ProblemCode.CONFLICT
        assert viewer.peer.places == []

    story(scenario)


def test_a_wish_that_comes_while_the_session_ends_is_too_late() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        await viewer.select("sd")
        viewer.peer.hangs = True
        ending = asyncio.create_task(viewer.world.registry.close("s-1", EndReason.HANGUP))
        await asyncio.sleep(1)
        assert await viewer.refused("tiny") is ProblemCode.SESSION_NOT_FOUND
        await ending
        assert viewer.world.end().profile == "sd"

    story(scenario)


def test_a_thin_link_leads_down_and_a_clean_one_up_again() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        await viewer.receive(10)
        assert viewer.profile == "main"
        await viewer.receive(4, loss=0.2)
        assert viewer.profile == "sd"
        await viewer.receive(int(Rules().up_after) + 5)
        assert viewer.profile == "main"
        assert viewer.world.registry.quality_changes == {Cause.DOWN: 1, Cause.UP: 1}

    story(scenario)


def test_there_is_nothing_below_the_least_one() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        await viewer.receive(60, loss=0.3)
        assert viewer.peer.places == ["sd", "tiny"]

    story(scenario)


@pytest.mark.parametrize("at_first", [True, False])
def test_the_viewers_choice_wins(at_first: bool) -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open("main" if at_first else None)
        if not at_first:
            await viewer.select("main")
        await viewer.receive(30, loss=0.3)
        assert viewer.profile == "main"
        await viewer.select(None)
        await viewer.receive(6, loss=0.3)
        assert viewer.profile == "sd"

    story(scenario)


def test_a_quality_that_does_not_run_is_tried_again_later() -> None:
    async def scenario(viewer: Viewer) -> None:
        await viewer.open()
        viewer.world.renditions.error = SourceError(SourceReason.UNREACHABLE, "away")
        await viewer.receive(8, loss=0.3)
        assert viewer.profile == "main"
        viewer.world.renditions.error = None
        await viewer.receive(10, loss=0.3)
        assert viewer.peer.places[0] == "sd"

    story(scenario)
