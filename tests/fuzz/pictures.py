"""Targets of H.265 and of what is made of pictures for the transcoder."""

from random import Random

from sightline_agent.media import h265, h265_sps
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.grammar import GRAMMARS, H265
from sightline_agent.transcode.records import Kind, RecordError, Splitter, Tally
from sightline_agent.transcode.units import Units
from tests.fuzz.runner import Target

_RECORD = 3
_MAX_HELD = 200_000
"""Bytes of parameter sets that a stream may make us repeat in front of a key frame."""


class Payload:
    """One H.265 payload through every pure function on it."""

    def feed(self, data: bytes, random: Random) -> None:
        limit = random.choice((8, 100, MAX_PAYLOAD))
        parts = h265.resplit(data, limit)
        assert all(0 < len(part) <= limit for part in parts)
        if 0 <= h265.nal_type(data) < h265.AP:
            assert h265.reassemble(parts) == [data]
        h265.starts_nal(data)
        nals = h265.ap_nals(data)
        assert sum(map(len, nals)) <= len(data)
        assert all(0 < len(part) <= MAX_PAYLOAD for part in h265.aggregate(nals))
        h265.parse_parameter_sets(data.decode("latin-1"))
        info = h265_sps.parse(data)
        assert info is None or (0 < info.width <= 16384 and 0 < info.height <= 16384)
        number = h265_sps.set_id(data)
        assert number is None or 0 <= number < 64

    def check(self) -> None: ...

    def close(self) -> None: ...


class Stream:
    """Payloads in records of two bytes of length, one of flags, and a payload: to chunks and on to access units."""

    def __init__(self) -> None:
        self._assembler = Assembler(codec=H265)
        self._units = Units(GRAMMARS[H265])

    def feed(self, data: bytes, random: Random) -> None:
        position, timestamp = 0, random.randrange(1 << 32)
        while position + _RECORD <= len(data):
            size, flags = int.from_bytes(data[position : position + 2], "big"), data[position + 2]
            payload = data[position + _RECORD : position + _RECORD + size]
            position += _RECORD + size
            timestamp = (timestamp + 3000 * (flags >> 2 & 3)) % (1 << 32)
            if payload:
                self._assembler.push(payload, timestamp, bool(flags & 1), bool(flags & 2))
            if flags & 0x10:
                self._take(len(data))
        self._take(len(data))

    def _take(self, fed: int) -> None:
        for chunk in self._assembler.take():
            assert all(0 < len(payload) <= MAX_PAYLOAD for payload in chunk.payloads)
            for _, unit, _ in self._units.add(chunk):
                assert unit.startswith(b"\0\0\0\1")

    def check(self) -> None:
        held = [*self._assembler._sets.values(), *self._assembler._pending.values()]
        assert sum(map(len, held)) <= _MAX_HELD
        assert len(self._assembler._held) <= 4096 + 1000

    def close(self) -> None: ...


class Records:
    """What a transcoder gone mad may write, in pieces."""

    def feed(self, data: bytes, random: Random) -> None:
        splitter, position = Splitter(), 0
        try:
            while position < len(data):
                size = random.randint(1, 4096)
                for record in splitter.feed(data[position : position + size]):
                    if record.kind is Kind.TALLY:
                        Tally.unpack(record.body)
                position += size
        except RecordError:
            return
        assert len(splitter._buffer) <= len(data)

    def check(self) -> None: ...

    def close(self) -> None: ...


_TOKENS = (
    bytes((48 << 1, 1)),
    bytes((49 << 1, 1, 0x94)),
    bytes((49 << 1, 1, 0x54)),
    bytes((49 << 1, 1, 0x14)),
    bytes.fromhex("40010c01ffff0160"),
    bytes.fromhex("42010101600000030090000003000003"),
    bytes.fromhex("4401c073c189"),
    bytes((0x28, 1, 0xAF)),
    bytes((0x02, 1, 0xD0)),
    b"\0\0\3",
    b"\xff" * 1500,
)
TARGETS = (
    Target("h265", Payload, _TOKENS, 65_535),
    Target("h265-stream", Stream, _TOKENS, 65_000),
    Target("transcoder", Records, (b"\1", b"\4", bytes(8), b"\0\0\0\x0c"), 20_000),
)
