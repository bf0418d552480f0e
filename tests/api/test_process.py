"""The front door as a process: a real socket, stopping in stages, and what it says when it cannot start."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

import sightline_api.__main__ as process
from sightline_api import connections
from sightline_api.metrics import Metrics
from sightline_api.settings import Settings, variables
from sightline_kube.cache import Cache, Feed
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_kube.memory import MemoryCluster
from sightline_model.tokens import Signer, generate_private_key_pem
from tests.api.world import OFFER, SDP, VIEWER, WHEP, FakeAgent, camera, settings


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key.pem"
    file.write_bytes(generate_private_key_pem())
    return file


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """What the process connects to."""
    made = MemoryCluster()

    async def connect() -> MemoryCluster:
        return made

    monkeypatch.setattr(process, "connect", connect)
    return made


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
async def served(started: Started, cluster: MemoryCluster, **more: Any) -> AsyncIterator[tuple[str, process.Server]]:
    cache = Cache([CAMERA])
    signer = Signer.from_pem(generate_private_key_pem())
    http = process.server(settings(host="127.0.0.1", port=0, **more), cluster, cache, signer)
    async with Feed(cluster, cache, [CAMERA]):
        serving = asyncio.create_task(http.serve())
        url = await started.url()
        while not cache.synced():
            await asyncio.sleep(0)
        yield url, http
        http.stop()
        await serving


async def watched(cluster: MemoryCluster, agent: FakeAgent) -> None:
    """Make a camera that this agent serves."""
    created = await cluster.create(camera())
    await cluster.replace_status({**created, "status": {"agent": {"address": agent.address, "port": agent.port}}})


async def watch(client: httpx2.AsyncClient) -> httpx2.Response:
    """Offer to watch that camera."""
    return await client.post(WHEP, content=OFFER, headers={**SDP, "Authorization": f"Bearer {VIEWER}"})


async def test_an_open_request_is_answered_before_the_process_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()
    arrived, go = asyncio.Event(), asyncio.Event()
    async with FakeAgent().running() as agent:
        await watched(cluster, agent)

        async def slow(_: Any) -> Any:
            arrived.set()
            await go.wait()
            agent.reply = None
            return await agent._handle(_)

        agent.reply = slow
        async with served(started, cluster) as (url, http), httpx2.AsyncClient(base_url=url) as client:
            offer = asyncio.create_task(watch(client))
            await arrived.wait()
            http.stop()
            go.set()
            response = await offer
            assert response.status_code == 201
            assert response.headers["Location"].startswith(url)
            assert "server" not in response.headers


async def test_a_request_whose_time_is_over_is_sent_to_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()
    arrived, never = asyncio.Event(), asyncio.Event()
    async with FakeAgent().running() as agent:
        await watched(cluster, agent)

        async def parked(_: Any) -> Any:
            arrived.set()
            await never.wait()

        agent.reply = parked
        async with (
            served(started, cluster, shutdown_grace=0) as (url, http),
            httpx2.AsyncClient(base_url=url) as client,
        ):
            offer = asyncio.create_task(watch(client))
            await arrived.wait()
            http.stop()
            response = await offer
    assert (response.status_code, response.json()["code"]) == (503, "stopping")
    assert response.headers["Retry-After"] == "1"
    assert not [record for record in caplog.records if record.exc_info]
    assert (await cluster.list(STREAM_SESSION)).items == []


async def test_a_client_that_hangs_up_frees_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    started, cluster = Started(monkeypatch), MemoryCluster()
    arrived, freed = asyncio.Event(), asyncio.Event()
    async with FakeAgent().running() as agent:
        await watched(cluster, agent)

        async def parked(request: Any) -> Any:
            arrived.set()
            # aiohttp's server tells of a lost connection through the transport, not by cancelling.
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0)
            freed.set()
            raise ConnectionResetError

        agent.reply = parked
        async with served(started, cluster) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            offer = asyncio.create_task(watch(client))
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
        answer = await asyncio.wait_for(reader.read(), 8)
        assert answer.count(b"HTTP/1.1 ") == (b"\r\n\r\n" in sent)
        assert not http.server_state.connections
        writer.close()


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: door.test\r\n\r\n"


class Visitor:
    """A connection, byte by byte."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])

    async def __aenter__(self) -> "Visitor":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self) -> str:
        """A whole request; the answer's head."""
        self.send(HEALTHZ)
        async with asyncio.timeout(8):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            await self._reader.readexactly(len(b'{"status":"ok"}'))
        return head

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def end(self) -> bytes:
        """What comes until the server ends the connection."""
        async with asyncio.timeout(8):
            return await self._reader.read()


