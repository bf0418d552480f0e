"""The event stream: what happens in the agent, told to the operator as server-sent events.

Each subscriber has a bounded queue. One that does not read fast enough is not waited for and loses no single
event: its whole stream is closed and counted, and the snapshot at the begin of its next one makes up for
everything.

Numbers that change all the time (`stats`) are told at most every `STATS_SECONDS`, and only when they did
change.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from sightline_model.agent import (
    EVENTS_KEEPALIVE_SECONDS,
    AgentEvent,
    AgentReport,
    AgentStats,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceEvent,
    SourceReport,
    StatsEvent,
)

STATS_SECONDS = 10.0
_QUEUE = 256
_MAX_SUBSCRIBERS = 16

_KEEP_ALIVE = b": keep-alive\n\n"


class TooManySubscribersError(Exception):
    """Somebody opens streams without closing them."""


class EventHub:
    """Publishes to all subscribers; `snapshot` answers with everything there is to know."""

    def __init__(self, snapshot: Callable[[], AgentReport]) -> None:
        self._snapshot = snapshot
        self._subscribers: set[Subscription] = set()
        self._told: tuple[AgentStats, SourceReport] | None = None
        self.overflows = 0

    @property
    def subscribers(self) -> int:
        """Streams open now."""
        return len(self._subscribers)

    def source(self, report: SourceReport) -> None:
        """The source's state changed."""
        self._publish(SourceEvent(source=report))

    def everything(self) -> None:
        """So much has changed that only a snapshot tells it."""
        self._publish(SnapshotEvent(report=self._snapshot()))

    def session(self, report: SessionReport) -> None:
        """A session's state changed."""
        self._publish(SessionEvent(session=report))

    def subscribe(self) -> "Subscription":
        """A stream that begins with a snapshot."""
        if len(self._subscribers) >= _MAX_SUBSCRIBERS:
            raise TooManySubscribersError
        subscription = Subscription(self._subscribers.discard)
        self._subscribers.add(subscription)
        subscription.offer(encode(SnapshotEvent(report=self._snapshot())))
        return subscription

    def close(self) -> None:
        """End all streams."""
        for subscription in tuple(self._subscribers):
            subscription.close()

    async def run(self) -> None:
        """Tell the numbers now and then, until cancelled."""
        while True:
            await asyncio.sleep(STATS_SECONDS)
            self.tell_stats()

    def tell_stats(self) -> None:
        """Publish the numbers if they changed and somebody listens."""
        if not self._subscribers:
            return
        report = self._snapshot()
        # What the process itself uses changes always; it travels along but is no reason to send.
        told = (report.stats.model_copy(update={"cpu_seconds": 0.0, "memory_bytes": 0}), report.source)
        if told == self._told:
            return
        self._told = told
        self._publish(StatsEvent(stats=report.stats, source=report.source))

    def _publish(self, event: AgentEvent) -> None:
        if not self._subscribers:
            return
        data = encode(event)
        for subscription in tuple(self._subscribers):
            if not subscription.offer(data):
                self.overflows += 1
                subscription.close()


class Subscription:
    """One subscriber's bounded queue of encoded events."""

    def __init__(self, on_close: Callable[["Subscription"], None]) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE + 1)  # one place for the end mark
        self._on_close = on_close
        self._closed = False

    def offer(self, data: bytes) -> bool:
        """Put an event in; False when the queue is full."""
        if self._closed:
            return True
        if self._queue.qsize() >= _QUEUE:
            return False
        self._queue.put_nowait(data)
        return True

    def close(self) -> None:
        """No more events; what is queued is still delivered."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._queue.put_nowait(None)

    async def stream(self) -> AsyncIterator[bytes]:
        """The bytes to send: events as they come, a comment when nothing came for a while."""
        try:
            while True:
                try:
                    async with asyncio.timeout(EVENTS_KEEPALIVE_SECONDS):
                        data = await self._queue.get()
                except TimeoutError:
                    data = _KEEP_ALIVE
                if data is None:
                    return
                yield data
        finally:
            self.close()


def encode(event: AgentEvent) -> bytes:
    """One event as the event-stream format has it."""
    body = event.model_dump_json(exclude_none=True)
    return f"event: {event.type}\ndata: {body}\n\n".encode()
