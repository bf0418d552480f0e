"""The byte stream of an RTSP connection cut into RTSP messages and interleaved packets (RFC 2326 section 10.12).

Pure and bounded: a camera may send anything. Whatever is neither a packet nor a message ends the connection,
because after it nothing tells where the next one begins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from sightline_agent.media.runs import Run

MAX_HEAD = 16 * 1024
MAX_BODY = 128 * 1024
_DOLLAR = 0x24
_END = b"\r\n\r\n"
_FRAME_HEADER = 4
_LONGEST_METHOD = 24


class WireError(ValueError):
    """Bytes that are no RTSP; the message holds none of them."""


class Packet(NamedTuple):
    """An interleaved binary frame. A tuple, because one is made for each: half the cost of a dataclass."""

    channel: int
    data: bytes


class Batch(NamedTuple):
    """What came in one piece while the stream plays: the packets of one channel, taken apart, and how many of them were
    none; channels and data of all other frames."""

    runs: list[Run]
    malformed: int
    others: list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Message:
    """A response or, rarely, a request of the camera: first line, header fields, body."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first field of that name; empty where there is none."""
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        """Every field of that name."""
        return [value for key, value in self.headers if key == name]


Frames = tuple[list[tuple[int, bytes]], int, int]
"""Channels and data of binary frames; where they end; how many bytes from there are wanted for the one that begins
there, 0 where none does."""
Cut = Callable[[bytes, int], Frames]
Read = Callable[[bytes, int], tuple[Batch, int, int]]
"""Bytes and where to begin; what is in them, and what `Frames` says of the end."""
Item = Packet | Batch | Message

_packet = partial(tuple.__new__, Packet)
"""Without a call of Python for each."""


def cut(data: bytes, start: int) -> Frames:
    """Cut binary frames off, from `start` up to the first byte that begins none. The extension can, too (`apart`)."""
    found: list[tuple[int, bytes]] = []
    position, length = start, len(data)
    while position < length and data[position] == _DOLLAR:
        begin = position + _FRAME_HEADER
        end = begin + (data[position + 2] << 8) + data[position + 3] if begin <= length else begin
        if end > length:
            return found, position, end - position
        found.append((data[position + 1], data[begin:end]))
        position = end
    return found, position, 0


class Splitter:
    """Bytes in; messages out, and packets, or what `read` makes of them once that is set."""

    def __init__(self, cut: Cut = cut) -> None:
        self._cut = cut
        self.read: Read | None = None
        self._buffer = bytearray()
        self._wanted = 0
        """Bytes without which the item that has begun cannot be whole: fewer are not looked at."""

    def feed(self, data: bytes) -> list[Item]:
        """What is complete now; WireError where the stream makes no sense."""
        buffer = data
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
            buffer = bytes(self._buffer)
        position, length = 0, len(buffer)
        found: list[Item] = []
        while position < length:
            if buffer[position] == _DOLLAR:
                if self.read is not None:
                    batch, position, wanted = self.read(buffer, position)
                    found.append(batch)
                else:
                    frames, position, wanted = self._cut(buffer, position)
                    found += map(_packet, frames)
                if wanted:
                    self._wanted = wanted
                    break
                continue
            if buffer[position] in b"\r\n":  # some servers end a body with one line break too many
                position += 1
                continue
            message, size = _message(buffer, position)
            if message is None:
                self._wanted = size
                break
            position += size
            found.append(message)
        if self._buffer or position < length:
            self._buffer = bytearray(buffer[position:])
        return found


def _message(buffer: bytes, position: int) -> tuple[Message | None, int]:
    """The message and its size; None and the size that is wanted while it is not whole (0: unknown)."""
    _require_text(buffer[position : position + _LONGEST_METHOD])
    end = buffer.find(_END, position, position + MAX_HEAD + len(_END))
    if end < 0:
        if len(buffer) - position > MAX_HEAD:
            raise WireError("a message without an end")
        return None, 0
    start, headers = _head(buffer[position:end])
    size = _content_length(headers)
    body = end + len(_END)
    if len(buffer) < body + size:
        return None, body + size - position
    return Message(start, headers, buffer[body : body + size]), body + size - position


def _require_text(begin: bytes) -> None:
    """A message begins with letters: `RTSP/1.0 200 ...` or a method."""
    word = begin.split(b" ", 1)[0].split(b"/", 1)[0]
    if not (word.isalpha() or word.replace(b"_", b"").isalpha()) or not word.isupper():
        raise WireError("neither a packet nor a message")
    if word == b"HTTP":
        raise WireError("an HTTP server")


def _head(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
    lines = data.decode("utf-8", "replace").split("\r\n")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip().lower(), value.strip()))
    return lines[0], tuple(headers)


def _content_length(headers: tuple[tuple[str, str], ...]) -> int:
    text = next((value for name, value in headers if name == "content-length"), "0")
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > MAX_BODY:
        raise WireError("a body of impossible length")
    return int(text[:9])
