"""The transcoder's process: `python -m sightline_agent.transcode.worker`, started by `transcode.process`.

Records come on standard input and leave on standard output (`transcode.records`). It ends with its input, so it never
outlives the agent, and it runs at low priority: viewers who need no transcoding must not feel it.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator

from sightline_agent.transcode.conversion import Conversion
from sightline_agent.transcode.records import Kind, Record, Splitter, pack

NICE = 10
_READ_BYTES = 1 << 16
_TALLY_SECONDS = 1.0

Write = Callable[[bytes], None]


def main() -> None:
    """Work until the input ends."""
    os.nice(NICE)
    output = sys.stdout.fileno()

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(output, view) :]

    try:
        work(_input(sys.stdin.fileno()), write, time.monotonic)
    except BrokenPipeError:
        return


def work(pieces: Iterator[bytes], write: Write, clock: Callable[[], float]) -> None:
    """Records in, records out."""
    splitter = Splitter()
    conversion: Conversion | None = None
    told_at = clock()
    for piece in pieces:
        for record in splitter.feed(piece):
            if record.kind is Kind.CODEC:
                conversion = Conversion(record.body.decode("ascii"))
            elif conversion is None:
                raise ValueError("the codec has to be told first")
            elif record.kind is Kind.KEY_FRAME:
                conversion.want_key_frame()
            elif record.kind is Kind.PRELUDE:
                conversion.prepare(record.body, record.ticks)
            elif record.kind is Kind.UNIT:
                _convert(conversion, record, write, clock() - record.sent)
        if conversion is not None and clock() - told_at >= _TALLY_SECONDS:
            told_at = clock()
            write(pack(Record(Kind.TALLY, body=conversion.tally.pack())))


def _convert(conversion: Conversion, record: Record, write: Write, waited: float) -> None:
    for ticks, data in conversion.convert(record.body, record.ticks, waited):
        write(pack(Record(Kind.UNIT, ticks, record.sent, data)))


def _input(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _READ_BYTES):
        yield piece


if __name__ == "__main__":
    main()
