"""The series of `make bench`: what is run, in which order, for how long.

Servers take turns inside each round, and each round begins with another one, so that what the machine does meanwhile
falls on all of them alike.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Error as PlaywrightError

from tests.bench import first_frame, troubles
from tests.bench.runs import Run, running
from tests.bench.servers import BenchError, Server

Result = dict[str, Any]

FRAME_RATE = 29.0
"""A viewer that gets fewer frames per second than this lacks some."""
_LOAD = (128, 900)
_LOAD_SECONDS = 8.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    viewers: tuple[int, ...]
    seconds: float
    first_frames: int
    """Joins per server and round."""
    churn: int
    churn_after: float = 20.0
    """Seconds with one viewer before others come: until the packets kept for repair are as many as they may be (8192,
    18 s of the clip), so that what fills up with time is not taken for what joins leave behind."""
    load: tuple[int, ...] = _LOAD
    load_seconds: float = _LOAD_SECONDS
    embedded_rounds: int = 2
    chromium: tuple[tuple[int, int], ...] = ((2, 8), (10, 6))
    """Seconds of the camera's group of pictures, and how many visits."""
    losses: tuple[float, ...] = (0.0, 0.01, 0.05)
    """Shares of packets that get lost between agent and browser."""
    loss_seconds: float = 20.0
    outages: tuple[float, ...] = (30.0, 30.0, 30.0)
    """Seconds for which the camera is away."""


FULL = Plan(rounds=3, viewers=(1, 8, 32, 96), seconds=3.0, first_frames=3, churn=2000)
QUICK = Plan(
    rounds=1,
    viewers=(1, 32),
    seconds=2.0,
    first_frames=2,
    churn=100,
    churn_after=2.0,
    load=(128,),
    load_seconds=2.0,
    loss_seconds=6.0,
    outages=(5.0,),
)


async def servers(plan: Plan, wanted: Sequence[Server], clip: Path) -> list[Result]:
    """All servers at all numbers of viewers, alternately."""
    found: list[Result] = []
    for number in range(plan.rounds):
        shift = number % max(1, len(wanted))
        for server in [*wanted[shift:], *wanted[:shift]]:
            began = time.monotonic()
            run: Result = {"server": server.name, "round": number, "steps": [], "first_frames": None}
            try:
                async with running(server, clip) as started:
                    run["idle_mb"] = started.idle_mb
                    async for step in started.steps(plan.viewers, plan.seconds):
                        run["steps"].append(step)
                        say_step(server, step)
                        if run["first_frames"] is None:  # while the server has nothing else to do
                            run["first_frames"] = await started.ask("first_frames", count=plan.first_frames)
            except BenchError as error:
                run["error"] = str(error)
                print(f"  {server.title}: {error}", flush=True)
            found.append(run)
            print(
                f"  {server.title}, round {number + 1} of {plan.rounds}: {time.monotonic() - began:.0f} s", flush=True
            )
    return found


async def load(plan: Plan, wanted: Sequence[Server], clip: Path) -> list[Result]:
    """Ours with very many viewers on one core."""

    async def measure(server: Server, started: Run) -> AsyncIterator[Result]:
        async for step in started.steps(plan.load, plan.load_seconds):
            say_step(server, step)
            yield step

    return await _ours(wanted, clip, measure)


async def churn(plan: Plan, wanted: Sequence[Server], clip: Path) -> list[Result]:
    """Ours while viewers come and go, beside one that stays."""

    async def measure(server: Server, started: Run) -> AsyncIterator[Result]:
        await started.ask("join", to=1)
        await asyncio.sleep(plan.churn_after)
        result = await started.ask("churn", count=plan.churn)
        memory = ", ".join(f"{value:.1f}" for value in result["memory_mb"])
        print(f"  {server.title}: {result['count']} joins, {result['failed']} failed, MB: {memory}", flush=True)
        yield result

    return await _ours(wanted, clip, measure)


