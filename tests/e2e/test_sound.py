"""Sound in real Chromium: from cameras that we did not write, from a clip, and in step with the pictures."""

from pathlib import Path

import av
import pytest

from tests.helpers import dev
from tests.helpers.agent import Standalone, standalone
from tests.helpers.browser import Player, new_page
from tests.helpers.recording import FPS, add_video, pictures
from tests.helpers.rtsp_camera import rtsp_camera
from tests.helpers.sound_page import Heard, SoundPage
from tests.helpers.sounds import add_sound, mux_beeps

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

SMALL = ("--size", "640x360", "--fps", "25")
SECONDS = 5
TRIES = 6
IN_STEP_MS = 80
"""The browser itself leaves 30 ms alone, and the page looks at a picture each 33 ms."""


async def hear(source: str, freezes: int | None = None) -> Heard:
    """Some seconds of it, so undisturbed as it gets: where others use the cores, too, the last try counts."""
    async with standalone(source) as agent, new_page() as page:
        viewer = SoundPage(page)
        for _ in range(TRIES - 1):
            heard = await _some_seconds(viewer, agent)
            if is_whole(heard) and freezes in (None, heard.freezes):
                return heard
        return await _some_seconds(viewer, agent)


async def _some_seconds(viewer: SoundPage, agent: Standalone) -> Heard:
    await viewer.join(f"http://127.0.0.1:{agent.port}")
    before = await viewer.look()
    await viewer.wait_for(f"shown > {before.shown + SECONDS * 20}")
    return await viewer.look()


def is_whole(heard: Heard) -> bool:
    """Whether nearly nothing is missing; the first moments are concealed while the browser finds out what to hold."""
    return heard.lost == 0 and heard.concealed - heard.silent < heard.samples * 0.05


def assert_sounds(heard: Heard, codec: str) -> None:
    assert heard.codec == codec
    assert heard.packets > 7 * SECONDS  # a packet of G.711 may well be an eighth of a second
    assert heard.energy > 0.001
    assert is_whole(heard), heard


@pytest.mark.parametrize(
    ("sound", "codec"),
    [("pcmu", "audio/PCMU"), ("pcma", "audio/PCMA"), ("opus", "audio/opus"), ("aac", "audio/opus")],
)
async def test_cameras_are_heard(sound: str, codec: str) -> None:
    async with rtsp_camera("127.0.0.1", "--sound", sound, *SMALL) as camera:
        heard = await hear(camera.url, freezes=0)
    assert_sounds(heard, codec)
    assert heard.freezes == 0


async def test_a_camera_whose_sound_is_not_carried_is_seen() -> None:
    async with rtsp_camera("127.0.0.1", "--sound", "l16", *SMALL) as camera, standalone(camera.url) as agent:
        async with new_page() as page:
            viewer = SoundPage(page)
            await viewer.join(f"http://127.0.0.1:{agent.port}")
            heard = await viewer.look()
        report = (await agent.report()).source
    assert (heard.packets, heard.shown > 0) == (0, True)
    assert report.message == "no sound: the camera's sound is L16/16000, which is not carried"


async def test_a_clip_is_heard(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        video, sound = add_video(container), add_sound(container)
        for frame in pictures(3 * FPS):
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        mux_beeps(container, sound, 3.0)
    assert_sounds(await hear(str(tmp_path / "clip.mp4")), "audio/opus")


async def test_lips_are_in_step() -> None:
    async with standalone() as agent, new_page() as page:
        viewer = SoundPage(page)
        await viewer.join(f"http://127.0.0.1:{agent.port}")
        for flashes in range(16, 16 + 4 * TRIES, 4):
            await viewer.wait_for(f"flashes.length >= {flashes}", 90)
            heard = await viewer.look()
            if is_in_step(heard) and is_whole(heard):
                break
    assert is_in_step(heard), (heard.out_of_step(4), heard.ahead)
    assert_sounds(heard, "audio/opus")


def is_in_step(heard: Heard) -> bool:
    """By the last four flashes, and by what the browser itself says."""
    found = heard.out_of_step(4), heard.ahead
    return all(apart is not None and abs(apart) < IN_STEP_MS for apart in found)


async def test_who_does_not_ask_for_sound_gets_none() -> None:
    async with standalone() as agent, new_page() as page:
        viewer = SoundPage(page)
        await viewer.join(f"http://127.0.0.1:{agent.port}", sound=False)
        assert (await viewer.look()).codec == ""


async def test_the_player_is_muted_until_somebody_wants_to_hear(tmp_path: Path) -> None:
    async with dev.running(tmp_path) as door, new_page() as page:
        player = Player(page)
        await player.open(door.url, dev.TOKEN, "default/test-pattern")
        await player.wait_for("playing")
        button = page.locator("sightline-player button.sound")
        await button.wait_for(state="visible")
        video = page.locator("sightline-player video")
        assert await video.evaluate("video => video.muted")
        await button.click()
        assert not await video.evaluate("video => video.muted")
        assert await video.evaluate("video => video.srcObject.getAudioTracks().length") == 1
