"""A kubelet for tests without a node: every agent pod of a namespace gets an address, and an agent that listens there.

The agents are played too (`PlayedAgent`): they check the operator's token, report the config that they were given and
the source and sessions that a test sets, and end sessions when told. A pod that is deleted takes its agent along.
"""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from sightline_kube.cluster import Cluster, EventType, Obj
from sightline_kube.errors import ClusterError, ConflictError, NotFoundError
from sightline_kube.kinds import POD, SECRET
from sightline_model import names
from sightline_model.agent import (
    CONFIG_FILE,
    CONTROL_PORT,
    SPARE_VARIABLE,
    Adoption,
    AgentConfig,
    AgentEvent,
    AgentReport,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceCredentials,
    SourceReport,
    SpareStart,
)
from sightline_model.camera import Source
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.sealing import SealingKey
from sightline_model.session import SessionPhase
from sightline_model.tokens import verify

_LABELS = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
_LOOK_SECONDS = 0.1
_KEEP_ALIVE_SECONDS = 5.0
"""As the real one: the operator takes a stream that is silent for much longer for dead."""


@dataclass
class PlayedAgent:
    """An agent's control port."""

    address: str
    config: AgentConfig
    spare: SpareStart | None = None
    """What it began with, if it began without a camera."""
    key: SealingKey = field(default_factory=SealingKey)
    credentials: dict[str, SourceCredentials] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: SourceReport = field(default_factory=lambda: SourceReport(reason=SourceReason.IDLE, verified=True))
    sessions: dict[str, SessionReport] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    """Revisions that it was sent after its start."""
    ended: list[str] = field(default_factory=list)
    streams: list[asyncio.Queue[AgentEvent | None]] = field(default_factory=list)

    def report(self) -> AgentReport:
        """All that it knows."""
        return AgentReport(
            camera=self.config.camera,
            version="test",
            instance=self.address,
            revision=self.config.revision,
            started_at=self.started_at,
            sealing_key=self.key.public if self.spare else "",
            source=self.source,
            sessions=list(self.sessions.values()),
        )

    def tell(self, event: AgentEvent) -> None:
        """To every operator that listens."""
        for stream in self.streams:
            stream.put_nowait(event)

    def start_again(self) -> None:
        """A spare's process ends, and its container is started again: it has forgotten everything."""
        assert self.spare is not None
        self.config, self.key, self.credentials = _without_camera(self.spare), SealingKey(), {}
        for stream in self.streams:
            stream.put_nowait(None)

    def set_session(self, sid: str, phase: SessionPhase, end: EndReason | None = None) -> None:
        """A session is so far."""
        now = datetime.now(UTC)
        known = self.sessions.get(sid)
        report = SessionReport(
            id=sid,
            user="alice",
            phase=phase,
            end_reason=end,
            requested_at=known.requested_at if known else now,
            answered_at=known.answered_at if known else now,
            ended_at=now if end else None,
        )
        self.sessions[sid] = report
        self.tell(SessionEvent(session=report))

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/events", self._events),
                web.get("/v1/status", self._status),
                web.put("/v1/config", self._configure),
                web.delete("/v1/sessions/{sid}", self._end),
            ]
        )
        return app

    def _check(self, request: web.Request) -> None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        audience = (self.spare.identity if self.spare else self.config.camera).audience
        claims = verify(token, self.config.token_keys, audience, datetime.now(UTC))
        assert claims.role == "Control"

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        stream.put_nowait(SnapshotEvent(report=self.report()))
        self.streams.append(stream)
        try:
            while words := await _next_words(stream):
                await response.write(words)
            return response
        except ConnectionError:
            return response  # the operator is gone
        finally:
            self.streams.remove(stream)

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(text=self.report().model_dump_json(exclude_none=True))

    async def _configure(self, request: web.Request) -> web.Response:
        self._check(request)
        body = await request.json()
        if self.spare is not None:
            adoption = Adoption.model_validate_json(self.key.open(body["sealed"], self.spare.identity.audience))
            self.config, self.credentials = adoption.config, adoption.credentials
        else:
            self.config = AgentConfig.model_validate(body)
        self.configs.append(self.config.revision)
        return await self._status(request)

    async def _end(self, request: web.Request) -> web.Response:
        self._check(request)
        sid = request.match_info["sid"]
        self.ended.append(sid)
        if sid in self.sessions:
            self.set_session(sid, SessionPhase.ENDED, EndReason(request.query["reason"]))
        return web.Response(status=204)


