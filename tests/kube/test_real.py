"""RealCluster against a scripted HTTP server: what a real API server does not do on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client as kubernetes
from kubernetes.aio.config import incluster_config

from sightline_kube.cluster import AccessQuery, EventType, Obj, Preconditions, TokenUser
from sightline_kube.errors import (
    ClusterError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from sightline_kube.kinds import CAMERA, POD, Kind
from sightline_kube.real import RealCluster, RealSettings
from tests.helpers.kube_objects import camera

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUICK = RealSettings(request_seconds=0.05)
SMALL_PAGES = RealSettings(page_size=2)


class Script:
    """An API server that gives one prepared answer after the other and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.observed: list[tuple[str, Kind, int]] = []
        self.opened = 0
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        headers = {key.lower(): value for key, value in request.headers.items()}
        self.asked.append((request.method, request.path, dict(request.query), headers, body))
        return await self.answers.pop(0)(request)

    async def open(self) -> kubernetes.ApiClient:
        self.opened += 1
        configuration = kubernetes.Configuration(host=self.url)
        configuration.api_key["BearerToken"] = f"Bearer token-{self.opened}"
        return kubernetes.ApiClient(configuration)

    def observe(self, verb: str, kind: Kind, code: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((verb, kind, code))


def says(body: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def page(text: str, status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status)

    return answer


def silence(_request: web.Request) -> Awaitable[web.StreamResponse]:
    return asyncio.Future()


async def first_token_is_refused(request: web.Request) -> web.StreamResponse:
    refused = request.headers["authorization"] == "Bearer token-1"
    return web.json_response({} if refused else at(1), status=401 if refused else 200)


def streams(*events: Any, end: bool = True) -> Answer:
    """A watch: each event as a line, then the end or nothing more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            line = event if isinstance(event, bytes) else json.dumps(event).encode()
            await response.write(line + b"\n")
        if not end:
            await asyncio.Future()
        return response

    return answer


def breaks(*events: Any) -> Answer:
    """A watch whose connection breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        assert request.transport
        request.transport.abort()
        return response

    return answer


def at(version: int) -> dict[str, Any]:
    obj = camera("front")
    obj["metadata"]["resourceVersion"] = str(version)
    return obj


def added(version: int) -> dict[str, Any]:
    return {"type": "ADDED", "object": at(version)}


def bookmark(version: int) -> dict[str, Any]:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}


def status(code: int, reason: str, message: str = "words") -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", script.serve)
    async with TestServer(application) as server:
        script.url = str(server.make_url("")).rstrip("/")
        yield script


@asynccontextmanager
async def connected(script: Script, settings: RealSettings | None = None) -> AsyncIterator[RealCluster]:
    cluster = RealCluster(script.open, await script.open(), observe=script.observe, settings=settings)
    try:
        yield cluster
    finally:
        await cluster.close()


async def versions(cluster: RealCluster, since: int) -> list[int]:
    """The versions of all events of one watch, until it ends."""
    stream = cluster.watch(CAMERA, "default", resource_version=str(since))
    async with aclosing(stream), asyncio.timeout(20):
        return [int(event.obj["metadata"]["resourceVersion"]) async for event in stream]


async def test_requests_are_what_kubernetes_expects(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [says(at(1)) for _ in range(7)]
        obj = camera("front")
        await cluster.create(obj)
        obj["metadata"]["managedFields"] = [{}]
        await cluster.apply(obj, field_manager="sightline-operator")
        await cluster.replace(obj)
        await cluster.merge_patch(CAMERA, "default", "front", {"spec": {"audio": "Auto"}})
        await cluster.replace_status(obj)
        preconditions = Preconditions(uid="u-1")
        await cluster.delete(CAMERA, "default", "front", preconditions=preconditions, grace_seconds=0)
        await cluster.get(CAMERA, "default", "front")
    path = "/apis/sightline.dev/v1alpha1/namespaces/default/cameras"
    strict = {"fieldValidation": "Strict"}
    applying = {"fieldManager": "sightline-operator", "force": "true", **strict}
    assert [(method, where, query, headers["content-type"]) for method, where, query, headers, _ in script.asked] == [
        ("POST", path, strict, "application/json"),
        ("PATCH", f"{path}/front", applying, "application/apply-patch+yaml"),
        ("PUT", f"{path}/front", strict, "application/json"),
        ("PATCH", f"{path}/front", strict, "application/merge-patch+json"),
        ("PUT", f"{path}/front/status", {"fieldValidation": "Ignore"}, "application/json"),
        ("DELETE", f"{path}/front", {}, "application/json"),
        ("GET", f"{path}/front", {}, "application/json"),
    ]
    assert {headers["authorization"] for *_, headers, _ in script.asked} == {"Bearer token-1"}
    bodies = [body for *_, body in script.asked]
    assert "managedFields" not in bodies[1]["metadata"]
    assert bodies[3] == {"spec": {"audio": "Auto"}}
    assert bodies[5]["propagationPolicy"] == "Background"
    assert bodies[5]["preconditions"] == {"uid": "u-1"}
    assert bodies[5]["gracePeriodSeconds"] == 0
    assert [(verb, code) for verb, _, code in script.observed] == [
        ("create", 200),
        ("apply", 200),
        ("update", 200),
        ("patch", 200),
        ("update-status", 200),
        ("delete", 200),
        ("get", 200),
    ]


async def test_refused_credentials_are_loaded_again_once(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [says(status(401, "Unauthorized"), 401), says(at(1))]
        assert await cluster.get(CAMERA, "default", "front") == at(1)
        assert [headers["authorization"] for *_, headers, _ in script.asked] == ["Bearer token-1", "Bearer token-2"]
        script.answers = [says(status(401, "Unauthorized"), 401)]
        with pytest.raises(UnauthenticatedError):  # the last time was a moment ago
            await cluster.get(CAMERA, "default", "front")
        assert script.opened == 2
    assert [code for *_, code in script.observed] == [401, 200, 401]


async def test_many_refusals_at_once_load_credentials_once(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [first_token_is_refused] * 10
        await asyncio.gather(*(cluster.get(CAMERA, "default", "front") for _ in range(5)))
        assert script.opened == 2


async def test_overload_says_when_to_come_back(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [says(status(429, "TooManyRequests"), 429, Retry_After="7")]
        with pytest.raises(UnavailableError) as error:
            await cluster.get(CAMERA, "default", "front")
        assert error.value.retry_after == 7


@pytest.mark.parametrize(
    "answer", [page("<h1>Bad gateway</h1>", 502), page("<h1>Sign in</h1>"), page("[]"), page("", 302), silence]
)
async def test_what_is_no_answer_is_unavailability(script: Script, answer: Answer) -> None:
    async with connected(script, QUICK) as cluster:
        script.answers = [answer]
        with pytest.raises(UnavailableError):
            await cluster.get(CAMERA, "default", "front")


async def test_nobody_there_is_unavailability(script: Script) -> None:
    script.url = "http://127.0.0.1:1"
    async with connected(script) as cluster:
        with pytest.raises(UnavailableError, match="get cameras"):
            await cluster.get(CAMERA, "default", "front")
        with pytest.raises(UnavailableError):
            await versions(cluster, 1)
    assert [code for *_, code in script.observed] == [0, 0]


async def test_a_closed_cluster_is_unavailable(script: Script) -> None:
    async with connected(script) as cluster:
        await cluster.close()
        with pytest.raises(UnavailableError):
            await cluster.get(CAMERA, "default", "front")


async def test_a_list_begins_again_when_the_server_forgot_it(script: Script) -> None:
    async with connected(script, SMALL_PAGES) as cluster:
        script.answers = [
            says({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": [at(1)]}),
            says(status(410, "Expired"), 410),
            says({"metadata": {"resourceVersion": "9"}, "items": [at(1), at(2)]}),
        ]
        listing = await cluster.list(CAMERA, labels={"b": "2", "a": "1"})
        assert (len(listing.items), listing.resource_version) == (2, "9")
    selector = {"labelSelector": "a=1,b=2"}
    assert [query for _, _, query, _, _ in script.asked] == [
        {"limit": "2", **selector},
        {"limit": "2", "continue": "next", **selector},
        selector,
    ]


async def test_what_is_listed_is_slimmed_page_by_page(script: Script) -> None:
    pages: list[int] = []

    def slimmed(obj: Obj) -> Obj:
        pages.append(len(script.asked))
        return {"kind": obj["kind"], "metadata": {"name": obj["metadata"]["name"]}}

    async with connected(script, replace(SMALL_PAGES, listed=slimmed)) as cluster:
        script.answers = [
            says({"metadata": {"resourceVersion": "5", "continue": "next"}, "items": [at(1), at(2)]}),
            says({"metadata": {"resourceVersion": "5"}, "items": [at(3)]}),
        ]
        listing = await cluster.list(CAMERA)
    assert listing.items == [{"kind": "Camera", "metadata": {"name": "front"}}] * 3
    assert pages == [1, 1, 2]


async def test_an_empty_list_may_have_no_items(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [says({"metadata": {"resourceVersion": "5"}, "items": None})]
        assert (await cluster.list(POD)).items == []


async def test_bookmarks_are_swallowed_and_remembered(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [
            streams(bookmark(40), bookmark(50)),
            streams(added(60)),
            streams(bookmark(70), added(80), bookmark(90)),
            streams(),
            streams(),
        ]
        assert await versions(cluster, 10) == []
        assert await versions(cluster, 10) == [60]  # from 50: nothing was between
        assert await versions(cluster, 60) == [80]
        assert await versions(cluster, 80) == []
        assert await versions(cluster, 60) == []
        assert [query["resourceVersion"] for _, _, query, _, _ in script.asked] == ["10", "50", "60", "90", "60"]
        assert {query["allowWatchBookmarks"] for _, _, query, _, _ in script.asked} == {"true"}


async def test_bookmarks_are_of_one_selection(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [streams(bookmark(50)), streams(), streams()]
        await versions(cluster, 10)
        for labels, namespace in (({"a": "b"}, "default"), (None, "other")):
            async for _ in cluster.watch(CAMERA, namespace, labels=labels, resource_version="10"):
                pass
        assert [query["resourceVersion"] for _, _, query, _, _ in script.asked] == ["10", "10", "10"]


async def test_remembered_bookmarks_are_bounded(script: Script) -> None:
    async with connected(script) as cluster:
        for version in range(300):
            script.answers = [streams(bookmark(1000 + version))]
            await versions(cluster, version)
        assert len(cluster._bookmarks) == 256


async def test_a_bookmark_that_is_too_old_is_forgotten(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [streams(bookmark(50)), says(status(410, "Expired"), 410), streams()]
        await versions(cluster, 10)
        with pytest.raises(GoneError):
            await versions(cluster, 10)
        await versions(cluster, 10)
        assert [query["resourceVersion"] for _, _, query, _, _ in script.asked] == ["10", "50", "10"]


async def test_a_silent_watch_ends(script: Script) -> None:
    async with connected(script, RealSettings(inactivity_seconds=1.0)) as cluster:
        script.answers = [streams(added(5), end=False)]
        assert await versions(cluster, 1) == [5]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (status(410, "Expired"), GoneError),
        (status(410, "Gone"), GoneError),
        (status(500, "InternalError"), UnavailableError),
        (status(429, "TooManyRequests"), UnavailableError),
        ({"kind": "Status"}, UnavailableError),
    ],
)
async def test_an_error_inside_a_watch(script: Script, event: dict[str, Any], expected: type[ClusterError]) -> None:
    async with connected(script) as cluster:
        script.answers = [streams(added(5), {"type": "ERROR", "object": event})]
        stream = cluster.watch(CAMERA, resource_version="1")
        assert (await anext(stream)).type == EventType.ADDED
        with pytest.raises(expected):
            await anext(stream)


@pytest.mark.parametrize(
    ("code", "expected"), [(404, NotFoundError), (410, GoneError), (503, UnavailableError), (400, InvalidError)]
)
async def test_an_error_instead_of_a_watch(script: Script, code: int, expected: type[ClusterError]) -> None:
    async with connected(script) as cluster:
        script.answers = [says(status(code, ""), code)]
        with pytest.raises(expected):
            await versions(cluster, 1)


@pytest.mark.parametrize("answer", [breaks(added(5)), streams(added(5), b"{half"), streams(added(5), b"x" * 6_000_000)])
async def test_a_broken_watch_is_unavailability_after_its_events(script: Script, answer: Answer) -> None:
    async with connected(script) as cluster:
        script.answers = [answer]
        stream = cluster.watch(CAMERA, resource_version="1")
        async with asyncio.timeout(20):
            assert (await anext(stream)).obj == at(5)
            with pytest.raises(UnavailableError):
                await anext(stream)


async def test_an_object_of_a_megabyte_can_be_watched(script: Script) -> None:
    event = added(5)
    event["object"]["spec"]["text"] = "x" * 1_500_000
    async with connected(script) as cluster:
        script.answers = [streams(event)]
        assert await versions(cluster, 1) == [5]


async def test_the_end_of_a_watch_is_asked_for_with_jitter(script: Script) -> None:
    async with connected(script) as cluster:
        script.answers = [streams() for _ in range(20)]
        for _ in range(20):
            await versions(cluster, 1)
        asked = {int(query["timeoutSeconds"]) for _, _, query, _, _ in script.asked}
        assert len(asked) > 1
        assert min(asked) >= 270
        assert max(asked) <= 330


async def test_a_token_without_audiences_is_not_ours(script: Script) -> None:
    async with connected(script) as cluster:
        user = {"username": "alice", "groups": ["a"], "extra": {"scopes": ["x"]}}
        script.answers = [
            says({"status": {"authenticated": True, "user": user}}),
            says({"status": {"authenticated": True, "user": user, "audiences": ["sightline"]}}),
            says({"status": {"authenticated": False, "error": "no"}}),
        ]
        assert await cluster.review_token("t", ["sightline"]) is None
        assert await cluster.review_token("t", ["sightline"]) == TokenUser("alice", "", ("a",), {"scopes": ["x"]})
        assert await cluster.review_token("t", ["sightline"]) is None
        assert script.asked[0][4]["spec"] == {"token": "t", "audiences": ["sightline"]}


async def test_a_denial_beats_an_allowance(script: Script) -> None:
    query = AccessQuery(TokenUser("alice", "1", ("a",), {"x": ["y"]}), "get", "sightline.dev", "cameras", "view", "ns")
    async with connected(script) as cluster:
        script.answers = [
            says({"status": {"allowed": True}}),
            says({"status": {"allowed": True, "denied": True}}),
            says({"status": {"allowed": False}}),
        ]
        assert [await cluster.review_access(query) for _ in range(3)] == [True, False, False]
    assert script.asked[0][4]["spec"] == {
        "user": "alice",
        "uid": "1",
        "groups": ["a"],
        "extra": {"x": ["y"]},
        "resourceAttributes": {
            "verb": "get",
            "group": "sightline.dev",
            "resource": "cameras",
            "subresource": "view",
            "namespace": "ns",
        },
    }


async def test_a_missing_kubeconfig_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(UnauthenticatedError, match="cannot be used"):
        await RealCluster.from_kubeconfig(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "text", ["", "{", "a: b", "contexts: 3", "users: [{name: a, user: {token: hunter2}}]\ncurrent-context: a"]
)
async def test_a_bad_kubeconfig_is_said_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UnauthenticatedError, match="cannot be used") as refusal:
        await RealCluster.from_kubeconfig(str(path))
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__suppress_context__


async def test_outside_a_cluster_there_is_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UnauthenticatedError, match="cannot be used"):
        await RealCluster.in_cluster()


async def test_the_service_account_s_token_is_sent(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("from-the-file")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", certifi.where())
    cluster = await RealCluster.in_cluster()
    cluster._client.configuration.host = script.url
    script.answers = [says(at(1))]
    await cluster.get(CAMERA, "default", "front")
    assert script.asked[0][3]["authorization"] == "bearer from-the-file"
    await cluster.close()
