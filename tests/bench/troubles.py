"""A bad network, and a camera that goes away: what a viewer in Chromium sees of them.

The camera plays 1080p30 at 4 Mbit/s with a key frame each two seconds; a standalone agent serves it. For loss the
browser is behind a relay that loses packets of both directions by chance (seeded). For an outage the camera's
connections end and its port is closed; it comes back at the same port.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from tests.bench import first_frame
from tests.helpers.agent import Standalone, standalone
from tests.helpers.browser import new_page
from tests.helpers.lossy_relay import LossyRelay, lossy_relay
from tests.helpers.rtsp_server import Habits, RtspServer, serve
from tests.helpers.whep_page import WhepPage

Result = dict[str, Any]
Units = Sequence[tuple[bytes, ...]]

_BACK_SECONDS = 30.0
_AFTER_SECONDS = 3.0


async def loss(units: Units, shares: Sequence[float], seconds: float) -> list[Result]:
    """One viewer and one window for each share of lost packets."""
    found: list[Result] = []
    for share in shares:
        async with serve(_habits(units)) as camera, _viewer(camera) as (viewer, relay, _):
            relay.down.loss = relay.up.loss = share
            sent, lost = relay.down.passed + relay.down.lost, relay.down.lost
            window = await viewer.watch(seconds)
            dropped = relay.down.lost - lost
            through = relay.down.passed + relay.down.lost - sent
        found.append({"share": share, "dropped": dropped, "sent": through, "starved": window.starved, **asdict(window)})
        print(f"  {share:.0%} lost: {window.freezes} freezes, longest gap {window.longest:.0f} ms", flush=True)
    return found


async def outage(units: Units, lengths: Sequence[float]) -> list[Result]:
    """How long after its return a camera is seen again, by a viewer that stayed connected."""
    found: list[Result] = []
    for away in lengths:
        async with serve(_habits(units)) as camera, _viewer(camera) as (viewer, _, agent):
            await camera.vanish()
            gone = await viewer.watch(away)
            async with serve(_habits(units), port=camera.port):
                began = time.monotonic()
                await viewer.next_picture(_BACK_SECONDS)
                back = time.monotonic() - began
                window = await viewer.watch(_AFTER_SECONDS)
            reconnects = (await agent.report()).source.reconnects
        found.append(
            {
                "away": gone.seconds,
                "back": back,
                "fps": window.decoded / window.seconds,
                "posts": window.posts,
                "state": window.state,
                "reconnects": reconnects,
            }
        )
        print(f"  away for {away:g} s: picture back after {back:.2f} s, {window.posts} offer", flush=True)
    return found


def _habits(units: Units) -> Habits:
    return Habits(sets_in_sdp=False, fps=first_frame.RATE, access_units=tuple(units))


@asynccontextmanager
async def _viewer(camera: RtspServer) -> AsyncIterator[tuple[WhepPage, LossyRelay, Standalone]]:
    async with standalone(camera.url) as agent, lossy_relay(agent.media_port) as relay, new_page() as page:
        await relay.divert_page(page)
        viewer = WhepPage(page)
        await viewer.join(f"http://127.0.0.1:{agent.port}")
        yield viewer, relay, agent
