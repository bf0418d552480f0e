"""`make bench-scale`: the operator's process with thousands of cameras, on a real API server.

    python -m tests.bench.scale                      10,000 cameras, written into docs/benchmarks/scale.md
    python -m tests.bench.scale --cameras 500        a look, written into the build folder
    python -m tests.bench.scale --render             the page again, from what was recorded

Nodes and pods are KWOK's, agents are simulated (`scale_agents`); etcd, API server, scheduler and operator are the real
programs. Everything shares this machine's cores, driver included. Nothing is asserted here.
"""

import argparse
import asyncio
import base64
import datetime
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from hack.cluster import toolchain
from hack.cluster.controlplane import ControlPlane, free_ports
from hack.cluster.paths import ROOT, build_dir
from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, STREAM_SESSION
from sightline_kube.real import RealCluster, RealSettings
from sightline_model import names
from sightline_model.agent import CONFIG_FILE, CameraIdentity
from sightline_model.base import API_VERSION
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.bench import scale_report
from tests.bench.scale_agents import SimulatedAgents
from tests.bench.scale_world import PODS_PER_NODE, OperatorProcess, Usage, control_plane, node, until, writes

FULL = 10_000
IDLE_SECONDS, LOOK_IDLE_SECONDS = 60.0, 20.0
"""In full, and for a look with fewer cameras."""
SESSION_SECONDS = 20.0
SESSION_RATES = (50, 100)
SESSION_LIFE = 3.0
VIEWERS_SECONDS = 20.0
"""After the last session: how many watch a camera is written some seconds later, and every ten seconds at most."""
NAMESPACES = 10
CREATING = 24
"""Creations under way at a time."""
INSIDE = "SIGHTLINE_SCALE_INSIDE"
Figures = dict[str, Any]


def main() -> None:
    """Measure, record, write the page."""
    options = _options()
    if not options.render:
        if INSIDE not in os.environ:
            toolchain.kwok()
            _run_alone()
            return
        began = time.monotonic()
        # Asked to end, it ends as by Ctrl-C: the control plane's parts have to be taken down.
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        with tempfile.TemporaryDirectory(prefix="sightline-scale-") as folder:
            figures = asyncio.run(_measure(options, Path(folder)))
        figures["seconds"] = time.monotonic() - began
        figures["machine"] = _machine()
        figures["date"] = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
        _record(options).parent.mkdir(parents=True, exist_ok=True)
        _record(options).write_text(json.dumps(figures, indent=1))
    page = scale_report.page(json.loads(_record(options).read_text()))
    _page(options).parent.mkdir(parents=True, exist_ok=True)
    _page(options).write_text(page)
    print(f"wrote {_page(options)}")


def _run_alone() -> None:
    """In a network namespace of our own: all loopback addresses are free there, and no firewall counts connections."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        sys.exit("make bench-scale needs root and unshare and ip (apt-get install util-linux iproute2)")
    again = [sys.executable, "-m", "tests.bench.scale", *sys.argv[1:]]
    shell = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = ["setpriv", "--pdeathsig", "TERM", "unshare", "--net", *shell, *again]
    if subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode:
        sys.exit("the measurement ended early")


async def _measure(options: argparse.Namespace, folder: Path) -> Figures:
    with control_plane(folder) as (plane, _):
        cluster = await RealCluster.from_kubeconfig(
            str(plane.kubeconfig), settings=RealSettings(user_agent="bench", request_seconds=60)
        )
        agents = SimulatedAgents(lambda camera: _revision(cluster, camera))
        operator = OperatorProcess(plane, folder, free_ports().api)
        rig = Rig(cluster, plane, agents, operator, (options.cameras, options.rates))
        try:
            async with agents.serving():
                return await rig.run()
        except Exception:
            for log in sorted([*folder.glob("*.log"), *folder.glob("log/*.log")]):
                print(f"--- {log.name}", *log.read_text().splitlines()[-8:], sep="\n", file=sys.stderr)
            raise
        finally:
            await operator.kill()
            await cluster.close()


async def _revision(cluster: RealCluster, camera: CameraIdentity) -> str:
    """From the camera's Secret, as its pod has it mounted."""
    secret = await cluster.get(SECRET, camera.namespace, names.agent_secret(camera.name))
    return str(json.loads(base64.b64decode(secret["data"][CONFIG_FILE]))["revision"])


