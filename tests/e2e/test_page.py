"""The page by itself in real Chromium: its front door is stubbed, its camera is another end in the same browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.helpers.browser import Player, new_page
from tests.helpers.http_server import Asked, HttpServer, Reply, serve

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

DIST = Path(__file__).parents[2] / "web/dist"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
WHEP = "/v1/namespaces/default/cameras/door/whep"

# Answers the player's offers with the browser's own fake camera.
CAMERA = f"""
const cameras = [];
const ask = window.fetch;
window.fetch = async (url, init = {{}}) => {{
  if (init.method !== 'POST' || !String(url).endsWith('{WHEP}')) return ask(url, init);
  const camera = new RTCPeerConnection();
  cameras.push(camera);
  const media = await navigator.mediaDevices.getUserMedia({{video: true}});
  await camera.setRemoteDescription({{type: 'offer', sdp: init.body}});
  for (const track of media.getVideoTracks()) camera.addTrack(track, media);
  await camera.setLocalDescription(await camera.createAnswer());
  while (camera.iceGatheringState !== 'complete') await new Promise((resolve) => setTimeout(resolve, 20));
  const headers = {{'Content-Type': 'application/sdp', 'Location': '{WHEP}/session'}};
  return new Response(camera.localDescription.sdp, {{status: 201, headers}});
}};
"""


def answer(asked: Asked) -> Reply:
    path = asked.path.partition("?")[0]
    if path == "/v1/me":
        return Reply(200, b'{"user": "alice", "groups": [], "issuer": ""}', {"Content-Type": "application/json"})
    if path == "/v1/cameras":
        return Reply(200, b'{"items": []}', {"Content-Type": "application/json"})
    if path == "/v1/webrtc/config":
        return Reply(200, b'{"iceServers": []}', {"Content-Type": "application/json"})
    if asked.method == "DELETE":
        return Reply(204)
    file = DIST / (path.strip("/") or "index.html")
    if not file.is_file():
        return Reply(404)
    return Reply(200, file.read_bytes(), {"Content-Type": TYPES[file.suffix]})


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[Page, HttpServer]]:
    """A page that plays a camera."""
    if not DIST.is_dir():
        pytest.skip("the page is not built: make web")
    async with serve(answer) as server, new_page() as page:
        await page.context.grant_permissions(["camera"], origin=server.url(""))
        await page.add_init_script(CAMERA)
        player = Player(page)
        await player.open(server.url(""), "pasted", "default/door")
        await player.wait_for("playing")
        yield page, server


async def test_who_signs_out_ends_what_plays() -> None:
    async with watching() as (page, server):
        async with page.expect_response(lambda response: response.request.method == "DELETE"):
            await page.click("#sign-out")
        deleted = [asked for asked in server.asked if asked.method == "DELETE"]
        assert [(asked.path, asked.headers.get("authorization")) for asked in deleted] == [
            (f"{WHEP}/session", "Bearer pasted")
        ]
        assert await page.evaluate("sessionStorage.length") == 0
