"""A bare WHEP viewer in Chromium, for what the player hides: the receiver's own statistics and the moment of each
picture. One RTCPeerConnection, one offer; it never tries again, so what it shows came without a second negotiation.
"""

import json
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, Route

_PAGE = """<video id=v autoplay muted playsinline></video><script>
let pc, layers, last = 0, longest = 0, shown = 0, late = 0, posts = 0;
async function join() {
  pc = new RTCPeerConnection({iceServers: []});
  const video = document.getElementById('v');
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.ontrack = (event) => {
    event.receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([event.track]);
  };
  const each = (now) => {
    if (last) longest = Math.max(longest, now - last);
    last = now;
    shown += 1;
    video.requestVideoFrameCallback(each);
  };
  video.requestVideoFrameCallback(each);
  let due = performance.now() + 50;
  setInterval(() => { late = Math.max(late, performance.now() - due); due = performance.now() + 50; }, 50);
  await pc.setLocalDescription(await pc.createOffer());
  posts += 1;
  const headers = {'Content-Type': 'application/sdp'};
  const response = await fetch('/whep', {method: 'POST', headers, body: pc.localDescription.sdp});
  layers = (/<([^>]*)>; rel="urn:ietf:params:whep:ext:core:layer"/.exec(response.headers.get('Link')) || [])[1];
  await pc.setRemoteDescription({type: 'answer', sdp: await response.text()});
}
async function choose(quality) {
  const body = JSON.stringify(quality === null ? {} : {encodingId: quality});
  const response = await fetch(layers, {method: 'POST', headers: {'Content-Type': 'application/json'}, body});
  return [response.status, await response.json()];
}
async function look() {
  const found = {};
  for (const report of (await pc.getStats()).values())
    if (report.type === 'inbound-rtp' && report.kind === 'video') Object.assign(found, report);
  const number = (name) => found[name] || 0;
  return {
    posts, shown, state: pc.connectionState,
    now: performance.now(), last, longest: Math.max(longest, last ? performance.now() - last : 0), late,
    decoded: number('framesDecoded'), freezes: number('freezeCount'), frozen: number('totalFreezesDuration'),
    nacks: number('nackCount'), plis: number('pliCount'), lost: number('packetsLost'),
    again: number('retransmittedPacketsReceived'),
    received: number('packetsReceived'),
    width: document.getElementById('v').videoWidth,
  };
}
async function watch(milliseconds) {
  longest = late = 0;
  const before = await look();
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  const after = await look();
  const changes = {};
  for (const name of ['shown', 'decoded', 'freezes', 'frozen', 'nacks', 'plis', 'lost', 'again', 'received'])
    changes[name] = after[name] - before[name];
  return {...after, ...changes, seconds: (after.now - before.now) / 1000};
}
</script>"""
_STARVED_MS = 100.0


@dataclass(frozen=True)
class Window:
    """What was seen in some seconds."""

    seconds: float
    posts: int
    """Offers sent since the page was opened."""
    state: str
    """Of the peer connection at the end."""
    shown: int
    decoded: int
    freezes: int
    """As the browser counts them."""
    frozen: float
    """Seconds that the freezes took together."""
    longest: float
    """Milliseconds between two pictures, at most."""
    late: float
    """Milliseconds that the page's own timer was late, at most."""
    nacks: int
    plis: int
    lost: int
    """Packets that did not come the first time."""
    again: int
    """Packets that came when they were asked for again."""
    received: int
    width: int
    """Of the picture at the end."""

    @property
    def starved(self) -> bool:
        """The browser itself did not get to run: what it counts says nothing about the stream."""
        return self.late > _STARVED_MS


class WhepPage:
    """A viewer of a standalone agent."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def join(self, agent: str) -> None:
        """Open the page at the agent's own address (no cross-origin rules apply) and watch."""

        async def answer(route: Route) -> None:
            await route.fulfill(body=_PAGE, content_type="text/html")

        await self._page.route(f"{agent}/viewer", answer)
        await self._page.goto(f"{agent}/viewer")
        await self._page.evaluate("join()")
        await self._page.wait_for_function("shown > 30", timeout=60_000)

    async def watch(self, seconds: float) -> Window:
        """What happens in that time."""
        seen: dict[str, Any] = await self._page.evaluate(f"watch({json.dumps(seconds * 1000)})")
        return Window(**{name: seen[name] for name in Window.__dataclass_fields__})

    async def choose(self, quality: str | None) -> Any:
        """Another quality, None: automatic. The status of the answer and its body."""
        return await self._page.evaluate(f"choose({json.dumps(quality)})")

    async def width(self, pixels: int, seconds: float) -> None:
        """Wait until pictures have that width."""
        script = f"document.getElementById('v').videoWidth === {pixels}"
        await self._page.wait_for_function(script, polling="raf", timeout=seconds * 1000)

    async def next_picture(self, seconds: float) -> None:
        """Wait until one more picture is shown."""
        shown = await self._page.evaluate("shown")
        await self._page.wait_for_function(f"shown > {shown}", polling="raf", timeout=seconds * 1000)
