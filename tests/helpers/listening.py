"""A loopback server's life for tests: one task per connection, all ended with the context, connections included."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Serve each connection on a port of 127.0.0.1 that the system chooses; the value is the port."""
    tasks: set[asyncio.Task[None]] = set()
    open_: set[asyncio.WriteTransport] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)

    def started(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer.transport)
        task = asyncio.ensure_future(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(started, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # One whose task was cancelled closes nothing, and would be a warning in whatever test comes later.
        for transport in open_:
            transport.abort()
        await asyncio.sleep(0)
