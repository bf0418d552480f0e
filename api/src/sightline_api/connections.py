"""What the HTTP server holds against clients that connect and then let it wait; `__main__` hands it to uvicorn.

uvicorn ends a connection that rests after an answer, but waits without end for the first request, for the rest of a
head, for a body that nobody reads any more, and for a client that does not read: thousands of such connections cost
nothing to make, need no token, and take the descriptors that viewers need. Bodies that are read have a limit of their
own (`middleware.BodyLimit`).

Rest itself is long (`Settings.keep_alive`): a proxy sends its next request over a connection that rests, and if that is
closed in the same moment its client gets a 502. So it is the proxy that has to end it; how many may rest is bounded.
"""

import asyncio
from collections import OrderedDict
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from sightline_api.metrics import Metrics

HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a further request, to the end of the request's head."""
STUCK_SECONDS = 30.0
"""That an answer, or its end, may wait for a client to read on: 64 KiB over 20 kbit/s."""
MAX_RESTING = 2048
"""Connections that rest between requests, 11 KB each. The one that rested longest makes room, as those of busy proxies
do not rest for long."""


class State(ServerState):
    """What the connections of one server share."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self.resting: OrderedDict[Connection, None] = OrderedDict()
        """Those between two requests, the one that rested longest first."""

    def rests(self, connection: "Connection") -> None:
        """It waits for another request, if there is room."""
        self.resting[connection] = None
        if len(self.resting) > MAX_RESTING:
            self.resting.popitem(last=False)[0].timeout_keep_alive_handler()
            self._metrics.rest_ended.inc()
        self._metrics.resting.set(len(self.resting))

    def rests_no_longer(self, connection: "Connection") -> None:
        """It is gone, or something comes."""
        self.resting.pop(connection, None)
        self._metrics.resting.set(len(self.resting))


class Connection(H11Protocol):
    """A connection that closes unless a request comes in time, once one has begun."""

    def __init__(self, config: Config, server_state: State, app_state: dict[str, Any], **more: Any) -> None:
        super().__init__(config, server_state, app_state, **more)
        self._state = server_state
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is open."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Bytes came: a whole head, or not."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """A request was answered; the next one may have come already."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._state.rests_no_longer(self)
        self._stop()
        self._flows()

    def pause_writing(self) -> None:
        """The client does not read as fast as is written."""
        super().pause_writing()
        self._gets_stuck()

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._flows()

    def timeout_keep_alive_handler(self) -> None:
        """Close, which waits until the client has read everything."""
        super().timeout_keep_alive_handler()
        self._gets_stuck()

    def _look(self) -> None:
        self._state.rests_no_longer(self)
        waiting = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            self._stop()
            self._gets_stuck()
        elif not waiting:
            self._stop()
        elif self._between_requests():
            self._stop()
            self._state.rests(self)
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _between_requests(self) -> bool:
        """Answered, and nothing of another request has come, nor anything of the last one is still to come."""
        return self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _gets_stuck(self) -> None:
        if self._stuck is None:
            self._stuck = self.loop.call_later(STUCK_SECONDS, self.transport.abort)

    def _flows(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
