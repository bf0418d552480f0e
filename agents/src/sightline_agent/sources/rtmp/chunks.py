"""RTMP messages in chunks (Adobe's RTMP specification 1.0, section 5.3). Pure.

`ChunkReader` is fed with bytes as they come and answers with whole messages; `write` makes the chunks of one. What the
other side may make us keep is bounded: the size of a message, the number of chunk streams.
"""

from dataclasses import dataclass

DEFAULT_CHUNK = 128
MAX_MESSAGE_BYTES = 8 << 20
_MAX_CHUNK = 0xFFFFFF
_MAX_STREAMS = 64
_EXTENDED = 0xFFFFFF
_HEADER_BYTES = (11, 7, 3, 0)
_TIMESTAMPS = 1 << 32

SET_CHUNK_SIZE, ABORT, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_SIZE, PEER_BANDWIDTH = range(1, 7)
AUDIO, VIDEO = 8, 9
DATA, COMMAND, AGGREGATE = 18, 20, 22
COMMAND_AMF3 = 17


class ChunkError(ValueError):
    """Bytes that are no RTMP."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message."""

    type: int
    timestamp: int
    """Milliseconds, modulo 2**32."""
    stream: int
    data: bytes


@dataclass(slots=True)
class _Stream:
    """What the last header of a chunk stream said, and the message under way."""

    timestamp: int = 0
    delta: int = 0
    length: int = 0
    type: int = 0
    stream: int = 0
    extended: bool = False
    known: bool = False
    body: bytearray | None = None


class ChunkReader:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._streams: dict[int, _Stream] = {}
        self._chunk = DEFAULT_CHUNK

    def feed(self, data: bytes) -> list[Message]:
        """Messages that are whole now; ChunkError."""
        self._buffer += data
        messages: list[Message] = []
        at = 0
        while (following := self._one(at, messages)) is not None:
            at = following
        del self._buffer[:at]
        return messages

    def _one(self, at: int, messages: list[Message]) -> int | None:
        """Read the chunk at `at`; where the next one begins, or None while it is not all there."""
        buffer = self._buffer
        if at >= len(buffer):
            return None
        form, number = buffer[at] >> 6, buffer[at] & 0x3F
        more = {0: 1, 1: 2}.get(number, 0)
        head = at + 1 + more
        body = head + _HEADER_BYTES[form]
        if len(buffer) < body:
            return None
        if more:
            number = 64 + buffer[at + 1] + (buffer[at + 2] << 8 if more == 2 else 0)
        stream = self._streams.get(number) or _Stream()
        fields = buffer[head:body]
        extended = stream.extended if form == 3 else int.from_bytes(fields[:3], "big") == _EXTENDED
        begin = body + (4 if extended else 0)
        length = int.from_bytes(fields[3:6], "big") if form < 2 else stream.length
        have = len(stream.body) if stream.body is not None else 0
        size = min(self._chunk, length - have)
        if len(buffer) < begin + size:
            if length > MAX_MESSAGE_BYTES:
                raise ChunkError("a message is too large")
            return None
        time = int.from_bytes(buffer[body:begin], "big") if extended else int.from_bytes(fields[:3], "big")
        self._header(stream, form, fields, (time, extended))
        self._keep(number, stream)
        self._append(stream, bytes(buffer[begin : begin + size]), messages)
        return begin + size

    def _header(self, stream: _Stream, form: int, fields: bytearray, time: tuple[int, bool]) -> None:
        if not stream.known and form:
            raise ChunkError("a chunk stream does not begin with a whole header")
        if stream.body is not None:
            if form != 3:
                raise ChunkError("a message begins within another one")
            return
        stream.known = True
        if form < 3:
            stream.delta, stream.extended = time
        if form < 2:
            stream.length, stream.type = int.from_bytes(fields[3:6], "big"), fields[6]
            if stream.length > MAX_MESSAGE_BYTES:
                raise ChunkError("a message is too large")
        if form == 0:
            stream.stream = int.from_bytes(fields[7:11], "little")
            stream.timestamp = stream.delta
        else:
            stream.timestamp = (stream.timestamp + stream.delta) % _TIMESTAMPS

    def _keep(self, number: int, stream: _Stream) -> None:
        if number not in self._streams and len(self._streams) >= _MAX_STREAMS:
            raise ChunkError("there are too many chunk streams")
        self._streams[number] = stream

    def _append(self, stream: _Stream, data: bytes, messages: list[Message]) -> None:
        body = stream.body if stream.body is not None else bytearray()
        body += data
        if len(body) < stream.length:
            stream.body = body
            return
        stream.body = None
        message = Message(stream.type, stream.timestamp, stream.stream, bytes(body))
        if message.type == SET_CHUNK_SIZE:
            self._chunk = min(max(int.from_bytes(message.data[:4], "big") & 0x7FFFFFFF, 1), _MAX_CHUNK)
        elif message.type == ABORT:
            aborted = self._streams.get(int.from_bytes(message.data[:4], "big"))
            if aborted is not None:
                aborted.body = None
        messages.append(message)


def write(message: Message, chunk_stream: int = 3, chunk: int = DEFAULT_CHUNK) -> bytes:
    """The chunks of a message on one of the chunk streams 2 to 63."""
    extended = message.timestamp >= _EXTENDED
    after = message.timestamp.to_bytes(4, "big") if extended else b""
    head = (
        bytes([chunk_stream])
        + min(message.timestamp, _EXTENDED).to_bytes(3, "big")
        + len(message.data).to_bytes(3, "big")
        + bytes([message.type])
        + message.stream.to_bytes(4, "little")
    )
    out = [head, after, message.data[:chunk]]
    for start in range(chunk, len(message.data), chunk):
        out += [bytes([0xC0 | chunk_stream]), after, message.data[start : start + chunk]]
    return b"".join(out)


def parts(message: Message) -> list[Message]:
    """The messages in an aggregate; another message is its only part."""
    if message.type != AGGREGATE:
        return [message]
    found: list[Message] = []
    data, at, first = message.data, 0, None
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        time = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        first = time if first is None else first
        body = data[at + 11 : at + 11 + size]
        if len(body) < size:
            break
        found.append(Message(data[at], (message.timestamp + time - first) % _TIMESTAMPS, message.stream, body))
        at += 11 + size + 4
    return found
