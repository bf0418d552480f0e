"""Pure: figures of the report out of what the series recorded."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.latency import percentile
from tests.bench.series import FRAME_RATE

Result = dict[str, Any]

MANY = 96
LOAD = 900
FLAT_MB = 2.0
"""How much memory may grow over the second half of the joins and still count as flat."""


def steps(runs: Iterable[Result], server: str, viewers: int) -> list[Result]:
    """The measurements of a server with so many viewers: those in which all got their frames, if there are any."""
    found = [step for run in runs if run["server"] == server for step in run["steps"] if step["wanted"] == viewers]
    return [step for step in found if step["fps"][0] >= FRAME_RATE] or found


def middle(found: Sequence[Result], pick: Callable[[Result], float | None]) -> float | None:
    """The median over the rounds of what was measured."""
    values = [value for value in map(pick, found) if value is not None]
    return statistics.median(values) if values else None


def cost(runs: Iterable[Result], server: str, viewers: int) -> float | None:
    """Milliseconds of CPU per viewer-second."""
    return middle(steps(runs, server, viewers), lambda step: step["ms_per_viewer_second"])


def first_frames(runs: Iterable[Result], server: str) -> list[float]:
    """Milliseconds of all single joins."""
    return [one for run in runs if run["server"] == server and run["first_frames"] for one in run["first_frames"]["ms"]]


def idle(runs: Iterable[Result], server: str) -> float | None:
    """Megabytes before the first viewer."""
    return middle([run for run in runs if run["server"] == server], lambda run: run.get("idle_mb"))


def per_viewer_mb(found: Sequence[Result]) -> float | None:
    """Megabytes more for each viewer, between the fewest and the most of a run's measurements."""
    if len(found) < 2:
        return None
    few, many = found[0], found[-1]
    return float((many["memory_mb"] - few["memory_mb"]) / (many["viewers"] - few["viewers"]))


def memory_per_viewer(runs: Sequence[Result], server: str) -> float | None:
    """The same over all rounds."""
    return middle([run for run in runs if run["server"] == server], lambda run: per_viewer_mb(run["steps"]))


def receiver_cost(runs: Sequence[Result]) -> float | None:
    """Milliseconds of our own CPU per counted viewer and second: what more viewers cost more."""

    def slope(run: Result) -> float | None:
        few, many = run["steps"][-2:]
        return float((many["receivers_cpu"] - few["receivers_cpu"]) / (many["viewers"] - few["viewers"]) * 1e3)

    return middle([run for run in runs if len(run["steps"]) > 2], slope)


@dataclass(frozen=True)
class Target:
    """A bar, and what was measured against it."""

    what: str
    bar: str
    measured: str
    reached: bool | None
    """None: not measured."""
    idea: str
    """What would be tried next where it is not reached."""


def targets(series: dict[str, list[Result]]) -> list[Target]:
    """All bars."""
    runs, load, churn = (series.get(name, []) for name in ("servers", "load", "churn"))
    ours, python = cost(runs, "sightline", MANY), cost(runs, "python", MANY)
    loop = cost(runs, "janus-loop", MANY)
    batches = (
        "more than half of what is left is the kernel's sending, receiving by loopback included (docs/design/0017);"
        " keep a frame native on its whole way from the camera's socket to the fan-out, which is what the interpreter"
        " is still needed for each 33 ms (docs/design/0020)"
    )
    return [
        _times("CPU per viewer at 96 viewers against MediaMTX", 5.0, cost(runs, "mediamtx", MANY), ours, batches),
        _times("CPU per viewer at 96 viewers against go2rtc", 5.0, cost(runs, "go2rtc", MANY), ours, batches),
        _times("CPU per viewer at 96 viewers against Janus with an event loop", 3.5, loop, ours, batches),
        _times(
            "pure-Python CPU per viewer at 96 viewers against Janus with an event loop",
            1.0,
            loop,
            python,
            "receiver reports read in batches, one preallocated buffer per frame",
        ),
        _below(
            "added latency p95, 1 viewer, ms",
            2.0,
            middle(steps(runs, "sightline", 1), lambda step: step["latency"]["p95"]),
            "look at what else the loop does when a frame arrives",
        ),
        _below(
            "added latency p95, 128 viewers, ms",
            8.0,
            middle([s for s in load if s["wanted"] == 128], lambda step: step["latency"]["p95"]),
            "send the first packets of a key frame while the rest still arrives",
        ),
        _loss(load),
        _below("memory idle, MB", 70.0, idle(runs, "sightline"), "load less of what only start-up needs"),
        _below(
            "memory per viewer, MB",
            0.2,
            # With very many viewers it is told more exactly.
            per_viewer_mb(load) or memory_per_viewer(runs, "sightline"),
            "free the handshake's OpenSSL buffers once keys are derived",
        ),
        _flat(churn),
        _below(
            "CPU of one viewer, ms per second",
            15.0,
            cost(runs, "sightline", 1),
            "order and frames natively, too, so that a frame is one call from recv to sendmmsg (docs/design/0020)",
        ),
        *_chromium(series.get("chromium", [])),
    ]


