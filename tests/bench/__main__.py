"""`make bench`: measures what `docs/benchmarks.md` tells, and writes it.

    python -m tests.bench                        everything: under 15 minutes
    python -m tests.bench --quick                a look: under 3 minutes, into the build folder
    python -m tests.bench --only servers,load    some of the series: servers, load, churn, chromium,
                                                 loss, outage, embedded
    python -m tests.bench --servers sightline,mediamtx --viewers 8,32
    python -m tests.bench --render               the page again, from what was recorded

Each figure comes from the real thing on this machine: processes, sockets and Chromium. Nothing is asserted here. As
root all but Chromium runs in a network namespace of its own. What was recorded stays in `.build/bench`; a series that
is run alone replaces that part of the page.
"""

import argparse
import asyncio
import datetime
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hack.cluster.paths import ROOT, build_dir
from tests.bench import clip, embedded, report, series
from tests.bench.receiver import ReceiverError
from tests.bench.series import FULL, QUICK, Plan
from tests.bench.servers import SERVERS, Server, usable

SERIES = ("servers", "load", "churn", "chromium", "loss", "outage", "embedded")
BROWSER = ("chromium", "loss", "outage", "embedded")
FORMAT = 1
"""Of what is recorded; parts of another one are forgotten."""
INSIDE = "SIGHTLINE_BENCH_INSIDE"
"""Set in a network namespace of our own: the servers that are left out, as JSON."""


def main() -> None:
    """Run what is asked for."""
    options = _options()
    if options.render:
        print(f"wrote {report.write(_load(_record_file(options)), _docs(options))}")
        return
    plan = QUICK if options.quick else FULL
    plan = replace(plan, viewers=options.viewers or plan.viewers, rounds=options.rounds or plan.rounds)
    names = options.only or [name for name in SERIES if name not in BROWSER or not options.quick]
    if INSIDE in os.environ:
        missing = json.loads(os.environ[INSIDE])
        wanted = [server for server in options.servers if server.title not in missing]
        _record(options, names, lambda name: _run(name, plan, wanted), missing)
        return
    wanted, missing = _prepare(options)
    print(f"{_machine()}\nabout {_minutes(plan, names, wanted):.0f} minutes", flush=True)
    apart = [name for name in names if name not in BROWSER] if _can_be_alone() else []
    if apart:
        _run_alone(apart, missing)
    _record(options, [name for name in names if name not in apart], lambda name: _run(name, plan, wanted), missing)
    print(f"wrote {report.write(_load(_record_file(options)), _docs(options))}")


def _prepare(options: argparse.Namespace) -> tuple[list[Server], dict[str, str]]:
    """Build and install."""
    if lacking := _lacking():
        sys.exit(f"make bench cannot measure here: {lacking}")
    try:
        clip.ensure(_folder())
        with tempfile.TemporaryDirectory() as folder:
            wanted, missing = usable(options.servers, Path(folder))
    except (ReceiverError, clip.ClipError) as error:
        sys.exit(str(error))
    for title, reason in missing.items():
        print(f"left out: {title}: {reason}")
    return wanted, missing


