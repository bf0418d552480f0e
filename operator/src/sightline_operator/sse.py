"""Server-sent events, read incrementally (WHATWG HTML, section "Server-sent events"): bytes in, events out.

Only what agents send: `event`, `data` and comments. The peer is another process, perhaps a hostile one: the buffer is
bounded, and the work grows with the bytes that come, not with the pieces that they come in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""A snapshot has 0.3 to 0.7 KB for each session, live ones and at most 1000 ended ones: room for 6000 of them."""


class EventTooLargeError(ValueError):
    """The peer sends an event without end."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of the stream."""

    name: str
    data: str


class SseParser:
    """Feed it bytes as they come; lines may end in LF or CRLF and be cut anywhere."""

    __slots__ = ("_data", "_max", "_name", "_rest", "_size")

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_bytes
        self._rest = bytearray()  # the line under way; it grows in place, however small the pieces are
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    @property
    def between(self) -> bool:
        """Whether the next line is the first of an event."""
        return not (self._rest or self._name or self._data)

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that `chunk` completes."""
        whole, found, rest = chunk.rpartition(b"\n")
        lines = []
        if found:
            lines = (self._rest + whole).split(b"\n")
            self._rest = bytearray()
        self._rest += rest
        for raw in lines:
            event = self._line(raw)
            if event is not None:
                yield event
        self._check(len(self._rest))

    def _line(self, raw: bytearray) -> ServerEvent | None:
        self._check(len(raw))
        line = raw.removesuffix(b"\r").decode("utf-8", "replace")
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._size += len(raw)  # with the field's name: lines without a value take room, too
            self._check(self._size)
            self._data.append(value)
        return None

    def _check(self, size: int) -> None:
        if size > self._max:
            raise EventTooLargeError(f"an event has more than {self._max} bytes")

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "", [], 0
        return event