def _times(what: str, bar: float, theirs: float | None, ours: float | None, idea: str) -> Target:
    if theirs is None or ours is None:
        return Target(what, f"{bar:g} times less", "-", None, idea)
    ratio = theirs / ours
    wanted = f"{bar:g} times less" if bar > 1 else "no more"
    return Target(what, wanted, f"{ratio:.1f} times less ({ours:.2f} against {theirs:.2f} ms)", ratio >= bar, idea)


def _below(what: str, bar: float, value: float | None, idea: str) -> Target:
    if value is None:
        return Target(what, f"under {bar:g}", "-", None, idea)
    return Target(what, f"under {bar:g}", f"{value:.0f}" if value >= 100 else f"{value:.3g}", value < bar, idea)


_LIVE = {2: 500.0, 10: 2000.0}


def _chromium(found: Sequence[Result]) -> Iterator[Target]:
    """By seconds between key frames."""
    idea = "fewer round trips before the burst: DTLS and ICE checks in parallel, less between them on the loop"
    for gop, live in _LIVE.items():
        visits = [visit for part in found if part["gop"] == gop for visit in part["visits"]]
        firsts, lives = ([visit[name] for visit in visits] for name in ("first", "live"))
        where = f"in Chromium, key frames each {gop} s, ms"
        for share, bar in ((0.5, 150.0), (0.9, 300.0)):
            value = percentile(firsts, share) if firsts else None
            yield _below(f"first frame p{share * 100:.0f} {where}", bar, value, idea)
        value = percentile(lives, 0.9) if lives else None
        yield _below(
            f"at live (lag under 100 ms) p90 {where}", live, value, "pace the burst faster once it is received"
        )


def _loss(load: Sequence[Result]) -> Target:
    what, bar = "900 viewers on one core", "no RTP packet lost"
    idea = "spread a frame's sending over a few milliseconds, shard the viewers over threads"
    found = [step for step in load if step["wanted"] == LOAD]
    if not found:
        return Target(what, bar, "-", None, idea)
    step = found[-1]
    lost = step["missing"] + step["dropped_by_kernel"]
    failed = step["join"]["failed"] + step["gone"]
    told = f"{lost} lost, {failed} not connected or ended, {step['cpu'] / step['seconds'] * 100:.0f} % of the core"
    told += f", each got {step['fps'][0]:.1f} frames/s or more"
    return Target(what, bar, told, not lost and not failed and step["fps"][0] >= FRAME_RATE, idea)


def _flat(churn: Sequence[Result]) -> Target:
    idea = "look at what a session leaves behind (tracemalloc between two rounds of joins)"
    if not churn:
        return Target("memory over joins and leaves", "flat", "-", None, idea)
    result = churn[-1]
    memory = result["memory_mb"]
    growth = memory[-1] - memory[len(memory) // 2]
    what = f"memory over {result['count']} joins and leaves"
    told = f"{growth:+.1f} MB over the second half, {result['failed']} failed"
    return Target(what, f"flat (under {FLAT_MB:g} MB)", told, growth < FLAT_MB and not result["failed"], idea)


def quantiles(values: Sequence[float]) -> tuple[float, float] | None:
    """p50 and p90."""
    return (percentile(values, 0.5), percentile(values, 0.9)) if values else None
