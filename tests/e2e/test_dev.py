"""`sightline dev` as a newcomer meets it: one process, a token, and pictures in real Chromium."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from tests.helpers.browser import Player, new_page
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOKEN = "a-token-for-tests"
PASSWORD = "hunter2hunter2"
FPS = 30


@dataclass
class Dev:
    """A running development cluster."""

    process: asyncio.subprocess.Process
    url: str
    state: Path

    def agents(self) -> list[int]:
        """Process ids of its agents."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"sightline_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    async def read(self, path: str) -> dict[str, object]:
        """GET of a JSON resource as the developer."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", headers=headers) as answer:
            assert answer.status == 200
            found: dict[str, object] = await answer.json()
            return found


async def start(state: Path, *arguments: str) -> Dev:
    """Start `sightline dev` on a port of its own choice and wait for its address."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("sightline")),
        *("dev", "--port", "0", "--token", TOKEN, "--no-open", "--state", str(state), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        async for line in process.stdout:
            if found := re.search(rb"page +(http://[0-9.:]+)/", line):
                return Dev(process, found.group(1).decode(), state)
    raise AssertionError("sightline dev ended without an address")


async def stop(dev: Dev) -> None:
    """Ctrl-C, and no agent is left behind."""
    agents = dev.agents()
    dev.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(dev.process.wait(), 30) == 0
    assert [pid for pid in agents if Path(f"/proc/{pid}").exists()] == []


@asynccontextmanager
async def running(state: Path, *arguments: str) -> AsyncIterator[Dev]:
    """A development cluster, ended as a person ends it."""
    dev = await start(state, *arguments)
    try:
        yield dev
        await stop(dev)
    finally:
        if dev.process.returncode is None:
            dev.process.kill()
            await dev.process.wait()


async def test_the_test_pattern_plays_and_survives_its_agents_death(tmp_path: Path) -> None:
    async with running(tmp_path) as dev, new_page() as page:
        player = Player(page)
        await player.open(dev.url, TOKEN, "default/test-pattern")
        await player.wait_for("playing")
        assert await player.frames_during(3.0) >= 3 * FPS - 10

        await player.remember_states()
        for pid in dev.agents():
            os.kill(pid, signal.SIGKILL)
        await player.wait_for_return()
        assert await player.frames_during(2.0) > FPS

        status = await dev.read("/v1/namespaces/default/cameras/test-pattern/status")
        assert status["running"] is True


async def test_a_camera_with_a_password_plays_and_the_password_is_nowhere(tmp_path: Path) -> None:
    async with rtsp_camera("127.0.0.1", "--user", "viewer", "--password", PASSWORD, "--digest") as camera:
        address = camera.url.replace("rtsp://", f"rtsp://viewer:{PASSWORD}@")
        async with running(tmp_path, "--camera", f"gate={address}") as dev, new_page() as page:
            player = Player(page)
            await player.open(dev.url, TOKEN, "default/gate")
            await player.wait_for("playing")
            assert await player.frames_during(3.0) >= 3 * FPS - 10
            combined = await dev.read("/v1/namespaces/default/cameras/gate/combined")
            assert PASSWORD not in await player.text() + str(combined)
    logs = [path.read_text() for path in tmp_path.rglob("*.log")]
    assert logs
    assert [text for text in logs if PASSWORD in text] == []


async def test_a_wrong_password_is_told_in_the_player(tmp_path: Path) -> None:
    async with rtsp_camera("127.0.0.1", "--user", "viewer", "--password", "right") as camera:
        address = camera.url.replace("rtsp://", f"rtsp://viewer:{PASSWORD}@")
        async with running(tmp_path, "--camera", f"gate={address}") as dev, new_page() as page:
            player = Player(page)
            await player.open(dev.url, TOKEN, "default/gate")
            await player.wait_for_failure("AuthenticationFailed")
            assert "credentials" in (await player.text()).lower()
