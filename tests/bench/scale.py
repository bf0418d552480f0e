"""`make bench-scale`: the operator's process with thousands of cameras, on a real API server.

    python -m tests.bench.scale                      10,000 cameras, written into docs/benchmarks/scale.md
    python -m tests.bench.scale --cameras 500        a look, written into the build folder
    python -m tests.bench.scale --cameras 500 --stages sessions
    python -m tests.bench.scale --render             the page again, from what was recorded

Nodes and pods are KWOK's, agents are simulated (`scale_agents`); etcd, API server, scheduler and operator are the real
programs. Everything shares this machine's cores, driver included. Nothing is asserted here.
"""

import argparse
import asyncio
import base64
import datetime
import gc
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
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from hack.cluster import toolchain
from hack.cluster.controlplane import ControlPlane, free_ports
from hack.cluster.paths import ROOT, build_dir
from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET
from sightline_kube.real import RealCluster, RealSettings
from sightline_model import names
from sightline_model.agent import CONFIG_FILE, CameraIdentity
from sightline_model.base import API_VERSION
from tests.bench import scale_report
from tests.bench.scale_agents import SimulatedAgents
from tests.bench.scale_churn import Churn, Plan
from tests.bench.scale_world import (
    PODS_PER_NODE,
    OperatorProcess,
    Usage,
    account,
    control_plane,
    node,
    spent,
    until,
    writes,
)

FULL = 10_000
IDLE_SECONDS, LOOK_IDLE_SECONDS = 60.0, 20.0
"""In full, and for a look with fewer cameras."""
SESSION_SECONDS = 20.0
SESSION_RATES = (50, 100)
VIEWERS_SECONDS = 20.0
"""After the last session: how many watch a camera is written some seconds later, and every ten seconds at most."""
STAGES = ("idle", "sessions", "restart")
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
        _record(options).parent.mkdir(parents=True, exist_ok=True)

        def keep(figures: Figures) -> None:
            """What is known so far, should it end early."""
            date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
            known = {**figures, "seconds": time.monotonic() - began, "machine": _machine(), "date": date}
            _record(options).write_text(json.dumps(known, indent=1))

        # A loop that takes little: it is the driver's and all agents'.
        with (
            tempfile.TemporaryDirectory(prefix="sightline-scale-") as folder,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_measure(options, Path(folder), keep))
    recorded = json.loads(_record(options).read_text())
    _page(options).parent.mkdir(parents=True, exist_ok=True)
    _page(options).write_text(scale_report.page(recorded))
    print(f"wrote {_page(options)}")
    failures = scale_report.failures(recorded)
    if failures and not options.render:
        sys.exit("\n".join(failures))


