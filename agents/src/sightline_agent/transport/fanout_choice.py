"""Which fan-out serves: the native one where it is installed, else the pure-Python one. Says which, once.

SIGHTLINE_FANOUT=python takes the pure-Python one in any case: to compare, or to rule the native one out.
"""

import os
from collections.abc import Callable

import structlog

from sightline_agent.transport.fanout import FanOut
from sightline_agent.transport.fanout_native import NativeFanOut, NativeUnavailableError
from sightline_agent.transport.fanout_python import PythonFanOut, Sockets

VARIABLE = "SIGHTLINE_FANOUT"

log = structlog.get_logger(__name__)


MakeFanOut = Callable[[], FanOut]


def choose_fanout(sockets: Sockets) -> MakeFanOut:
    """Makes fan-outs over these sockets, all of one kind."""
    if os.environ.get(VARIABLE) == "python":
        log.info("fan-out", implementation="python", reason=f"{VARIABLE}=python")
        return lambda: PythonFanOut(sockets)
    try:
        native = NativeFanOut(sockets)
    except NativeUnavailableError as error:
        log.info("fan-out", implementation="python", reason=str(error))
        return lambda: PythonFanOut(sockets)
    log.info("fan-out", implementation="native", method=native.method)
    return lambda: NativeFanOut(sockets)
