"""Links over HTTP, against a small agent that speaks the control protocol."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from sightline_model.agent import (
    Adoption,
    AgentEvent,
    AgentReport,
    SessionEvent,
    SnapshotEvent,
    SourceCredentials,
    spare_identity,
)
from sightline_model.reasons import EndReason
from sightline_model.sealing import SealingKey
from sightline_model.session import SessionPhase
from sightline_model.tokens import Signer, generate_private_key_pem, verify
from sightline_operator import agents, build, share
from sightline_operator.agents import AgentTarget, HttpAgentLinks
from sightline_operator.errors import AgentCallError
from sightline_operator.facts import UNREADABLE, LinkState
from sightline_operator.heard import News
from tests.operator.samples import facts, plan_of, report, session_report

SIGNER = Signer.from_pem(generate_private_key_pem())


class Server:
    """An agent's control port."""

    def __init__(self) -> None:
        self.report: AgentReport = report()
        self.streams: list[asyncio.Queue[AgentEvent | bytes | None]] = []
        self.requests: list[str] = []
        self.bodies: list[dict[str, str]] = []
        self.status = 200
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = verify(token, [SIGNER.public_jwk()], self.report.camera.audience, datetime.now(UTC))
        assert (claims.role, claims.session_id) == ("Control", "")
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/v1/events":
            return await self._stream(request)
        if request.method == "PUT":
            self.bodies.append(await request.json())
            revision = self.bodies[-1].get("revision", "")
            self.report = self.report.model_copy(update={"revision": revision})
        if request.method == "DELETE":
            return web.Response(status=404)
        return web.Response(text=self.report.model_dump_json(exclude_none=True))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[AgentEvent | bytes | None] = asyncio.Queue()
        self.streams.append(stream)
        stream.put_nowait(SnapshotEvent(report=self.report))
        while (event := await stream.get()) is not None:
            if isinstance(event, bytes):
                await response.write(event)
            else:
                body = event.model_dump_json(exclude_none=True)
                await response.write(f"event: {event.type}\ndata: {body}\n\n".encode())
        return response


class Links:
    """Links that run, and what their listener heard."""

    def __init__(self, links: HttpAgentLinks, target: AgentTarget) -> None:
        self.links = links
        self.target = target
        self.news: list[News] = []

    @property
    def state(self) -> LinkState:
        return self.links.state(*self.target.key)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, AgentTarget]]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server, AgentTarget("site", "camera-gate-one", "p-1", server.report.camera, "127.0.0.1", server.port)
    finally:
        for stream in server.streams:
            stream.put_nowait(None)
        await runner.cleanup()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Server, Links]]:
    async with serving() as (server, target):
        links = HttpAgentLinks(SIGNER, rng=lambda: 0.0)
        here = Links(links, target)
        links.subscribe(lambda _, news: here.news.append(news))
        links.follow(target)
        task = asyncio.ensure_future(links.run())
        try:
            yield server, here
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until(condition: Callable[[], bool], tick: Callable[[], Awaitable[None]] | None = None) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await (tick() if tick else asyncio.sleep(0.01))


async def test_a_snapshot_and_events_arrive() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        assert here.state.report == server.report
        server.streams[0].put_nowait(b": keep-alive\n\n")
        server.streams[0].put_nowait(b'event: later\ndata: {"type": "later"}\n\n')
        server.streams[0].put_nowait(SessionEvent(session=session_report(SessionPhase.STREAMING)))
        await until(lambda: "s-1" in here.state.sessions)
        assert here.news[-1] == News(viewers=True, sessions=frozenset({"s-1"}))
        assert here.links.connected() == (1, 1)


async def test_a_closed_stream_is_opened_again() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        server.streams[0].put_nowait(None)
        await until(lambda: len(server.streams) == 2)
        await until(lambda: here.state.connected)
        assert News(camera=True, all_sessions=True) in here.news


async def test_silence_counts_as_a_broken_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "SILENCE_SECONDS", 0.1)
    async with linked() as (server, here):
        await until(lambda: len(server.streams) >= 2)
        assert here.news


async def test_refusals_are_told_in_words() -> None:
    async with linked() as (server, here):
        server.status = 401
        await until(lambda: here.state.connected or bool(here.state.error))
        if here.state.connected:
            server.streams[0].put_nowait(None)
        await until(lambda: here.state.error == "HTTP 401")
        assert not here.state.connected
        server.status = 200
        await until(lambda: here.state.connected)


async def test_an_agent_without_an_event_stream_is_of_another_version() -> None:
    async with linked() as (server, here):
        server.status = 404
        await until(lambda: here.state.connected or bool(here.state.error))
        if here.state.connected:
            server.streams[0].put_nowait(None)
        await until(lambda: here.state.error == UNREADABLE)
        assert not here.state.connected


async def test_a_config_is_put_and_read_back() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        config = build.agent_config(plan_of(facts())).model_copy(update={"revision": "another"})
        await here.links.put_config(*here.target.key, config)
        assert server.requests[-2:] == ["PUT /v1/config", "GET /v1/status"]
        assert here.state.report
        assert here.state.report.revision == "another"
        assert here.state.pushed_revision == "another"


async def test_a_session_that_is_not_there_has_ended_already() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        await here.links.end_session(*here.target.key, "s-1", EndReason.EXPIRED)
        assert server.requests[-1] == "DELETE /v1/sessions/s-1?reason=Expired"


