"""WHEP and the JSON offer as HTTP: each rule of the drafts that a server must keep is a test, with fake sessions."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from sightline_agent.control.problems import on_disconnect, on_http_exception, on_problem
from sightline_agent.errors import ProblemError
from sightline_agent.signaling.offer import offer_routes
from sightline_agent.signaling.sdp import MAX_SDP_BYTES
from sightline_agent.signaling.sessions import Layer, Layers, Opened, OpenRequest
from sightline_agent.signaling.whep import whep_routes
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason
from sightline_model.session import SessionRole, Transport
from tests.helpers.asgi import http_scope

OFFER = (Path(__file__).parent / "chromium_offer.sdp").read_text()
SDP = {"content-type": "application/sdp"}
FRAGMENT = {"content-type": "application/trickle-ice-sdpfrag", "if-match": "*"}
JSON = {"content-type": "application/json"}


@dataclass
class Claims:
    user: str = "alice"
    role: str = "View"
    session_id: str = "s-abc"


@dataclass
class FakeSessions:
    """One session at most; its ICE restarts when the fragment says so."""

    requests: list[OpenRequest] = field(default_factory=list)
    closed: list[tuple[str, EndReason]] = field(default_factory=list)
    fragments: list[str] = field(default_factory=list)
    live: str = ""
    tag: str = "etag1"
    failure: ProblemError | None = None
    parked: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: int = 0
    layered: bool = False
    selected: list[str | None] = field(default_factory=list)

    async def open(self, request: OpenRequest) -> Opened:
        self.requests.append(request)
        self.entered.set()
        if self.failure is not None:
            raise self.failure
        if self.parked is not None:
            try:
                await self.parked.wait()
            except asyncio.CancelledError:
                self.abandoned += 1
                raise
        self.live = request.sid
        return Opened(request.sid, "v=0\r\nanswer\r\n", self.tag, self.layered)

    async def close(self, sid: str, reason: EndReason) -> bool:
        known = bool(sid) and sid == self.live
        if known:
            self.closed.append((sid, reason))
            self.live = ""
        return known

    def etag(self, sid: str) -> str | None:
        return self.tag if sid == self.live else None

    def layers(self, sid: str) -> Layers:
        if sid != self.live:
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        layers = [Layer("main", True, "H264", 1280, 720, 900_000), Layer("sd", False, "", 0, 0, 0)]
        chosen = self.selected[-1] if self.selected else None
        return Layers("0", layers, chosen or "main", chosen is None)

    async def select(self, sid: str, profile: str | None) -> None:
        self.selected.append(profile)

    def trickle(self, sid: str, fragment: str) -> str | None:
        self.fragments.append(fragment)
        if "restart" in fragment:
            self.tag = "etag2"
            return "a=ice-ufrag:new\r\n"
        return None


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        code = json.loads(self.body)["code"]
        assert isinstance(code, str)
        return code


class Agent:
    """The application under test, called without a socket."""

    def __init__(self) -> None:
        self.sessions = FakeSessions()
        self.claims: Claims | ProblemError = Claims()
        self.app = Starlette(
            routes=[
                *whep_routes(self.sessions, self.authenticate),
                *offer_routes(self.sessions, self.authenticate),
            ],
            exception_handlers={
                ProblemError: on_problem,
                HTTPException: on_http_exception,
                ClientDisconnect: on_disconnect,
            },
        )
        self.hang_up = asyncio.Event()

    def authenticate(self, request: Request) -> Claims:
        if isinstance(self.claims, ProblemError):
            raise self.claims
        return self.claims

    async def call(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | str | Iterable[bytes] = b""
    ) -> Answer:
        parts = [body.encode()] if isinstance(body, str) else [body] if isinstance(body, bytes) else list(body)
        messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": i < len(parts) - 1} for i, part in enumerate(parts)
        ]
        sent: list[Message] = []

        async def receive() -> Message:
            if messages:
                return messages.pop(0)
            await self.hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(http_scope(method, path, headers, ("192.0.2.1", 1)), receive, send)
        received = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], received, b"".join(m.get("body", b"") for m in sent[1:]))


@pytest.fixture
async def agent() -> Agent:
    return Agent()


async def opened(agent: Agent) -> Answer:
    answer = await agent.call("POST", "/whep", SDP, OFFER)
    assert answer.status == 201
    return answer


class TestPost:
    async def test_creates_a_session(self, agent: Agent) -> None:
        answer = await agent.call("POST", "/whep", {**SDP, "user-agent": "x" * 300}, OFFER)
        assert answer.status == 201
        assert answer.headers["content-type"] == "application/sdp"
        assert answer.headers["location"] == "/whep/s-abc"
        assert answer.headers["etag"] == '"etag1"'
        assert answer.headers["cache-control"] == "no-store"
        assert answer.body == b"v=0\r\nanswer\r\n"
        request = OpenRequest("s-abc", "alice", SessionRole.VIEW, Transport.WHEP, OFFER, "x" * 256)
        assert agent.sessions.requests == [request]
        assert "BI2KN" not in repr(request)

    @pytest.mark.parametrize(
        "content_type", ["application/sdp; charset=utf-8", "Application/SDP", "application/sdp;x=y"]
    )
    async def test_takes_the_type_with_parameters(self, agent: Agent, content_type: str) -> None:
        assert (await agent.call("POST", "/whep", {"content-type": content_type}, OFFER)).status == 201

    @pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, JSON, {"content-type": ""}])
    async def test_refuses_other_types(self, agent: Agent, headers: dict[str, str]) -> None:
        answer = await agent.call("POST", "/whep", headers, OFFER)
        assert (answer.status, answer.problem) == (415, "unsupported-media-type")

    @pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"nonsense", b"v=0\nnonsense"])
    async def test_refuses_what_is_no_sdp(self, agent: Agent, body: bytes) -> None:
        answer = await agent.call("POST", "/whep", SDP, body)
        assert (answer.status, answer.problem) == (400, "invalid-sdp")
        assert not agent.sessions.requests

    async def test_refuses_an_offer_that_cannot_be_served_before_waking_the_camera(self, agent: Agent) -> None:
        answer = await agent.call("POST", "/whep", SDP, OFFER.replace("H264", "VP9"))
        assert (answer.status, answer.problem) == (422, "codec-not-offered")
        answer = await agent.call("POST", "/whep", SDP, OFFER.replace("recvonly", "inactive"))
        assert (answer.status, answer.problem) == (400, "invalid-sdp")
        assert not agent.sessions.requests

    @pytest.mark.parametrize(
        ("headers", "parts"),
        [
            ({**SDP, "content-length": str(MAX_SDP_BYTES + 1)}, [b"v=0"]),
            ({**SDP, "content-length": "9" * 5000}, [b"v=0"]),
            (SDP, [bytes(MAX_SDP_BYTES), b"x"]),
        ],
    )
    async def test_refuses_long_bodies(self, agent: Agent, headers: dict[str, str], parts: list[bytes]) -> None:
        answer = await agent.call("POST", "/whep", headers, parts)
        assert (answer.status, answer.problem) == (413, "body-too-large")

    async def test_takes_a_body_in_pieces(self, agent: Agent) -> None:
        wire = OFFER.encode()
        answer = await agent.call("POST", "/whep", SDP, [wire[:100], b"", wire[100:]])
        assert answer.status == 201

    async def test_without_a_token(self, agent: Agent) -> None:
        agent.claims = ProblemError(Problem(code=ProblemCode.UNAUTHENTICATED))
        answer = await agent.call("POST", "/whep", SDP, OFFER)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    async def test_a_token_for_publishing_does_not_watch(self, agent: Agent) -> None:
        agent.claims = Claims(role="Publish")
        assert (await agent.call("POST", "/whep", SDP, OFFER)).problem == "forbidden"

    async def test_failures_of_the_registry_are_passed_on(self, agent: Agent) -> None:
        code = ProblemCode.SOURCE_UNREACHABLE
        agent.sessions.failure = ProblemError(Problem(code=code, retry_after_seconds=3))
        answer = await agent.call("POST", "/whep", SDP, OFFER)
        assert (answer.status, answer.problem, answer.headers["retry-after"]) == (409, code, "3")

    async def test_a_client_that_hangs_up_while_parked_leaves_nothing(self, agent: Agent) -> None:
        agent.sessions.parked = asyncio.Event()
        call = asyncio.create_task(agent.call("POST", "/whep", SDP, OFFER))
        await agent.sessions.entered.wait()
        agent.hang_up.set()
        assert (await call).status == 499
        assert agent.sessions.abandoned == 1
        assert not agent.sessions.live

    async def test_a_server_that_stops_while_parked_leaves_nothing(self, agent: Agent) -> None:
        agent.sessions.parked = asyncio.Event()
        call = asyncio.create_task(agent.call("POST", "/whep", SDP, OFFER))
        await agent.sessions.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert agent.sessions.abandoned == 1

    async def test_a_parked_client_gets_its_answer(self, agent: Agent) -> None:
        agent.sessions.parked = asyncio.Event()
        call = asyncio.create_task(agent.call("POST", "/whep", SDP, OFFER))
        await agent.sessions.entered.wait()
        agent.sessions.parked.set()
        assert (await call).status == 201


class TestOtherMethods:
    @pytest.mark.parametrize("path", ["/whep", "/whep/s-abc"])
    async def test_get_and_head_have_no_content(self, agent: Agent, path: str) -> None:
        await opened(agent)
        answer = await agent.call("GET", path)
        assert (answer.status, answer.body) == (204, b"")
        answer = await agent.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/sdp"

    async def test_options_tell_what_is_accepted_without_a_token(self, agent: Agent) -> None:
        agent.claims = ProblemError(Problem(code=ProblemCode.UNAUTHENTICATED))
        answer = await agent.call("OPTIONS", "/whep")
        assert answer.status == 200
        assert answer.headers["accept-post"] == "application/sdp"
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert "If-Match" in answer.headers["access-control-allow-headers"]
        answer = await agent.call("OPTIONS", "/whep/whatever")
        assert answer.headers["accept-patch"] == "application/trickle-ice-sdpfrag"
        assert (await agent.call("OPTIONS", "/offer")).headers["accept-post"] == "application/json"

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    async def test_methods_that_are_not_for_the_endpoint(self, agent: Agent, method: str) -> None:
        answer = await agent.call(method, "/whep")
        assert (answer.status, answer.problem) == (405, "method-not-allowed")
        assert "POST" in answer.headers["allow"]


class TestPatch:
    async def test_candidates_are_taken_without_a_word(self, agent: Agent) -> None:
        await opened(agent)
        answer = await agent.call("PATCH", "/whep/s-abc", FRAGMENT, "a=candidate:1 1 udp 1 x.local 9 typ host\r\n")
        assert (answer.status, answer.body) == (204, b"")
        assert "etag" not in answer.headers
        assert agent.sessions.fragments == ["a=candidate:1 1 udp 1 x.local 9 typ host\r\n"]

    async def test_an_ice_restart_is_answered_with_a_new_tag(self, agent: Agent) -> None:
        await opened(agent)
        answer = await agent.call("PATCH", "/whep/s-abc", FRAGMENT, "a=ice-ufrag:restart\r\n")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/trickle-ice-sdpfrag"
        assert answer.headers["etag"] == '"etag2"'
        assert answer.body == b"a=ice-ufrag:new\r\n"

    @pytest.mark.parametrize(
        ("condition", "status"),
        [("*", 204), ('"etag1"', 204), ('"other", "etag1"', 204), ('"other"', 412), ("etag1", 412), ("", 428)],
    )
    async def test_conditions(self, agent: Agent, condition: str, status: int) -> None:
        await opened(agent)
        headers = {**FRAGMENT, "if-match": condition}
        assert (await agent.call("PATCH", "/whep/s-abc", headers, "a=x\r\n")).status == status

    async def test_a_missing_condition(self, agent: Agent) -> None:
        await opened(agent)
        headers = {"content-type": FRAGMENT["content-type"]}
        assert (await agent.call("PATCH", "/whep/s-abc", headers, "")).problem == "precondition-required"

    @pytest.mark.parametrize("content_type", ["application/sdp", "text/plain", ""])
    async def test_other_types(self, agent: Agent, content_type: str) -> None:
        await opened(agent)
        answer = await agent.call("PATCH", "/whep/s-abc", {**FRAGMENT, "content-type": content_type}, "a=x")
        assert answer.status == 415

    async def test_unknown_sessions(self, agent: Agent) -> None:
        for method in ("PATCH", "GET", "HEAD", "DELETE"):
            answer = await agent.call(method, "/whep/s-unknown", FRAGMENT, "")
            assert (answer.status, answer.problem) == (404, "session-not-found")

    async def test_long_bodies(self, agent: Agent) -> None:
        await opened(agent)
        assert (await agent.call("PATCH", "/whep/s-abc", FRAGMENT, bytes(MAX_SDP_BYTES + 1))).status == 413


class TestDelete:
    async def test_ends_the_session_once_whatever_the_condition(self, agent: Agent) -> None:
        await opened(agent)
        answer = await agent.call("DELETE", "/whep/s-abc", {"if-match": '"stale"'})
        assert (answer.status, answer.body) == (200, b"")
        assert agent.sessions.closed == [("s-abc", EndReason.HANGUP)]
        answer = await agent.call("DELETE", "/whep/s-abc")
        assert (answer.status, answer.problem) == (404, "session-not-found")


class TestOffer:
    async def test_answers_in_json(self, agent: Agent) -> None:
        answer = await agent.call("POST", "/offer", JSON, json.dumps({"sdp": OFFER, "type": "offer", "more": 1}))
        assert answer.status == 200
        body = {"sdp": "v=0\r\nanswer\r\n", "type": "answer", "sessionId": "s-abc"}
        assert json.loads(answer.body) == body
        assert agent.sessions.requests[0].offer == OFFER

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "nonsense",
            "[]",
            "{}",
            '{"sdp": "v=0"}',
            '{"sdp": 1, "type": "offer"}',
            '{"sdp": "v=0", "type": "answer"}',
            "[" * 60000,
        ],
    )
    async def test_refuses_other_bodies(self, agent: Agent, body: str) -> None:
        answer = await agent.call("POST", "/offer", JSON, body)
        assert (answer.status, answer.problem) == (400, "invalid-request")

    async def test_refuses_what_whep_refuses(self, agent: Agent) -> None:
        assert (await agent.call("POST", "/offer", SDP, OFFER)).problem == "unsupported-media-type"
        body = json.dumps({"sdp": "v=0\nnonsense", "type": "offer"})
        assert (await agent.call("POST", "/offer", JSON, body)).problem == "invalid-sdp"
        agent.claims = ProblemError(Problem(code=ProblemCode.UNAUTHENTICATED))
        assert (await agent.call("POST", "/offer", JSON, body)).status == 401
        assert not agent.sessions.requests

    async def test_a_client_that_hangs_up(self, agent: Agent) -> None:
        agent.sessions.parked = asyncio.Event()
        body = json.dumps({"sdp": OFFER, "type": "offer"})
        call = asyncio.create_task(agent.call("POST", "/offer", JSON, body))
        await agent.sessions.entered.wait()
        agent.hang_up.set()
        assert (await call).status == 499
        assert agent.sessions.abandoned == 1
