"""The driver of `make bench-scale`, against an operator that is played on the in-memory cluster, and its page."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import ClusterError, GoneError, UnavailableError
from sightline_kube.kinds import STREAM_SESSION, Kind
from sightline_kube.memory import MemoryCluster
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.bench import scale_report
from tests.bench.scale_churn import Churn, Figures, Place, Plan, Step, session, step_of
from tests.helpers import virtual_time
from tests.helpers.faulty_cluster import Fault, FaultyCluster

CAMERAS = [("default", "camera-1"), ("default", "camera-2")]
PLAN = Plan(rate=10, seconds=2.0)
SEEN = {"phase": "Requested", "timestamps": {"authorized": "2026-11-22T00:00:00Z"}}


class PlayedOperator:
    """Writes what the agents say, and deletes what has ended, but for the sessions of `lazy`."""

    def __init__(self, cluster: MemoryCluster, lazy: Mapping[str, Step] | None = None) -> None:
        self._cluster = cluster
        self._lazy = lazy or {}
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Until cancelled."""
        async with self._group, aclosing(self._cluster.watch(STREAM_SESSION, resource_version="0")) as events:
            async for event in events:
                if event.type == "ADDED":
                    await self._write(event.obj["metadata"]["name"], Step.SEEN, SEEN)

    def speak(self, _: Place, sid: str, phase: SessionPhase, end: EndReason | None = None) -> None:
        """As the agents do."""
        step = Step.ENDED if end else Step.STREAMING
        status = {**SEEN, "phase": phase.value, **({"endReason": end.value} if end else {})}
        self._group.create_task(self._write(sid, step, status))

    async def _write(self, sid: str, step: Step, status: Obj) -> None:
        if self._lazy.get(sid) is step:
            return
        found = await self._cluster.get(STREAM_SESSION, "default", sid)
        await self._cluster.replace_status({**found, "status": status})
        if step is Step.ENDED and self._lazy.get(sid) is not Step.GONE:
            await self._cluster.delete(STREAM_SESSION, "default", sid)


def churned(lazy: Mapping[str, Step] | None = None, *ends: ClusterError) -> Figures:
    """The figures of one series; the driver's first watches end so, after one event each."""
    waiting = list(ends)

    def plan(verb: str, _: Kind | None) -> Fault | None:
        return Fault(waiting.pop(0), done=True) if verb == "watch" and waiting else None

    async def scenario() -> Figures:
        cluster = MemoryCluster()
        operator = PlayedOperator(cluster, lazy)
        playing = asyncio.create_task(operator.run())
        await virtual_time.settle()
        found: Figures = {}
        await Churn(FaultyCluster(cluster, plan), operator.speak, CAMERAS, random.Random(1)).run(PLAN, found)
        playing.cancel()
        await asyncio.wait([playing])
        return found

    return virtual_time.run(scenario())


def test_all_sessions_live_and_go() -> None:
    found = churned()
    assert (found["sessions"], found["stuck"], found["ends"]) == (20, 0, {"Hangup": 20})
    assert "failed" not in found
    assert all(found[name] for name in ("from_request", "from_answer", "streaming", "ended"))
    assert (found["watch"]["watches"], found["watch"]["ghosts"]) == (1, 0)


@pytest.mark.parametrize(
    ("step", "known"),
    [
        (Step.SEEN, "seen: nothing; the API server has it as without a status"),
        (Step.STREAMING, "seen: its first status; the API server has it as its first status"),
        (Step.ENDED, "seen: its first status, Streaming; the API server has it as Streaming"),
        (Step.GONE, "seen: its first status, Streaming, Ended; the API server has it as Ended"),
    ],
)
def test_a_session_that_is_stuck_says_where(step: Step, known: str) -> None:
    found = churned({"s-10-7": step})
    [sentence] = found["stuck_sessions"]
    assert sentence.startswith("session s-10-7 of default/camera-")
    assert sentence.endswith(f": not {step} within 60 s; {known}")
    assert found["failed"] == f"1 of 20 sessions are stuck; {sentence}"
    assert found["sessions"] == 20
    assert found["ends"]["Hangup"] >= 19


