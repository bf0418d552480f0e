"""`sightline dev`: operator, front door and kubelet around one in-memory cluster, until Ctrl-C.

The parts are the same as in a cluster; only the edges differ: objects live in memory, pods are processes, and events
come from the in-memory watch instead of kopf. Shutdown is a sequence: no new connections, then agents, then the rest.
"""

import asyncio
import errno
import logging
import re
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import uvicorn
from rich.console import Console
from rich.text import Text

from sightline_api.__main__ import configure_logging, server
from sightline_api.settings import Settings, StaticUser
from sightline_cli.dev import world
from sightline_cli.dev.kubelet import ProcessKubelet, log_file
from sightline_kube.cache import Cache, Feed
from sightline_kube.memory import MemoryCluster
from sightline_model.camera import Phase
from sightline_model.tokens import Signer, generate_private_key_pem
from sightline_operator.agents import HttpAgentLinks
from sightline_operator.clock import utc_now
from sightline_operator.core import KINDS, Operator
from sightline_operator.facts import Options as OperatorOptions

HOST = "127.0.0.1"
AGENT_IMAGE = "sightline/agent:process"
WEB_ROOT = Path(__file__).resolve().parents[4] / "web" / "dist"
SERVER_START_SECONDS = 10.0
_LOGS = re.compile(r"kubectl logs -n \S+ (\S+) -c \S+( --previous)?")
"""How the operator names the log of a pod."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    port: int
    token: str = field(repr=False)
    cameras: tuple[world.DevCamera, ...]
    open_page: bool
    state: Path | None
    warm_agents: int = 0


class PortTakenError(Exception):
    """The port is not to be had."""


def run(options: Options) -> int:
    """Run until interrupted; the exit status."""
    if not sys.platform.startswith("linux"):
        print("sightline dev needs Linux: each agent gets a loopback address of its own", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="sightline-") as temporary:
        directory = options.state or Path(temporary)
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _log_to(directory / "sightline.log")
        except OSError as error:
            print(f"sightline dev: the folder {directory} cannot be used: {error.strerror}", file=sys.stderr)
            return 1
        try:
            return asyncio.run(_serve(options, directory))
        except PortTakenError as error:
            print(f"sightline dev: {error}", file=sys.stderr)
            return 1


async def _serve(options: Options, directory: Path) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = _listen(options.port)
    port = listener.getsockname()[1]
    url = f"http://{HOST}:{port}"
    async with AsyncExitStack() as stack:
        cluster = MemoryCluster(access=lambda query: "system:masters" in query.user.groups)  # RBAC as in a cluster
        stack.push_async_callback(cluster.close)
        for obj in world.objects(options.cameras, options.warm_agents):
            await cluster.create(obj)
        signer = Signer.from_pem(generate_private_key_pem())
        cache = Cache(KINDS)
        kubelet = ProcessKubelet(cluster, directory, utc_now)
        cache.subscribe(kubelet.observe)
        operator = Operator(cluster, cache, HttpAgentLinks(signer), _operator_options(signer, url))
        http = server(_settings(options, port), cluster, cache, signer)
        feed = Feed(cluster, cache, KINDS)
        stack.push_async_callback(feed.stop)
        feed.start()
        operating = asyncio.create_task(operator.run(), name="operator")
        parts = [
            asyncio.create_task(feed.wait(), name="feed"),
            operating,
            asyncio.create_task(http.serve(sockets=[listener]), name="front door"),
        ]
        await _started(http, parts)
        _announce(options, url, directory)
        telling = asyncio.create_task(_tell_states(cache, directory), name="announcer")
        parts.append(telling)
        failed = not await _until(stop, parts)
        http.stop()
        operating.cancel()
        telling.cancel()
        await kubelet.stop()
        await feed.stop()
        results = await asyncio.gather(*parts, return_exceptions=True)
        return 1 if _complain(results, directory) or failed else 0


async def _until(stop: asyncio.Event, parts: list[asyncio.Task[None]]) -> bool:
    """Wait until it is time to stop: whether that was wanted, or one of the parts has ended."""
    wanted = asyncio.create_task(stop.wait())
    await asyncio.wait([*parts, wanted], return_when=asyncio.FIRST_COMPLETED)
    wanted.cancel()
    await asyncio.gather(wanted, return_exceptions=True)
    return not any(part.done() for part in parts)


def _complain(results: Sequence[BaseException | None], directory: Path) -> bool:
    """Say which parts have failed; whether any has."""
    errors = [result for result in results if isinstance(result, Exception)]
    for error in errors:
        logging.getLogger(__name__).error("a part has failed", exc_info=error)
        print(f"sightline dev: {error!r}; the log: {directory / 'sightline.log'}", file=sys.stderr)
    return bool(errors)


def _listen(port: int) -> socket.socket:
    """Bound before anything starts, so that a taken port is one clear sentence."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortTakenError(f"port {port} {why}; choose another with --port, or 0 to draw one") from error
    return listener


