"""The gate: measures what viewers cost this agent, and refuses those whom it could not serve well.

Two resources run out: the CPU that the process may use, and the one core that its event loop has. Each is measured by
itself; the scarcer one decides. The registry asks before it opens a session; control and metrics read the figures.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from sightline_agent.admission import CostMeter, Rules, Verdict, admission
from sightline_agent.cpu import cpu_budget, process_seconds
from sightline_model.agent import CapacityReport
from sightline_model.problems import Problem, ProblemCode

WINDOW_SECONDS = 2.0
RETRY_SECONDS = 10

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Resource:
    """A CPU clock and how many cores it may use up."""

    name: str
    budget: float
    clock: Callable[[], float]
    meter: CostMeter = field(default_factory=CostMeter)
    full: bool = False

    def judge(self, viewers: int, rules: Rules) -> Verdict:
        """What `admission` says of this resource."""
        return admission(self.meter.cost, self.budget, viewers, rules, self.full)


def own_resources(budget: float = 0.0) -> list[Resource]:
    """Of this process, whose loop runs in this thread; `budget` 0: what the kernel grants."""
    cores = budget or cpu_budget()
    # A thread cannot use more than a core; time.thread_time is the calling thread's: `tick` runs on the loop.
    return [Resource("process", cores, process_seconds), Resource("loop", min(cores, 1.0), time.thread_time)]


class CpuGate:
    """Implements `registry.Gate`."""

    def __init__(self, resources: Sequence[Resource], rules: Rules | None = None) -> None:
        self.resources = resources
        self.lag = 0.0
        """Seconds that the loop was late in the last window."""
        self._rules = rules or Rules()

    def admit(self, viewers: int) -> Problem | None:
        """May one more come in beside `viewers`? Else what to tell it."""
        for resource in self.resources:
            verdict = resource.judge(viewers, self._rules)
            if verdict.full != resource.full:
                resource.full = verdict.full
                log.info("capacity", resource=resource.name, full=verdict.full, viewers=viewers)
            if not verdict.admitted:
                detail = f"{viewers} viewers use what CPU the camera's agent has; try again soon"
                return Problem(code=ProblemCode.AGENT_OVERLOADED, detail=detail, retry_after_seconds=RETRY_SECONDS)
        return None

    def report(self, viewers: int) -> CapacityReport:
        """The figures, those of the scarcer resource where there is one for each."""
        verdicts = [(resource.judge(viewers, self._rules), resource) for resource in self.resources]
        scarcest, resource = min(verdicts, key=lambda pair: pair[0].remaining)
        cost = resource.meter.cost
        return CapacityReport(
            resource=resource.name,
            cpu_budget=round(resource.budget, 3),
            cpu_used=round(resource.meter.used, 4),
            cpu_per_viewer=round(cost.per_viewer, 6),
            remaining_viewers=scarcest.remaining,
            full=not scarcest.admitted,
        )

    async def run(self, viewers: Callable[[], int], came: Callable[[], int] = lambda: 0) -> None:
        """Measure until cancelled: how many viewers there are, and how many have come so far."""
        loop = asyncio.get_running_loop()
        while True:
            self.tick(loop.time(), viewers(), came())
            due = loop.time() + WINDOW_SECONDS
            await asyncio.sleep(WINDOW_SECONDS)
            self.lag = max(0.0, loop.time() - due)

    def tick(self, now: float, viewers: int, came: int = 0) -> None:
        """Read all clocks."""
        for resource in self.resources:
            resource.meter.add(now, resource.clock(), viewers, came)
