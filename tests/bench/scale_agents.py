"""Thousands of agents in one process: every loopback address is one, and the token in a request says which camera's.

Agents of `make bench-scale` carry no media. They speak the operator's side of the control port as cheaply as can be: a
protocol class over raw connections instead of a web framework, so that what is measured is not the simulation.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from sightline_model.agent import (
    CONTROL_PORT,
    EVENTS_KEEPALIVE_SECONDS,
    AgentConfig,
    AgentReport,
    CameraIdentity,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceReport,
)
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase

Revision = Callable[[CameraIdentity], Awaitable[str]]
"""The revision of the config that the camera's Secret holds, as its pod would have it mounted."""

_TICK_SECONDS = 0.05
_COMMENT = b": keep-alive\n\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass
class SimulatedAgent:
    """The agent of one camera."""

    camera: CameraIdentity
    revision: str
    started_at: datetime
    sessions: dict[str, SessionReport] = field(default_factory=dict)
    streams: "set[_Connection]" = field(default_factory=set)

    def report(self) -> AgentReport:
        """All that it knows."""
        return AgentReport(
            camera=self.camera,
            version="simulated",
            instance=self.camera.uid,
            revision=self.revision,
            started_at=self.started_at,
            source=SourceReport(reason=SourceReason.IDLE, verified=True),
            sessions=list(self.sessions.values()),
        )

    def set_session(self, sid: str, phase: SessionPhase, end: EndReason | None = None) -> None:
        """A session is so far."""
        now = datetime.now(UTC)
        before = self.sessions.get(sid)
        report = SessionReport(
            id=sid,
            user="bench",
            phase=phase,
            end_reason=end,
            requested_at=before.requested_at if before else now,
            answered_at=before.answered_at if before else now,
            connected_at=now if phase is SessionPhase.STREAMING else before and before.connected_at,
            first_media_at=now if phase is SessionPhase.STREAMING else before and before.first_media_at,
            ended_at=now if end else None,
        )
        self.sessions[sid] = report
        if end:
            del self.sessions[sid]
        body = SessionEvent(session=report).model_dump_json(exclude_none=True)
        for stream in self.streams:
            stream.send(f"event: session\ndata: {body}\n\n".encode())


class SimulatedAgents:
    """All of them."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self.agents: dict[str, SimulatedAgent] = {}
        """By the uids of their cameras."""
        self.streams: dict[_Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """On the control port of every address while the context lasts."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "0.0.0.0", CONTROL_PORT, backlog=4096)
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(beating, *self._tasks, return_exceptions=True)
            server.close()
            for connection in list(self.streams):
                connection.close()

    def asked(self, connection: "_Connection", request: "_Request") -> None:
        """Answer one request in a task of its own."""
        task = asyncio.ensure_future(self._answer(connection, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def agent(self, camera: CameraIdentity) -> SimulatedAgent:
        """The agent of a camera, which starts when it is first asked."""
        agent = self.agents.get(camera.uid)
        if agent is None:
            revision = await self._revision(camera)
            agent = SimulatedAgent(camera, revision, datetime.now(UTC))
            agent = self.agents.setdefault(camera.uid, agent)
        return agent

    async def _answer(self, connection: "_Connection", request: "_Request") -> None:
        agent = await self.agent(request.camera)
        if request.path == "/v1/events":
            agent.streams.add(connection)
            connection.agent = agent
            self.streams[connection] = None
            body = SnapshotEvent(report=agent.report()).model_dump_json(exclude_none=True)
            connection.send(_STREAM + f"event: snapshot\ndata: {body}\n\n".encode())
            return
        if request.method == "DELETE":
            sid = request.path.rpartition("/")[2].partition("?")[0]
            if sid in agent.sessions:
                agent.set_session(sid, SessionPhase.ENDED, EndReason.REVOKED)
        elif request.method == "PUT":
            agent.revision = AgentConfig.model_validate_json(request.body).revision
        body = agent.report().model_dump_json(exclude_none=True)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
        connection.send(f"{head}\r\n\r\n{body}".encode())
        connection.close()

    async def _beat(self) -> None:
        """A comment on every stream each five seconds, a hundredth of them at a time."""
        shares = round(EVENTS_KEEPALIVE_SECONDS / _TICK_SECONDS)
        while True:
            streams = list(self.streams)
            for share in range(shares):
                await asyncio.sleep(_TICK_SECONDS)
                for stream in streams[share::shares]:
                    stream.send(_COMMENT)


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    camera: CameraIdentity
    body: bytes


class _Connection(asyncio.Protocol):
    """One request, and its answer or stream."""

    def __init__(self, agents: SimulatedAgents) -> None:
        self._agents = agents
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.agent: SimulatedAgent | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._agents.streams.pop(self, None)
        if self.agent is not None:
            self.agent.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(headers.get("content-length", "0")):
            return
        method, path, _ = first.split(" ")
        self._agents.asked(self, _Request(method, path, _camera(headers["authorization"]), body))

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _camera(authorization: str) -> CameraIdentity:
    """Whom a control token is for; nobody here checks its signature."""
    payload = authorization.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    namespace, name, uid = str(claims["aud"]).split("/")
    return CameraIdentity(namespace=namespace, name=name, uid=uid)
