"""Mutations of valid examples: the generator behind every fuzz target.

Seeded, so that a run can be repeated: the same seed and corpus give the same inputs. A target is fed by `Mutator.next`.
The mutations are those that parsers of lengths, numbers and lines break on: bits, interesting bytes, tokens of the
format, wrong lengths, huge numbers, splices, cuts and many repetitions.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"

_BYTES = (0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 36, 63, 64, 127, 128, 191, 192, 254, 255)
_NUMBERS = (b"0", b"-1", b"1", b"65535", b"65536", b"4294967296", b"9" * 10, b"0000" + b"9" * 20, b"1" * 5000)
_WORDS = (b"", b"\r\n", b"\n", b"\0", b" ", b":", b";", b"=", b",", b'"', b"\xff\xfe", b"\xe2\x80\xa8", b"%00", b"[")
_DIGITS = re.compile(rb"[0-9]+")
_REPEATS = (2, 3, 8, 64, 1000)


def corpus(name: str) -> list[bytes]:
    """The examples of one target."""
    files = sorted((CORPUS / name).iterdir())
    return [path.read_bytes() for path in files]


class Mutator:
    """Endless inputs."""

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes], random: Random, limit: int) -> None:
        """`limit`: the longest input, about what the transport in front of the parser lets through."""
        self._seeds = seeds
        self._tokens = (*tokens, *_WORDS)
        self._random = random
        self._limit = limit
        self._operations: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._flip,
            self._byte,
            self._byte,
            self._token,
            self._token,
            self._length,
            self._number,
            self._cut,
            self._copy,
            self._splice,
            self._truncate,
            self._lines,
            self._noise,
        )

    def next(self) -> bytes:
        """Now and then a seed as it is, mostly one with a few changes, rarely one with many."""
        random = self._random
        data = bytearray(random.choice(self._seeds))
        changes = random.choice((0, 1, 1, 1, 2, 2, 3, 4, 6, 16))
        for _ in range(changes):
            random.choice(self._operations)(data)
        return bytes(data[: self._limit])

    def _at(self, data: bytearray) -> int:
        return self._random.randrange(len(data) + 1)

    def _span(self, data: bytearray) -> tuple[int, int]:
        begin = self._at(data)
        return begin, min(len(data), begin + self._random.choice((1, 2, 4, 8, 16, 100, 1000)))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _byte(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] = self._random.choice(_BYTES)

    def _token(self, data: bytearray) -> None:
        token, at = self._random.choice(self._tokens), self._at(data)
        data[at : at + (len(token) if self._random.random() < 0.5 else 0)] = token

    def _length(self, data: bytearray) -> None:
        """Two or four bytes become a number near something's length, or an extreme."""
        width, at = self._random.choice((2, 4)), self._at(data)
        near = self._random.choice((0, 1, 4, len(data), len(data) - at, (1 << 8 * width) - 1, 1 << (8 * width - 1)))
        number = max(0, near + self._random.randrange(-5, 6)) & ((1 << 8 * width) - 1)
        data[at : at + width] = number.to_bytes(width, "big")

    def _number(self, data: bytearray) -> None:
        found = list(_DIGITS.finditer(data))
        if found:
            begin, end = self._random.choice(found).span()
            data[begin:end] = self._random.choice(_NUMBERS)

    def _cut(self, data: bytearray) -> None:
        begin, end = self._span(data)
        del data[begin:end]

    def _copy(self, data: bytearray) -> None:
        begin, end = self._span(data)
        at, times = self._at(data), self._random.choice(_REPEATS)
        data[at:at] = (data[begin:end] * times)[: self._limit]

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._seeds)
        data[self._at(data) :] = other[self._random.randrange(len(other) + 1) :]

    def _truncate(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _lines(self, data: bytearray) -> None:
        lines = data.split(b"\n")
        if len(lines) > 2:
            first, second = self._random.randrange(len(lines)), self._random.randrange(len(lines))
            lines[first] = lines[second]
            data[:] = b"\n".join(lines)

    def _noise(self, data: bytearray) -> None:
        begin, end = self._span(data)
        data[begin:end] = self._random.randbytes(end - begin)
