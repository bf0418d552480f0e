"""Which fan-out serves: the native one where it is installed, else the pure-Python one. Says which, once.

SIGHTLINE_FANOUT=python takes the pure-Python one in any case: to compare, or to rule the native one out.
"""

import os
from collections.abc import Callable

import structlog

from sightline_agent.transport.fanout import FanOut
from sightline_agent.transport.fanout_native import Limits, NativeFanOut, NativeUnavailableError
from sightline_agent.transport.fanout_python import PythonFanOut, Sockets

VARIABLE = "SIGHTLINE_FANOUT"
_THREADS_MOST = 8
"""All send through one socket; beyond that it, and the loop, are what viewers wait for."""

log = structlog.get_logger(__name__)


MakeFanOut = Callable[[], FanOut]


def choose_fanout(sockets: Sockets, threads: int = 1) -> MakeFanOut:
    """Makes fan-outs over these sockets, all of one kind; the native one may serve viewers on so many threads."""
    if os.environ.get(VARIABLE) == "python":
        log.info("fan-out", implementation="python", reason=f"{VARIABLE}=python")
        return lambda: PythonFanOut(sockets)
    limits = Limits(threads=min(max(threads, 1), _THREADS_MOST))
    try:
        native = NativeFanOut(sockets, limits=limits)
    except NativeUnavailableError as error:
        log.warning("fan-out", implementation="python", reason=str(error))
        return lambda: PythonFanOut(sockets)
    log.info("fan-out", implementation="native", method=native.method, threads=limits.threads)
    return lambda: NativeFanOut(sockets, limits=limits)
