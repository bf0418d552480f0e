"""Cameras that browsers cannot play, in real Chromium: B-frames, interlaced pictures and H.265, by a transcoder."""

import asyncio
import itertools
import json
import shutil
from pathlib import Path

import pytest

from sightline_model.reasons import SourceReason
from tests.helpers.agent import standalone
from tests.helpers.browser import Player, new_page
from tests.helpers.coded import B_FRAMES, H265_B_FRAMES, clip
from tests.helpers.dev import TOKEN, Dev, running
from tests.helpers.processes import children, children_that_run
from tests.helpers.rtsp_camera import rtsp_camera

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

HOST = "127.0.0.1"
SMALL = ("--size", "640x360", "--fps", "15")
HIGH = ("--profile", "high")
LOOKS = 20
GST_VIEWER = Path(__file__).parents[1] / "helpers/gst_viewer.py"


def transcoders(dev: Dev) -> list[int]:
    """Process ids of all transcoders."""
    return [pid for agent in dev.agents() for pid in children_that_run(agent, "sightline_agent.transcode")]


async def until_none(dev: Dev) -> None:
    async with asyncio.timeout(60):
        while transcoders(dev):
            await asyncio.sleep(0.1)


def rising(shown: list[tuple[int, int]]) -> bool:
    """No picture goes back. Some may be left out, and the page may read one twice: it reads what is shown by then."""
    return all((after - before) % 10 in range(6) for (_, before), (_, after) in itertools.pairwise(shown))


async def in_order(player: Player) -> bool:
    """Whether 60 pictures rise, in one of a few looks: where many are left out at once, that looks like a step back."""
    looks = 0
    while looks < LOOKS and not rising(await player.digits(60)):
        looks += 1
    return looks < LOOKS


async def test_pictures_are_shown_in_their_order(tmp_path: Path) -> None:
    kinds = {"b-frames": B_FRAMES, "h265": H265_B_FRAMES}
    options = [
        word
        for name, kind in kinds.items()
        for word in ("--camera", f"{name}={clip(tmp_path / f'{name}.mp4', kind, size=(640, 360))}")
    ]
    async with running(tmp_path, *options) as dev, new_page() as page:
        player = Player(page)
        for name in kinds:
            await player.open(dev.url, TOKEN, f"default/{name}")
            await player.wait_for("playing")
            await player.wait_for_frames(75, 3.0)
            assert await in_order(player)
            await page.goto("about:blank")
            await until_none(dev)


async def full_rate(*players: Player) -> bool:
    """Whether all get 15 pictures per second, in one of a few looks: cameras and browsers share the cores with it."""
    for _ in range(LOOKS):
        if min(await asyncio.gather(*(player.frames_during(2.0) for player in players))) >= 26:
            return True
    return False


async def test_foreign_cameras_are_shown_and_share_one_transcoder(tmp_path: Path) -> None:
    async with (
        rtsp_camera(HOST, "--b-frames", *HIGH, *SMALL) as b_frames,
        rtsp_camera(HOST, "--interlaced", *HIGH, *SMALL) as interlaced,
        rtsp_camera(HOST, "--codec", "h265", *SMALL) as h265,
    ):
        cameras = {"b-frames": b_frames, "interlaced": interlaced, "h265": h265}
        options = [word for name, camera in cameras.items() for word in ("--camera", f"{name}={camera.url}")]
        async with running(tmp_path, *options) as dev, new_page() as page, new_page() as other:
            player, second = Player(page), Player(other)
            for name in cameras:
                await player.open(dev.url, TOKEN, f"default/{name}")
                await player.wait_for("playing")
                await second.open(dev.url, TOKEN, f"default/{name}")
                await second.wait_for("playing")
                assert await full_rate(player, second)
                picture = await player.picture()
                assert (picture.width, picture.height) == (640, 360)
                assert len(transcoders(dev)) == 1
                await page.goto("about:blank")
                assert await full_rate(second)
                await other.goto("about:blank")
                await until_none(dev)


async def test_h265_passes_through_to_who_offers_it() -> None:
    if shutil.which("gst-inspect-1.0") is None:
        pytest.skip("GStreamer is not installed here")
    async with rtsp_camera(HOST, "--codec", "h265", *SMALL) as camera, standalone(camera.url) as agent:
        for codec in ("h265", "h264"):
            viewer = await asyncio.create_subprocess_exec(
                *("/usr/bin/python3", str(GST_VIEWER), "--codec", codec, "--frames", "45", agent.whep),
                stdout=asyncio.subprocess.PIPE,
            )
            watching, transcoders = asyncio.create_task(viewer.communicate()), set[int]()
            while not watching.done():  # what was there for a viewer may have ended with it
                transcoders.update(children(agent.process.pid))
                await asyncio.sleep(0.05)
            told, _ = await watching
            assert json.loads(told) == {"frames": 45, "size": "640x360", "hungUp": 200}
            assert bool(transcoders) == (codec == "h264")
        report = await agent.report()
        assert (report.source.reason, report.source.video_codec) == (SourceReason.STREAMING, "H265")
