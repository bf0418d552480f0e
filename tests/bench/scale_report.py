"""Writes docs/benchmarks/scale.md out of what `tests.bench.scale` recorded."""

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]

_IDLE_MB = 500
_RESTART_SECONDS = 60
_P99_MS = {50: 60, 100: 150}
_INTRODUCTION = """# The operator at scale

Written by `make bench-scale` (`python -m tests.bench.scale`); nothing here is typed by hand.

etcd, kube-apiserver, kube-scheduler and the operator's process are the real programs, nodes and pods are KWOK's, and
agents are one process that speaks the operator's side of the control port for all of them. All of it shares this
machine's two cores with the driver, which is this process, too: latencies are those of a busy small machine.
**Write counts** are the API server's own (`apiserver_request_total`), whoever wrote. Each **session** is created,
streams, ends, and is deleted by the operator; its latency is from the create's answer until a watch shows the status
that the operator wrote, and its size is what the API server answers, its own notes (`managedFields`) included.
Operator and driver have tokens, as pods do. More than one **watch** means that the API server ended some because it
could not serve them fast enough: then latencies are those of an API server without a core to run on.
"""


def page(recorded: Figures) -> str:
    """The page."""
    return (
        "\n".join([_INTRODUCTION, *_about(recorded), *_failures(recorded), *_targets(recorded), *_series(recorded)])
        + "\n"
    )


_SLOW = """\
Not reached, and what would be tried next: a first status waits for the API server, which takes most of the CPU that a
session's five writes cost (below) and at 100 sessions per second has use for both cores by itself. Next: fewer writes
in a session's life, by one status for a viewer who is answered and sees something at once.
"""


def _about(recorded: Figures) -> Iterator[str]:
    origin = f"{recorded['date']}, {recorded['seconds']:.0f} s. {recorded['machine']}"
    yield f"`python -m tests.bench.scale --cameras {recorded['cameras']}`, {origin}"
    yield ""


def failures(recorded: Figures) -> list[str]:
    """Stages that did not come to their end, with the reason."""
    stages: list[tuple[str, Figures]] = [
        (name, recorded[name]) for name in ("settle", "idle", "restart") if name in recorded
    ]
    stages += [(f"sessions at {series['rate']}/s", series) for series in recorded["sessions"]]
    return [f"{name}: {stage['failed']}" for name, stage in stages if "failed" in stage]


def _failures(recorded: Figures) -> Iterator[str]:
    found = failures(recorded)
    if found:
        yield "## Did not come to its end\n"
        yield from (f"* {failure}" for failure in found)
        yield ""


def _targets(recorded: Figures) -> Iterator[str]:
    idle, restart = recorded.get("idle", {}), recorded.get("restart", {})
    yield "## Targets\n"
    yield "| what | target | measured | reached |"
    yield "|---|---|---|---|"
    for what, stage in (("while nothing changes", idle), ("after a restart", restart)):
        count = sum(stage["writes"].values()) if "writes" in stage else None
        yield _row(f"writes {what}", "0", count, count == 0)
    peak = max((stage["peak_mb"] for stage in (idle, restart) if "peak_mb" in stage), default=None)
    yield _row("memory of the operator, at most, MB", f"under {_IDLE_MB}", peak, (peak or 0) < _IDLE_MB)
    seconds = restart.get("seconds")
    yield _row("killed, until caught up, s", f"under {_RESTART_SECONDS}", seconds, (seconds or 0) < _RESTART_SECONDS)
    slow = False
    for series in recorded["sessions"]:
        bar, p99 = _P99_MS.get(series["rate"]), series.get("from_answer", {}).get("p99")
        if bar is not None:
            slow = slow or (p99 or 0) >= bar
            yield _row(f"session's status p99 at {series['rate']}/s, ms", f"under {bar}", p99, (p99 or 0) < bar)
    bytes_ = max((series.get("largest_bytes", 0) for series in recorded["sessions"]), default=0)
    yield _row("a session as it is stored, at most, bytes", "under 2048", bytes_ or None, bytes_ < 2048)
    yield ""
    if slow:
        yield _SLOW