def test_a_watch_that_ends_or_is_too_old_goes_on() -> None:
    found = churned(None, UnavailableError("cut"), GoneError("too old"), GoneError("too old"))
    assert (found["stuck"], found["ends"]) == (0, {"Hangup": 20})
    assert (found["watch"]["watches"], found["watch"]["gone"]) == (4, 2)


def test_how_far_a_status_says_that_a_session_is() -> None:
    made = session("s-1", *CAMERAS[0])
    assert step_of(made) is None
    steps = [step_of({**made, "status": {**SEEN, "phase": phase.value}}) for phase in SessionPhase]
    assert steps == [Step.SEEN, Step.SEEN, Step.STREAMING, Step.ENDED]


TIMES = {"p50": 10.0, "p95": 20.0, "p99": 30.0, "max": 40.0}
USAGE = {"cpu_seconds": 5.0, "memory_mb": 150.0, "peak_mb": 160.0}
SERIES = {
    "rate": 50,
    "sessions": 1000,
    "stuck": 0,
    **dict.fromkeys(("from_request", "from_answer", "streaming", "ended"), TIMES),
    "largest_bytes": 1200,
    "writes": {"streamsessions": 1000},
    "spent_seconds": 8.0,
    "cpu": {"operator": 8.0, "etcd": 1.5},
    "watch": {"watches": 1},
}


def recorded(**stages: Any) -> Figures:
    return {
        "cameras": 10,
        "date": "2026-11-22",
        "seconds": 100.0,
        "machine": "2 cores.",
        "settle": {"create_seconds": 1.0, "seconds": 2.0, "ready": 10, "pods": 10, "passes": 30, "writes": {}, **USAGE},
        "idle": {"seconds": 20.0, "writes": {}, "lease_renewals": 4, "cpu_share": 0.1, **USAGE},
        "sessions": [SERIES],
        "restart": {
            "lease_seconds": 1.0,
            "links_seconds": 2.0,
            "seconds": 3.0,
            "edit_seconds": 0.1,
            "passes": 10,
            "writes": {},
            **USAGE,
        },
        **stages,
    }


def test_the_page_of_a_run_without_failures() -> None:
    page = scale_report.page(recorded())
    assert "Did not come to its end" not in page
    assert "**no**" not in page
    assert "Not reached" not in page
    assert " ms and 3.0 passes for each camera" in page
    assert " s of CPU and 1.0 passes for each camera" in page
    assert "| session's status p99 at 50/s, ms | under 60 | 30 | yes |" in page
    assert "| 50 | 1000 | 0 | 10 / 20 / 30 / 40 | 10 / 30 | 10 / 30 | 10 / 30 | 8.0 | 1000 streamsessions | 1 |" in page
    assert "| created/s | operator | etcd | all |\n|---|---|---|---|\n| 50 | 8.0 | 1.5 | 9.5 |" in page


def test_the_page_says_why_a_first_status_comes_late() -> None:
    page = scale_report.page(recorded(sessions=[{**SERIES, "from_answer": {**TIMES, "p99": 60.0}}]))
    assert "| session's status p99 at 50/s, ms | under 60 | 60 | **no** |" in page
    assert "Not reached, and what would be tried next: a first status waits" in page


def test_the_page_tells_of_stages_that_failed_beside_what_they_measured() -> None:
    stuck = {**SERIES, "stuck": 3, "failed": "3 of 1000 sessions are stuck"}
    run = recorded(idle={"failed": "OSError: why"}, sessions=[stuck, {"rate": 100, "failed": "X: y"}], restart={})
    page = scale_report.page(run)
    for reason in ("idle: OSError: why", "sessions at 50/s: 3 of 1000 sessions are stuck", "sessions at 100/s: X: y"):
        assert f"* {reason}\n" in page
    assert "| 50 | 1000 | 3 |" in page
    assert "| session's status p99 at 100/s, ms | under 150 | not measured | **no** |" in page
    assert "| writes after a restart | 0 | not measured | **no** |" in page
    assert "10 were Ready" in page
