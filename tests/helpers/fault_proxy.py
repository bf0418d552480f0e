"""A proxy before a real API server that writes down every call, and lets some of them fail as told.

    async with proxied(apiserver, tmp_path) as proxy:
        proxy.plan = Storm(seed=1, requests=400)
        ... a program with KUBECONFIG=proxy.kubeconfig ...

TLS on both sides. A caller with a token of its own (`kubeconfig_for(token)`) is passed on as itself; everybody else is
the administrator. A plan is asked before each call; `after` is told of each answer before the caller hears of it.
"""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from tests.helpers.apiserver import Apiserver, kubeconfig_with
from tests.helpers.certificates import write_certificate

ADMIN = "whoever-comes-through-the-proxy"
WRITES = frozenset({"create", "update", "patch", "delete"})
_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "authorization", "accept-encoding"})
_MAX_BODY = 16 * 1024 * 1024


@dataclass
class Call:
    """One request as RBAC sees it, and what came of it."""

    verb: str
    group: str
    resource: str
    """With the subresource after a slash."""
    namespace: str
    name: str
    agent: str
    """The program, by its User-Agent."""
    body: bytes = b""
    status: int = 0
    fault: str = ""

    @property
    def writes(self) -> bool:
        """Whether it was meant to change something."""
        return self.verb in WRITES


@dataclass(frozen=True)
class Fault:
    """What a call meets: one of these things."""

    status: int = 0
    """This answer instead of the server's."""
    retry_after: int | None = None
    hangs: bool = False
    """No answer, until the caller gives up."""
    lost: bool = False
    """It is carried out, but its answer never arrives."""
    cut_after: int | None = None
    """A watch ends, in the middle, after so many lines."""


Plan = Callable[[Call], Fault | None]


def no_faults(_call: Call) -> Fault | None:
    """Everything works."""
    return None


@dataclass
class Storm:
    """Faults by chance: a share of all requests, until so many have come."""

    seed: int
    requests: int
    share: float = 0.3
    hangs: float = 0.02
    """Of all requests: they cost the caller its whole patience."""
    come: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.come >= self.requests

    def __call__(self, call: Call) -> Fault | None:
        """The next throw."""
        if self.over:
            return None
        self.come += 1
        if call.verb == "watch":
            return Fault(cut_after=self.dice.randrange(4)) if self.dice.random() < self.share else None
        if self.dice.random() >= self.share:
            return None
        if self.dice.random() < self.hangs / self.share:
            return Fault(hangs=True)
        kinds = [Fault(status=429, retry_after=1), Fault(status=500), Fault(status=503), Fault(lost=True)]
        return self.dice.choice(kinds)


