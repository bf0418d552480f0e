"""The queue, on virtual time."""

import asyncio
from collections.abc import Callable

import pytest

from sightline_operator.backoff import Backoff
from sightline_operator.metrics import Metrics
from sightline_operator.workqueue import URGENT_SECONDS, Lane, WorkQueue
from tests.operator.virtualtime import run


def queue(**more: object) -> WorkQueue[str]:
    return WorkQueue(backoff=Backoff(1.0, 8.0), rng=lambda: 1.0, **more)  # type: ignore[arg-type]


class Work:
    """Handlers that take a second each, and what they saw."""

    def __init__(self, waiting: WorkQueue[str]) -> None:
        self.queue = waiting
        self.seen: list[tuple[float, str]] = []
        self.active: set[str] = set()
        self.most = 0
        self.during: Callable[[str], None] = lambda key: None

    async def handle(self, key: str) -> None:
        assert key not in self.active
        self.active.add(key)
        self.most = max(self.most, len(self.active))
        self.seen.append((round(asyncio.get_running_loop().time(), 3), key))
        self.during(key)
        await asyncio.sleep(1.0)
        self.active.discard(key)


async def running(work: Work, seconds: float, workers: int = 4) -> None:
    task = asyncio.ensure_future(work.queue.run(work.handle, workers))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_key_waits_once_and_comes_back_if_it_changed_meanwhile() -> None:
    async def main() -> None:
        work = Work(queue())
        for _ in range(3):
            work.queue.add("a")
        assert len(work.queue) == 1
        changes = iter([True])

        def change(key: str) -> None:
            if next(changes, False):
                work.queue.add("a")
                work.queue.add("a")

        work.during = change
        await running(work, 10)
        assert work.seen == [(0, "a"), (1, "a")]
        assert work.queue.idle

    run(main)


def test_so_many_workers_and_no_key_twice_at_a_time() -> None:
    async def main() -> None:
        work = Work(queue())
        for number in range(10):
            work.queue.add(f"k{number}")
        await running(work, 10, workers=4)
        assert work.most == 4
        assert [when for when, _ in work.seen] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]

    run(main)


def lanes(key: str) -> Lane:
    return {"n": Lane.NOW, "s": Lane.SOON}.get(key[0], Lane.ROUTINE)


def test_urgent_keys_go_first_and_nobody_waits_for_ever() -> None:
    async def main() -> None:
        work = Work(queue(lane=lanes))
        for key in ("r1", "r2", "s1", "n1", "s2", *(f"n{number}" for number in range(2, 20))):
            work.queue.add(key)
            await asyncio.sleep(0.001)
        assert len(work.queue) == 23
        await running(work, 30, workers=1)
        order = [key for _, key in work.seen]
        assert order[:7] == [f"n{number}" for number in range(1, 8)]
        assert order[7] == "r1"
        assert order[15] == "r2"
        assert order[-2:] == ["s1", "s2"]
        assert len(order) == 23

    run(main)


def test_a_key_that_waits_moves_up_when_it_becomes_urgent() -> None:
    async def main() -> None:
        urgent: set[str] = set()
        work = Work(queue(lane=lambda key: Lane.NOW if key in urgent else Lane.ROUTINE))
        for key in ("a", "b", "c"):
            work.queue.add(key)
        urgent.add("c")
        work.queue.add("c")
        urgent.clear()
        work.queue.add("c")
        assert len(work.queue) == 3
        await running(work, 10, workers=1)
        assert [key for _, key in work.seen] == ["c", "a", "b"]

    run(main)


def test_backoff_grows_and_is_forgotten() -> None:
    async def main() -> None:
        work = Work(queue())
        assert [work.queue.retry("a") for _ in range(6)] == [1, 2, 4, 8, 8, 8]
        work.queue.forget("a")
        assert work.queue.retry("a") == 1
        assert work.queue.retry("b", at_least=30) == 30

    run(main)


def test_delayed_keys_keep_their_earliest_time() -> None:
    async def main() -> None:
        work = Work(queue())
        work.queue.add_after("a", 5)
        work.queue.add_after("a", 3)
        work.queue.add_after("a", 9)
        assert work.queue.delayed == 1
        await running(work, 20)
        assert work.seen == [(3, "a")]

    run(main)


