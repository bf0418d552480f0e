"""A camera that goes away and comes back while people watch: the picture is back by itself, on the same connection."""

import re
import time
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page

from sightline_model.agent import CONTROL_PORT
from tests.helpers.agent import standalone
from tests.helpers.browser import Player, new_page
from tests.helpers.clip import RATE, encoded
from tests.helpers.dev import TOKEN, Dev, running
from tests.helpers.ports import free_port
from tests.helpers.rtsp_server import Habits, serve
from tests.helpers.whep_page import WhepPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

AWAY = 8.0
"""Long enough for the longest pause between attempts to be reached."""
BACK = 3.0
TRIES = 5
"""Where others use the cores, too, a later one shows how soon it is back."""
COUNTED = re.compile(r'^sightline_agent_player_reports_total\{result="counted"\} (\S+)$', re.MULTILINE)
HABITS = Habits(sets_in_sdp=False, fps=RATE, access_units=encoded(960, 540, 4, RATE, 2_000_000))


async def test_a_viewer_sees_the_camera_again_within_three_seconds() -> None:
    async with serve(HABITS, port=free_port()) as first, standalone(first.url) as agent, new_page() as page:
        viewer = WhepPage(page)
        await viewer.join(f"http://127.0.0.1:{agent.port}")
        await first.vanish()
        took = BACK
        for _ in range(TRIES):
            gone = await viewer.watch(AWAY)
            assert gone.decoded < RATE
            async with serve(HABITS, port=first.port):
                back = time.monotonic()
                await viewer.next_picture(30.0)
                took = time.monotonic() - back
                window = await viewer.watch(3.0)
            assert (window.state, window.posts) == ("connected", 1)
            if took < BACK and window.decoded > 2 * RATE:
                break
        assert took < BACK
        assert window.decoded > 2 * RATE
        (session,) = (await agent.report()).sessions
        assert session.end_reason is None


async def connections(page: Page) -> int:
    """How many peer connections the page has made (`COUNT`)."""
    return int(await page.evaluate("() => window.made"))


COUNT = """
window.made = 0;
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.made += 1; }
};
"""


async def reports_told(dev: Dev) -> float:
    """How often players have told their agents of their pictures, as the agents' metrics show it."""
    found = 0.0
    for pid in dev.agents():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (address,) = [value[len(b"POD_IP=") :].decode() for value in variables if value.startswith(b"POD_IP=")]
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{address}:{CONTROL_PORT}/metrics")
        match = COUNTED.search(answer.text)
        assert match is not None
        found += float(match[1])
    return found


async def test_the_player_waits_and_does_not_connect_again(tmp_path: Path) -> None:
    async with (
        serve(HABITS, port=free_port()) as first,
        running(tmp_path, "--camera", f"gate={first.url}") as dev,
        new_page() as page,
    ):
        await page.add_init_script(COUNT)
        player = Player(page)
        await player.open(dev.url, TOKEN, "default/gate")
        await player.wait_for("playing")
        made = await connections(page)
        await player.remember_states()
        await first.vanish()
        await page.wait_for_selector("sightline-player[data-quiet]", timeout=30_000, state="attached")
        assert "The camera sends nothing" in await player.text()
        await page.wait_for_timeout(AWAY * 1000)
        assert await player.state() == "playing"
        async with serve(HABITS, port=first.port):
            await page.wait_for_selector("sightline-player:not([data-quiet])", timeout=30_000, state="attached")
            await player.wait_for_frames(RATE + 1, 2.0)
            while await reports_told(dev) < 1:  # bounded by the test's own time limit
                await page.wait_for_timeout(500)
        assert await page.evaluate("() => window.sightlineStates") == []
        assert await connections(page) == made
