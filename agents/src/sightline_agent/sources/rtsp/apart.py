"""Which code takes a camera's bytes apart: the extension's where it is installed and not ruled out, else Python's.

A frame of pictures is a dozen packets, and each costs Python more than all else that is done for the frame before the
fan-out. Both give the same for the same bytes; what is decided about the packets stays in Python.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.runs import Run, runs
from sightline_agent.sources.rtsp import wire
from sightline_agent.transport.fanout_choice import VARIABLE
from sightline_agent.transport.fanout_native import NativeUnavailableError, load

Runs = Callable[[list[bytes], str], tuple[list[Run], int]]
Reader = Callable[[int, str], wire.Read]

_run = partial(tuple.__new__, Run)
_batch = partial(tuple.__new__, wire.Batch)
"""Without a call of Python for each."""


def reader(channel: int, codec: str) -> wire.Read:
    """What takes apart the packets of a channel with pictures of this codec, and leaves others as they are."""

    def read(data: bytes, start: int) -> tuple[wire.Batch, int, int]:
        frames, end, wanted = wire.cut(data, start)
        found, malformed = runs((packet for on, packet in frames if on == channel), codec)
        return wire.Batch(found, malformed, [frame for frame in frames if frame[0] != channel]), end, wanted

    return read


@dataclass(frozen=True, slots=True)
class Apart:
    """The functions that look at every packet: those of a connection that is set up, of UDP, and of TCP."""

    cut: wire.Cut = wire.cut
    runs: Runs = runs
    reader: Reader = reader


def native() -> Apart:
    """The extension's. Raises `NativeUnavailableError`."""
    module: Any = load()
    native_runs, native_read = module.runs, module.read

    def runs(packets: list[bytes], codec: str) -> tuple[list[Run], int]:
        found, malformed = native_runs(packets, codec, MAX_PAYLOAD)
        return list(map(_run, found)), malformed

    def reader(channel: int, codec: str) -> wire.Read:
        def read(data: bytes, start: int) -> tuple[wire.Batch, int, int]:
            found, malformed, others, end, wanted = native_read(data, start, channel, codec, MAX_PAYLOAD)
            return _batch((list(map(_run, found)), malformed, others)), end, wanted

        return read

    return Apart(cast("wire.Cut", module.frames), runs, reader)


def choose_apart() -> Apart:
    """What a connection uses."""
    if os.environ.get(VARIABLE) == "python":
        return Apart()
    try:
        return native()
    except NativeUnavailableError:
        return Apart()
