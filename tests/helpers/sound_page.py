"""A bare WHEP viewer in Chromium that hears as well as sees: what arrives of the sound, and whether lips are in step.

Lip sync is measured twice. The browser itself tells for each track which moment of the sender's clock it plays now
(estimatedPlayoutTimestamp, from the sender reports). And the page looks at a square in the test pattern's corner that
is white as long as the beep lasts, and listens for the beep.
"""

import statistics
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, Route

_PAGE = """<video id=v autoplay playsinline></video><script>
let pc, shown = 0;
const flashes = [], beeps = [];
async function join(sound) {
  pc = new RTCPeerConnection({iceServers: []});
  const video = document.getElementById('v');
  const stream = new MediaStream();
  pc.addTransceiver('video', {direction: 'recvonly'});
  if (sound) pc.addTransceiver('audio', {direction: 'recvonly'});
  pc.ontrack = (event) => {
    event.receiver.jitterBufferTarget = 0;
    stream.addTrack(event.track);
    video.srcObject = stream;
    if (event.track.kind === 'audio') listen(new MediaStream([event.track]));
  };
  const canvas = new OffscreenCanvas(8, 8), context = canvas.getContext('2d', {willReadFrequently: true});
  let white = null;
  const each = (now, about) => {
    shown += 1;
    const side = Math.max(2, Math.floor(video.videoHeight / 16) * 2);
    context.drawImage(video, video.videoWidth - side, 0, side, side, 0, 0, 8, 8);
    const bright = context.getImageData(4, 4, 1, 1).data[0] > 128;
    if (bright && white === false) flashes.push(about.presentationTime);
    white = bright;
    video.requestVideoFrameCallback(each);
  };
  video.requestVideoFrameCallback(each);
  await pc.setLocalDescription(await pc.createOffer());
  const headers = {'Content-Type': 'application/sdp'};
  const response = await fetch('/whep', {method: 'POST', headers, body: pc.localDescription.sdp});
  await pc.setRemoteDescription({type: 'answer', sdp: await response.text()});
}
function listen(stream) {
  const audio = new AudioContext();
  const analyser = audio.createAnalyser();
  analyser.fftSize = 256;
  audio.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(256);
  let loudAt = -1e9;
  setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const now = performance.now();
    if (!samples.some((sample) => Math.abs(sample) > 0.03)) return;
    if (now - loudAt > 300) beeps.push(now);
    loudAt = now;
  }, 2);
}
async function look() {
  const found = {};
  for (const report of (await pc.getStats()).values()) {
    if (report.type === 'inbound-rtp') found[report.kind] = report;
    if (report.type === 'codec' && report.mimeType.startsWith('audio/')) found.codec = report.mimeType;
  }
  const sound = found.audio || {}, pictures = found.video || {};
  return {
    shown, codec: found.codec || '', decoded: pictures.framesDecoded || 0, freezes: pictures.freezeCount || 0,
    packets: sound.packetsReceived || 0, lost: sound.packetsLost || 0, energy: sound.totalAudioEnergy || 0,
    samples: sound.totalSamplesReceived || 0, concealed: sound.concealedSamples || 0,
    silent: sound.silentConcealedSamples || 0,
    ahead: sound.estimatedPlayoutTimestamp && pictures.estimatedPlayoutTimestamp
      ? sound.estimatedPlayoutTimestamp - pictures.estimatedPlayoutTimestamp : null,
    flashes, beeps,
  };
}
</script>"""


@dataclass(frozen=True)
class Heard:
    """What the browser says since it joined."""

    shown: int
    codec: str
    decoded: int
    freezes: int
    packets: int
    lost: int
    energy: float
    samples: int
    concealed: int
    silent: int
    """Of those concealed: played as silence, as before the first packet."""
    ahead: float | None
    """Milliseconds of the sender's clock that the sound which plays is newer than the picture that is shown."""
    flashes: list[float]
    beeps: list[float]
    """Milliseconds on the page's clock."""

    def out_of_step(self, last: int) -> float:
        """Milliseconds that beeps are heard after their flashes, the median of the last ones."""
        found = []
        for flash in self.flashes[-last:]:
            near = min(self.beeps, key=lambda beep: abs(beep - flash), default=float("inf"))
            found.append(near - flash)
        return statistics.median(found)


class SoundPage:
    """A viewer of a standalone agent."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def join(self, agent: str, sound: bool = True) -> None:
        """Open the page at the agent's own address (no cross-origin rules apply) and watch."""

        async def answer(route: Route) -> None:
            await route.fulfill(body=_PAGE, content_type="text/html")

        await self._page.route(f"{agent}/listener", answer)
        await self._page.goto(f"{agent}/listener")
        await self._page.evaluate(f"join({'true' if sound else 'false'})")
        await self._page.wait_for_function("shown > 30", timeout=60_000)

    async def wait_for(self, condition: str, seconds: float = 60.0) -> None:
        """Wait for an expression over the page's variables."""
        await self._page.wait_for_function(condition, timeout=seconds * 1000)

    async def look(self) -> Heard:
        """What it says now."""
        seen: dict[str, Any] = await self._page.evaluate("look()")
        return Heard(**seen)