def _can_be_alone() -> bool:
    """A network of our own: no firewall or connection tracking of the machine's, and every port is free."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "--net", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


def _run_alone(names: Sequence[str], missing: dict[str, str]) -> None:
    """These series in a network namespace that has a loopback interface and nothing else."""
    again = [sys.executable, "-m", "tests.bench", *sys.argv[1:], "--only", ",".join(names)]
    shell = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", *shell, *again]
    if subprocess.run(command, env={**os.environ, INSIDE: json.dumps(missing)}).returncode:
        sys.exit("the measurement ended early")


def _record(
    options: argparse.Namespace, names: Sequence[str], run: Callable[[str], Awaitable[Any]], missing: dict[str, str]
) -> None:
    """Run series and keep what they found."""
    for name in names:
        print(f"{name}:", flush=True)
        began, machine = time.monotonic(), _machine()
        results = asyncio.run(_awaited(run(name)))
        if not results:
            continue
        recorded = _load(_record_file(options))
        recorded[name] = {
            "format": FORMAT,
            "results": results,
            "seconds": time.monotonic() - began,
            "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            "machine": machine,
            "command": _command(options, name),
            "versions": {server.name: server.version() for server in options.servers},
            "missing": missing,
        }
        _record_file(options).write_text(json.dumps(recorded))


async def _awaited(results: Awaitable[Any]) -> Any:
    return await results


async def _run(name: str, plan: Plan, wanted: Sequence[Server]) -> Any:
    if name == "embedded":
        if not shutil.which("chromium"):
            print("  left out: it needs Chromium (apt-get install chromium)")
            return None
        with tempfile.TemporaryDirectory() as folder:
            return await embedded.measure(Path(folder), plan.embedded_rounds)
    measured: dict[str, Callable[[Plan, Sequence[Server], Path], Awaitable[Any]]] = {
        "servers": series.servers,
        "load": series.load,
        "churn": series.churn,
        "chromium": series.chromium,
        "loss": series.loss,
        "outage": series.outage,
    }
    return await measured[name](plan, wanted, clip.ensure(_folder()))


def _lacking() -> str:
    if (os.cpu_count() or 1) < 2:
        return "it needs two cores"
    programs = [name for name in ("taskset", "setpriv", "cc") if not shutil.which(name)]
    return f"{', '.join(programs)} not found (apt-get install util-linux gcc libc6-dev)" if programs else ""


def _minutes(plan: Plan, names: Sequence[str], wanted: Sequence[Server]) -> float:
    """How long it will take."""
    run = 7.0 + sum(plan.seconds + 2.5 + count * 0.03 for count in plan.viewers) + plan.first_frames * 1.8
    seconds = {
        "servers": plan.rounds * len(wanted) * run,
        "load": 10.0 + sum(plan.load_seconds + 3 + count * 0.03 for count in plan.load),
        "churn": 10.0 + plan.churn_after + plan.churn * 0.03,
        "chromium": 20.0 + sum(visits * (5 + gop / 2) for gop, visits in plan.chromium),
        "loss": sum(plan.loss_seconds + 6 for _ in plan.losses),
        "outage": sum(away + 12 for away in plan.outages),
        "embedded": 30.0 * plan.embedded_rounds,
    }
    return sum(seconds[name] for name in names) / 60


def _machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()},"
        f" Python {platform.python_version()}; load before: {load:.1f}."
    )


def _command(options: argparse.Namespace, name: str) -> str:
    parts = ["python", "-m", "tests.bench", "--only", name]
    if options.quick:
        parts.append("--quick")
    if options.viewers and name == "servers":
        parts += ["--viewers", ",".join(map(str, options.viewers))]
    if options.rounds and name == "servers":
        parts += ["--rounds", str(options.rounds)]
    if len(options.servers) < len(SERVERS) and name not in BROWSER:
        parts += ["--servers", ",".join(server.name for server in options.servers)]
    return shlex.join(parts)


def _record_file(options: argparse.Namespace) -> Path:
    return _folder() / ("quick.json" if options.quick else "recorded.json")


def _folder() -> Path:
    return build_dir() / "bench"


def _docs(options: argparse.Namespace) -> Path:
    if options.output:
        folder: Path = options.output
        return folder
    return _folder() if options.quick else ROOT / "docs"


def _load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: part for name, part in found.items() if part.get("format") == FORMAT}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure; see docs/benchmarks.md.")
    parser.add_argument("--quick", action="store_true", help="short windows, few viewers; not written to docs")
    parser.add_argument("--only", type=_series, default=[], metavar=",".join(SERIES), help="some of the series")
    parser.add_argument(
        "--servers", type=_servers, default=list(SERVERS), metavar=",".join(server.name for server in SERVERS)
    )
    parser.add_argument("--viewers", type=_counts, default=(), help="numbers of viewers, such as 1,8,32,96")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--render", action="store_true", help="write the page from what was recorded, measure nothing")
    parser.add_argument("--output", type=Path, help="folder of the page instead of docs")
    return parser.parse_args()


def _series(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SERIES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SERIES)}")
    return names


def _servers(text: str) -> list[Server]:
    known = {server.name: server for server in SERVERS}
    names = text.split(",")
    if unknown := set(names) - set(known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise argparse.ArgumentTypeError("numbers from 1 on, with commas between")
    return counts


main()