async def _next_words(stream: asyncio.Queue[AgentEvent | None]) -> bytes:
    """The next event as it is sent, a sign of life when there is none for a while, nothing at the end."""
    try:
        async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
            event = await stream.get()
    except TimeoutError:
        return b": keep-alive\n\n"
    if event is None:
        return b""
    return f"event: {event.type}\ndata: {event.model_dump_json(exclude_none=True)}\n\n".encode()


async def agent_on(cluster: Cluster, pod: Obj, address: str) -> tuple[PlayedAgent, web.AppRunner]:
    """An agent that listens at that address with the config of the pod's camera; whoever called cleans up."""
    agent = await _started(cluster, pod, address)
    runner = web.AppRunner(agent.app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    try:
        await runner.setup()
        await web.TCPSite(runner, agent.address, CONTROL_PORT).start()
    except BaseException:
        await runner.cleanup()
        raise
    return agent, runner


async def _started(cluster: Cluster, pod: Obj, address: str) -> PlayedAgent:
    """What the process begins as: with what it mounts, or as a spare."""
    env = {variable["name"]: variable.get("value", "") for variable in pod["spec"]["containers"][0]["env"]}
    if SPARE_VARIABLE in env:
        spare = SpareStart.model_validate_json(env[SPARE_VARIABLE])
        return PlayedAgent(address, _without_camera(spare), spare)
    namespace, camera = pod["metadata"]["namespace"], pod["metadata"]["labels"][names.CAMERA_LABEL]
    secret = await cluster.get(SECRET, namespace, names.agent_secret(camera))
    return PlayedAgent(address, AgentConfig.model_validate_json(base64.b64decode(secret["data"][CONFIG_FILE])))


def _without_camera(spare: SpareStart) -> AgentConfig:
    nothing = Source.model_validate({"testPattern": {}})
    return AgentConfig(camera=spare.identity, source=nothing, token_keys=spare.token_keys)


class PlayedNode:
    """All agent pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, addresses: Iterator[str] | None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._addresses = addresses
        self._runners: dict[str, web.AppRunner] = {}
        self.agents: dict[str, PlayedAgent] = {}
        """By the names of their pods."""

    def of(self, camera: str) -> list[PlayedAgent]:
        """The agents of a camera."""
        return [agent for agent in self.agents.values() if agent.config.camera.name == camera]

    async def run(self) -> None:
        """Until cancelled; what fails is tried again."""
        while True:
            with suppress(ClusterError):
                await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """End all agents."""
        for name in list(self._runners):
            await self._end(name)

    async def _look(self) -> None:
        listing = await self._cluster.list(POD, self._namespace, labels=_LABELS)
        there = set()
        for pod in listing.items:
            if not pod["metadata"].get("deletionTimestamp"):
                there.add(pod["metadata"]["name"])
                await self._begin(pod)
        for name in set(self._runners) - there:
            await self._end(name)
        watch = self._cluster.watch(POD, self._namespace, labels=_LABELS, resource_version=listing.resource_version)
        async with aclosing(watch) as events:
            async for event in events:
                name = event.obj["metadata"]["name"]
                if event.type is EventType.DELETED or event.obj["metadata"].get("deletionTimestamp"):
                    await self._end(name)
                else:
                    await self._begin(event.obj)

    async def _begin(self, pod: Obj) -> None:
        name = pod["metadata"]["name"]
        address: str = (pod.get("status") or {}).get("podIP", "")
        if self._addresses is None and not address:
            return  # whoever plays the kubelet gives it one
        if name not in self._runners:
            where = address if self._addresses is None else next(self._addresses)
            self.agents[name], self._runners[name] = await agent_on(self._cluster, pod, where)
        if not address:
            with suppress(NotFoundError, ConflictError):
                await self._cluster.replace_status({**pod, "status": running(self.agents[name].address)})

    async def _end(self, name: str) -> None:
        self.agents.pop(name, None)
        runner = self._runners.get(name)
        if runner is not None:
            await runner.cleanup()
            self._runners.pop(name, None)


def running(address: str) -> Obj:
    """The status of a pod that runs and is ready."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": moment}],
    }


def addresses(net: int) -> Iterator[str]:
    """Loopback addresses of a net of one's own."""
    return (f"127.{net}.{number // 250}.{number % 250 + 2}" for number in itertools.count())


@asynccontextmanager
async def played_node(
    cluster: Cluster, namespace: str, where: Iterator[str] | None = None
) -> AsyncIterator[PlayedNode]:
    """The node of a namespace while the context lasts; without addresses, agents are where KWOK has put their pods."""
    node = PlayedNode(cluster, namespace, where)
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await node.close()