class Rig:
    """The series, one after the other in one world."""

    def __init__(
        self,
        cluster: RealCluster,
        plane: ControlPlane,
        agents: SimulatedAgents,
        operator: OperatorProcess,
        size: tuple[int, list[int]],
    ) -> None:
        self._cluster = cluster
        self._plane = plane
        self._agents = agents
        self._operator = operator
        self._cameras, self._rates = size
        self._dice = random.Random(1)

    async def run(self) -> Figures:
        """Everything; the figures."""
        await self._prepare()
        await self._operator.start()
        figures: Figures = {"cameras": self._cameras}
        figures["settle"] = await self._settle()
        say("settle", figures["settle"])
        figures["idle"] = await self._idle()
        say("idle", figures["idle"])
        figures["sessions"] = []
        for rate in self._rates:
            figures["sessions"].append(await self._sessions(rate))
            say("sessions", figures["sessions"][-1])
        figures["restart"] = await self._restart()
        say("restart", figures["restart"])
        return figures

    async def _prepare(self) -> None:
        await self._cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": CAMERA_CLASS.kind,
                "metadata": {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
                "spec": {"sessions": {"retention": "2s"}},
            }
        )
        for number in range(NAMESPACES):
            made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(number)}}
            await self._cluster.create(made)
        for number in range(-(-self._cameras * 5 // (4 * PODS_PER_NODE))):
            body = json.dumps(node(number)).encode()
            self._plane.request("POST", "/api/v1/nodes", body)
            # Admission marks every new node as not ready; whoever takes that away in a cluster does not run here.
            self._plane.request("PUT", f"/api/v1/nodes/node-{number}", body)

    async def _settle(self) -> Figures:
        """All cameras at once, until all are Ready."""
        before, began = writes(self._plane), time.monotonic()
        await _side_by_side([camera(number) for number in range(self._cameras)], self._cluster)
        created = time.monotonic() - began
        await until(self._all_ready, 30 + 0.3 * self._cameras, 1.0)
        seconds = time.monotonic() - began
        # Those that were seen first may have a last word to say.
        await until(self._quiet, 120, 0.5)
        done = writes(self._plane)
        ready = [item for item in (await self._cluster.list(CAMERA)).items if _is_ready(item)]
        pods = (await self._cluster.list(POD)).items
        usage = self._operator.usage()
        return {
            "create_seconds": created,
            "seconds": seconds,
            "ready": len(ready),
            "pods": len(pods),
            "writes": {what: done[what] - before[what] for what in sorted(done) if done[what] != before[what]},
            **_usage(usage),
        }

    async def _idle(self) -> Figures:
        """Nothing happens."""
        before, usage = writes(self._plane), self._operator.usage()
        seconds = IDLE_SECONDS if self._cameras >= FULL else LOOK_IDLE_SECONDS
        await asyncio.sleep(seconds)
        done, after = writes(self._plane), self._operator.usage()
        changed = {what: done[what] - before[what] for what in sorted(done) if done[what] != before[what]}
        return {
            "seconds": seconds,
            "writes": {what: count for what, count in changed.items() if not what.startswith("leases")},
            "lease_renewals": changed.get("leases", 0),
            "cpu_share": (after.cpu_seconds - usage.cpu_seconds) / seconds,
            **_usage(after),
        }

    async def _sessions(self, rate: int) -> Figures:
        """Viewers come and go at a steady rate; each session lives its whole life."""
        churn = Churn(self._cluster, self._agents, rate, self._cameras, self._dice)
        before, usage = writes(self._plane), self._operator.usage()
        began = time.monotonic()
        figures = await churn.run()
        seconds = time.monotonic() - began
        done, after = writes(self._plane), self._operator.usage()
        return {
            "rate": rate,
            **figures,
            "writes": {what: done[what] - before[what] for what in sorted(done) if what.startswith("streamsessions")},
            "spent_seconds": after.cpu_seconds - usage.cpu_seconds,
            "cpu_share": (after.cpu_seconds - usage.cpu_seconds) / seconds,
            **_usage(after),
        }

    async def _restart(self) -> Figures:
        """SIGKILL, and a new process: how long until it has caught up, and what it wrote."""
        await asyncio.sleep(VIEWERS_SECONDS)
        before = writes(self._plane)
        await self._operator.kill()
        began = time.monotonic()
        await self._operator.start()
        led = await until(self._leads, 60, 0.1)
        links = await until(self._linked, 300, 1.0)
        await until(self._quiet, 120, 0.5)
        caught_up = time.monotonic() - began
        # A change is taken up: the proof that it works.
        edited = time.monotonic()
        done = writes(self._plane)
        await self._edit()
        usage = self._operator.usage()
        changed = {what: done[what] - before[what] for what in sorted(done) if done[what] != before[what]}
        return {
            "lease_seconds": led,
            "links_seconds": led + links,
            "seconds": caught_up,
            "edit_seconds": time.monotonic() - edited,
            "writes": {what: count for what, count in changed.items() if not what.startswith("leases")},
            **_usage(usage),
        }

    async def _edit(self) -> None:
        place = namespace(0), "camera-0"
        change = {"spec": {"source": {"rtsp": {"url": "rtsp://camera.example/edited"}}}}
        generation = (await self._cluster.merge_patch(CAMERA, *place, change))["metadata"]["generation"]

        async def seen() -> bool:
            found = await self._cluster.get(CAMERA, *place)
            return bool(found["status"]["observedGeneration"] == generation)

        await until(seen, 60, 0.05)

    async def _all_ready(self) -> bool:
        figures = await self._operator.figures()
        return figures.get('sightline_camera_ready{status="True"}', 0) >= self._cameras

    async def _linked(self) -> bool:
        figures = await self._operator.figures()
        return figures.get('sightline_agent_links{state="connected"}', 0) >= self._cameras

    async def _leads(self) -> bool:
        figures = await self._operator.figures()
        return any(value == 1 for name, value in figures.items() if name.startswith("leader_election_master_status"))

    async def _quiet(self) -> bool:
        """Nothing waits in the queue, and for two seconds nothing was written."""
        before = writes(self._plane)
        await asyncio.sleep(2)
        figures, after = await self._operator.figures(), writes(self._plane)
        idle = figures.get('workqueue_depth{name="sightline"}', 1) == 0
        return idle and all(after[what] == before[what] for what in after if not what.startswith("leases"))


class Churn:
    """Sessions at a steady rate; what matters is when the operator's status is there."""

    def __init__(
        self, cluster: RealCluster, agents: SimulatedAgents, rate: int, cameras: int, dice: random.Random
    ) -> None:
        self._cluster = cluster
        self._agents = agents
        self._rate = rate
        self._dice = dice
        self._by_name = {(agent.camera.namespace, agent.camera.name): agent for agent in agents.agents.values()}
        self._cameras = cameras
        self._sent: dict[str, float] = {}
        self._created: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._streaming: dict[str, tuple[float, float]] = {}
        self._largest = 0
        self._gone: set[str] = set()
        self._waits: dict[str, asyncio.Event] = {}

    async def run(self) -> Figures:
        """The rate for some seconds, and until the last session is gone."""
        listing = await self._cluster.list(STREAM_SESSION)
        watching = asyncio.create_task(self._watch(listing.resource_version))
        lives = []
        began = time.monotonic()
        for number in range(int(self._rate * SESSION_SECONDS)):
            await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
            lives.append(asyncio.create_task(self._live(f"s-{self._rate}-{number}")))
        late = time.monotonic() - began - SESSION_SECONDS
        await asyncio.gather(*lives)
        watching.cancel()
        await asyncio.wait([watching])
        return {
            "sessions": len(lives),
            "driver_late_seconds": max(0.0, late),
            "from_request": _percentiles([self._seen[sid] - self._sent[sid] for sid in self._seen]),
            "from_answer": _percentiles([max(0.0, self._seen[sid] - self._created[sid]) for sid in self._seen]),
            "streaming": _percentiles([seen - told for told, seen in self._streaming.values()]),
            "largest_bytes": self._largest,
        }

    async def _live(self, sid: str) -> None:
        place = namespace_and_name(self._dice.randrange(self._cameras))
        self._waits[sid] = asyncio.Event()
        self._sent[sid] = time.monotonic()
        await self._cluster.create(session(sid, *place))
        self._created[sid] = time.monotonic()
        agent = self._by_name[place]
        async with asyncio.timeout(120):
            await self._waits[sid].wait()
            self._streaming[sid] = (time.monotonic(), 0.0)
            self._waits[sid].clear()
            agent.set_session(sid, SessionPhase.STREAMING)
            await self._waits[sid].wait()
            await asyncio.sleep(SESSION_LIFE)
            self._waits[sid].clear()
            agent.set_session(sid, SessionPhase.ENDED, EndReason.HANGUP)
            await self._waits[sid].wait()

    async def _watch(self, version: str) -> None:
        async with aclosing(self._cluster.watch(STREAM_SESSION, resource_version=version)) as events:
            async for event in events:
                self._take(event.type, event.obj)

    def _take(self, type_: EventType, obj: Obj) -> None:
        now, sid, status = time.monotonic(), obj["metadata"]["name"], obj.get("status") or {}
        if sid not in self._waits:
            return
        if type_ is EventType.DELETED:
            self._waits[sid].set()
            return
        if sid not in self._seen and (status.get("timestamps") or {}).get("authorized"):
            self._seen[sid] = now
            self._waits[sid].set()
        elif status.get("phase") == "Streaming" and self._streaming.get(sid, (0.0, 1.0))[1] == 0.0:
            self._streaming[sid] = (self._streaming[sid][0], now)
            self._waits[sid].set()
        if status.get("phase") == "Ended":
            kept = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
            self._largest = max(self._largest, len(json.dumps({**obj, "metadata": kept}, separators=(",", ":"))))


def namespace(number: int) -> str:
    return f"site-{number % NAMESPACES}"


def namespace_and_name(number: int) -> tuple[str, str]:
    return namespace(number), f"camera-{number}"


def camera(number: int) -> Obj:
    place, name = namespace_and_name(number)
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": place},
        "spec": {"source": {"rtsp": {"url": f"rtsp://camera.example/{number}"}}},
    }


def session(sid: str, place: str, name: str) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {"name": sid, "namespace": place},
        "spec": {"cameraRef": {"name": name}, "user": "bench"},
    }


