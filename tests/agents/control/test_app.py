"""The control port over HTTP: tokens, configuration, sessions, health, metrics, and errors as problems."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline_agent.attachment import Attachment
from sightline_agent.control.app import MAX_CONFIG_BYTES, Control, build_app
from sightline_agent.control.auth import Authenticator, LoopbackAuthenticator, TokenAuthenticator
from sightline_agent.control.events import EventHub
from sightline_agent.control.status import Agent
from sightline_agent.control.status import Transport as MediaTransport
from sightline_agent.hub import Hub, Tracks
from sightline_agent.observer import Observer
from sightline_agent.registry import SessionRegistry
from sightline_agent.renditions import Renditions
from sightline_agent.session import Peer
from sightline_agent.signaling.sessions import OpenRequest
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.base import Sink
from sightline_agent.transport.fanout import FanOutTotals
from sightline_model.agent import AgentConfig, AgentReport, CameraIdentity
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.session import SessionRole, Transport
from sightline_model.tokens import Signer, TokenRole, generate_private_key_pem
from tests.helpers.asgi import http_scope

SIGNER = Signer.from_pem(generate_private_key_pem())
STRANGER = Signer.from_pem(generate_private_key_pem())
CAMERA = CameraIdentity(namespace="default", name="door", uid="1")


class NoPictures:
    """A source that connects for ever."""

    async def run(self, sink: Sink) -> None:
        await asyncio.Event().wait()


class NoFanOut:
    """Counts what was asked of it."""

    def totals(self) -> FanOutTotals:
        return FanOutTotals(packets=7, octets=700, dropped=2)


def config(**changes: Any) -> AgentConfig:
    source = SourceSpec(test_pattern=TestPatternSpec())
    base = AgentConfig(camera=CAMERA, source=source, token_keys=[SIGNER.public_jwk()], revision="one")
    return base.model_copy(update=changes)


def token(role: TokenRole = "Control", signer: Signer = SIGNER, audience: str = CAMERA.audience, age: int = 0) -> str:
    sid = "" if role == "Control" else "s-1"
    return signer.sign(audience, "operator", role, sid, datetime.now(UTC) - timedelta(seconds=age))


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@dataclass
class World:
    agent: Agent
    events: EventHub
    client: httpx2.AsyncClient
    authenticator: Authenticator
    app: Starlette


def no_peer(sid: str, place: Attachment, observer: Observer) -> Peer:
    raise NotImplementedError


@asynccontextmanager
async def world(standalone: bool = False, peer: str = "127.0.0.1") -> AsyncIterator[World]:
    tracks = Tracks(NoFanOut(), Soundtrack(NoFanOut))  # type: ignore[arg-type]
    renditions = Renditions(
        config(),
        lambda name, of_it: Hub(of_it, lambda spec: NoPictures(), tracks, name=name),
        lambda feed, of_it: pytest.fail("nothing to transcode"),
    )
    registry = SessionRegistry(config(), renditions, no_peer)
    agent = Agent(config(), renditions, registry, MediaTransport(NoFanOut().totals, lambda: {"stun": 3}))
    events = EventHub(agent.report)
    authenticator: Authenticator = TokenAuthenticator(lambda: agent.config)
    if standalone:
        authenticator = LoopbackAuthenticator(CAMERA.audience)

    async def bug(request: Request) -> Response:
        raise RuntimeError("secret detail")

    async def who(request: Request) -> Response:
        return Response(authenticator.viewer(request).user)

    app = build_app(
        Control(agent, events, authenticator), [Route("/bug", bug), Route("/who", who)], ["https://page.example"]
    )
    transport = httpx2.ASGITransport(app, client=(peer, 1))
    running = asyncio.create_task(renditions.run())
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        yield World(agent, events, client, authenticator, app)
    running.cancel()
    await asyncio.wait({running})


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["code"], body["status"]) == (code, status)
    return body


async def test_the_status_is_the_report() -> None:
    async with world() as one:
        response = await one.client.get("/v1/status", headers=bearer(token()))
        report = AgentReport.model_validate(response.json())
        assert (report.camera, report.revision, report.stats.packets_sent) == (CAMERA, "one", 7)
        assert response.headers["cache-control"] == "no-store"


BAD_TOKENS = [
    ("none", {}),
    ("no bearer", {"Authorization": "Basic YTpi"}),
    ("empty", bearer("")),
    ("nonsense", bearer("nonsense")),
    ("foreign key", bearer(token(signer=STRANGER))),
    ("wrong audience", bearer(token(audience="default/other/1"))),
    ("expired", bearer(token(age=61))),
    (
        "unsigned",
        bearer("eyJhbGciOiJub25lIiwia2lkIjoieCJ9.eyJhdWQiOiJkZWZhdWx0L2Rvb3IvMSIsInJvbGUiOiJDb250cm9sIn0."),
    ),
]
CONTROL_ROUTES = [
    ("GET", "/v1/status"),
    ("GET", "/v1/events"),
    ("PUT", "/v1/config"),
    ("DELETE", "/v1/sessions/s-1"),
]


@pytest.mark.parametrize(("method", "path"), CONTROL_ROUTES)
@pytest.mark.parametrize("headers", [row[1] for row in BAD_TOKENS], ids=[row[0] for row in BAD_TOKENS])
async def test_control_needs_a_good_token(method: str, path: str, headers: dict[str, str]) -> None:
    async with world() as one:
        response = await one.client.request(method, path, headers=headers)
        problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), CONTROL_ROUTES)
async def test_a_viewers_token_controls_nothing(method: str, path: str) -> None:
    async with world() as one:
        problem(await one.client.request(method, path, headers=bearer(token("View"))), 403, "forbidden")


async def test_a_control_token_opens_no_session() -> None:
    async with world() as one:
        problem(await one.client.get("/who", headers=bearer(token())), 403, "forbidden")
        assert (await one.client.get("/who", headers=bearer(token("View")))).text == "operator"


async def put(one: World, body: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await one.client.put("/v1/config", headers=bearer(token()), content=content)


async def test_a_new_configuration_is_in_force_at_once() -> None:
    async with world() as one:
        new = config(revision="two", max_viewers=1, token_keys=[SIGNER.public_jwk(), STRANGER.public_jwk()])
        response = await put(one, new.to_wire())
        assert AgentReport.model_validate(response.json()).revision == "two"
        response = await one.client.get("/v1/status", headers=bearer(token(signer=STRANGER)))
        assert response.status_code == 200


async def test_configurations_that_are_refused() -> None:
    async with world() as one:
        other = config(camera=CameraIdentity(namespace="default", name="door", uid="2"))
        problem(await put(one, other.to_wire()), 409, "conflict")
        problem(await put(one, b"{"), 400, "invalid-request")
        problem(await put(one, b"[" * 100_000), 400, "invalid-request")
        problem(await put(one, b"x" * (MAX_CONFIG_BYTES + 1)), 413, "body-too-large")
        wrong = {**config().to_wire(), "source": {"rtsp": {"url": "rtsp://user:secret@camera/"}}}
        response = await put(one, wrong)
        body = problem(response, 400, "invalid-request")
        assert body["errors"][0]["field"].startswith("source.rtsp")
        assert "secret" not in response.text
        body = problem(await put(one, config(token_keys=[]).to_wire()), 400, "invalid-request")
        assert "tokenKeys" in body["detail"]
        assert one.agent.config.revision == "one"


async def test_ending_a_session() -> None:
    async with world() as one:
        request = OpenRequest("s-1", "alice", SessionRole.VIEW, Transport.WHEP, "offer")
        opening = asyncio.create_task(one.agent.registry.open(request))
        await asyncio.sleep(0)
        headers = bearer(token())
        response = await one.client.delete("/v1/sessions/s-1?reason=Expired", headers=headers)
        assert response.status_code == 204
        assert [str(report.end_reason) for report in one.agent.registry.reports()] == ["Expired"]
        problem(await one.client.delete("/v1/sessions/s-1", headers=headers), 404, "session-not-found")
        response = await one.client.delete("/v1/sessions/s-1?reason=Because", headers=headers)
        problem(response, 400, "invalid-request")
        await asyncio.wait({opening})
        opening.exception()


async def test_health_needs_no_token() -> None:
    async with world() as one:
        assert (await one.client.get("/healthz")).status_code == 200
        assert (await one.client.get("/readyz")).status_code == 200
        one.agent.ready = False
        assert (await one.client.get("/readyz")).status_code == 503
        assert (await one.client.get("/healthz")).status_code == 200


async def test_metrics_can_be_read_by_prometheus() -> None:
    async with world() as one:
        response = await one.client.get("/metrics")
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert families["sightline_agent_packets_sent"].samples[0].value == 7
        (datagrams,) = families["sightline_agent_datagrams"].samples
        assert (datagrams.labels, datagrams.value) == ({"kind": "stun"}, 3)
        states = families["sightline_agent_source_state"].samples
        assert sum(sample.value for sample in states) == 1
        assert set(families) >= {
            "sightline_agent_viewers",
            "sightline_agent_peer_connections",
            "sightline_agent_bytes_sent",
            "sightline_agent_source_reconnects",
            "sightline_agent_sessions_ended",
            "sightline_agent_dropped",
        }


async def test_what_is_not_there_and_what_may_not_be() -> None:
    async with world() as one:
        problem(await one.client.get("/nothing"), 404, "not-found")
        response = await one.client.post("/v1/status", headers=bearer(token()))
        problem(response, 405, "method-not-allowed")
        assert "GET" in response.headers["allow"]


async def test_a_bug_is_an_answer_with_an_id_and_no_details() -> None:
    async with world() as one:
        response = await one.client.get("/bug")
        body = problem(response, 500, "internal")
        assert "secret" not in response.text
        assert "more under" in body["detail"]


async def test_pages_of_allowed_origins_may_call() -> None:
    async with world() as one:
        preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        response = await one.client.options("/who", headers=preflight)
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        response = await one.client.options("/who", headers={**preflight, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [
        ("127.0.0.1", "localhost:8080", 200),
        ("127.0.0.1", "127.0.0.1:8080", 200),
        ("::1", "[::1]:8080", 200),
        ("127.0.0.1", "rebound.example:8080", 401),
        ("10.0.0.7", "localhost:8080", 401),
        ("10.0.0.7", "10.0.0.1:8080", 401),
    ],
)
async def test_standalone_serves_local_programs_only(peer: str, host: str, status: int) -> None:
    async with world(standalone=True, peer=peer) as one:
        response = await one.client.get("/who", headers={"Host": host})
        assert response.status_code == status
        assert (await one.client.get("/v1/status", headers={"Host": host})).status_code == status


@pytest.mark.parametrize("gone_after", [0, 1])
async def test_who_asks_for_events_and_hangs_up_at_once_leaves_no_subscriber(gone_after: int) -> None:
    async with world() as one:
        asked = http_scope("GET", "/v1/events", {"Host": "localhost", "Authorization": f"Bearer {token()}"})
        sent: list[Any] = []
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if gone_after:
                await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > gone_after:
                gone.set()
            await asyncio.sleep(0)

        await one.app(asked, receive, send)
        assert one.events.subscribers == 0


async def test_who_hangs_up_in_the_middle_of_a_body_is_no_bug() -> None:
    async with world(standalone=True) as one:
        headers = {"Host": "localhost", "Content-Length": "100", "Content-Type": "application/json"}
        asked = http_scope("PUT", "/v1/config", headers)
        beginning: dict[str, Any] = {"type": "http.request", "body": b"{", "more_body": True}
        messages = [{"type": "http.disconnect"}, beginning]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        with structlog.testing.capture_logs() as logs:
            await one.app(asked, receive, send)
        assert logs == []
        assert sent[0]["status"] == 499
