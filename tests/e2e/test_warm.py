"""Spare agents in the embedded house: real agent processes, a camera that wants a password, a stock viewer."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.agents.test_runtime import real_pictures
from tests.helpers.dev import Dev, running
from tests.helpers.door_viewer import PATIENCE_SECONDS, let_rest, resting, visit
from tests.helpers.rtsp_server import Habits, serve

pytestmark = [pytest.mark.stacks, pytest.mark.timeout(240)]


async def test_a_resting_camera_is_watched_in_a_process_that_was_there_before(tmp_path: Path) -> None:
    habits = Habits(access_units=real_pictures(), username="admin", password="hunter2")
    async with serve(habits) as camera:
        url = camera.url.replace("rtsp://", "rtsp://admin:hunter2@")
        async with running(tmp_path, "--warm-agents=1", f"--camera=door={url}") as dev:
            for name in ("test-pattern", "door"):
                await let_rest(dev, name)
            for name in ("test-pattern", "door"):
                await resting(dev, name)
            (spare,) = await _agents(dev, 1)
            await visit(dev, "door")
            assert spare in dev.agents()
            assert _adoptions(tmp_path) == 1
            # The process is killed; its container is started again, and it is told again whose it is.
            os.kill(spare, signal.SIGKILL)
            await _adopted_again(tmp_path)
            assert spare not in dev.agents()
            await visit(dev, "door")
            assert all("hunter2" not in log.read_text() for log in tmp_path.rglob("*.log"))


def _adoptions(state: Path) -> int:
    return sum(log.read_text().count("agent adopted") for log in (state / "logs").glob("spare-*.log"))


async def _agents(dev: Dev, count: int) -> list[int]:
    """Wait until so many agents run."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found := dev.agents()) != count:
            await asyncio.sleep(0.1)
    return found


async def _adopted_again(state: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while _adoptions(state) < 2:
            await asyncio.sleep(0.05)
