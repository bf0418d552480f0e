"""The agent's parts put together, run, and taken down again.

Starting: the media port and the control port are bound first (a port that is taken ends the process with a
sentence), then the hub looks at the main source; what only viewers need (OpenSSL, libsrtp) is loaded after the control
port answers.

Stopping is a sequence with a budget for each stage, 5 s in all: let nobody in; say goodbye to the peers; stop
the source; end the event streams and the control port; close the media port. A stage that takes longer is
left behind with a warning; the last second is for threads that hang in a library (`__main__`).
"""

import asyncio
import contextlib
import importlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.applications import Starlette

from sightline_agent.admission import Rules
from sightline_agent.attachment import Attachment
from sightline_agent.control.app import Control, build_app
from sightline_agent.control.auth import Authenticator, LoopbackAuthenticator, TokenAuthenticator
from sightline_agent.control.events import EventHub
from sightline_agent.control.status import Agent, Transport
from sightline_agent.cpu import cpu_budget
from sightline_agent.errors import SettingsError
from sightline_agent.gate import CpuGate, own_resources
from sightline_agent.hub import Hub, Tracks
from sightline_agent.observer import Observer
from sightline_agent.registry import SessionRegistry
from sightline_agent.renditions import Renditions
from sightline_agent.session import Peer
from sightline_agent.settings import Settings, load_config
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.credentials import ReadCredentials, mounted
from sightline_agent.sources.factory import source_factory
from sightline_agent.spare import Spare, parse_start
from sightline_agent.standalone import standalone_config
from sightline_agent.transcode.source import Transcode
from sightline_agent.transport.fanout_choice import choose_fanout
from sightline_agent.transport.mux import UdpMux
from sightline_agent.transport.receiver import choose_receiver
from sightline_agent.viewerstats import Audience
from sightline_model.agent import AgentConfig
from sightline_model.camera import AudioMode
from sightline_model.reasons import EndReason, SourceReason

if TYPE_CHECKING:
    from sightline_agent.peers import PeerFactory
    from sightline_model.agent import SourceReport

_BACKLOG = 1024
_MAX_CONNECTIONS = 4096
"""To the control port: parked offers, mostly."""
_KEEP_ALIVE_SECONDS = 75
"""That a connection may rest: longer than the front door (15 s), or nginx before an agent without a cluster (60 s),
lets it, or a request meets its end."""
_DATE_SECONDS = 1.0
_PEERS_SECONDS = 2.2
_TASK_SECONDS = 0.45

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """What a process is started with."""

    settings: Settings
    config: AgentConfig
    credentials_of: Callable[[str], ReadCredentials]
    """By the quality's name."""
    spare: Spare | None = None
    """Of a process that begins without a camera."""


def prepare(settings: Settings) -> Start:
    """Read what was mounted or named on the command line; SettingsError where it cannot be used."""
    if settings.standalone:
        config, credentials = standalone_config(settings)
        return Start(settings, config, lambda name: lambda _: credentials.get(name))
    if settings.spare:
        spare = Spare(parse_start(settings.spare))
        return Start(settings, spare.config(), spare.credentials_of, spare)
    return Start(settings, load_config(settings.config), lambda name: mounted(settings.credentials / name))


