"""The servers that are compared: how each is started for one camera on loopback, and where it is asked for WHEP.

A server is a process pinned to one core. It dies with us, whatever happens to us (PR_SET_PDEATHSIG by setpriv).
"""

import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hack.cluster import packages, toolchain
from hack.cluster.errors import ClusterError
from hack.cluster.paths import ROOT, build_dir
from tests.bench import receiver

HERE = Path(__file__).parent
SERVER_CORE = 0
VIEWER_CORE = 1
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_NO_LIMIT = "10000"


class BenchError(Exception):
    """A part of the measurement could not be started."""


@dataclass(frozen=True)
class Ports:
    """Free ones, on loopback."""

    http: int
    media: int
    rtsp: int
    push: int


@dataclass(frozen=True)
class Launch:
    """How to start a server, and where its viewers go."""

    command: Sequence[str | Path]
    whep: str = ""
    janus: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    pushed: bool = False
    """It takes the camera's RTP on `Ports.push` instead of reading RTSP."""
    says: str = ""
    """What its log must say: that it is what we think it is."""


Prepare = Callable[[Path, Ports], Launch]


@dataclass(frozen=True)
class Server:
    """One that is measured."""

    name: str
    title: str
    prepare: Prepare
    version: Callable[[], str]
    ours: bool = False


def free_ports() -> Ports:
    """Ports that nobody has now."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
    sockets = [socket.socket(socket.AF_INET, kind) for kind in kinds]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return Ports(*(one.getsockname()[1] for one in sockets))
    finally:
        for one in sockets:
            one.close()


def pinned(core: int, command: Sequence[str | Path]) -> list[str]:
    """The command on one core, ended by the kernel when we end."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(core), *map(str, command)]


