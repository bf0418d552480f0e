"""Two qualities of a camera in real Chromium: changed while it plays, on demand and by what the link carries."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sightline_model.reasons import SourceReason
from tests.helpers.agent import Standalone, standalone
from tests.helpers.browser import Player, new_page
from tests.helpers.clip import encoded
from tests.helpers.dev import TOKEN, Dev, running
from tests.helpers.lossy_relay import LossyRelay, lossy_relay
from tests.helpers.rtsp_server import Habits, serve
from tests.helpers.whep_page import WhepPage, Window

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

RATE = 30
HD, SD = 960, 320
SOURCES = (
    f"testpattern://?width={HD}&height=540&fps={RATE}",
    "--profile",
    f"sd=testpattern://?width={SD}&height=180&fps={RATE}",
    "--idle-timeout",
    "1",
)
LONGEST = 1000.0
"""Milliseconds between two pictures, the change included."""
TRIES = 5


@asynccontextmanager
async def viewer(sources: tuple[str, ...] = SOURCES) -> AsyncIterator[tuple[WhepPage, LossyRelay, Standalone]]:
    """A browser that watches the better one through a relay that still loses nothing."""
    async with standalone(*sources) as agent, lossy_relay(agent.media_port) as relay, new_page() as page:
        await relay.divert_page(page)
        viewer = WhepPage(page)
        await viewer.join(f"http://127.0.0.1:{agent.port}")
        yield viewer, relay, agent


async def state_of(agent: Standalone, profile: str) -> SourceReason:
    report = await agent.report()
    return next(said.reason for said in (report.source, *report.profiles) if said.profile == profile)


async def until_idle(agent: Standalone, profile: str) -> None:
    async with asyncio.timeout(30):
        while await state_of(agent, profile) is not SourceReason.IDLE:
            await asyncio.sleep(0.2)


async def change_to_and_fro(page: WhepPage, is_smooth: Callable[[Window], bool]) -> None:
    """To the lesser quality, to the better and back to the lesser; again where others use the cores, too.

    Each change is seen to be smooth at least once.
    """
    smooth: set[str] = set()
    for number in range(2 * TRIES + 1):
        quality, width = (("sd", SD), ("main", HD))[number % 2]
        watching = asyncio.create_task(page.watch(6.0))
        status, layers = await page.choose(quality)
        assert (status, layers["0"]["selected"], layers["0"]["automatic"]) == (200, quality, False)
        window = await watching
        await page.width(width, 30.0)
        assert (window.state, window.posts) == ("connected", 1)
        if window.starved or (window.longest < LONGEST and is_smooth(window)):
            smooth.add(quality)
        if number >= 2 and number % 2 == 0 and len(smooth) == 2:
            return
    raise AssertionError(f"only the changes to {smooth} were smooth")


async def test_a_viewer_changes_the_quality_while_it_plays() -> None:
    async with viewer() as (page, _, agent):
        await page.width(HD, 60.0)
        await until_idle(agent, "sd")
        await change_to_and_fro(page, lambda seen: seen.decoded > 0.85 * RATE * seen.seconds)
        # The better one, which nobody watches any more, has been stopped.
        await until_idle(agent, "main")
        assert [session.profile for session in (await agent.report()).sessions] == ["sd"]
        status, problem = await page.choose("hd")
        assert (status, problem["code"]) == (404, "profile-not-found")


async def test_a_camera_that_makes_no_key_frame_on_request_is_waited_for() -> None:
    better = Habits(sets_in_sdp=False, fps=RATE, access_units=encoded(HD, 540, 4, 2 * RATE, 2_000_000))
    lesser = Habits(sets_in_sdp=False, fps=RATE, access_units=encoded(SD, 180, 4, 2 * RATE, 300_000))
    async with serve(better) as hd, serve(lesser) as sd, viewer((hd.url, "--profile", f"sd={sd.url}")) as (page, _, _):
        await change_to_and_fro(page, lambda seen: seen.freezes == 0)


async def told_of_sd(dev: Dev) -> dict[str, Any]:
    """The camera's status, once the operator has told what the lesser quality sends."""
    async with asyncio.timeout(60):
        while True:
            status: dict[str, Any] = await dev.read("/v1/namespaces/default/cameras/yard/status")
            if status["profiles"] and status["profiles"][0]["width"]:
                return status
            await asyncio.sleep(0.2)


async def test_the_players_menu(tmp_path: Path) -> None:
    sources = [
        {"testPattern": {"width": width, "height": height, "fps": RATE}} for width, height in ((HD, 540), (SD, 180))
    ]
    body = {"name": "yard", "spec": {"source": sources[0], "profiles": [{"name": "sd", "source": sources[1]}]}}
    async with running(tmp_path) as dev, new_page() as page:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        cameras = f"{dev.url}/v1/namespaces/default/cameras"
        async with aiohttp.ClientSession(headers=headers) as session, session.post(cameras, json=body) as answer:
            assert answer.status == 201
        player = Player(page)
        await player.open(dev.url, TOKEN, "default/yard")
        await player.wait_for("playing")
        await player.wait_for_width(HD)
        menu = page.get_by_label("Quality")
        await menu.locator("option[value=sd]").wait_for(state="attached")
        assert await menu.input_value() == ""  # automatic
        before = await player.picture()
        await menu.select_option("sd")
        await player.wait_for_width(SD)
        assert (await player.state(), await menu.input_value()) == ("playing", "sd")
        assert (await player.picture()).frames > before.frames  # the same video element and connection
        status = await told_of_sd(dev)
        assert status["live"] is True
        assert [(one["name"], one["state"], one["width"]) for one in status["profiles"]] == [("sd", "Streaming", SD)]
        # The choice outlives a connection.
        for pid in dev.agents():
            os.kill(pid, signal.SIGKILL)
        await player.remember_states()
        await player.wait_for_return()
        await player.wait_for_width(SD)


async def test_a_thin_link_gets_the_lesser_one_and_a_clean_one_the_better_again() -> None:
    async with viewer() as (page, relay, _):
        relay.down.loss = 0.2
        await page.width(SD, 60.0)
        relay.down.loss = 0.0
        await page.width(HD, 120.0)
        window = await page.watch(2.0)
        assert (window.state, window.posts) == ("connected", 1)
        assert window.starved or window.decoded > 1.5 * RATE