async def _ours(
    wanted: Sequence[Server], clip: Path, measure: Callable[[Server, Run], AsyncIterator[Result]]
) -> list[Result]:
    """What is measured of our own servers with the native fan-out; one that fails is told and passed over."""
    found: list[Result] = []
    for server in wanted:
        if not server.ours or "python" in server.name:
            continue
        try:
            async with running(server, clip) as started:
                async for result in measure(server, started):
                    found.append({"server": server.name, **result})  # noqa: PERF401 - what came before an error stays
        except BenchError as error:
            print(f"  {server.title}: {error}", flush=True)
    return found


async def chromium(plan: Plan, _wanted: Sequence[Server], clip: Path) -> list[Result]:
    """First frames in a browser, from a source that runs."""
    if not shutil.which("chromium"):
        print("  left out: it needs Chromium (apt-get install chromium)")
        return []
    found: list[Result] = []
    for gop, rounds in plan.chromium:
        try:
            visits = await first_frame.measure(first_frame.access_units(clip.parent, gop), gop, rounds, "native")
        except (RuntimeError, PlaywrightError) as error:
            print(f"  key frames each {gop} s: {error}", flush=True)
            continue
        found.append({"gop": gop, "visits": [asdict(visit) for visit in visits]})
        times = ", ".join(f"{visit.first:.0f}" for visit in visits)
        print(f"  key frames each {gop} s, first frame, ms: {times}", flush=True)
    return found


async def loss(plan: Plan, _wanted: Sequence[Server], clip: Path) -> list[Result]:
    """A browser behind a bad network."""
    return await _in_chromium(lambda units: troubles.loss(units, plan.losses, plan.loss_seconds), clip)


async def outage(plan: Plan, _wanted: Sequence[Server], clip: Path) -> list[Result]:
    """A browser whose camera goes away and comes back."""
    return await _in_chromium(lambda units: troubles.outage(units, plan.outages), clip)


async def _in_chromium(measure: Callable[[troubles.Units], Awaitable[list[Result]]], clip: Path) -> list[Result]:
    if not shutil.which("chromium"):
        print("  left out: it needs Chromium (apt-get install chromium)")
        return []
    try:
        return await measure(first_frame.access_units(clip.parent, 2))
    except PlaywrightError as error:
        print(f"  {error}", flush=True)
        return []


def say_step(server: Server, step: Result) -> None:
    """One line per measurement."""
    p95 = step["latency"]["p95"]
    print(
        f"  {server.title:>24} {step['viewers']:4} viewers: {step['ms_per_viewer_second']:6.2f} ms/viewer-s"
        f" {step['us_per_packet']:6.2f} us/packet, p95 {'-' if p95 is None else f'{p95:.1f} ms'},"
        f" {step['memory_mb']:.0f} MB, {step['missing']} lost{flaws(step)}",
        flush=True,
    )


def flaws(step: Result) -> str:
    """What is wrong with a measurement, if anything."""
    found = []
    if step["join"]["failed"]:
        found.append(f"{step['join']['failed']} did not connect: {step['join']['why'][0][:120]}")
    if step["gone"]:
        found.append(f"{step['gone']} ended by the server")
    if step["dropped_by_kernel"]:
        found.append(f"{step['dropped_by_kernel']} dropped at the receivers")
    if step["fps"][0] < FRAME_RATE:
        found.append(f"down to {step['fps'][0]:.1f} frames/s")
    if step["decoded_gaps"] or step["decoded_breaks"]:
        found.append(f"decoding viewer: {step['decoded_gaps']} gaps, {step['decoded_breaks']} jumps")
    if step["latency"]["unmatched_viewers"]:
        found.append(f"{step['latency']['unmatched_viewers']} viewers without a latency")
    if step["receivers_cpu"] > 0.9:
        found.append("the receivers were the limit")
    return f" ({'; '.join(found)})" if found else ""