class FaultProxy:
    """See the module's docstring; made by `proxied`."""

    def __init__(self, kubeconfig: Path, upstream: str, directory: Path) -> None:
        self.kubeconfig = kubeconfig
        self.plan: Plan = no_faults
        self.after: Callable[[Call], None] = lambda _call: None
        self.calls: list[Call] = []
        self._upstream = upstream
        self._directory = directory
        self._admin: aiohttp.ClientSession | None = None
        self._others: aiohttp.ClientSession | None = None

    def of(self, agent: str) -> list[Call]:
        """The calls of one program."""
        return [call for call in self.calls if call.agent.startswith(agent)]

    def kubeconfig_for(self, token: str, name: str) -> Path:
        """A kubeconfig for whoever has this token."""
        return kubeconfig_with(self.kubeconfig, token, self._directory / f"{name}.kubeconfig")

    def use(self, admin: aiohttp.ClientSession, others: aiohttp.ClientSession) -> None:
        """The two ways to the server: with the administrator's certificate and without."""
        self._admin, self._others = admin, others

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, or let it fail."""
        call = parsed(request, await request.read())
        self.calls.append(call)
        fault = self.plan(call) or Fault()
        if fault != Fault():
            call.fault = repr(fault)
        if fault.hangs:
            await asyncio.sleep(3600)  # the caller closes the connection, which cancels this
        if fault.status:
            call.status = fault.status
            return _refusal(fault)
        session, headers = self._way(request)
        sent = session.request(
            request.method, f"{self._upstream}{request.raw_path}", data=call.body or None, headers=headers
        )
        try:
            async with sent as answer:
                call.status = answer.status
                if call.verb == "watch" and answer.status == 200:
                    return await self._stream(request, answer, fault)
                body = await answer.read()
        except aiohttp.ClientError:
            return _abort(request)
        self.after(call)
        if fault.lost:
            return _abort(request)
        kept = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
        kept |= {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
        return web.Response(status=answer.status, body=body, headers=kept)

    def _way(self, request: web.Request) -> tuple[aiohttp.ClientSession, dict[str, str]]:
        assert self._admin is not None
        assert self._others is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        credential = request.headers.get("Authorization", "")
        if credential in ("", f"Bearer {ADMIN}"):
            return self._admin, headers
        return self._others, {**headers, "Authorization": credential}

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse, fault: Fault) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        lines = 0
        try:
            while line := await answer.content.readline():
                if fault.cut_after is not None and lines >= fault.cut_after:
                    await response.write(line[: len(line) // 2])
                    return _abort(request)
                await response.write(line)
                lines += 1
        except (ConnectionError, aiohttp.ClientError):
            return response  # one of the two sides is gone
        finally:
            if answer.connection and answer.connection.transport:
                answer.connection.transport.abort()  # a polite end of TLS would outlast the test
        return response


@asynccontextmanager
async def proxied(apiserver: Apiserver, directory: Path) -> AsyncIterator[FaultProxy]:
    """A proxy before the server while the context lasts; its files are in a folder of the directory."""
    directory = directory / "proxy"
    directory.mkdir(exist_ok=True)
    certificate = directory / "proxy.pem"
    write_certificate(certificate, [x509.IPAddress(ip_address("127.0.0.1"))])
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate)
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        str(apiserver.kubeconfig), client_configuration=configuration, persist_config=False
    )
    trusting = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    knowing = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    assert configuration.cert_file
    knowing.load_cert_chain(configuration.cert_file, configuration.key_file)
    proxy = FaultProxy(directory / "kubeconfig", configuration.host, directory)
    patience = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with (
        _session(knowing, patience) as admin,
        _session(trusting, patience) as others,
    ):
        proxy.use(admin, others)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving).start()
            port = int(runner.addresses[0][1])
            _write_kubeconfig(proxy.kubeconfig, certificate, port)
            yield proxy
        finally:
            await runner.cleanup()
            for session in (admin, others):
                assert isinstance(session.connector, aiohttp.TCPConnector)
                await session.connector.close(abort_ssl=True)


def parsed(request: web.Request, body: bytes) -> Call:
    """What is asked for, in the words of RBAC."""
    parts = [part for part in request.path.split("/") if part]
    agent = request.headers.get("User-Agent", "")
    group, rest = "", parts
    if parts[:1] == ["api"] and len(parts) > 2:
        rest = parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, rest = parts[1], parts[3:]
    else:
        return Call("get", "", request.path, "", "", agent)  # discovery and the like
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    resource = "/".join([rest[0], *rest[2:3]])
    return Call(_verb(request, name), group, resource, namespace, name, agent, body)


def _verb(request: web.Request, name: str) -> str:
    match request.method:
        case "GET" if request.query.get("watch") in {"1", "true"}:
            return "watch"
        case "GET":
            return "get" if name else "list"
        case "DELETE":
            return "delete" if name else "deletecollection"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case _:
            return "patch"


def _refusal(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "as told", "code": fault.status}
    return web.json_response(status, status=fault.status, headers=headers)


def _abort(request: web.Request) -> web.Response:
    """The connection breaks."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


def _session(context: ssl.SSLContext, patience: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    return aiohttp.ClientSession(connector=connector, timeout=patience, auto_decompress=True, read_bufsize=2**22)


def _write_kubeconfig(path: Path, certificate: Path, port: int) -> None:
    cluster: dict[str, Any] = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": ADMIN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(content))
