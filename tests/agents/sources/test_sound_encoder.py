"""AAC made into Opus: right in time, in a process that never harms the agent."""

import asyncio
import sys
from pathlib import Path

import pytest

from sightline_agent.media.sound import OPUS_RATE, opus_samples
from sightline_agent.sources.sound.encoder import PACKET_SAMPLES, CannotDecodeError, ToOpus
from sightline_agent.sources.sound.process import Drop, OpusProcess
from sightline_agent.sources.sound.wire import Coding
from tests.helpers.sounds import aac, onsets

pytestmark = pytest.mark.stacks


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (44_100, 2), (16_000, 1), (8_000, 1)])
def test_beeps_stay_where_they_were(rate: int, channels: int) -> None:
    configuration, units = aac(rate, channels, 2.5)
    encoder = ToOpus(Coding("aac", rate, channels, configuration))
    packets = [packet for data, at in units for packet in encoder.feed(data, at * OPUS_RATE // rate)]
    times = [at for _, at in packets]
    assert times == list(range(times[0], times[0] + PACKET_SAMPLES * len(times), PACKET_SAMPLES))
    assert {opus_samples(packet) for packet, _ in packets} == {PACKET_SAMPLES}
    heard = onsets("libopus", OPUS_RATE, packets)
    assert heard[-2:] == pytest.approx([1.0, 2.0], abs=0.005)


def test_after_a_gap_the_times_are_right_again() -> None:
    configuration, units = aac(16_000, 1, 2.5)
    encoder = ToOpus(Coding("aac", 16_000, 1, configuration))
    later = OPUS_RATE * 5
    packets = []
    for number, (data, at) in enumerate(units):
        packets += encoder.feed(data, at * 3 + (later if number > 20 else 0))
    assert onsets("libopus", OPUS_RATE, packets)[-1] == pytest.approx(7.0, abs=0.005)


def test_noise_is_given_up() -> None:
    configuration, _ = aac(16_000, 1, 0.2)
    encoder = ToOpus(Coding("aac", 16_000, 1, configuration))
    for number in range(50):
        assert encoder.feed(b"\xff\x00\xff" * 30, number * 1024 * 3) == []
    with pytest.raises(CannotDecodeError):
        encoder.feed(b"\xff\x00\xff" * 30, 0)
    with pytest.raises(CannotDecodeError):
        ToOpus(Coding("no-such-codec", 8000, 1))


class Hearer:
    """Where the process delivers."""

    def __init__(self) -> None:
        self.packets: list[tuple[bytes, int]] = []
        self.came = asyncio.Event()

    def __call__(self, packet: bytes, at: int) -> None:
        self.packets.append((packet, at))
        self.came.set()


async def test_a_process_does_the_same() -> None:
    configuration, units = aac(16_000, 1, 2.5)
    hearer = Hearer()
    process = OpusProcess(Coding("aac", 16_000, 1, configuration), hearer)
    running = asyncio.create_task(process.run())
    process.push(units[0][0], 0)
    assert process.dropped[Drop.NOT_READY] == 1
    await process.ready.wait()
    for data, at in units:
        process.push(data, at * 3)
    while not hearer.packets or hearer.packets[-1][1] < OPUS_RATE * 2.3:
        hearer.came.clear()
        await hearer.came.wait()
    assert onsets("libopus", OPUS_RATE, hearer.packets)[-2:] == pytest.approx([1.0, 2.0], abs=0.005)
    running.cancel()
    await asyncio.wait({running})
    assert (process.starts, process.problem) == (1, "")
    process.push(units[0][0], 0)
    assert process.dropped[Drop.TOO_SLOW] == 0


async def test_a_codec_that_nobody_decodes_is_a_problem() -> None:
    process = OpusProcess(Coding("no-such-codec", 8000, 1), Hearer())
    await process.run()
    assert (process.starts, process.problem) == (1, "it cannot be decoded")


async def test_a_process_that_dies_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline_agent.sources.sound.process._FIRST_PAUSE", 0.0)
    process = OpusProcess(Coding("aac", 8000, 1), Hearer(), None, [sys.executable, "-I", "-c", "print('+', end='')"])
    running = asyncio.create_task(process.run())
    while process.starts < 3:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_one_that_hangs_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline_agent.sources.sound.process._FIRST_PAUSE", 0.0)
    monkeypatch.setattr("sightline_agent.sources.sound.process._GOODBYE_SECONDS", 0.0)
    monkeypatch.setattr("sightline_agent.sources.sound.process._HUNG_SECONDS", 0.05)
    program = "import time; print('+', end='', flush=True); time.sleep(600)"
    process = OpusProcess(Coding("aac", 8000, 1), Hearer(), None, [sys.executable, "-I", "-c", program])
    running = asyncio.create_task(process.run())
    async with asyncio.timeout(60):
        while process.starts < 3:
            process.push(bytes(1000), 0)
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert process.dropped[Drop.TOO_SLOW]


async def test_one_that_never_begins_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_PAUSE", "_START_SECONDS", "_GOODBYE_SECONDS"):
        monkeypatch.setattr(f"sightline_agent.sources.sound.process.{name}", 0.0)
    command = [sys.executable, "-I", "-c", "import time; time.sleep(600)"]
    process = OpusProcess(Coding("aac", 8000, 1), Hearer(), None, command)
    running = asyncio.create_task(process.run())
    async with asyncio.timeout(60):
        while process.starts < 3:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})


async def test_one_that_hangs_is_ended_and_its_queue_is_bounded(tmp_path: Path) -> None:
    program = "import time; print('+', end='', flush=True); time.sleep(600)"
    process = OpusProcess(Coding("aac", 8000, 1), Hearer(), None, [sys.executable, "-I", "-c", program])
    running = asyncio.create_task(process.run())
    while not process.dropped[Drop.TOO_SLOW]:
        process.push(bytes(1000), 0)
        await asyncio.sleep(0)
    process.push(bytes(70_000), 0)
    assert process.dropped[Drop.TOO_LONG] == 1
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
