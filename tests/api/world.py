"""A front door on the in-memory cluster, with agents that are small HTTP servers on loopback."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import FastAPI

from sightline_api.app import create_app
from sightline_api.clock import Clock
from sightline_api.settings import Settings
from sightline_kube.cache import Cache, Feed
from sightline_kube.cluster import AccessQuery, Obj, TokenUser
from sightline_kube.kinds import CAMERA
from sightline_kube.memory import MemoryCluster, StaticToken
from sightline_model.base import API_VERSION
from sightline_model.tokens import MediaClaims, Signer, generate_private_key_pem, verify

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OFFER = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\n"
ANSWER = "v=0\r\no=- 2 2 IN IP4 0.0.0.0\r\ns=-\r\na=candidate:1 1 udp 1 192.0.2.1 5004 typ host\r\n"
ADMIN, VIEWER, STRANGER = "admin-token", "viewer-token", "stranger-token"
SDP = {"Content-Type": "application/sdp"}
TRICKLE = {"Content-Type": "application/trickle-ice-sdpfrag"}
MERGE = {"Content-Type": "application/merge-patch+json"}
CAMERAS = "/v1/namespaces/default/cameras"
FRONT = f"{CAMERAS}/front"
WHEP = f"{FRONT}/whep"
PATTERN: Obj = {"source": {"testPattern": {}}}


class Time:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.moment = START
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class Call:
    """What an agent was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str


Handler = Callable[[web.Request], Any]


@dataclass
class FakeAgent:
    """An agent that answers every offer, until `reply` says otherwise."""

    calls: list[Call] = field(default_factory=list)
    live: set[str] = field(default_factory=set)
    reply: Callable[[web.Request], Any] | None = None
    address: str = ""
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeAgent"]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        async with TestServer(app, host="127.0.0.1") as server:
            self.address, self.port = "127.0.0.1", int(server.port or 0)
            yield self

    def claims(self, signer: Signer, audience: str, now: datetime, call: int = -1) -> MediaClaims:
        """The media token of a call, verified as an agent does."""
        scheme, _, token = self.calls[call].headers["Authorization"].partition(" ")
        assert scheme == "Bearer"
        return verify(token, [signer.public_jwk()], audience, now)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.calls.append(Call(request.method, request.path, dict(request.headers), body))
        if self.reply is not None:
            answer = self.reply(request)
            response: web.StreamResponse = answer if isinstance(answer, web.StreamResponse) else await answer
            return response
        if request.method == "POST":
            token = request.headers["Authorization"].removeprefix("Bearer ")
            sid = jwt.decode(token, options={"verify_signature": False})["sid"]
            self.live.add(sid)
            return web.Response(
                status=201,
                text=ANSWER,
                content_type="application/sdp",
                headers={"Location": f"/whep/{sid}", "ETag": '"abc"'},
            )
        sid = request.path.removeprefix("/whep/")
        if sid not in self.live:
            return problem("session-not-found", 404)
        if request.method == "DELETE":
            self.live.discard(sid)
            return web.Response(status=200)
        if "If-Match" not in request.headers:
            return problem("precondition-required", 428)
        return web.Response(status=204)


def problem(code: str, status: int, **members: Any) -> web.Response:
    """A problem as an agent sends it."""
    return web.Response(
        status=status,
        text=json.dumps({"code": code, "status": status, "title": "made by the test", **members}),
        content_type="application/problem+json",
    )


def camera(name: str = "front", **spec: Any) -> Obj:
    """A camera whose viewers are user:viewer."""
    described: dict[str, Any] = {
        "source": {"testPattern": {}},
        "access": {"owner": "owner", "grants": [{"subjects": ["user:viewer"], "roles": ["View"]}]},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**described, **spec},
    }


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    """A condition as the operator writes it."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-03-01T11:00:00Z",
    }


@dataclass
class World:
    """The front door and everything around it."""

    app: FastAPI
    client: httpx2.AsyncClient
    cluster: MemoryCluster
    cache: Cache
    feed: Feed
    agent: FakeAgent
    signer: Signer
    time: Time
    access: set[tuple[str, str, str]]
    """(user, verb, cameras[/subresource]) that RBAC allows in every namespace."""
    asked: list[AccessQuery]

    async def add(self, obj: Obj, **status: Any) -> Obj:
        """Create a camera, write its status, and wait until the front door has seen it."""
        created = await self.cluster.create(obj)
        if status:
            created = await self.cluster.replace_status({**created, "status": status})
        self.cache.observe(CAMERA, None, created)
        return created

    async def add_running(self, obj: Obj | None = None, **status: Any) -> Obj:
        """A camera whose agent is there."""
        return await self.add(obj or camera(), agent=self.agent_status(), **status)

    def agent_status(self) -> dict[str, Any]:
        return {"pod": "camera-front-abc", "address": self.agent.address, "port": self.agent.port}

    async def call(self, method: str, path: str, token: str | None = VIEWER, **more: Any) -> httpx2.Response:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, headers=headers, **more)

    def metric(self, name: str, **labels: str) -> float:
        value = self.app.state.door.metrics.registry.get_sample_value(name, labels)
        return float(value or 0)


def settings(**more: Any) -> Settings:
    """Settings for development with the users admin, viewer and stranger."""
    base: dict[str, Any] = {
        "dev_mode": True,
        "static_users": [
            {"token": ADMIN, "user": "admin"},
            {"token": VIEWER, "user": "viewer", "groups": ["guards"]},
            {"token": STRANGER, "user": "stranger"},
        ],
        "agent_timeout_margin": 0.2,
        "agent_connect_timeout": 10.0,
    }
    return Settings(**{**base, **more})


@asynccontextmanager
async def running_world(previous_signer: Signer | None = None, **more: Any) -> AsyncIterator[World]:
    """A world with these settings."""
    access = {("admin", verb, "cameras") for verb in ("get", "list", "create", "update", "patch", "delete")}
    access |= {("admin", "get", "cameras/view")}
    asked: list[AccessQuery] = []

    def rbac(query: AccessQuery) -> bool:
        asked.append(query)
        resource = f"{query.resource}/{query.subresource}".rstrip("/")
        return (query.user.username, query.verb, resource) in access

    time = Time()
    tokens = {"robot.jwt.token": StaticToken(TokenUser("system:serviceaccount:default:robot", "u1", ("system:sa",)))}
    cluster = MemoryCluster(clock=time.now, access=rbac, tokens=tokens)
    chosen = settings(**more)
    served = chosen.namespaces or None
    cache = Cache([CAMERA], served)
    signer = Signer.from_pem(generate_private_key_pem())
    clock = Clock(time.now, time.monotonic)
    app = create_app(chosen, cluster, cache, signer, previous_signer=previous_signer, clock=clock)
    async with AsyncExitStack() as stack:
        feed = await stack.enter_async_context(Feed(cluster, cache, [CAMERA], served))
        agent = await stack.enter_async_context(FakeAgent().running())
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 50000))
        client = await stack.enter_async_context(httpx2.AsyncClient(transport=transport, base_url="http://door.test"))
        yield World(app, client, cluster, cache, feed, agent, signer, time, access, asked)
