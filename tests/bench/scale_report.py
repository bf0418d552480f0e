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
that the operator wrote.
"""


def page(recorded: Figures) -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *_about(recorded), *_targets(recorded), *_series(recorded)]) + "\n"


def _about(recorded: Figures) -> Iterator[str]:
    origin = f"{recorded['date']}, {recorded['seconds']:.0f} s. {recorded['machine']}"
    yield f"`python -m tests.bench.scale --cameras {recorded['cameras']}`, {origin}"
    yield ""


def _targets(recorded: Figures) -> Iterator[str]:
    idle, restart = recorded["idle"], recorded["restart"]
    yield "## Targets\n"
    yield "| what | target | measured | reached |"
    yield "|---|---|---|---|"
    yield _row("writes while nothing changes", "0", str(sum(idle["writes"].values())), not idle["writes"])
    yield _row("writes after a restart", "0", str(sum(restart["writes"].values())), not restart["writes"])
    peak = max(idle["peak_mb"], restart["peak_mb"])
    yield _row("memory of the operator, at most, MB", f"under {_IDLE_MB}", f"{peak:.0f}", peak < _IDLE_MB)
    seconds = restart["seconds"]
    yield _row("killed, until caught up, s", f"under {_RESTART_SECONDS}", f"{seconds:.1f}", seconds < _RESTART_SECONDS)
    for series in recorded["sessions"]:
        bar, p99 = _P99_MS.get(series["rate"]), series["from_answer"]["p99"]
        if bar is None:
            continue
        yield _row(f"session's status p99 at {series['rate']}/s, ms", f"under {bar}", f"{p99:.0f}", p99 < bar)
    bytes_ = max((series["largest_bytes"] for series in recorded["sessions"]), default=0)
    yield _row("a session as it is stored, at most, bytes", "under 2048", str(bytes_), bytes_ < 2048)
    yield ""


def _row(what: str, target: str, measured: str, reached: bool) -> str:
    return f"| {what} | {target} | {measured} | {'yes' if reached else '**no**'} |"


def _series(recorded: Figures) -> Iterator[str]:
    settle, idle, restart = recorded["settle"], recorded["idle"], recorded["restart"]
    yield "## Cameras\n"
    yield (
        f"* All {recorded['cameras']} created within {settle['create_seconds']:.0f} s; {settle['ready']} were Ready,"
        f" with {settle['pods']} pods, {settle['seconds']:.0f} s after the first."
    )
    yield f"* The operator took {settle['cpu_seconds']:.0f} s of CPU for that and {settle['memory_mb']:.0f} MB."
    yield f"* Writes until then: {_counts(settle['writes'])}."
    yield (
        f"* Then {idle['seconds']:.0f} s without a change: {sum(idle['writes'].values())} writes beside"
        f" {idle['lease_renewals']} of Leases (operator and nodes), {100 * idle['cpu_share']:.1f} % of a core,"
        f" {idle['memory_mb']:.0f} MB."
    )
    yield (
        f"* SIGKILL and a new process: it led after {restart['lease_seconds']:.1f} s (the dead one's Lease had to run"
        f" out), heard from all agents after {restart['links_seconds']:.1f} s, was idle after"
        f" {restart['seconds']:.1f} s with {restart['peak_mb']:.0f} MB at most, and took up an edit in"
        f" {restart['edit_seconds']:.2f} s."
    )
    yield "\n## Sessions\n"
    yield (
        "| created/s | sessions | status written p50 / p95 / p99 / max, ms | since the request was sent, p50 / p99 |"
        " Streaming written p50 / p99 | operator's CPU, ms per session | writes |"
    )
    yield "|---|---|---|---|---|---|---|"
    for series in recorded["sessions"]:
        answer, request, streaming = series["from_answer"], series["from_request"], series["streaming"]
        yield (
            f"| {series['rate']} | {series['sessions']} |"
            f" {' / '.join(f'{answer[name]:.0f}' for name in ('p50', 'p95', 'p99', 'max'))} |"
            f" {request['p50']:.0f} / {request['p99']:.0f} | {streaming['p50']:.0f} / {streaming['p99']:.0f} |"
            f" {1000 * series['spent_seconds'] / series['sessions']:.1f} | {_counts(series['writes'])} |"
        )


def _counts(writes: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in writes.items()) or "none"
