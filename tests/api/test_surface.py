"""What surrounds every route: problems, headers, health, metrics, the page."""

from pathlib import Path
from typing import Any

import pytest

from sightline_api.problems import of_cluster
from sightline_kube import errors
from sightline_model.problems import ProblemCode
from tests.api.world import ADMIN, WHEP, World, camera, running_world

PUBLIC = {"/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/openapi.json"}


async def test_every_route_under_v1_denies_without_a_token(world: World) -> None:
    document = (await world.call("GET", "/openapi.json", token=None)).json()
    checked = 0
    for path, operations in document["paths"].items():
        for method in operations.keys() - {"options"}:
            response = await world.call(method.upper(), path, token=None)
            if path in PUBLIC:
                assert response.status_code == 200, path
            else:
                assert response.status_code == 401, (method, path)
                checked += 1
    assert checked >= 20


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/nothing", 404, "not-found"),
        ("DELETE", "/v1/me", 405, "method-not-allowed"),
        ("PUT", WHEP, 405, "method-not-allowed"),
        ("GET", "/v1/namespaces/UPPER/cameras/x", 400, "invalid-request"),
        ("GET", f"/v1/namespaces/default/cameras/{'a' * 70}", 404, "camera-not-found"),
        ("GET", "/v1/cameras?limit=x", 400, "invalid-request"),
    ],
)
async def test_errors_are_problems(world: World, method: str, path: str, status: int, code: str) -> None:
    response = await world.call(method, path, ADMIN)
    body = response.json()
    assert (response.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"https://sightline.dev/problems/{code}"
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_what_nobody_expected_is_a_problem_with_a_number_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.add(camera())

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("sightline_api.views.status", broken)
    response = await world.call("GET", "/v1/namespaces/default/cameras/front/status")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret inside" not in response.text
    assert response.headers["X-Request-Id"] in response.json()["detail"]
    assert "secret inside" in capsys.readouterr().out
    route = "/v1/namespaces/{namespace}/cameras/{name}/status"
    assert world.metric("sightline_api_requests_total", route=route, method="GET", code="500") == 1


def test_every_error_of_the_port_has_its_problem() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ClusterError)]
    found = {kind: of_cluster(kind("rtsp://u:hunter2@h/")) for kind in kinds}
    assert "hunter2" not in str(found)
    codes = {kind.__name__: problem.code for kind, problem in found.items()}
    assert codes == {
        "ClusterError": ProblemCode.CLUSTER_UNAVAILABLE,
        "NotFoundError": ProblemCode.NOT_FOUND,
        "AlreadyExistsError": ProblemCode.ALREADY_EXISTS,
        "ConflictError": ProblemCode.CONFLICT,
        "InvalidError": ProblemCode.INVALID_CAMERA,
        "ForbiddenError": ProblemCode.FORBIDDEN,
        "UnauthenticatedError": ProblemCode.CLUSTER_UNAVAILABLE,
        "GoneError": ProblemCode.CLUSTER_UNAVAILABLE,
        "UnavailableError": ProblemCode.CLUSTER_UNAVAILABLE,
    }


async def test_headers_of_every_answer(world: World) -> None:
    api = await world.call("GET", "/v1/me")
    assert api.headers["X-Content-Type-Options"] == "nosniff"
    assert api.headers["Cache-Control"] == "no-store"
    assert api.headers["Referrer-Policy"] == "no-referrer"
    named = await world.call("GET", "/v1/me", headers={"X-Request-Id": "abcdefgh-1"})
    assert named.headers["X-Request-Id"] == "abcdefgh-1"
    odd = await world.call("GET", "/v1/me", headers={"X-Request-Id": "a b<script>"})
    assert odd.headers["X-Request-Id"] != "a b<script>"
    for response in (api, await world.call("GET", "/nothing", token=None)):
        assert "X-Request-Id" in response.headers


async def test_origins_can_be_named() -> None:
    async with running_world(cors_origins=["https://page.test"]) as world:
        for origin, allowed in (("https://page.test", "https://page.test"), ("https://other.test", None)):
            response = await world.call("GET", "/v1/me", headers={"Origin": origin})
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
            assert response.headers["Vary"] == "Origin"


async def test_health_and_readiness(world: World) -> None:
    assert (await world.call("GET", "/healthz", token=None)).status_code == 200
    assert (await world.call("GET", "/readyz", token=None)).status_code == 200
    world.cache._listed.clear()
    response = await world.call("GET", "/readyz", token=None)
    assert (response.status_code, response.json()["code"]) == (503, "cluster-unavailable")
    assert (await world.call("GET", "/healthz", token=None)).status_code == 200


async def test_metrics_count_by_route_and_never_by_name(world: World) -> None:
    await world.add(camera())
    await world.call("GET", "/v1/namespaces/default/cameras/front/status")
    await world.call("GET", "/v1/namespaces/default/cameras/secret-name/status")
    await world.call("GET", "/v1/secret-path")
    await world.call("BREW", "/v1/me")
    text = (await world.call("GET", "/metrics", token=None)).text
    assert 'route="/v1/namespaces/{namespace}/cameras/{name}/status"' in text
    assert 'method="other"' in text
    assert "secret" not in text
    assert "default" not in text
    assert world.metric("sightline_api_authorizations_total", action="view", result="grant") == 1


async def test_the_public_keys_are_published(world: World) -> None:
    body = (await world.call("GET", "/.well-known/jwks.json", token=None)).json()
    assert body == {"keys": [world.signer.public_jwk()]}
    assert "d" not in body["keys"][0]


async def test_the_page_is_served_with_a_strict_policy(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Sightline</title>")
    (tmp_path / "assets" / "app-1234.js").write_text("export {}")
    async with running_world(web_root=tmp_path, frame_ancestors=["https://intranet.test"]) as world:
        page = await world.call("GET", "/", token=None)
        assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-cache")
        policy = page.headers["Content-Security-Policy"].split("; ")
        for directive in (
            "default-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "media-src 'self' blob: mediastream:",
            "frame-ancestors https://intranet.test",
        ):
            assert directive in policy
        asset = await world.call("GET", "/assets/app-1234.js", token=None)
        assert asset.headers["Cache-Control"] == "no-cache"
        again = await world.call("GET", "/assets/app-1234.js", None, headers={"If-None-Match": asset.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        for path in ("/absent.html", "/../settings.py", "/%2e%2e/settings.py", "/assets/..%2f..%2fx"):
            absent = await world.call("GET", path, token=None)
            assert (absent.status_code, absent.json()["code"]) == (404, "not-found")
        assert (await world.call("GET", "/v1/me", token=None)).status_code == 401
        assert (await world.call("POST", "/", token=None)).json()["code"] == "method-not-allowed"
        assert world.metric("sightline_api_requests_total", route="page", method="GET", code="200") == 2


async def test_without_a_page_there_is_nothing_at_the_root(world: World) -> None:
    response = await world.call("GET", "/", token=None)
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


async def test_two_front_doors_share_nothing() -> None:
    async with running_world() as first, running_world() as second:
        await first.call("GET", "/v1/me")
        labels = {"route": "/v1/me", "method": "GET", "code": "200"}
        assert first.metric("sightline_api_requests_total", **labels) == 1
        assert second.metric("sightline_api_requests_total", **labels) == 0
