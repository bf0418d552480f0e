"""A small bounded cache whose entries have their own lifetimes; the clock is injected."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Holds at most `size` entries; the one that was put first makes room (dropping costs one question more)."""

    def __init__(self, size: int, monotonic: Callable[[], float]) -> None:
        self._size = size
        self._monotonic = monotonic
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> tuple[V] | None:
        """The value in a tuple (it may be None itself), or None when there is none in force."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if until <= self._monotonic():
            del self._entries[key]
            return None
        return (value,)

    def put(self, key: K, value: V, lifetime: float) -> None:
        """Keep `value` for `lifetime` seconds."""
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            self._entries.popitem(last=False)
        if lifetime > 0:
            self._entries[key] = (self._monotonic() + lifetime, value)