async def _side_by_side(objects: list[Obj], cluster: RealCluster) -> None:
    waiting = iter(objects)

    async def work() -> None:
        for obj in waiting:
            await cluster.create(obj)

    await asyncio.gather(*(work() for _ in range(CREATING)))


def _is_ready(obj: Obj) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _usage(usage: Usage) -> Figures:
    return {"cpu_seconds": usage.cpu_seconds, "memory_mb": usage.memory_mb, "peak_mb": usage.peak_mb}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }


def say(name: str, figures: Figures) -> None:
    """For whoever waits."""
    print(f"{name}: {json.dumps(figures, default=str)}", flush=True)


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}."


def _record(options: argparse.Namespace) -> Path:
    return build_dir() / "bench" / ("scale.json" if options.cameras >= FULL else "scale-quick.json")


def _page(options: argparse.Namespace) -> Path:
    return ROOT / "docs" / "benchmarks" / "scale.md" if options.cameras >= FULL else build_dir() / "bench" / "scale.md"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description="Measure the operator.")
    parser.add_argument("--cameras", type=int, default=FULL)
    parser.add_argument("--rates", type=int, nargs="*", default=SESSION_RATES, help="sessions created per second")
    parser.add_argument("--render", action="store_true", help="write the page from what was recorded")
    return parser.parse_args()


if __name__ == "__main__":
    main()
