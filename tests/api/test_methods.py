"""HEAD, OPTIONS and `Allow`: the same at every address, whatever its routes say."""

from pathlib import Path
from typing import Any

import pytest

from tests.api.world import ADMIN, CAMERAS, FRONT, WHEP, World, camera, running_world
from tests.helpers.asgi import http_scope

OWN_HEAD = {"/v1/namespaces/{namespace}/cameras/{name}/whep"}
"""WHEP wants its media type told there, and no content from GET."""


async def test_head_answers_as_get_does_without_the_content(world: World) -> None:
    await world.add_running()
    document = (await world.call("GET", "/openapi.json", token=None)).json()
    paths = [path for path, operations in document["paths"].items() if "get" in operations and path not in OWN_HEAD]
    assert len(paths) > 10
    for template in [*paths, "/openapi.json", "/v1/nothing"]:
        path = template.format(namespace="default", name="front", session="s-x")
        for token in (ADMIN, None):
            get, head = await world.call("GET", path, token), await world.call("HEAD", path, token)
            if path == "/metrics":
                assert head.status_code == 200
                continue  # it has counted the one in between
            changing = {"x-request-id", "date"}
            assert head.status_code == get.status_code, path
            for name in (get.headers.keys() | head.headers.keys()) - changing:
                assert head.headers.get(name) == get.headers.get(name), (path, name)
            assert head.content == b""
    assert not [path for path, operations in document["paths"].items() if "head" in operations and path not in OWN_HEAD]
    route = "/v1/namespaces/{namespace}/cameras/{name}/status"
    assert world.metric("sightline_api_requests_total", route=route, method="HEAD", code="200") == 1


async def test_the_content_is_left_out_by_us_not_by_the_server(world: World) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/healthz", "/v1/me"):
        sent.clear()
        await world.app(http_scope("HEAD", path, {"Host": "door.test"}), receive, send)
        assert int(dict(sent[0]["headers"])[b"content-length"]) > 0
        assert b"".join(message.get("body", b"") for message in sent[1:]) == b""


@pytest.mark.parametrize("with_page", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", FRONT, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", WHEP, "GET, HEAD, OPTIONS, POST"),
        ("PUT", f"{WHEP}/s-x.y", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", CAMERAS, "OPTIONS, POST"),
        ("HEAD", CAMERAS, "OPTIONS, POST"),
        ("DELETE", "/v1/cameras/status", "GET, HEAD, OPTIONS"),
        ("BREW", "/v1/me", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_what_else_may_be_done_is_told_in_full(
    tmp_path: Path, with_page: bool, method: str, path: str, allowed: str
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Sightline</title>")
    async with running_world(web_root=tmp_path if with_page else None) as world:
        await world.add(camera())
        response = await world.call(method, path, ADMIN)
        assert (response.status_code, response.headers["Allow"]) == (405, allowed)
        assert response.content == b"" if method == "HEAD" else response.json()["code"] == "method-not-allowed"
        options = await world.call("OPTIONS", path, token=None)
        assert (options.status_code, options.headers["Allow"], options.content) == (204, allowed, b"")


async def test_the_page_has_its_methods(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Sightline</title>")
    async with running_world(web_root=tmp_path) as world:
        get, head = await world.call("GET", "/", token=None), await world.call("HEAD", "/", token=None)
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(get.content)), b"")
        for method in ("POST", "OPTIONS"):
            refused = await world.call(method, "/", token=None)
            assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
        assert (await world.call("HEAD", "/absent.html", token=None)).status_code == 404


async def test_an_address_that_is_none_has_no_methods(world: World) -> None:
    for path in ("/nothing", "/v1/nothing", "*"):
        response = await world.call("OPTIONS", path, token=None)
        assert (response.status_code, "Allow" in response.headers) == (404, False)