def _run_alone() -> None:
    """In a network namespace of our own: all loopback addresses are free there, and no firewall counts connections."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        sys.exit("make bench-scale needs root and unshare and ip (apt-get install util-linux iproute2)")
    again = [sys.executable, "-m", "tests.bench.scale", *sys.argv[1:]]
    shell = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = ["setpriv", "--pdeathsig", "TERM", "unshare", "--net", *shell, *again]
    if subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode:
        sys.exit("the measurement ended early")


async def _measure(options: argparse.Namespace, folder: Path, keep: Callable[[Figures], None]) -> None:
    with control_plane(folder) as (plane, _):
        cluster = await RealCluster.from_kubeconfig(
            str(account(plane, "driver")), settings=RealSettings(user_agent="bench", request_seconds=60)
        )
        agents = SimulatedAgents(lambda camera: _revision(cluster, camera))
        operator = OperatorProcess(plane, folder, free_ports().api)
        rig = Rig(cluster, plane, agents, operator, (options.cameras, options.rates, options.stages))
        try:
            async with agents.serving():
                if scale_report.failures(await rig.run(keep)):
                    _show_logs(folder)
        finally:
            await operator.kill()
            await cluster.close()


def _show_logs(folder: Path) -> None:
    for log in sorted([*folder.glob("*.log"), *folder.glob("log/*.log")]):
        print(f"--- {log.name}", *log.read_text().splitlines()[-8:], sep="\n", file=sys.stderr)


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
        size: tuple[int, list[int], list[str]],
    ) -> None:
        self._cluster = cluster
        self._plane = plane
        self._agents = agents
        self._operator = operator
        self._cameras, self._rates, self._stages = size
        self._dice = random.Random(1)

    async def run(self, keep: Callable[[Figures], None]) -> Figures:
        """What is to be measured; the figures, which `keep` gets after each stage."""
        await self._prepare()
        figures: Figures = {"cameras": self._cameras, "sessions": []}
        for name, stage in (("settle", self._settle), ("idle", self._idle)):
            if name in ("settle", *self._stages):
                figures[name] = await self._tried(name, stage)
                keep(figures)
        for rate in self._rates if "sessions" in self._stages else ():
            series = await self._tried("sessions", partial(self._sessions, rate))
            figures["sessions"].append({"rate": rate, **series})
            keep(figures)
        if "restart" in self._stages:
            figures["restart"] = await self._tried("restart", self._restart)
            keep(figures)
        return figures

    async def _tried(self, name: str, stage: Callable[[Figures], Awaitable[None]]) -> Figures:
        """One stage, which fills in its figures as it gets them; the others go on should it fail."""
        found: Figures = {}
        try:
            if not self._operator.runs():
                await self._operator.start()
            await stage(found)
        except Exception as error:
            found["failed"] = f"{type(error).__name__}: {error}"
        say(name, found)
        return found

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

    async def _settle(self, found: Figures) -> None:
        """All cameras at once, until all are Ready."""
        before, began = writes(self._plane), time.monotonic()
        seen = await self._passes()
        await _side_by_side([camera(number) for number in range(self._cameras)], self._cluster)
        found["create_seconds"] = time.monotonic() - began
        try:
            await until(self._all_ready, 30 + 0.3 * self._cameras, "all cameras are Ready", 1.0)
        finally:
            found["seconds"] = time.monotonic() - began
            ready = [item for item in (await self._cluster.list(CAMERA)).items if _is_ready(item)]
            found["ready"], found["pods"] = len(ready), len((await self._cluster.list(POD)).items)
            found |= _usage(self._operator.usage())
        # Those that were seen first may have a last word to say.
        await until(self._quiet, 120, "nothing more is written", 0.5)
        found["writes"] = _changed(before, writes(self._plane))
        found["passes"] = await self._passes() - seen
        found |= _usage(self._operator.usage())

    async def _idle(self, found: Figures) -> None:
        """Nothing happens."""
        before, usage = writes(self._plane), self._operator.usage()
        seconds = IDLE_SECONDS if self._cameras >= FULL else LOOK_IDLE_SECONDS
        await asyncio.sleep(seconds)
        changed, after = _changed(before, writes(self._plane)), self._operator.usage()
        found["lease_renewals"] = changed.pop("leases", 0)
        found |= {
            "seconds": seconds,
            "writes": changed,
            "cpu_share": (after.cpu_seconds - usage.cpu_seconds) / seconds,
            **_usage(after),
        }

    async def _sessions(self, rate: int, found: Figures) -> None:
        """Viewers come and go at a steady rate; each session lives its whole life."""
        agents = {(agent.camera.namespace, agent.camera.name): agent for agent in self._agents.agents.values()}
        churn = Churn(self._cluster, lambda place, *said: agents[place].set_session(*said), agents, self._dice)
        before, usage, cpu = writes(self._plane), self._operator.usage(), self._spent()
        began = time.monotonic()
        try:
            with _no_collections():
                await churn.run(Plan(rate, SESSION_SECONDS), found)
        finally:
            seconds = time.monotonic() - began
            after = self._operator.usage()
            found["writes"] = _changed(before, writes(self._plane))
            found["writes"].pop("leases", None)
            found["spent_seconds"] = after.cpu_seconds - usage.cpu_seconds
            found["cpu"] = {name: seconds - cpu[name] for name, seconds in self._spent().items()}
            found["cpu_share"] = found["spent_seconds"] / seconds
            found |= _usage(after)

    def _spent(self) -> dict[str, float]:
        """Seconds of CPU so far, by who has taken them."""
        own = {"operator": self._operator.usage().cpu_seconds, "driver and agents": time.process_time()}
        return {**own, **spent(self._plane)}

    async def _restart(self, found: Figures) -> None:
        """SIGKILL, and a new process: how long until it has caught up, and what it wrote."""
        await asyncio.sleep(VIEWERS_SECONDS)
        before = writes(self._plane)
        await self._operator.kill()
        began = time.monotonic()
        await self._operator.start()
        await until(self._leads, 60, "the new operator leads", 0.1)
        found["lease_seconds"] = time.monotonic() - began
        await until(self._linked, 300, "it hears from all agents", 1.0)
        found["links_seconds"] = time.monotonic() - began
        await until(self._quiet, 120, "nothing more is written", 0.5)
        found["seconds"] = time.monotonic() - began
        found["writes"] = _changed(before, writes(self._plane))
        found["writes"].pop("leases", None)
        found["passes"] = await self._passes()
        found |= _usage(self._operator.usage())
        # A change is taken up: the proof that it works.
        edited = time.monotonic()
        await self._edit()
        found["edit_seconds"] = time.monotonic() - edited

    async def _edit(self) -> None:
        place = namespace(0), "camera-0"
        change = {"spec": {"source": {"rtsp": {"url": "rtsp://camera.example/edited"}}}}
        generation = (await self._cluster.merge_patch(CAMERA, *place, change))["metadata"]["generation"]

        async def seen() -> bool:
            found = await self._cluster.get(CAMERA, *place)
            return bool(found["status"]["observedGeneration"] == generation)

        await until(seen, 60, "an edit is taken up", 0.05)

    async def _all_ready(self) -> bool:
        figures = await self._operator.figures()
        return figures.get('sightline_camera_ready{status="True"}', 0) >= self._cameras

    async def _linked(self) -> bool:
        figures = await self._operator.figures()
        return figures.get('sightline_agent_links{state="connected"}', 0) >= self._cameras

    async def _leads(self) -> bool:
        figures = await self._operator.figures()
        return any(value == 1 for name, value in figures.items() if name.startswith("leader_election_master_status"))

    async def _passes(self) -> int:
        """How often this operator has looked at a camera so far."""
        passes = 'controller_runtime_reconcile_total{controller="Camera"'
        return int(sum(value for name, value in (await self._operator.figures()).items() if name.startswith(passes)))

    async def _quiet(self) -> bool:
        """Nothing waits in the queue, and for two seconds nothing was written."""
        before = writes(self._plane)
        await asyncio.sleep(2)
        figures, after = await self._operator.figures(), writes(self._plane)
        idle = figures.get('workqueue_depth{name="sightline"}', 1) == 0
        return idle and all(after[what] == before[what] for what in after if not what.startswith("leases"))


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


@contextmanager
def _no_collections() -> Iterator[None]:
    """A look at all objects of ten thousand agents takes so long that the driver would measure itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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


def _changed(before: Counter[str], after: Counter[str]) -> dict[str, int]:
    return {what: after[what] - before[what] for what in sorted(after) if after[what] != before[what]}


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
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="after all cameras are Ready")
    parser.add_argument("--render", action="store_true", help="write the page from what was recorded")
    return parser.parse_args()


if __name__ == "__main__":
    main()