async def test_a_connection_rests_longer_than_any_proxy_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    async with served(Started(monkeypatch), MemoryCluster()) as (url, http), Visitor(url) as visitor:
        assert "connection: close" not in await visitor.ask()
        (resting,) = http.server_state.connections
        assert isinstance(resting, connections.Connection)
        assert list(resting._state.resting) == [resting]
        assert resting._deadline is None
        assert resting.timeout_keep_alive_task is not None
        assert resting.timeout_keep_alive_task.when() - asyncio.get_running_loop().time() > 610
        await visitor.ask()
        # A request that has begun does not rest.
        visitor.send(HEALTHZ[:20])
        assert await visitor.end() == b""
        assert not resting._state.resting


async def test_those_that_rested_longest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_RESTING", 2)
    async with (
        served(Started(monkeypatch), MemoryCluster()) as (url, _),
        Visitor(url) as first,
        Visitor(url) as second,
        Visitor(url) as third,
    ):
        for visitor in (first, second, first, third):
            await visitor.ask()
        assert await second.end() == b""
        for visitor in (first, third):
            await visitor.ask()
        async with httpx2.AsyncClient(base_url=url) as client:
            counted = (await client.get("/metrics")).text
        assert "sightline_api_connections_made_room_total 1.0" in counted
        assert "sightline_api_connections_resting 2.0" in counted


async def test_who_does_not_read_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.2)
    large = b"GET /openapi.json HTTP/1.1\r\nHost: door.test\r\n\r\n"
    async with served(Started(monkeypatch), MemoryCluster()) as (url, http):
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", int(url.rpartition(":")[2])))
            await loop.sock_sendall(client, large * 60)  # 10 MB: more than the system keeps for both ends
            async with asyncio.timeout(25):
                while http.server_state.total_requests == 0:
                    await asyncio.sleep(0)
                while http.server_state.connections or http.server_state.tasks:
                    await asyncio.sleep(0)


