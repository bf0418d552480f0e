"""The front door as a process: a real socket, stopping in stages, and what it says when it cannot start."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

import sightline_api.__main__ as process
from sightline_api import connections
from sightline_api.settings import Settings
from sightline_kube.cache import Cache, Feed
from sightline_kube.kinds import CAMERA
from sightline_kube.memory import MemoryCluster
from sightline_model.tokens import Signer, generate_private_key_pem
from tests.api.world import OFFER, SDP, VIEWER, WHEP, FakeAgent, camera, settings


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.write_bytes(generate_private_key_pem())
    return file


class Started:
    """Tells when uvicorn listens, and where."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.event = asyncio.Event()
        self.servers: list[process.Server] = []
        startup = process.Server.startup

        async def told(server: process.Server, sockets: Any = None) -> None:
            await startup(server, sockets)
            self.servers.append(server)
            self.event.set()

        monkeypatch.setattr(process.Server, "startup", told)

    async def url(self) -> str:
        await self.event.wait()
        port = self.servers[0].servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@asynccontextmanager
async def served(started: Started, cluster: MemoryCluster) -> AsyncIterator[tuple[str, process.Server]]:
    cache = Cache([CAMERA])
    signer = Signer.from_pem(generate_private_key_pem())
    http = process.server(settings(host="127.0.0.1", port=0), cluster, cache, signer)
    async with Feed(cluster, cache, [CAMERA]):
        serving = asyncio.create_task(http.serve())
        url = await started.url()
        while not cache.synced():
            await asyncio.sleep(0)
        yield url, http
        http.stop()
        await serving


async def test_an_open_request_is_answered_before_the_process_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()
    arrived, go = asyncio.Event(), asyncio.Event()
    async with FakeAgent().running() as agent:
        created = await cluster.create(camera())
        await cluster.replace_status({**created, "status": {"agent": {"address": agent.address, "port": agent.port}}})

        async def slow(_: Any) -> Any:
            arrived.set()
            await go.wait()
            agent.reply = None
            return await agent._handle(_)

        agent.reply = slow
        async with served(started, cluster) as (url, http), httpx2.AsyncClient(base_url=url) as client:
            headers = {**SDP, "Authorization": f"Bearer {VIEWER}"}
            offer = asyncio.create_task(client.post(WHEP, content=OFFER, headers=headers))
            await arrived.wait()
            http.stop()
            go.set()
            response = await offer
            assert response.status_code == 201
            assert response.headers["Location"].startswith(url)
            assert "server" not in response.headers


async def test_a_client_that_hangs_up_frees_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()
    arrived, freed = asyncio.Event(), asyncio.Event()
    async with FakeAgent().running() as agent:
        created = await cluster.create(camera())
        status = {"agent": {"address": agent.address, "port": agent.port}}
        await cluster.replace_status({**created, "status": status})

        async def parked(request: Any) -> Any:
            arrived.set()
            # aiohttp's server tells of a lost connection through the transport, not by cancelling.
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0)
            freed.set()
            raise ConnectionResetError

        agent.reply = parked
        async with served(started, cluster) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            headers = {**SDP, "Authorization": f"Bearer {VIEWER}"}
            offer = asyncio.create_task(client.post(WHEP, content=OFFER, headers=headers))
            await arrived.wait()
            offer.cancel()
            await asyncio.gather(offer, return_exceptions=True)
            await asyncio.wait_for(freed.wait(), 10)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: door.test\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: door.test\r\n\r\nGET /he",
        b"POST /healthz HTTP/1.1\r\nHost: door.test\r\nContent-Length: 9\r\n\r\nhalf",
    ],
    ids=["nothing", "half a head", "half a second head", "half a body that nobody wants"],
)
async def test_a_connection_without_a_request_does_not_last(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    started = Started(monkeypatch)
    async with served(started, MemoryCluster()) as (url, http):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 4)
        assert answer.count(b"HTTP/1.1 ") == (b"\r\n\r\n" in sent)
        assert not http.server_state.connections
        writer.close()


async def test_a_request_that_is_worked_on_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    started, cluster = Started(monkeypatch), MemoryCluster()
    late = asyncio.Event()
    async with FakeAgent().running() as agent:
        created = await cluster.create(camera())
        await cluster.replace_status({**created, "status": {"agent": {"address": agent.address, "port": agent.port}}})

        async def slow(request: Any) -> Any:
            asyncio.get_running_loop().call_later(0.4, late.set)
            await late.wait()
            agent.reply = None
            return await agent._handle(request)

        agent.reply = slow
        async with served(started, cluster) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            response = await client.post(WHEP, content=OFFER, headers={**SDP, "Authorization": f"Bearer {VIEWER}"})
            assert response.status_code == 201


async def test_a_signal_stops_it_in_order(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()

    async def connect() -> MemoryCluster:
        return cluster

    monkeypatch.setattr(process, "connect", connect)
    serving = asyncio.create_task(
        process.serve(Settings(host="127.0.0.1", port=0, signing_key_file=key_file, previous_signing_key_file=key_file))
    )
    url = await started.url()
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0
    assert cluster._closed


async def test_it_ends_when_the_watch_does(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()

    async def connect() -> MemoryCluster:
        return cluster

    async def broken(_: Feed) -> None:
        await started.event.wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(process, "connect", connect)
    monkeypatch.setattr(Feed, "wait", broken)
    with structlog.testing.capture_logs() as lines:
        assert await process.serve(Settings(host="127.0.0.1", port=0, signing_key_file=key_file)) == 1
    (told,) = [line for line in lines if line["log_level"] == "error"]
    assert "a bug" in repr(told["exc_info"])


def test_settings_that_are_not_valid_are_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_API_STATIC_USERS", '[{"token": "hunter2-hunter2", "user": "dev"}]')
    monkeypatch.setenv("SIGHTLINE_API_PORT", "many")
    with pytest.raises(SystemExit) as ended:
        process.main()
    assert "port: " in str(ended.value)
    assert "hunter2" not in str(ended.value)


@pytest.mark.parametrize("content", [None, '{"cors_origins": [', '["hunter2"]', "\xff"], ids=repr)
def test_a_file_of_settings_that_cannot_be_read_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """What it says may be all that keeps others out."""
    file = tmp_path / "api.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    monkeypatch.setenv("SIGHTLINE_API_CONFIG_FILE", str(file))
    monkeypatch.setattr(process, "configure_logging", lambda _: None)
    with pytest.raises(SystemExit, match=r"settings are not valid\n.*api\.json") as ended:
        process.main()
    assert "hunter2" not in str(ended.value)


def test_a_variable_that_is_no_json_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_API_OIDC", "[{hunter2")
    with pytest.raises(SystemExit, match=r"settings are not valid\n.*oidc") as ended:
        process.main()
    assert "hunter2" not in str(ended.value)


def test_a_missing_key_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_API_SIGNING_KEY_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setattr(process, "configure_logging", lambda _: None)
    with pytest.raises(SystemExit, match="signing key"):
        process.main()
