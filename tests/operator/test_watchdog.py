"""The thread that watches the loop: on a made-up clock, and for real in a process whose loop is blocked."""

import asyncio
import subprocess
import sys

import pytest

from sightline_operator.watchdog import Watchdog, watching

BLOCKED = """
import asyncio, logging, time
from sightline_operator.watchdog import Watchdog, watching

def stuck_here():
    time.sleep(60)

async def main():
    dog = Watchdog(blocked=1.0)
    asyncio.get_running_loop().create_task(dog.run())
    with watching(dog):
        await asyncio.sleep(0.1)
        stuck_here()

logging.basicConfig()
asyncio.run(main())
"""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_silent_looks_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    clock, ended = Clock(), list[int]()
    dog = Watchdog(20, clock, ended.append)
    clock.now += 19
    dog.look()
    clock.now += 2
    dog.look()
    assert ended == []
    assert dog.silence == 21
    dog.look()
    assert ended == [1]
    assert "test_two_silent_looks_end_the_process" in caplog.text


async def test_a_tick_between_two_looks_is_enough() -> None:
    clock, ended = Clock(), list[int]()
    dog = Watchdog(20, clock, ended.append)
    for _ in range(3):  # a machine that sleeps, and wakes
        clock.now += 30
        dog.look()
        ticking = asyncio.create_task(dog.run())
        await asyncio.sleep(0)
        ticking.cancel()
        dog.look()
    assert ended == []
    with watching(dog):
        assert dog.silence == 0


def test_a_blocked_loop_ends_its_process_and_tells_where() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "stuck_here" in done.stderr
