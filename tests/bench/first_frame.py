"""First frames in Chromium: from the offer's POST to the first picture, and until the viewer is at live.

    python -m tests.bench.first_frame [--gop 2 10] [--rounds 20] [--fanout native|python]

An RTSP camera of our own plays 1080p30 at 4 Mbit/s with a key frame every so many seconds; one agent serves it and its
source is running. Viewers join one after the other, at moments spread evenly over the group of pictures. A viewer is at
live when a picture is shown less than 100 ms later than pictures are in the end (the last second of its visit). Only
loopback and software decoding: the cores are shared with the camera, the agent and the rest of the machine.
"""

import argparse
import asyncio
import os
import random
import re
import statistics
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from playwright.async_api import Page, Route

from sightline_agent.media import h264
from tests.helpers.browser import new_page
from tests.helpers.rtsp_server import Habits, serve

RATE, BIT_RATE = 30, 4_000_000
SECONDS = 10
"""Of the clip, which is played in a circle."""
LIVE_MS = 100.0
VISIT_MS = 4000
SETTLED_MS = 1000
"""The end of a visit, which tells how late pictures are at live."""

PAGE = """<video id=v autoplay muted playsinline></video><script>
async function visit(milliseconds) {
  const pc = new RTCPeerConnection({iceServers: []});
  const video = document.getElementById('v');
  const frames = [];
  let posted = 0;
  pc.addTransceiver('video', {direction: 'recvonly'});
  pc.ontrack = (event) => {
    event.receiver.jitterBufferTarget = 0;
    video.srcObject = new MediaStream([event.track]);
  };
  let over = false;
  const each = (_, meta) => {
    if (over) return;
    frames.push([performance.now() - posted, meta.rtpTimestamp]);
    video.requestVideoFrameCallback(each);
  };
  video.requestVideoFrameCallback(each);
  await pc.setLocalDescription(await pc.createOffer());
  posted = performance.now();
  const headers = {'Content-Type': 'application/sdp'};
  const response = await fetch('/whep', {method: 'POST', headers, body: pc.localDescription.sdp});
  await pc.setRemoteDescription({type: 'answer', sdp: await response.text()});
  const answered = performance.now() - posted;
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  over = true;
  const stats = {};
  for (const report of (await pc.getStats()).values())
    if (report.type === 'inbound-rtp') Object.assign(stats, report);
  pc.close();
  video.srcObject = null;
  await fetch(response.headers.get('Location'), {method: 'DELETE'});
  return {frames, answered, stats};
}
</script>"""


@dataclass(frozen=True)
class Visit:
    """One viewer, in milliseconds from its POST."""

    answered: float
    first: float
    live: float
    lost: int
    nacks: int
    plis: int
    freezes: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gop", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--fanout", choices=["native", "python"], default="native")
    parser.add_argument("--clips", type=Path, default=Path(".build/bench"))
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, fan-out asked for: {options.fanout}")
    print(
        "| GOP | visits | first frame p50 | p90 | live p50 | p90 | max | answered p50 | lost | NACK | PLI | freezes |"
    )
    print("|---" * 12 + "|")
    for gop in options.gop:
        units = access_units(options.clips, gop)
        visits = asyncio.run(measure(units, gop, options.rounds, options.fanout))
        print(row(gop, visits), flush=True)


async def measure(units: Sequence[tuple[bytes, ...]], gop: int, rounds: int, fanout: str) -> list[Visit]:
    """Visits to one agent."""
    habits = Habits(sets_in_sdp=False, fps=RATE, access_units=tuple(units))
    async with serve(habits) as camera, agent(camera.url, fanout) as url, new_page() as page:
        await page.route(f"{url}/bench", answer_page)
        await page.goto(f"{url}/bench")
        await page.evaluate("visit(1000)")  # the source runs from now on, and the browser has loaded its decoder
        moments = [(number + random.random()) / rounds * gop for number in range(rounds)]
        random.shuffle(moments)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        visits = []
        for moment in moments:
            await asyncio.sleep((moment - (loop.time() - begin)) % gop)
            visits.append(await visit(page))
        return visits


async def answer_page(route: Route) -> None:
    """The page comes from the agent's own address: no cross-origin rules apply."""
    await route.fulfill(body=PAGE, content_type="text/html")


