"""Processes that work for the agent: what they get of it, and that they end when they shall."""

import asyncio
import contextlib
import os
import sys

import pytest
import structlog

from sightline_agent import child


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-c", code]


IGNORES_EVERYTHING = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "sys.stdout.write('+'); sys.stdout.flush(); time.sleep(600)"
)


async def test_it_works_and_ends_with_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_SECRET", "hunter2")
    code = "import os, sys; print('|'.join(os.environ), flush=True); sys.stdout.write(sys.stdin.read())"
    process = await child.start(python(code))
    names = await process.output.readline()
    process.input.write(b"work")
    process.input.close()
    assert await process.output.read() == b"work"
    await process.end(20.0)
    assert b"PATH" in names
    assert b"SECRET" not in names
    assert process.status == 0


@pytest.mark.parametrize("patience", [0.0, 0.05])
async def test_one_that_does_not_end_is_killed(patience: float) -> None:
    process = await child.start(python(IGNORES_EVERYTHING))
    await process.output.readexactly(1)
    await process.end(patience)
    assert process.status == -9
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_one_whose_flood_nobody_reads_is_over_at_once_and_leaves_no_pipe() -> None:
    before = set(os.listdir("/proc/self/fd"))
    process = await child.start(python("import os\nwhile True: os.write(1, bytes(65536))"))
    assert isinstance(process.outlet, asyncio.ReadTransport)
    while process.outlet.is_reading():
        await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await process.end()
    assert (process.status, logs) == (-9, [])
    await asyncio.sleep(0)
    assert set(os.listdir("/proc/self/fd")) <= before


async def test_who_is_cancelled_leaves_none_behind() -> None:
    process = await child.start(python(IGNORES_EVERYTHING))
    await process.output.readexactly(1)
    ending = asyncio.create_task(process.end(600.0))
    await asyncio.sleep(0)
    ending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ending
    assert ending.cancelled()
    assert await process.process.wait() == -9


async def test_a_program_that_is_not_there() -> None:
    with pytest.raises(OSError, match="nonexistent"):
        await child.start(["/nonexistent/program"])
