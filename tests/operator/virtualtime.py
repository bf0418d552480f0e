"""The virtual loop with a wall clock, and a way to wait for what comes about by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tests.helpers import virtual_time

T = TypeVar("T")

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def now() -> datetime:
    """The virtual wall clock."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` on virtual time."""
    return virtual_time.run(main())


@asynccontextmanager
async def running(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Something that works without end, in a task that ends with the context."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 120.0) -> None:
    """Wait until the condition holds; AssertionError if it does not within that (virtual) time.

    It is looked at just after anything happened, not every hundredth of a second of an hour in which nothing does.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual_time.VirtualLoop)
    deadline = loop.time() + seconds
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        assert loop.time() < deadline, f"not within {seconds} s"
        await asyncio.sleep(min(loop.quiet(), deadline - loop.time()) + 0.01)
