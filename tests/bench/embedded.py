"""Figures of embedded mode: from the command to the picture, first frames, and the return after an agent's death."""

import asyncio
import os
import signal
import time
from pathlib import Path

from playwright.async_api import Page

from tests.helpers.browser import Player, new_page
from tests.helpers.dev import TOKEN, Dev, running

CAMERA = "default/test-pattern"


async def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, by name of the figure."""
    series: dict[str, list[float]] = {
        "`make dev` to the test pattern playing in Chromium, s": [],
        "first frame, source stopped, from the POST, s": [],
        "first frame, source running, from the POST, s": [],
        "agent killed to playing again, s": [],
    }
    for number in range(rounds):
        state = folder / str(number)
        state.mkdir()
        started = time.monotonic()
        async with running(state) as dev, new_page() as page:
            figures = await _round(dev, page, started)
        for values, value in zip(series.values(), figures, strict=True):
            values.append(value)
    return series


async def _round(dev: Dev, page: Page, started: float) -> tuple[float, float, float, float]:
    player = Player(page)
    await player.open(dev.url, TOKEN, CAMERA)
    await player.wait_for("playing")
    to_playing = time.monotonic() - started
    stopped = await player.first_frame()
    async with new_page() as second:
        other = Player(second)
        await other.open(dev.url, TOKEN, CAMERA)
        await other.wait_for("playing")
        running_source = await other.first_frame()
    await asyncio.sleep(11)  # steady: the player forgets earlier failures after ten seconds of playing
    await player.remember_states()
    killed = time.monotonic()
    for pid in dev.agents():
        os.kill(pid, signal.SIGKILL)
    await player.wait_for_return()
    return to_playing, stopped, running_source, time.monotonic() - killed
