"""The process that encodes one source's sound: records of coded sound on stdin, records of Opus on stdout.

Started by `process` as `python -I -m sightline_agent.sources.sound.worker CODEC RATE CHANNELS CONFIGURATION`. It ends
with its standard input, that is with the agent too, however that ends. It is a process of its own because what it
decodes comes from cameras, and FFmpeg's memory and faults shall not be the agent's.
"""

import logging
import os
import sys
from typing import BinaryIO

from sightline_agent.sources.sound import wire
from sightline_agent.sources.sound.encoder import CannotDecodeError, ToOpus

CANNOT_DECODE = 3
"""Exit status: starting again will not help."""
_NICE = 5
"""Loading FFmpeg must not hold up the first picture, which comes at the same time."""
READY = b"+"
"""The first byte that is written: the libraries are loaded."""


def main() -> int:
    """Work until standard input ends."""
    os.nice(_NICE)

    import av

    av.logging.set_level(logging.CRITICAL)
    try:
        encoder = ToOpus(wire.Coding.of(sys.argv[1:]))
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        _work(encoder, sys.stdin.buffer, sys.stdout.buffer)
    except CannotDecodeError:
        return CANNOT_DECODE
    except BrokenPipeError:
        return 0
    return 0


def _work(encoder: ToOpus, source: BinaryIO, sink: BinaryIO) -> None:
    while len(head := source.read(wire.HEAD_BYTES)) == wire.HEAD_BYTES:
        at, length = wire.read_head(head)
        data = source.read(length)
        if len(data) < length:
            return
        for packet, begin in encoder.feed(data, at):
            sink.write(wire.write(begin, packet))
        sink.flush()


if __name__ == "__main__":
    sys.exit(main())
