"""A process of the agent's own that works for it over two pipes: the sound's encoder, the transcoder.

It gets nothing of the agent's environment but what finding libraries takes: it needs no credentials, and reads what
cameras send. Who starts one ends it, whatever happens in between.
"""

import asyncio
import contextlib
import os
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
_UNREAD_BYTES = 64 * 1024
"""Twice as much, and the process has to wait until somebody reads."""
_END_SECONDS = 2.0
"""For the kernel to take away a process that was killed; one that hangs in a driver may stay for longer."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """Use `start`."""

    process: asyncio.subprocess.Process
    input: asyncio.StreamWriter
    output: asyncio.StreamReader
    outlet: asyncio.BaseTransport
    """Where `output` reads from."""

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
            # A pipe that nobody reads never comes to its end, and the process is not over for asyncio before.
            self.outlet.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self.process.wait()
        except TimeoutError:
            _log.warning("a process did not end in time", pid=self.pid)


async def start(command: Sequence[str]) -> Child:
    """OSError where it cannot be started."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(_UNREAD_BYTES, loop),
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    )
    process = asyncio.subprocess.Process(transport, protocol, loop)
    outlet = transport.get_pipe_transport(1)
    if process.stdin is None or process.stdout is None or outlet is None:
        raise RuntimeError("a process was started without pipes")
    return Child(process, process.stdin, process.stdout, outlet)
