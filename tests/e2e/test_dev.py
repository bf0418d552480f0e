"""`sightline dev` as a newcomer meets it: one process, a token, and pictures in real Chromium."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.helpers import recording
from tests.helpers.agent import standalone
from tests.helpers.browser import Player, new_page
from tests.helpers.dev import TOKEN, running
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PASSWORD = "hunter2hunter2"
FPS = 30


async def test_the_test_pattern_plays_and_survives_its_agents_death(tmp_path: Path) -> None:
    async with running(tmp_path) as dev, new_page() as page:
        player = Player(page)
        await player.open(dev.url, TOKEN, "default/test-pattern")
        await player.wait_for("playing")
        await player.wait_for_frames(3 * FPS - 10, 3.0)

        await player.remember_states()
        for pid in dev.agents():
            os.kill(pid, signal.SIGKILL)
        await player.wait_for_return()
        await player.wait_for_frames(FPS, 2.0)

        async with asyncio.timeout(60):  # pictures are there before anybody has written so
            while not (await dev.read("/v1/namespaces/default/cameras/test-pattern/status"))["running"]:
                await asyncio.sleep(0.2)


async def test_a_camera_with_a_password_plays_and_the_password_is_nowhere(tmp_path: Path) -> None:
    async with rtsp_camera("127.0.0.1", "--user", "viewer", "--password", PASSWORD, "--digest") as camera:
        address = camera.url.replace("rtsp://", f"rtsp://viewer:{PASSWORD}@")
        async with running(tmp_path, "--camera", f"gate={address}") as dev, new_page() as page:
            player = Player(page)
            await player.open(dev.url, TOKEN, "default/gate")
            await player.wait_for("playing")
            await player.wait_for_frames(3 * FPS - 10, 3.0)
            combined = await dev.read("/v1/namespaces/default/cameras/gate/combined")
            assert PASSWORD not in await player.text() + str(combined)
    logs = [path.read_text() for path in tmp_path.rglob("*.log")]
    assert logs
    assert [text for text in logs if PASSWORD in text] == []


async def test_cameras_of_other_kinds(tmp_path: Path) -> None:
    clip = recording.clip(tmp_path / "clip.mp4", frames=50)
    async with standalone() as upstream:
        cameras = ("--camera", f"up={upstream.whep}", "--camera", f"clip={clip}")
        async with running(tmp_path, *cameras) as dev, new_page() as page:
            player = Player(page)
            for name, width in (("up", 640), ("clip", recording.WIDTH)):
                await player.open(dev.url, TOKEN, f"default/{name}")
                await player.wait_for("playing")
                assert (await player.picture()).width == width
                await page.goto("about:blank")


async def test_a_wrong_password_is_told_in_the_player(tmp_path: Path) -> None:
    async with rtsp_camera("127.0.0.1", "--user", "viewer", "--password", "right") as camera:
        address = camera.url.replace("rtsp://", f"rtsp://viewer:{PASSWORD}@")
        async with running(tmp_path, "--camera", f"gate={address}") as dev, new_page() as page:
            player = Player(page)
            await player.open(dev.url, TOKEN, "default/gate")
            await player.wait_for_failure("AuthenticationFailed")
            assert "credentials" in (await player.text()).lower()
