"""Real Chromium for end-to-end tests: Debian's, headless, without any background traffic of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Page, async_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-loopback-in-peer-connection",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]

_LOOKS = 8
_PATIENCE_MS = 90_000


@asynccontextmanager
async def new_page() -> AsyncIterator[Page]:
    """A page in a Chromium of its own, with an empty profile; everything ends with the context."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=ARGUMENTS, timeout=_PATIENCE_MS
        )
        try:
            context = await browser.new_context()
            context.set_default_timeout(_PATIENCE_MS)
            yield await context.new_page()
        finally:
            await browser.close()


@dataclass(frozen=True)
class Picture:
    """What a playing video element says of itself."""

    width: int
    height: int
    frames: int
    """Frames decoded since it began."""


class Player:
    """The page's one big player, opened by its deep link."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def open(self, base_url: str, token: str, camera: str) -> None:
        """Sign in by token and watch `namespace/name`."""
        await self._page.goto(f"{base_url}/#token={token}&watch={camera}")

    async def wait_for(self, state: str, seconds: float = 60.0) -> None:
        """Wait until the player is in that state."""
        selector = f"sightline-player[data-state='{state}']"
        await self._page.wait_for_selector(selector, timeout=seconds * 1000, state="attached")

    async def wait_for_failure(self, reason: str, seconds: float = 60.0) -> None:
        """Wait until the player has failed for that reason (others may come before it)."""
        selector = f"sightline-player[data-state='failed'][data-reason='{reason}']"
        await self._page.wait_for_selector(selector, timeout=seconds * 1000, state="attached")

    async def remember_states(self) -> None:
        """Keep the names of all states from now on, for `states` and `wait_for_return`."""
        script = """() => {
            const states = window.sightlineStates = [];
            document.addEventListener('sightline-state', (event) => states.push(event.detail.state));
        }"""
        await self._page.evaluate(script)

    async def states(self) -> list[str]:
        """All states since `remember_states`."""
        return list(await self._page.evaluate("() => window.sightlineStates"))

    async def wait_for_return(self, seconds: float = 60.0) -> None:
        """Wait until the player has lost its picture and plays again, since `remember_states`."""
        async with asyncio.timeout(seconds):
            while True:
                states = await self.states()
                if "connecting" in states and states[-1] == "playing":
                    return
                await asyncio.sleep(0.1)

    async def state(self) -> str:
        """The player's state now."""
        return str(await self._page.get_attribute("sightline-player", "data-state"))

    async def reason(self) -> str:
        """Why it failed, as its attribute says."""
        return str(await self._page.get_attribute("sightline-player", "data-reason"))

    async def text(self) -> str:
        """Every word that the page shows."""
        script = """() => {
            const words = [document.body.innerText];
            for (const player of document.querySelectorAll('sightline-player'))
                words.push(player.shadowRoot ? player.shadowRoot.textContent : '');
            return words.join('\\n');
        }"""
        return str(await self._page.evaluate(script))

    async def picture(self) -> Picture:
        """Size and number of frames of the video."""
        script = """() => {
            const player = document.querySelector('sightline-player');
            const video = (player.shadowRoot || player).querySelector('video');
            const quality = video.getVideoPlaybackQuality();
            return [video.videoWidth, video.videoHeight, quality.totalVideoFrames];
        }"""
        width, height, frames = await self._page.evaluate(script)
        return Picture(width, height, frames)

    async def wait_for_width(self, pixels: int, seconds: float = 60.0) -> None:
        """Wait until the picture has that width."""
        async with asyncio.timeout(seconds):
            while (await self.picture()).width != pixels:
                await asyncio.sleep(0.1)

    async def first_frame(self) -> float:
        """Seconds from the offer's POST to the first frame shown, as the player measured them."""
        timings = await self._page.evaluate("() => document.querySelector('sightline-player').timings")
        return float(timings["firstFrame"] - timings["posted"]) / 1000

    async def wait_for_frames(self, enough: int, seconds: float) -> None:
        """Wait until so many frames arrive in that time, in one of a few looks: others use the cores, too."""
        looks: list[int] = []
        while len(looks) < _LOOKS:
            looks.append(await self.frames_during(seconds))
            if looks[-1] >= enough:
                return
        raise AssertionError(f"{looks} frames in {seconds} s each, and not {enough}")

    async def frames_during(self, seconds: float) -> int:
        """Frames that arrive while the page waits that long by its own clock."""
        script = """async (milliseconds) => {
            const player = document.querySelector('sightline-player');
            const video = (player.shadowRoot || player).querySelector('video');
            const before = video.getVideoPlaybackQuality().totalVideoFrames;
            await new Promise((resolve) => setTimeout(resolve, milliseconds));
            return video.getVideoPlaybackQuality().totalVideoFrames - before;
        }"""
        return int(await self._page.evaluate(script, seconds * 1000))

    async def digits(self, count: int) -> list[tuple[int, int]]:
        """Of so many pictures in the order of their showing: how many were shown before, and the digit that
        `helpers.coded` paints into the corner of each."""
        script = """async (count) => {
            const player = document.querySelector('sightline-player');
            const video = (player.shadowRoot || player).querySelector('video');
            const canvas = new OffscreenCanvas(16, 16);
            const context = canvas.getContext('2d', {willReadFrequently: true});
            const found = [];
            await new Promise((resolve) => {
                const look = (now, metadata) => {
                    context.drawImage(video, 8, 8, 16, 16, 0, 0, 16, 16);
                    const pixels = context.getImageData(0, 0, 16, 16).data;
                    let sum = 0;
                    for (let i = 0; i < pixels.length; i += 4) sum += pixels[i + 1];
                    found.push([metadata.presentedFrames, sum / 256]);
                    if (found.length < count) video.requestVideoFrameCallback(look); else resolve();
                };
                video.requestVideoFrameCallback(look);
            });
            return found;
        }"""
        read = await self._page.evaluate(script, count)
        # Full range to studio range, in which the digit d is painted as 20 + 20 * d.
        return [(number, round((grey * 219 / 255 + 16 - 20) / 20)) for number, grey in read]

    async def leave(self) -> None:
        """Close the page, as a person closes the tab."""
        await self._page.close(run_before_unload=False)