def test_a_sooner_key_wakes_the_sleeper() -> None:
    async def main() -> None:
        work = Work(queue())
        work.queue.add_after("late", 100)
        task = asyncio.ensure_future(work.queue.run(work.handle, 1))
        await asyncio.sleep(2)
        work.queue.add_after("soon", 1)
        work.queue.add("now")
        await asyncio.sleep(50)
        assert work.seen == [(2, "now"), (3, "soon")]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_dropped_keys_do_not_come_and_leave_nothing() -> None:
    async def main() -> None:
        work = Work(queue())
        for number in range(1000):
            work.queue.add_after(f"k{number}", 3600 + number)
            work.queue.drop(f"k{number}")
        assert work.queue.delayed == 0
        assert len(work.queue._later) < 200
        await running(work, 10_000)
        assert work.seen == []

    run(main)


def test_draining_lets_work_end_and_hands_out_nothing() -> None:
    async def main() -> None:
        work = Work(queue())
        for key in "abc":
            work.queue.add(key)
        task = asyncio.ensure_future(work.queue.run(work.handle, 2))
        await asyncio.sleep(0.5)
        await work.queue.drain()
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        assert [key for _, key in work.seen] == ["a", "b"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_the_age_of_work_is_known() -> None:
    async def main() -> None:
        work = Work(queue())
        work.queue.add("a")
        work.queue.add("b")
        assert await work.queue.get() == "a"
        await asyncio.sleep(2)
        assert await work.queue.get() == "b"
        await asyncio.sleep(1)
        total, longest = work.queue.working(asyncio.get_running_loop().time())
        assert total == pytest.approx(4.0)
        assert longest == pytest.approx(3.0)

    run(main)


def test_metrics_hear_of_everything() -> None:
    async def main() -> None:
        metrics = Metrics()
        work = Work(WorkQueue(metrics))
        work.queue.add("a")
        work.queue.retry("b")
        await running(work, 10)
        names = {"name": "sightline"}
        value = metrics.registry.get_sample_value
        assert value("workqueue_adds_total", names) == 2
        assert value("workqueue_retries_total", names) == 1
        assert value("workqueue_depth", names) == 0
        assert value("workqueue_work_duration_seconds_count", names) == 2
        assert value("workqueue_work_duration_seconds_sum", names) == pytest.approx(2.0)

    run(main)


def test_while_urgent_keys_come_few_others_are_under_way() -> None:
    async def main() -> None:
        work = Work(queue(lane=lanes))
        task = asyncio.ensure_future(work.queue.run(work.handle, 8, 2))
        for number in range(12):
            work.queue.add(f"r{number}")
        await asyncio.sleep(0.5)
        assert work.active == {f"r{number}" for number in range(8)}  # nothing is urgent: all workers have one
        for number in range(3):
            work.queue.add(f"n{number}")
        await asyncio.sleep(1.0)  # they ended at 1.0
        assert work.active == {"n0", "n1", "n2", "r8", "r9"}
        await asyncio.sleep(0.3)  # at 1.8: from 2.0 on nothing urgent has come for a second
        assert work.active == {"n0", "n1", "n2", "r8", "r9"}
        await asyncio.sleep(0.3)
        assert work.active == {"r10", "r11"}
        await asyncio.sleep(5)
        assert work.queue.idle
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_what_was_held_back_goes_on_by_itself() -> None:
    async def main() -> None:
        waiting = queue(lane=lanes)
        seen: list[tuple[float, str]] = []

        async def handle(key: str) -> None:
            seen.append((asyncio.get_running_loop().time(), key))
            await asyncio.sleep(60.0 if key == "r0" else 0.0)

        task = asyncio.ensure_future(waiting.run(handle, 8, 1))
        for key in ("n0", "r0", "r1"):
            waiting.add(key)
        await asyncio.sleep(10)
        assert seen == [(0, "n0"), (0, "r0"), (URGENT_SECONDS, "r1")]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)


def test_who_waits_for_somebody_else_holds_nobody_back() -> None:
    async def main() -> None:
        waiting = queue(lane=lanes)
        seen: list[tuple[float, str]] = []

        async def handle(key: str) -> None:
            seen.append((round(asyncio.get_running_loop().time(), 3), key))
            with waiting.elsewhere(key):
                await asyncio.sleep(1.0)
            await asyncio.sleep(1.0)

        task = asyncio.ensure_future(waiting.run(handle, 8, 1))
        for key in ("n0", "r0", "r1"):
            waiting.add(key)
        await asyncio.sleep(1.5)
        assert seen == [(0, "n0"), (0, "r0"), (0, "r1")]
        for key in ("n1", "r2"):
            waiting.add(key)
        await asyncio.sleep(5)
        assert seen[3:] == [(1.5, "n1"), (2, "r2")]  # the two are back since 1.0, and done at 2.0
        assert waiting.idle
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main)