class Deaf(asyncio.Transport):
    """A connection whose client has not read what was written before the end: that does not come."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.aborted = asyncio.Event()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted.set()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


@pytest.mark.parametrize("sent", [b"", HEALTHZ.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
async def test_nor_for_the_end_of_a_connection_that_was_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.0 if not sent else 600.0)
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.0)
    config = process.server(
        settings(), MemoryCluster(), Cache([CAMERA]), Signer.from_pem(generate_private_key_pem())
    ).config
    connection, transport = connections.Connection(config, connections.State(Metrics()), {}), Deaf()
    connection.connection_made(transport)
    if sent:
        connection.data_received(sent)
    await asyncio.wait_for(transport.aborted.wait(), 4)
    assert transport.closing


async def test_who_reads_is_given_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Started(monkeypatch), MemoryCluster()) as (url, http), httpx2.AsyncClient(base_url=url) as client:
        for _ in range(3):
            assert (await client.get("/openapi.json")).json()["openapi"]
        (resting,) = http.server_state.connections
        assert isinstance(resting, connections.Connection)
        assert resting._stuck is None


async def test_a_request_that_is_worked_on_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    started, cluster = Started(monkeypatch), MemoryCluster()
    late = asyncio.Event()
    async with FakeAgent().running() as agent:
        await watched(cluster, agent)

        async def slow(request: Any) -> Any:
            asyncio.get_running_loop().call_later(0.4, late.set)
            await late.wait()
            agent.reply = None
            return await agent._handle(request)

        agent.reply = slow
        async with served(started, cluster) as (url, _), httpx2.AsyncClient(base_url=url) as client:
            response = await watch(client)
            assert response.status_code == 201


async def test_a_signal_stops_it_in_order(
    monkeypatch: pytest.MonkeyPatch, cluster: MemoryCluster, key_file: Path
) -> None:
    started = Started(monkeypatch)
    chosen = Settings(
        host="127.0.0.1", port=0, shutdown_delay=0, signing_key_file=key_file, previous_signing_key_file=key_file
    )
    serving = asyncio.create_task(process.serve(chosen))
    url = await started.url()
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0
    assert cluster._closed


async def test_it_goes_on_for_a_while_when_it_is_told_to_stop(
    monkeypatch: pytest.MonkeyPatch, cluster: MemoryCluster, key_file: Path
) -> None:
    """Proxies send requests to a process that ends until they have heard of it."""
    started = Started(monkeypatch)
    serving = asyncio.create_task(
        process.serve(Settings(host="127.0.0.1", port=0, signing_key_file=key_file, shutdown_delay=600))
    )
    url = await started.url()
    left = asyncio.Event()
    leave = process.Server.leave

    def told(server: process.Server) -> None:
        leave(server)
        left.set()

    monkeypatch.setattr(process.Server, "leave", told)
    async with Visitor(url) as before, Visitor(url) as after:
        await before.ask()
        os.kill(os.getpid(), signal.SIGTERM)
        await left.wait()
        for visitor in (before, after):
            assert "connection: close" in await visitor.ask()
            assert await visitor.end() == b""
        async with Visitor(url) as newcomer:
            assert "connection: close" in await newcomer.ask()
    assert not serving.done()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 0
    assert cluster._closed


@pytest.mark.usefixtures("cluster")
async def test_it_ends_when_the_watch_does(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    started = Started(monkeypatch)

    async def broken(_: Feed) -> None:
        await started.event.wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Feed, "wait", broken)
    with structlog.testing.capture_logs() as lines:
        assert await process.serve(Settings(host="127.0.0.1", port=0, signing_key_file=key_file)) == 1
    (told,) = [line for line in lines if line["log_level"] == "error"]
    assert "a bug" in repr(told["exc_info"])


@pytest.mark.parametrize(("option", "words"), [("--help", "SIGHTLINE_API_PORT\n"), ("--version", "0.")])
def test_words_are_to_be_had_without_a_cluster(capsys: pytest.CaptureFixture[str], option: str, words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        process.main([option])
    assert (ended.value.code, words in capsys.readouterr().out) == (0, True)


def test_every_setting_is_described() -> None:
    described = variables()
    assert all(f"SIGHTLINE_API_{name.upper()}\n      " in described for name in Settings.model_fields)


def test_settings_that_are_not_valid_are_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_API_STATIC_USERS", '[{"token": "hunter2-hunter2", "user": "dev"}]')
    monkeypatch.setenv("SIGHTLINE_API_PORT", "many")
    with pytest.raises(SystemExit) as ended:
        process.main([])
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
        process.main([])
    assert "hunter2" not in str(ended.value)


def test_a_variable_that_is_no_json_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_API_OIDC", "[{hunter2")
    with pytest.raises(SystemExit, match=r"settings are not valid\n.*oidc") as ended:
        process.main([])
    assert "hunter2" not in str(ended.value)


def test_a_missing_key_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_API_SIGNING_KEY_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setattr(process, "configure_logging", lambda _: None)
    with pytest.raises(SystemExit, match="signing key"):
        process.main([])
