"""Runs a target: counts, measures time and memory, keeps what broke it.

A crash is any exception that a target lets out; the input is written to a file, so that it can become a test. Slow
inputs are reported, not failed: a busy machine is no defect. Growth is what the process holds at the end beyond what it
held after the warm-up.
"""

import gc
import hashlib
import time
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from tests.fuzz.engine import Mutator, corpus

CHECK_EVERY = 500
_WARM_UP = 0.2
_TRACED = 0.1
"""The last part of a measured run is traced, which makes it several times slower."""
_MAX_CRASHES = 20
_PAGE = 4096


class Fuzzed(Protocol):
    """State that survives from input to input, as a peer's or a port's does."""

    def feed(self, data: bytes, random: Random) -> None:
        """Take one input; documented errors stay inside, anything else comes out."""
        ...

    def check(self) -> None:
        """Assert that nothing has grown beyond its bounds."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A parser and what it is fed."""

    name: str
    make: Callable[[], Fuzzed]
    tokens: tuple[bytes, ...]
    limit: int
    share: float = 1.0
    """Of the inputs; less for what costs milliseconds each."""


@dataclass(slots=True)
class Report:
    """What a run found."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_input: bytes = field(default=b"", repr=False)
    resident_growth: int = 0
    traced_growth: int = 0
    crashes: dict[str, bytes] = field(default_factory=dict)
    """The last line of the trace, and the first input that led to it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: at whichever comes first."""

    inputs: int
    seconds: float = float("inf")
    measure: bool = False
    """Trace memory in the last part."""


def run(target: Target, seed: int, budget: Budget, folder: Path | None = None) -> Report:
    """Feed a target; crashes are kept in `folder`."""
    random = Random(f"{seed} {target.name}")
    mutator = Mutator(corpus(target.name), target.tokens, random, target.limit)
    report = Report(target.name)
    fuzzed = target.make()
    began = time.perf_counter()
    warm, traced = _resident(), 0
    try:
        while report.inputs < budget.inputs and (spent := time.perf_counter() - began) < budget.seconds:
            done = max(report.inputs / budget.inputs, spent / budget.seconds)
            if report.inputs and done <= _WARM_UP and report.inputs % CHECK_EVERY == 0:
                warm = _resident()
            if budget.measure and done >= 1 - _TRACED and not tracemalloc.is_tracing():
                report.resident_growth = _resident() - warm
                tracemalloc.start()
            if tracemalloc.is_tracing() and not traced and done >= 1 - _TRACED / 2:
                traced = tracemalloc.get_traced_memory()[0]
            data = mutator.next()
            started = time.process_time()
            try:
                fuzzed.feed(data, random)
                if report.inputs % CHECK_EVERY == CHECK_EVERY - 1:
                    fuzzed.check()
            except Exception as error:
                _keep(report, error, data, folder)
                fuzzed.close()
                fuzzed = target.make()
            took = time.process_time() - started
            if took > report.slowest and not tracemalloc.is_tracing():
                report.slowest, report.slowest_input = took, data
            report.inputs += 1
        fuzzed.check()
        gc.collect()
        if tracemalloc.is_tracing():
            report.traced_growth = tracemalloc.get_traced_memory()[0] - traced
    finally:
        tracemalloc.stop()
        fuzzed.close()
    report.seconds = time.perf_counter() - began
    return report


def _keep(report: Report, error: Exception, data: bytes, folder: Path | None) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"[:300]
    kind = f"{type(error).__name__} {Path(frame.filename).name}:{frame.lineno}"
    if kind in {known.partition("|")[0] for known in report.crashes} or len(report.crashes) >= _MAX_CRASHES:
        return
    report.crashes[f"{kind}|{where}"] = data
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{report.target}-{hashlib.sha256(data).hexdigest()[:12]}"
        (folder / name).write_bytes(data)
        (folder / f"{name}.txt").write_text("".join(traceback.format_exception(error)))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