@contextmanager
def process(
    core: int, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that is gone afterwards."""
    with log.open("wb") as file:
        child = subprocess.Popen(
            pinned(core, command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def await_port(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the process listens."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise BenchError(f"{child.args!r} does not listen; its log ends:\n{log.read_text(errors='replace')[-1500:]}")


def _sightline(fanout: str, environment: Mapping[str, str]) -> Prepare:
    def prepare(_folder: Path, ports: Ports) -> Launch:
        source = f"rtsp://127.0.0.1:{ports.rtsp}/camera"
        options = ["--port", str(ports.http), "--udp-port", str(ports.media), "--idle-timeout", "3600"]
        options += ["--standalone", "--source", source, "--max-viewers", _NO_LIMIT]
        return Launch(
            [_agent_python(), "-m", "sightline_agent", *options],
            whep=f"http://127.0.0.1:{ports.http}/whep",
            environment={**environment, "NO_COLOR": "1"},
            says=f"implementation\\W+{fanout}",
        )

    return prepare


def _agent_python() -> Path:
    """An interpreter that has what the agent's image has, and the sources. Packages of development change what a
    process loads: structlog takes in rich where it finds it, 4 MB."""
    requirements = ROOT / "requirements" / "agent.txt"
    native = importlib.util.find_spec("sightline_fanout")
    parts = [requirements.read_bytes(), sys.version.encode(), str(native and native.origin).encode()]
    environment = build_dir() / "bench" / "agents" / hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    python = environment / "bin" / "python"
    if (environment / "complete").exists():
        return python
    install = ["uv", "pip", "install", "-q", "--python", python, "--require-hashes", "-r", requirements]
    for command in (["uv", "venv", "-q", "--clear", "--python", sys.executable, environment], install):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the agent's environment cannot be made: {done.stderr[-500:]}")
    [packages_] = environment.glob("lib/python*/site-packages")
    (packages_ / "sources.pth").write_text(f"{ROOT / 'agents/src'}\n{ROOT / 'model/src'}\n")
    if native is not None and native.origin is not None:
        (packages_ / "sightline_fanout").symlink_to(Path(native.origin).parent)
    (environment / "complete").touch()
    return python


def _mediamtx(folder: Path, ports: Ports) -> Launch:
    configuration = folder / "mediamtx.yml"
    configuration.write_text(
        "logLevel: warn\nrtsp: no\nrtmp: no\nhls: no\nsrt: no\nmoq: no\napi: no\nwebrtc: yes\n"
        f"webrtcAddress: 127.0.0.1:{ports.http}\nwebrtcLocalUDPAddress: 127.0.0.1:{ports.media}\n"
        "webrtcIPsFromInterfaces: no\nwebrtcAdditionalHosts: [127.0.0.1]\n"
        f"paths:\n  camera:\n    source: rtsp://127.0.0.1:{ports.rtsp}/camera\n    rtspTransport: tcp\n"
    )
    return Launch([toolchain.mediamtx(), configuration], whep=f"http://127.0.0.1:{ports.http}/camera/whep")


def _go2rtc(folder: Path, ports: Ports) -> Launch:
    configuration = folder / "go2rtc.yaml"
    configuration.write_text(
        f"log: {{level: warn}}\napi: {{listen: '127.0.0.1:{ports.http}'}}\nrtsp: {{listen: ''}}\nsrtp: {{listen: ''}}\n"
        f"webrtc:\n  listen: '127.0.0.1:{ports.media}'\n  candidates: ['127.0.0.1:{ports.media}']\n"
        "  filters: {networks: [udp4], ips: [127.0.0.1], loopback: true}\n  ice_servers: []\n"
        f"streams: {{camera: 'rtsp://127.0.0.1:{ports.rtsp}/camera'}}\n"
    )
    address = f"http://127.0.0.1:{ports.http}/api/webrtc?src=camera"
    return Launch([toolchain.go2rtc(), "-config", configuration], whep=address)


_JANUS = """general: {{
  configs_folder = "{folder}"
  plugins_folder = "{home}/plugins"
  transports_folder = "{home}/transports"
  events_folder = "{home}/events"
  loggers_folder = "{home}/loggers"
  interface = "127.0.0.1"
  debug_level = 2
  session_timeout = 0
  {loops}
}}
media: {{ }}
nat: {{ ice_enforce_list = "lo"
  ignore_mdns = true }}
plugins: {{ disable = "{unused}" }}
transports: {{ disable = "{other}" }}
"""
_JANUS_HTTP = """general: {{ json = "plain"
  base_path = "/janus"
  http = true
  port = {http}
  ip = "127.0.0.1"
  https = false }}
admin: {{ admin_http = false }}
"""
_JANUS_STREAM = """general: {{ }}
camera: {{ type = "rtp"
  id = 1
  media = ( {{ type = "video"
    mid = "v"
    label = "v"
    iface = "lo"
    port = {push}
    pt = 96
    codec = "h264"
    fmtp = "profile-level-id=42e01f;packetization-mode=1" }} ) }}
"""


def _janus(loops: str) -> Prepare:
    def prepare(folder: Path, ports: Ports) -> Launch:
        packages.ensure({"janus": "janus"})
        home = next(Path("/usr/lib").glob("*/janus"))
        plugins = (path.name for path in (home / "plugins").glob("*.so") if "streaming" not in path.name)
        others = (path.name for path in (home / "transports").glob("*.so") if "http" not in path.name)
        values = {"folder": folder, "home": home, "loops": loops}
        values |= {"unused": ",".join(sorted(plugins)), "other": ",".join(sorted(others))}
        (folder / "janus.jcfg").write_text(_JANUS.format(**values))
        (folder / "janus.transport.http.jcfg").write_text(_JANUS_HTTP.format(http=ports.http))
        (folder / "janus.plugin.streaming.jcfg").write_text(_JANUS_STREAM.format(push=ports.push))
        shim = receiver.build(HERE / "loopback.c", build_dir() / "bench" / "loopback.so")
        return Launch(
            ["janus", "-F", folder],
            janus=f"http://127.0.0.1:{ports.http}/janus",
            environment={"LD_PRELOAD": str(shim)},
            pushed=True,
        )

    return prepare


def _own_version() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=HERE
    )
    return done.stdout.strip() or "this tree"


def _janus_version() -> str:
    command = ["dpkg-query", "-W", "-f=${Version}", "janus"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _module_version(module: str) -> Callable[[], str]:
    return lambda: module.rpartition("@")[2]


_PYTHON = {"SIGHTLINE_FANOUT": "python"}
SERVERS = (
    Server("sightline", "Sightline", _sightline("native", {}), _own_version, ours=True),
    Server(
        "python",
        "Sightline, pure Python",
        _sightline("python", _PYTHON),
        _own_version,
        ours=True,
    ),
    Server("mediamtx", "MediaMTX", _mediamtx, _module_version(toolchain.MEDIAMTX)),
    Server("go2rtc", "go2rtc", _go2rtc, _module_version(toolchain.GO2RTC)),
    Server("janus", "Janus", _janus(""), _janus_version),
    Server("janus-loop", "Janus, event loop", _janus("event_loops = 1"), _janus_version),
)


def usable(wanted: Sequence[Server], folder: Path) -> tuple[list[Server], dict[str, str]]:
    """Build or install what is missing; those that cannot be had, with the reason."""
    found, missing = [], {}
    for server in wanted:
        try:
            server.prepare(folder, free_ports())
        except (BenchError, ClusterError, receiver.ReceiverError, StopIteration) as error:
            missing[server.title] = str(error).splitlines()[0] if str(error) else "its plugins are not there"
        else:
            found.append(server)
    return found, missing