def _operator_options(signer: Signer, url: str) -> OperatorOptions:
    return OperatorOptions(
        agent_image=AGENT_IMAGE,
        token_keys=(signer.public_jwk(),),
        public_url=url,
        spare_namespaces=frozenset({world.NAMESPACE}),
    )


def _settings(options: Options, port: int) -> Settings:
    return Settings(
        host=HOST,
        port=port,
        web_root=WEB_ROOT if WEB_ROOT.is_dir() else None,
        dev_mode=True,
        static_users=[StaticUser(token=options.token, user=world.USER, groups=["system:masters"])],
        shutdown_grace=2,
        log_format="console",
    )


async def _started(http: uvicorn.Server, parts: list[asyncio.Task[None]]) -> None:
    async with asyncio.timeout(SERVER_START_SECONDS):
        while not http.started and not any(part.done() for part in parts):  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.02)


def _announce(options: Options, url: str, directory: Path) -> None:
    console = Console(highlight=False, markup=False)  # tokens and folders may have brackets
    page = f"{url}/#token={quote(options.token, safe='')}"
    console.print(
        Text.assemble("\n", ("Sightline", "bold"), " runs on this machine, without a cluster. Ctrl-C ends it.\n")
    )
    console.print(f"  page   {page}", soft_wrap=True)
    console.print(f"  token  {options.token}", soft_wrap=True)
    console.print(f"  API    {url}/openapi.json", soft_wrap=True)
    console.print(f"  logs   {directory}", soft_wrap=True)
    if not WEB_ROOT.is_dir():
        console.print("\nThe page is not built: run `make web`.", style="yellow")
    console.print()
    if options.open_page:
        webbrowser.open(page)


async def _tell_states(cache: Cache, directory: Path) -> None:
    """Print a line when a camera changes its phase or the reason for it, what a person waits for, until cancelled."""
    console = Console(highlight=False, markup=False)  # as may addresses
    told: dict[str, tuple[str, str]] = {}
    changed = asyncio.Event()
    cache.subscribe(lambda _key, _before, _now: changed.set())
    while True:
        for name, state in _states(cache).items():
            if told.get(name) != state:
                told[name] = state
                told_so = _without_kubectl(" ".join(state).strip(), directory)
                console.print(f"  camera {name}: {told_so}", soft_wrap=True)
        changed.clear()
        await changed.wait()


def _states(cache: Cache) -> dict[str, tuple[str, str]]:
    states = {}
    for camera in cache.list(KINDS[0]):
        status = camera.get("status", {})
        phase = status.get("phase", Phase.PENDING)
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), None)
        words = ready.get("message", "") if ready and ready["status"] == "False" else ""
        states[camera["metadata"]["name"]] = (str(phase), words)
    return states


def _without_kubectl(words: str, directory: Path) -> str:
    """The same words where there is no kubectl: a pod's log is a file."""
    return _LOGS.sub(lambda named: str(log_file(directory, named[1])), words)


def _log_to(file: Path) -> None:
    """Everything that the parts log goes to one file; the terminal is for people."""
    configure_logging("json")
    root = logging.getLogger()
    to_terminal = root.handlers[0]
    handler = logging.FileHandler(file)
    handler.setFormatter(to_terminal.formatter)
    handler.filters[:] = to_terminal.filters
    root.handlers[:] = [handler]