async def visit(page: Page) -> Visit:
    """Join, watch, leave."""
    seen: dict[str, Any] = await page.evaluate(f"visit({VISIT_MS})")
    frames: list[tuple[float, int]] = [(at, stamp) for at, stamp in seen["frames"]]
    if not frames:
        raise RuntimeError(f"no picture within {VISIT_MS} ms: {seen['stats']}")
    base = frames[-1][1]
    # How late each picture is, but for a constant.
    late = [(at, at - ((stamp - base + (1 << 31)) % (1 << 32) - (1 << 31)) / 90) for at, stamp in frames]
    settled = statistics.median(delay for at, delay in late if at > VISIT_MS - SETTLED_MS)
    stats = seen["stats"]
    return Visit(
        answered=seen["answered"],
        first=late[0][0],
        live=next(at for at, delay in late if delay - settled < LIVE_MS),
        lost=stats["packetsLost"],
        nacks=stats.get("nackCount", 0),
        plis=stats.get("pliCount", 0),
        freezes=stats.get("freezeCount", 0),
    )


def row(gop: int, visits: Sequence[Visit]) -> str:
    """One line of the table."""
    first, live = sorted(v.first for v in visits), sorted(v.live for v in visits)
    figures = [
        *(at(first, 0.5), at(first, 0.9), at(live, 0.5), at(live, 0.9), live[-1]),
        statistics.median(v.answered for v in visits),
    ]
    counts = [sum(getattr(v, name) for v in visits) for name in ("lost", "nacks", "plis", "freezes")]
    cells = [f"{gop} s", str(len(visits)), *(f"{figure:.0f} ms" for figure in figures), *map(str, counts)]
    return f"| {' | '.join(cells)} |"


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which that share lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@asynccontextmanager
async def agent(source: str, fanout: str) -> AsyncIterator[str]:
    """A standalone agent as a process; its control port's URL."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "sightline_agent",
            "--standalone",
            "--source",
            source,
            "--port",
            "0",
            "--udp-port",
            "0",
        ),
        env=os.environ | {"SIGHTLINE_FANOUT": fanout},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    reader: asyncio.Task[None] | None = None
    try:
        url = ""
        while not url:
            line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
            if not line:
                raise RuntimeError("the agent ended at once")
            found = re.search(r"127\.0\.0\.1:(\d+)/tcp", line)
            url = f"http://127.0.0.1:{found[1]}" if found else ""
        reader = asyncio.create_task(_drain(process.stdout))
        yield url
    finally:
        process.terminate()
        await process.wait()
        if reader is not None:
            await reader


async def _drain(output: asyncio.StreamReader) -> None:
    async for line in output:
        if b"error" in line:
            sys.stderr.write(line.decode())


def access_units(folder: Path, gop: int) -> list[tuple[bytes, ...]]:
    """The clip's pictures; it is made on the first call."""
    path = folder / f"first-frame-{gop}.bin"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(len(data).to_bytes(4, "big") + data for data in _encode(gop)))
    return [tuple(h264.split_annex_b(data)) for data in _records(path.read_bytes())]


def _records(data: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 4 + size]
        place += 4 + size


def _encode(gop: int) -> Iterator[bytes]:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = 1920, 1080, "yuv420p"
    context.bit_rate = BIT_RATE
    context.framerate, context.time_base = Fraction(RATE), Fraction(1, RATE)
    context.gop_size, context.max_b_frames = gop * RATE, 0
    keys = f"keyint={gop * RATE}:min-keyint={gop * RATE}:scenecut=0"
    context.options = {
        "preset": "veryfast",
        "tune": "zerolatency",
        "profile": "baseline",
        "maxrate": str(BIT_RATE),
        "bufsize": str(BIT_RATE // 2),
        "x264-params": f"slices=1:sliced-threads=0:repeat-headers=1:{keys}",
    }
    for number, picture in enumerate(_pictures()):
        picture.pts, picture.time_base, picture.pict_type = number, Fraction(1, RATE), PictureType.NONE
        for packet in context.encode(picture):
            yield bytes(packet)


def _pictures() -> Iterator[VideoFrame]:
    graph = Graph()
    source = graph.add("testsrc2", f"size=1920x1080:rate={RATE}:duration={SECONDS}")
    noise, form, sink = (
        graph.add("noise", "alls=6:allf=t"),
        graph.add("format", "pix_fmts=yuv420p"),
        graph.add("buffersink"),
    )
    graph.link_nodes(source, noise, form, sink).configure()
    for _ in range(RATE * SECONDS):
        picture = sink.pull()
        assert isinstance(picture, VideoFrame)
        yield picture


if __name__ == "__main__":
    main()
