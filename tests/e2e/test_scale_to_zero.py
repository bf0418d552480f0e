"""A camera that nobody watches gives its agent back, and a viewer in real Chromium brings it again."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.helpers.browser import Player, new_page
from tests.helpers.dev import TOKEN, Dev, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CAMERA = "/v1/namespaces/default/cameras/test-pattern"
LEAST = {"spec": {"lifecycle": {"scaleToZeroAfter": "10s"}}}


async def test_a_resting_camera_plays_for_whoever_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as dev, new_page() as page:
        await _agents(dev, 1)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/merge-patch+json"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.patch(dev.url + CAMERA, json=LEAST) as answer,
        ):
            assert answer.status == 200
        await _agents(dev, 0)
        status = await dev.read(f"{CAMERA}/status")
        assert status["ready"] is True
        player = Player(page)
        await player.open(dev.url, TOKEN, "default/test-pattern")
        await player.wait_for("playing")
        await player.wait_for_frames(61, 3.0)
        await _agents(dev, 1)
        await page.close()
        await _agents(dev, 0)


async def _agents(dev: Dev, count: int) -> None:
    """Wait until so many agents run."""
    async with asyncio.timeout(90):
        while len(dev.agents()) != count:
            await asyncio.sleep(0.1)
