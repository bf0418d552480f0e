"""`sightline-agent`: the process. Exit code 0 after SIGTERM, 1 when a part failed, 2 for what it was started with."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence

import structlog

from sightline_agent import logs
from sightline_agent.errors import SettingsError
from sightline_agent.settings import parse

_THREADS_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until told to stop."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit code."""
    try:
        settings = parse(arguments)
        logs.configure(settings.log_level)
        from sightline_agent.runtime import Runtime, prepare  # after logging is set up: a wrong option answers at once

        start = prepare(settings)
        runner = asyncio.Runner(loop_factory=_loop_factory())
        try:
            runner.run(Runtime(start).run())
        finally:
            _close(runner)
    except SettingsError as error:
        sys.stderr.write(f"sightline-agent: {error}\n")
        return 2
    except Exception:
        structlog.get_logger(__name__).exception("agent failed")
        return 1
    return 0


def _close(runner: asyncio.Runner) -> None:
    """Close the loop. It would wait for its threads for ever, and a name server that is away holds one for long."""
    guard = threading.Timer(_THREADS_SECONDS, os._exit, (0,))
    guard.daemon = True
    guard.start()
    runner.close()
    guard.cancel()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, which takes a tenth of the CPU off (docs/design/0020); the standard one where it is not there."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    main()
