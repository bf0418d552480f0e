"""Which code takes a camera's bytes apart: the extension's where it is installed and not ruled out, else Python's.

A frame of pictures is a dozen packets, and each costs Python more than all else that is done for the frame before the
fan-out. Both give the same for the same bytes; what is decided about the packets stays in Python.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from sightline_agent.media import rtp
from sightline_agent.sources.rtsp import wire
from sightline_agent.transport.fanout_choice import VARIABLE
from sightline_agent.transport.fanout_native import NativeUnavailableError, load

Runs = Callable[[list[bytes]], tuple[list[rtp.Run], int]]


@dataclass(frozen=True, slots=True)
class Apart:
    """The two functions that look at every packet."""

    cut: wire.Cut = wire.cut
    runs: Runs = rtp.runs


def native() -> Apart:
    """The extension's. Raises `NativeUnavailableError`."""
    module: Any = load()
    take_apart = module.runs

    def runs(packets: list[bytes]) -> tuple[list[rtp.Run], int]:
        found, malformed = take_apart(packets)
        return [rtp.Run(rtp.RtpPacket(*first), following) for first, following in found], malformed

    return Apart(cast("wire.Cut", module.frames), runs)


def choose_apart() -> Apart:
    """What a connection uses."""
    if os.environ.get(VARIABLE) == "python":
        return Apart()
    try:
        return native()
    except NativeUnavailableError:
        return Apart()
