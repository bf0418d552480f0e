"""The front door as a process: `sightline-api`. Settings come from the environment (see `settings`, or `--help`).

Stops in stages when told to: for `shutdown_delay` seconds each answer ends its connection, as proxies still send what
comes; then there are no new connections, open requests get `shutdown_grace` seconds, and the watch of the cameras and
the connections to the API server are closed. Told again, it leaves out the delay. If the watch ends by itself, that is
a bug, and the process ends with it rather than serve what is no longer true.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from starlette.types import ASGIApp, Receive, Scope, Send

from sightline_api.app import create_app
from sightline_api.connections import Connection, State
from sightline_api.metrics import Metrics
from sightline_api.settings import Settings, variables
from sightline_kube.cache import Cache, Feed
from sightline_kube.cluster import Cluster
from sightline_kube.kinds import CAMERA
from sightline_kube.real import RealCluster, RealSettings
from sightline_model.flood import FloodFilter
from sightline_model.names import API_FIELD_MANAGER
from sightline_model.tokens import Signer

_log = structlog.get_logger(__name__)


def configure_logging(log_format: str) -> None:
    """Structured lines on standard output; libraries' lines in the same shape."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final],
        )
    )
    handler.addFilter(FloodFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class Server(uvicorn.Server):
    """uvicorn, but whoever runs it handles the signals: uvicorn would end the process before we have closed."""

    def __init__(self, config: uvicorn.Config, metrics: Metrics) -> None:
        super().__init__(config)
        self.server_state = State(metrics)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    def leave(self) -> None:
        """Go on, but have every answer end its connection: whoever comes again may come to another process."""
        close = (b"connection", b"close")
        self.config.encoded_headers = [*self.config.encoded_headers, close]
        self.server_state.default_headers = [*self.server_state.default_headers, close]

    def stop(self) -> None:
        """Take no more connections, give open requests their time, then return from `serve`."""
        self.should_exit = True


def server(
    settings: Settings, cluster: Cluster, cache: Cache, signer: Signer, previous_signer: Signer | None = None
) -> Server:
    """An HTTP server for the front door that logs nothing of its own but trouble."""
    app = create_app(settings, cluster, cache, signer, previous_signer=previous_signer)
    config = uvicorn.Config(
        _ended_in_order(app),
        host=settings.host,
        port=settings.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        http=Connection,
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.shutdown_grace,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Server(config, app.state.metrics)


def _ended_in_order(app: ASGIApp) -> ASGIApp:
    """A request that is cancelled, because its time is over, was answered (`middleware.Observe`): that is no error,
    as which uvicorn would log it."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise

    return run


async def connect() -> Cluster:
    """The cluster that this pod runs in, else the one of the kubeconfig."""
    settings = RealSettings(user_agent=f"{API_FIELD_MANAGER}/v1alpha1")
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return await RealCluster.in_cluster(settings=settings)
    return await RealCluster.from_kubeconfig(settings=settings)


def _signer(path: Path) -> Signer:
    try:
        return Signer.from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"the signing key {path} cannot be read: {error}") from error


async def serve(settings: Settings) -> int:
    """Run until told to stop; the exit status."""
    signer = _signer(settings.signing_key_file)
    previous = settings.previous_signing_key_file
    previous_signer = _signer(previous) if previous is not None else None
    cluster = await connect()
    try:
        cache = Cache([CAMERA], settings.namespaces or None)
        async with Feed(cluster, cache, [CAMERA], settings.namespaces or None) as feed:
            http = server(settings, cluster, cache, signer, previous_signer)
            told = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, told.set)
            serving = asyncio.create_task(http.serve(), name="http")
            watching = asyncio.create_task(feed.wait(), name="feed")
            if await _told(told, {serving, watching}):
                http.leave()
                await _told(told, {serving, watching}, settings.shutdown_delay)
            failed = watching.done()
            http.stop()
            await serving
            watching.cancel()
            (end,) = await asyncio.gather(watching, return_exceptions=True)
            if failed:
                _log.error("the watch of the cameras has ended", exc_info=end)
            return 1 if failed else 0
    finally:
        await cluster.close()


async def _told(told: asyncio.Event, parts: set[asyncio.Task[Any]], seconds: float | None = None) -> bool:
    """Whether it is told so, before one of the parts ends or so many seconds are over."""
    told.clear()
    telling = asyncio.create_task(told.wait())
    await asyncio.wait({*parts, telling}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    return told.is_set()


def _parse(arguments: Sequence[str] | None) -> None:
    """There is nothing to say on the command line but a wish for words."""
    parser = argparse.ArgumentParser(
        prog="sightline-api",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The front door: lets people in and passes their offers on to the cameras' agents.",
        epilog=f"It is set up by variables of the environment:\n\n{variables()}",
    )
    parser.add_argument("--version", action="version", version=metadata.version("sightline-api"))
    parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    _parse(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        lines = [f"{'.'.join(map(str, detail['loc'])) or 'settings'}: {detail['msg']}" for detail in details]
        sys.exit("sightline-api: the settings are not valid\n" + "\n".join(lines))
    except SettingsError as error:
        sys.exit(f"sightline-api: the settings are not valid\n{error}")
    configure_logging(settings.log_format)
    try:
        sys.exit(asyncio.run(serve(settings)))
    except (OSError, ValueError) as error:
        sys.exit(f"sightline-api: {error}")


if __name__ == "__main__":
    main()
