"""An operator that waits for its turn: it lists, watches and listens, and does nothing until it is in charge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import generate_latest

from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_model.reasons import EndReason
from tests.operator.virtualtime import run, until
from tests.operator.world import World, world


@asynccontextmanager
async def waiting() -> AsyncIterator[tuple[World, asyncio.Event]]:
    """A camera that somebody watches, its operator has died, and another one waits until the event is set."""
    async with world() as here:
        await here.start_camera()
        await here.watch("s-1")
        await here.settled(30)  # how many watch is written some seconds later
        await here.stop()
        turn = asyncio.Event()

        async def in_charge() -> None:
            await turn.wait()

        here.start(in_charge)
        await until(here.cache.synced)
        await asyncio.sleep(1)
        here.recording.calls.clear()
        yield here, turn


def test_it_hears_the_agents_and_does_nothing() -> None:
    async def main() -> None:
        async with waiting() as (here, turn):
            assert here.links.connected() == (1, 1)
            await here.add_camera("yard")
            await here.cluster.merge_patch(CAMERA, "default", "gate", {"spec": {"transcode": "Never"}})
            await asyncio.sleep(400)
            here.check()
            assert here.recording.calls == []
            assert (len(here.operator.queue), here.operator.queue.delayed) == (0, 0)
            assert 'sightline_agent_links{state="connected"} 0.0' in _page(here)
            turn.set()
            await here.settled()
            assert await here.is_ready("yard")
            assert (await here.camera())["status"]["observedGeneration"] == 2
            assert 'sightline_agent_links{state="connected"} 2.0' in _page(here)

    run(main)


def test_taking_over_an_unchanged_world_writes_nothing() -> None:
    async def main() -> None:
        async with waiting() as (here, turn):
            await asyncio.sleep(400)
            turn.set()
            await here.settled(20)
            assert here.recording.calls == []

    run(main)


def test_a_session_deleted_while_nobody_works_is_revoked_by_who_takes_over() -> None:
    async def main() -> None:
        async with waiting() as (here, turn):
            await here.cluster.delete(STREAM_SESSION, "default", "s-1")
            await asyncio.sleep(10)
            assert here.agent().ended == []
            turn.set()
            await until(lambda: here.agent().ended == [("s-1", EndReason.REVOKED)])

    run(main)


def _page(here: World) -> str:
    return generate_latest(here.operator.metrics.registry).decode()
