"""What the HTTP server holds against clients that connect and then let it wait; `__main__` hands it to uvicorn.

uvicorn ends a connection that rests after an answer, but waits without end for the first request, for the rest of a
head, and for a body that nobody reads any more: thousands of such connections cost nothing to make, need no token, and
take the descriptors that viewers need. Bodies that are read have a limit of their own (`middleware.BodyLimit`).
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the connection, or the answer before, to the end of the request's head."""


class Connection(H11Protocol):
    """A connection that closes unless a request comes in time."""

    _deadline: asyncio.TimerHandle | None = None

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
        self._stop()

    def _look(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if not waiting or self.transport.is_closing():
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
