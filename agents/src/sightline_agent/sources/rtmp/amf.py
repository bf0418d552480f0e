"""AMF0, the values in RTMP's commands (Action Message Format, version 0). Pure; any bytes give values or an AmfError.

Read: numbers, booleans, strings, objects and arrays of them, null. What else there is (dates, references, AMF3) ends
the reading: no command that matters here has it. Written: numbers, booleans, strings, objects, null.
"""

import struct
from collections.abc import Mapping

Value = float | bool | str | None | dict[str, "Value"] | list["Value"]

_NUMBER, _BOOLEAN, _STRING, _OBJECT = range(4)
_NULL, _UNDEFINED, _MAP, _END, _ARRAY, _LONG_STRING = 5, 6, 8, 9, 10, 12
_MAX_DEPTH = 8
_MAX_ITEMS = 1000


class AmfError(ValueError):
    """Bytes that are no AMF0."""


def decode(data: bytes) -> list["Value"]:
    """All values in `data`."""
    reader = _Reader(data)
    values: list[Value] = []
    while reader.left:
        values.append(reader.value(0))
        if len(values) > _MAX_ITEMS:
            raise AmfError("too many values")
    return values


def encode(*values: "Value") -> bytes:
    """`values` one after the other."""
    return b"".join(map(_encoded, values))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def value(self, depth: int) -> "Value":
        if depth > _MAX_DEPTH:
            raise AmfError("nested too deeply")
        kind = self._take(1)[0]
        if kind == _NUMBER:
            number: float = struct.unpack(">d", self._take(8))[0]
            return number
        if kind == _BOOLEAN:
            return self._take(1) != b"\0"
        if kind == _STRING:
            return self._text(2)
        if kind == _LONG_STRING:
            return self._text(4)
        if kind in (_NULL, _UNDEFINED):
            return None
        if kind == _OBJECT:
            return self._members(depth)
        if kind == _MAP:
            self._take(4)  # how many; the end is marked as well
            return self._members(depth)
        if kind == _ARRAY:
            count = int.from_bytes(self._take(4), "big")
            if count > _MAX_ITEMS:
                raise AmfError("too many items")
            return [self.value(depth + 1) for _ in range(count)]
        raise AmfError(f"no value of type {kind} is known")

    def _members(self, depth: int) -> dict[str, "Value"]:
        found: dict[str, Value] = {}
        while len(found) <= _MAX_ITEMS:
            name = self._text(2)
            if not name and self._data[self._at : self._at + 1] == bytes([_END]):
                self._at += 1
                return found
            found[name] = self.value(depth + 1)
        raise AmfError("too many members")

    def _text(self, width: int) -> str:
        return self._take(int.from_bytes(self._take(width), "big")).decode("utf-8", "replace")

    def _take(self, count: int) -> bytes:
        data = self._data[self._at : self._at + count]
        if len(data) < count:
            raise AmfError("cut")
        self._at += count
        return data


def _encoded(value: "Value") -> bytes:
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_BOOLEAN, value])
    if isinstance(value, (int, float)):
        return bytes([_NUMBER]) + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        if len(text) > 0xFFFF:
            return bytes([_LONG_STRING]) + len(text).to_bytes(4, "big") + text
        return bytes([_STRING]) + _name(value)
    if isinstance(value, Mapping):
        members = b"".join(_name(name) + _encoded(member) for name, member in value.items())
        return bytes([_OBJECT]) + members + b"\0\0" + bytes([_END])
    raise AmfError("a list is never sent")


def _name(name: str) -> bytes:
    text = name.encode()
    return len(text).to_bytes(2, "big") + text
