"""A process of the agent's own that works for it over two pipes: the sound's encoder, the transcoder.

It gets nothing of the agent's environment but what finding libraries takes: it needs no credentials, and reads what
cameras send. Who starts one ends it, whatever happens in between.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_END_SECONDS = 2.0
"""For the kernel to take away a process that was killed; one that hangs in a driver may stay for longer."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """Use `start`."""

    process: asyncio.subprocess.Process
    input: asyncio.StreamWriter
    output: asyncio.StreamReader

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.returncode

    async def end(self, patience: float = 0.0) -> None:
        """Close its input and kill it, unless it ends by itself within so many seconds; also when cancelled."""
        self.input.close()
        try:
            if patience:
                async with asyncio.timeout(patience):
                    await self.process.wait()
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            _log.warning("a process did not end in time", pid=self.pid)


async def start(command: Sequence[str]) -> Child:
    """OSError where it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process was started without pipes")
    return Child(process, process.stdin, process.stdout)