async def test_calls_that_fail_raise_our_error() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        server.status = 500
        with pytest.raises(AgentCallError, match="HTTP 500"):
            await here.links.end_session(*here.target.key, "s-1", EndReason.REVOKED)
        with pytest.raises(AgentCallError, match="no link"):
            await here.links.end_session("site", "other", "s-1", EndReason.REVOKED)


async def test_a_pod_that_is_gone_is_left_alone() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        here.links.drop(*here.target.key)
        assert here.links.connected() == (0, 0)
        assert here.state == LinkState()
        moved = AgentTarget("site", "camera-gate-one", "p-2", here.target.camera, "127.0.0.1", server.port)
        here.links.follow(moved)
        await until(lambda: here.state.connected)


async def test_nobody_listens_there() -> None:
    async with linked() as (_, here):
        nowhere = AgentTarget("site", "camera-gate-two", "p-2", here.target.camera, "127.0.0.1", 1)
        here.links.follow(nowhere)
        await until(lambda: bool(here.links.state(*nowhere.key).error))
        assert here.links.state(*nowhere.key).error.startswith("cannot connect")
        here.links.follow(nowhere, hurry=True)


async def test_a_spare_is_told_sealed_what_to_serve_over_the_link_that_it_has() -> None:
    key = SealingKey()
    async with serving() as (server, camera):
        identity = spare_identity("site", "spare-one")
        server.report = report().model_copy(update={"camera": identity, "revision": "", "sealing_key": key.public})
        waits = replace(camera, pod="spare-one", camera=identity, spare_of="default", began_as_spare=True)
        links = HttpAgentLinks(SIGNER, rng=lambda: 0.0)
        links.follow(waits)
        task = asyncio.ensure_future(links.run())
        try:
            await until(lambda: links.state("site", "spare-one").connected)
            before = links.state("site", "spare-one")
            links.follow(replace(waits, camera=camera.camera, spare_of=""))
            given = {"main": SourceCredentials(username="admin", password="hunter2")}
            await links.put_config("site", "spare-one", build.agent_config(plan_of(facts())), given)
            state = links.state("site", "spare-one")
            assert (state.connected, state.followed_at) == (True, before.followed_at)
            assert server.requests.count("GET /v1/events") == 1
            assert before.idle_since is not None
            assert state.idle_since is not None
            assert state.idle_since > before.idle_since
            ((sealed,),) = [list(body.values()) for body in server.bodies]
            assert "hunter2" not in sealed
            adoption = Adoption.model_validate_json(key.open(sealed, identity.audience))
            assert adoption.credentials == given
            assert adoption.config == build.agent_config(plan_of(facts()))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_credentials_go_nowhere_without_a_key_to_seal_to() -> None:
    async with linked() as (server, here):
        await until(lambda: here.state.connected)
        with pytest.raises(AgentCallError, match="not said what to seal to"):
            await here.links.put_config(*here.target.key, build.agent_config(plan_of(facts())), {})
        assert server.bodies == []


async def test_an_agent_that_talks_without_end_does_not_keep_others_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Sixty megabytes of small events: while most of them still wait at their sender, others are heard."""
    monkeypatch.setattr(share, "CREDIT_SECONDS", 0.01)
    limits: Counter[str] = Counter()
    async with serving() as (loud, loud_target), serving() as (quiet, quiet_target):
        links = HttpAgentLinks(SIGNER, rng=lambda: 0.0, limited=lambda limit: limits.update([limit]))
        quiet_target = replace(quiet_target, pod="quiet")
        links.follow(loud_target)
        links.follow(quiet_target)
        task = asyncio.ensure_future(links.run())
        try:
            await until(lambda: all(links.state(*target.key).connected for target in (loud_target, quiet_target)))
            body = SessionEvent(session=session_report(SessionPhase.STREAMING)).model_dump_json(exclude_none=True)
            flood = f"event: session\ndata: {body}\n\n".encode() * 1000
            for _ in range(60_000_000 // len(flood)):
                loud.streams[0].put_nowait(flood)
            await until(lambda: limits["time"] >= 2)
            quiet.streams[0].put_nowait(SessionEvent(session=session_report(SessionPhase.STREAMING)))
            await until(lambda: "s-1" in links.state(*quiet_target.key).sessions)
            assert loud.streams[0].qsize() > 0
            assert links.state(*loud_target.key).connected
            warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
            assert warnings == [
                "site/camera-gate-one says more than the operator listens to: it is read more slowly from now on"
            ]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            while not loud.streams[0].empty():
                loud.streams[0].get_nowait()


async def test_links_begin_some_at_a_time_and_not_those_that_have_gone_meanwhile() -> None:
    async with serving() as (server, target):
        links = HttpAgentLinks(SIGNER, rng=lambda: 0.0)
        targets = [replace(target, pod=f"camera-gate-{number}") for number in range(4 * agents.DIALLED_AT_ONCE)]
        for one in targets:
            links.follow(one)
        task = asyncio.ensure_future(links.run())
        await until(lambda: task.done() or links._links[targets[0].key].task is not None, lambda: asyncio.sleep(0))
        waiting = [one for one in targets if links._links[one.key].task is None]
        assert len(waiting) >= 2 * agents.DIALLED_AT_ONCE
        for one in waiting[::2]:
            links.drop(*one.key)
        left = len(targets) - len(waiting[::2])
        await until(lambda: links.connected() == (left, left))
        assert server.requests == ["GET /v1/events"] * left
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