def _row(what: str, target: str, measured: float | None, reached: bool) -> str:
    if measured is None:
        return f"| {what} | {target} | not measured | **no** |"
    return f"| {what} | {target} | {measured:.0f} | {'yes' if reached else '**no**'} |"


def _series(recorded: Figures) -> Iterator[str]:
    yield "## Cameras\n"
    for name, words in (("settle", _settled), ("idle", _idled), ("restart", _restarted)):
        stage = recorded.get(name, {})
        if stage and "failed" not in stage:
            yield from words(stage, recorded["cameras"])
    yield "\n## Sessions\n"
    yield (
        "| created/s | sessions | stuck | status written p50 / p95 / p99 / max, ms | since the request was sent,"
        " p50 / p99 | Streaming written p50 / p99 | Ended written p50 / p99 | operator's CPU, ms per session | writes |"
        " watches until the last was gone |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for series in recorded["sessions"]:
        if series.get("sessions"):
            yield _session_row(series)
    yield from _costs([series for series in recorded["sessions"] if series.get("sessions") and "cpu" in series])


def _costs(measured: list[Figures]) -> Iterator[str]:
    """Who has taken the CPU."""
    if not measured:
        return
    names = list(measured[0]["cpu"])
    yield "\n## CPU, ms per session\n"
    yield f"| created/s | {' | '.join(names)} | all |"
    yield "|---" * (len(names) + 2) + "|"
    for series in measured:
        shares = [1000 * series["cpu"][name] / series["sessions"] for name in names]
        yield f"| {series['rate']} | {' | '.join(f'{share:.1f}' for share in (*shares, sum(shares)))} |"


def _settled(settle: Figures, cameras: int) -> Iterator[str]:
    yield (
        f"* All {cameras} created within {settle['create_seconds']:.0f} s; {settle['ready']} were Ready,"
        f" with {settle['pods']} pods, {settle['seconds']:.0f} s after the first."
    )
    spent = settle["cpu_seconds"]
    yield (
        f"* The operator took {spent:.0f} s of CPU for that, {1000 * spent / cameras:.1f} ms{_passes(settle, cameras)}"
        f" for each camera, and {settle['memory_mb']:.0f} MB."
    )
    yield f"* Writes until then: {_counts(settle['writes'])}."


def _idled(idle: Figures, _: int) -> Iterator[str]:
    yield (
        f"* Then {idle['seconds']:.0f} s without a change: {sum(idle['writes'].values())} writes beside"
        f" {idle['lease_renewals']} of Leases (operator and nodes), {100 * idle['cpu_share']:.1f} % of a core,"
        f" {idle['memory_mb']:.0f} MB."
    )


def _restarted(restart: Figures, cameras: int) -> Iterator[str]:
    yield (
        f"* SIGKILL and a new process: it led after {restart['lease_seconds']:.1f} s (the dead one's Lease had to run"
        f" out), heard from all agents after {restart['links_seconds']:.1f} s, was idle after"
        f" {restart['seconds']:.1f} s with {restart['cpu_seconds']:.0f} s of CPU{_passes(restart, cameras)} for each"
        f" camera and {restart['peak_mb']:.0f} MB at most, and took up an edit in {restart['edit_seconds']:.2f} s."
    )


def _passes(stage: Figures, cameras: int) -> str:
    return f" and {stage['passes'] / cameras:.1f} passes" if "passes" in stage else ""


def _session_row(series: Figures) -> str:
    cells = [
        str(series["rate"]),
        str(series["sessions"]),
        str(series.get("stuck", "unknown")),
        _times(series["from_answer"], "p50", "p95", "p99", "max"),
        *(_times(series[name], "p50", "p99") for name in ("from_request", "streaming", "ended")),
        f"{1000 * series['spent_seconds'] / series['sessions']:.1f}",
        _counts(series["writes"]),
        str(series["watch"]["watches"]),
    ]
    return f"| {' | '.join(cells)} |"


def _times(percentiles: dict[str, float], *names: str) -> str:
    return " / ".join(f"{percentiles[name]:.0f}" for name in names) if percentiles else "not measured"


def _counts(writes: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in writes.items()) or "none"
