"""One small HTTP server beside the operator: `/healthz`, `/readyz` and `/metrics`.

Healthy means that the event loop turns (it answers at all; `watchdog` tells where it stands still) and that no pass
hangs; a task that ends takes the process along, so it need not be asked for. Ready means that the caches hold the
world, that the API server has answered for every kind a moment ago, and that the process is not stopping.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition

HUNG_SECONDS = 300.0


@asynccontextmanager
async def serving(
    host: str,
    port: int,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    longest_pass: Callable[[], float],
) -> AsyncIterator[int]:
    """Serve while the context lasts; the port that was bound."""

    async def healthz(request: web.Request) -> web.Response:
        if longest_pass() > HUNG_SECONDS:
            return web.Response(status=500, text="a pass hangs\n")
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not synced\n")

    async def metrics(request: web.Request) -> web.Response:
        page = exposition.generate_latest(registry)
        return web.Response(body=page, headers={"Content-Type": exposition.CONTENT_TYPE_PLAIN_0_0_4})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await asyncio.shield(runner.cleanup())