class Runtime:
    """The parts of one agent process."""

    def __init__(self, start: Start) -> None:
        settings, config = start.settings, start.config
        self._settings = settings
        self.mux = UdpMux(settings.bind, settings.media_port, receiver=choose_receiver())
        self._make_fanout = choose_fanout(self.mux, threads=int(settings.cpu_budget or cpu_budget()))
        self._credentials_of = start.credentials_of
        self.renditions = Renditions(config, self._make_hub, self._make_transcoded)
        self.gate = CpuGate(own_resources(settings.cpu_budget), Rules(headroom=settings.cpu_headroom))
        self.audience = Audience()
        self.registry = SessionRegistry(config, self.renditions, self._make_peer, gate=self.gate)
        self.stop = asyncio.Event()
        """Set to end `run`; signals do."""
        self.control_port = 0
        """The port that was bound."""
        self._peers: PeerFactory | None = None
        self._source_told: dict[str, dict[str, str]] = {}
        self._start = start

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; raises when a part fails."""
        control_sockets = _listen(self._settings.bind, self._settings.control_port)
        try:
            await self.mux.start()
        except OSError as error:
            for control_socket in control_sockets:
                control_socket.close()
            text = f"UDP {_ports(self._settings.bind, self._settings.media_port)}: {error.strerror}"
            raise SettingsError(text) from None
        self.control_port = control_sockets[0].getsockname()[1]
        transport = Transport(self.renditions.totals, self._datagrams, self.mux.port, self.audience)
        self.agent = Agent(self._start.config, self.renditions, self.registry, transport, self.gate)
        if self._start.spare is not None:
            self.agent.sealing_key = self._start.spare.sealing_key
        self.events = EventHub(self.agent.report)
        self.renditions.subscribe(self._on_source)
        self.registry.subscribe(self.events.session)
        server = _Server(_server_config(self._app()))
        tasks = {
            "control": asyncio.create_task(server.serve(control_sockets), name="control"),
            "renditions": asyncio.create_task(self._run_renditions(), name="renditions"),
            "events": asyncio.create_task(self.events.run(), name="events"),
            "sessions": asyncio.create_task(self.registry.run(), name="sessions"),
            "gate": asyncio.create_task(
                self.gate.run(lambda: self.registry.viewers, lambda: self.registry.came), name="gate"
            ),
        }
        _log.info(
            "agent started",
            camera=self.agent.config.camera.audience,
            control=f"{_ports(self._settings.bind, self.control_port)}/tcp",
            media=f"{_ports(self._settings.bind, self.mux.port)}/udp",
        )
        warm = asyncio.create_task(asyncio.to_thread(_warm_up, spare=self._start.spare is not None))
        try:
            await self._until_stopped(tasks)
        finally:
            await self._stop(server, tasks)
            warm.cancel()

    def _app(self) -> Starlette:
        from sightline_agent.signaling.offer import offer_routes
        from sightline_agent.signaling.report import report_routes
        from sightline_agent.signaling.whep import whep_routes

        authenticator: Authenticator
        if self._settings.standalone:
            authenticator = LoopbackAuthenticator(self.agent.config.camera.audience)
        else:
            audience = self._start.spare.audience if self._start.spare else ""
            authenticator = TokenAuthenticator(lambda: self.agent.config, control_audience=audience)
        control = Control(self.agent, self.events, authenticator, self._start.spare)
        signaling = [
            *whep_routes(self.registry, authenticator.viewer),
            *offer_routes(self.registry, authenticator.viewer),
            *report_routes(self.registry.note_player),
        ]
        if self._settings.standalone:
            signaling.append(control.short_status())
        return build_app(control, signaling, self._settings.allowed_origins)

    async def _run_renditions(self) -> None:
        """The sources; a spare's from its adoption on."""
        if self._start.spare is not None:
            await self._start.spare.adopted.wait()
            _log.info("agent adopted", camera=self.agent.config.camera.audience)
        await self.renditions.run()

    def _make_hub(self, name: str, config: AgentConfig) -> Hub:
        tracks = Tracks(self._make_fanout(), Soundtrack(self._make_fanout))
        make = source_factory(
            self._credentials_of(name),
            lambda: self.agent.config.audio is AudioMode.AUTO,
            lambda: self.renditions.sound_dropped,
        )
        return Hub(config, make, tracks, name=name)

    def _make_transcoded(self, feed: Hub, config: AgentConfig) -> Hub:
        tracks = Tracks(self._make_fanout(), Soundtrack(self._make_fanout))
        return Hub(config, lambda _: Transcode(feed, self.renditions.transcoding), tracks, name=f"{feed.name}.h264")

    def _make_peer(self, sid: str, place: Attachment, observer: Observer) -> Peer:
        if self._peers is None:
            from sightline_agent.peers import PeerFactory
            from sightline_agent.transport.dtls import new_certificate

            advertise = lambda: self.agent.config.advertise  # noqa: E731
            self._peers = PeerFactory(self.mux, new_certificate(), advertise, audience=self.audience)
            self._peers.names_own = lambda: self.agent.config.own_addresses
        return self._peers.make(sid, place, observer)

    def _on_source(self, report: "SourceReport") -> None:
        self.events.source(report)
        told = {"profile": report.profile, "state": report.reason, "message": report.message}
        if self._source_told.get(report.profile) != told:  # a report may tell of more than the log does
            self._source_told[report.profile] = told
            _log.info("source", **told, viewers=self.registry.viewers)
        if report.reason is SourceReason.STREAMING:
            self.registry.refit(report.profile)
        if report.reason is SourceReason.IDLE:
            self.registry.source_ended(report.profile)

    def _datagrams(self) -> dict[str, int]:
        return {str(kind): number for kind, number in self.mux.counters.items()}

    async def _until_stopped(self, tasks: dict[str, "asyncio.Task[None]"]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        stopped = asyncio.create_task(self.stop.wait(), name="stop")
        done, _ = await asyncio.wait({stopped, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            return
        stopped.cancel()
        for name, task in tasks.items():
            if task in done:
                task.result()
                raise RuntimeError(f"{name} ended by itself")

    async def _stop(self, server: "_Server", tasks: dict[str, "asyncio.Task[None]"]) -> None:
        self.agent.ready = False
        _log.info("agent stops", viewers=self.registry.viewers)
        goodbye = self.registry.shutdown(EndReason.AGENT_LOST, "the agent is shutting down")
        await _stage("peers", goodbye, _PEERS_SECONDS)
        await _stage("source", _cancelled(tasks["renditions"]), _TASK_SECONDS)
        self.events.close()
        await _stage("events", _cancelled(tasks["events"]), _TASK_SECONDS)
        await _stage("sessions", _cancelled(tasks["sessions"]), _TASK_SECONDS)
        await _stage("gate", _cancelled(tasks["gate"]), _TASK_SECONDS)
        server.end()
        await _stage("control port", asyncio.wait({tasks["control"]}), _TASK_SECONDS)
        await _stage("control port", _cancelled(tasks["control"]), _TASK_SECONDS)
        self.mux.close()
        _log.info("agent stopped")


class _Server(uvicorn.Server):
    """Signals and the end are the runtime's business, so nothing is looked for ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Serve no more."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Write the second into the answers' header fields until the end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who is local is decided by the connection
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )


def _warm_up(spare: bool) -> None:
    """Load what only viewers need, and give back to the system what starting took and no longer needs. A spare, which
    may come to serve any camera, loads what most cameras need too."""
    import ctypes

    importlib.import_module("sightline_agent.peers")
    if spare:
        importlib.import_module("sightline_agent.sources.rtsp.source")
    with contextlib.suppress(OSError, AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """One socket per address; for all addresses one of each family that the machine has."""
    wildcard = any(host in ("0.0.0.0", "::") for host in hosts)  # noqa: S104
    sockets: list[socket.socket] = []
    for host in ("0.0.0.0", "::") if wildcard else hosts:  # noqa: S104
        try:
            sockets.append(_listen_on(host, sockets[0].getsockname()[1] if sockets else port))
        except OSError as error:
            if wildcard and sockets:
                break  # a machine without IPv6
            for sock in sockets:
                sock.close()
            raise SettingsError(f"TCP {_ports([host], port)}: {error.strerror}") from None
    return sockets


def _listen_on(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _ports(hosts: Sequence[str], port: int) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


async def _stage(name: str, work: Awaitable[object], budget: float) -> None:
    try:
        await asyncio.wait_for(work, budget)
    except TimeoutError:
        _log.warning("shutdown stage took too long", stage=name, budget=budget)
