"""Probes against the agent's own media port, and against a port where nobody is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sightline_agent.transport.mux import MuxCount, UdpMux
from sightline_operator.probe import WAITING, StunProber, Target, answers


@pytest.fixture
async def mux() -> AsyncIterator[UdpMux]:
    listening = UdpMux("127.0.0.1", 0)
    await listening.start()
    yield listening
    listening.close()


async def test_an_agent_answers(mux: UdpMux) -> None:
    assert await answers("127.0.0.1", mux.port)
    assert set(mux.counters) == {MuxCount.PING}


@pytest.mark.parametrize("address", ["127.0.0.1", "no address"])
async def test_nobody_answers(mux: UdpMux, address: str) -> None:
    port = mux.port
    mux.close()
    assert not await answers(address, port, attempts=2, seconds=0.02)


async def test_results_are_told_and_forgotten(mux: UdpMux) -> None:
    prober = StunProber()
    told: asyncio.Queue[Target] = asyncio.Queue()
    prober.subscribe(told.put_nowait)
    target = Target("site", "gate", "camera-gate-abc", "127.0.0.1", mux.port)
    prober.ask(target)
    prober.ask(target)
    working = asyncio.create_task(prober.run())
    assert await told.get() == target
    result = prober.result("site", "camera-gate-abc")
    assert result is not None
    assert result.answered
    assert told.empty()
    prober.forget("site", "camera-gate-abc")
    assert prober.result("site", "camera-gate-abc") is None
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_nothing_is_remembered_of_a_pod_that_went_while_it_was_asked(mux: UdpMux) -> None:
    prober = StunProber()
    told: asyncio.Queue[Target] = asyncio.Queue()
    prober.subscribe(told.put_nowait)
    for pod in ("gone", "there"):
        prober.ask(Target("site", "gate", pod, "127.0.0.1", mux.port))
    prober.forget("site", "gone")
    working = asyncio.create_task(prober.run())
    assert (await told.get()).pod == "there"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert prober.result("site", "gone") is None
    assert prober.result("site", "there") is not None


async def test_what_finds_no_room_is_counted() -> None:
    prober = StunProber()
    for number in range(WAITING + 3):
        prober.ask(Target("site", "gate", f"pod-{number}", "127.0.0.1", 1))
    assert prober.outcomes == {"dropped": 3}
