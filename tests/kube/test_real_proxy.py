"""RealCluster and the environment of its process: proxies are found once, and nobody's ~/.netrc is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sightline_kube.kinds import CAMERA
from sightline_kube.real import RealCluster
from tests.helpers.kube_objects import camera

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@asynccontextmanager
async def answering(asked: list[tuple[str, str]]) -> AsyncIterator[str]:
    """A server, or a proxy, that has one camera and notes what it is asked: the host and the credential."""

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.host, request.headers.get("Authorization", "")))
        return web.json_response(camera("front"))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.port}"


def kubeconfig(folder: Path, server: str) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(("left_out", "through"), [("", True), ("kube.example", False), ("other.example", True)])
async def test_the_environments_proxy_is_used_unless_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str, through: bool
) -> None:
    asked: list[tuple[str, str]] = []
    async with answering(asked) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", left_out)
        cluster = await RealCluster.from_kubeconfig(kubeconfig(tmp_path, "http://kube.example:1"))
        try:
            if not through:
                assert cluster._client.configuration.proxy is None
                return
            found = await cluster.get(CAMERA, "default", "front")
            assert found["metadata"]["name"] == "front"
            assert asked[0][0].startswith("kube.example")
        finally:
            await cluster.close()


async def test_no_credential_comes_from_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked: list[tuple[str, str]] = []
    async with answering(asked) as server, asyncio.timeout(20):
        cluster = await RealCluster.from_kubeconfig(kubeconfig(tmp_path, server))
        try:
            await cluster.get(CAMERA, "default", "front")
        finally:
            await cluster.close()
    assert [credential for _, credential in asked] == [""]
