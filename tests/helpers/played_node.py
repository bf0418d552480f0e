"""A kubelet for tests without a node: every agent pod of a namespace gets an address, and an agent that listens there.

The agents are played too (`PlayedAgent`): they check the operator's token, report the config that they were given and
the sessions that a test sets, and end sessions when told. A pod that is deleted takes its agent along.
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
    AgentConfig,
    AgentEvent,
    AgentReport,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceReport,
)
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_model.tokens import verify

_LABELS = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
_LOOK_SECONDS = 0.1


@dataclass
class PlayedAgent:
    """An agent's control port."""

    address: str
    config: AgentConfig
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    sessions: dict[str, SessionReport] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    streams: list[asyncio.Queue[AgentEvent]] = field(default_factory=list)

    def report(self) -> AgentReport:
        """All that it knows."""
        return AgentReport(
            camera=self.config.camera,
            version="test",
            instance=self.address,
            revision=self.config.revision,
            started_at=self.started_at,
            source=SourceReport(reason=SourceReason.IDLE, verified=True),
            sessions=list(self.sessions.values()),
        )

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
        for stream in self.streams:
            stream.put_nowait(SessionEvent(session=report))

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
        claims = verify(token, self.config.token_keys, self.config.camera.audience, datetime.now(UTC))
        assert claims.role == "Control"

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[AgentEvent] = asyncio.Queue()
        stream.put_nowait(SnapshotEvent(report=self.report()))
        self.streams.append(stream)
        try:
            while True:
                event = await stream.get()
                body = event.model_dump_json(exclude_none=True)
                await response.write(f"event: {event.type}\ndata: {body}\n\n".encode())
        except ConnectionError:
            return response  # the operator is gone
        finally:
            self.streams.remove(stream)

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(text=self.report().model_dump_json(exclude_none=True))

    async def _configure(self, request: web.Request) -> web.Response:
        self._check(request)
        self.config = AgentConfig.model_validate(await request.json())
        return await self._status(request)

    async def _end(self, request: web.Request) -> web.Response:
        self._check(request)
        sid = request.match_info["sid"]
        self.ended.append(sid)
        if sid in self.sessions:
            self.set_session(sid, SessionPhase.ENDED, EndReason(request.query["reason"]))
        return web.Response(status=204)


class PlayedNode:
    """All agent pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, addresses: Iterator[str]) -> None:
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
        if name not in self._runners:
            await self._start(name, pod["metadata"]["labels"][names.CAMERA_LABEL])
        if not (pod.get("status") or {}).get("podIP"):
            with suppress(NotFoundError, ConflictError):
                await self._cluster.replace_status({**pod, "status": running(self.agents[name].address)})

    async def _start(self, name: str, camera: str) -> None:
        secret = await self._cluster.get(SECRET, self._namespace, names.agent_secret(camera))
        config = AgentConfig.model_validate_json(base64.b64decode(secret["data"][CONFIG_FILE]))
        agent = PlayedAgent(next(self._addresses), config)
        runner = web.AppRunner(agent.app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        self._runners[name] = runner  # first: whoever cancels us finds it to clean up
        await runner.setup()
        await web.TCPSite(runner, agent.address, CONTROL_PORT).start()
        self.agents[name] = agent

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
async def played_node(cluster: Cluster, namespace: str, where: Iterator[str]) -> AsyncIterator[PlayedNode]:
    """The node of a namespace while the context lasts."""
    node = PlayedNode(cluster, namespace, where)
    task = asyncio.create_task(node.run())
    try:
        yield node
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await node.close()
