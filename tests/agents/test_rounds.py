"""Work that falls due together is done together, and never late."""

import asyncio
import weakref
from collections.abc import Sequence

import structlog
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.rounds import COARSE_FROM_SECONDS, COARSE_GRAINS, FULL, GRAIN_SECONDS, Rounds, Turn
from tests.helpers.virtual_time import run


class Desk:
    """Writes down when its work was done."""

    def __init__(self, every: float, times: int) -> None:
        self.every = every
        self.times = times
        self.done: list[float] = []
        self.failures: list[Exception] = []

    def work(self) -> float | None:
        self.done.append(asyncio.get_running_loop().time())
        return self.every if len(self.done) < self.times else None

    def start(self, rounds: Rounds) -> Turn:
        return rounds.each(self.every, self.work, self.failures.append)


async def start_together(desks: Sequence[Desk], seconds: float) -> None:
    """All at once, for so long."""
    rounds = Rounds()
    for desk in desks:
        desk.start(rounds)
    await asyncio.sleep(seconds)


@given(st.floats(0, 3), st.integers(1, 8))
def test_work_comes_again_and_up_to_a_grain_early(every: float, times: int) -> None:
    desk = Desk(every, times)

    async def scenario() -> None:
        desk.start(Rounds())
        await asyncio.sleep((every + GRAIN_SECONDS) * (times + 1))

    run(scenario())
    assert len(desk.done) == times
    early = GRAIN_SECONDS * (COARSE_GRAINS if every >= COARSE_FROM_SECONDS else 1)
    least, most = max(every - early, 0.0), max(every, GRAIN_SECONDS)
    for before, after in zip([0.0, *desk.done], desk.done, strict=False):
        assert least - 1e-6 <= after - before <= most + 1e-6


def test_what_has_time_waits_for_the_others() -> None:
    """Begun at any moments, the looks of a second are four rounds."""
    desks = [Desk(1.0, 4) for _ in range(40)]

    async def scenario() -> None:
        rounds = Rounds()
        for desk in desks:
            desk.start(rounds)
            await asyncio.sleep(0.026)
        await asyncio.sleep(6)

    run(scenario())
    assert len({round(time, 3) for desk in desks for time in desk.done if 2 <= time < 3}) == 4


def test_a_full_round_takes_nobody_more() -> None:
    desks = [Desk(1.2, 1) for _ in range(FULL + 10)]
    run(start_together(desks, 2))
    times = [round(desk.done[0], 3) for desk in desks]
    assert times == [1.0] * FULL + [1.2] * 10


def test_many_wake_up_together() -> None:
    desks = [Desk(1 + place / 1000, 1) for place in range(40)]
    run(start_together(desks, 2))
    assert {time for desk in desks for time in desk.done} == {1.0}


def test_what_was_cancelled_is_not_done() -> None:
    first, second, third = desks = [Desk(1, 5), Desk(1, 5), Desk(1, 5)]

    async def scenario() -> None:
        rounds = Rounds()
        turns = [desk.start(rounds) for desk in desks]
        turns[0].cancel()
        turns[0].cancel()
        await asyncio.sleep(2.5)
        turns[1].cancel()
        await asyncio.sleep(5)

    run(scenario())
    assert (first.done, len(second.done), len(third.done)) == ([], 2, 5)


def test_one_that_fails_ends_alone() -> None:
    failing, other = Desk(1, 5), Desk(1, 5)
    error = RuntimeError("a defect")

    def work() -> float | None:
        failing.work()
        raise error

    async def scenario() -> None:
        rounds = Rounds()
        rounds.each(1, work, failing.failures.append)
        other.start(rounds)
        await asyncio.sleep(10)

    run(scenario())
    assert failing.failures == [error]
    assert (len(failing.done), len(other.done), other.failures) == (1, 5, [])


def test_one_that_fails_to_fail_takes_nobody_along() -> None:
    other = Desk(1, 5)

    def work() -> float | None:
        raise RuntimeError("a defect")

    def failed(error: Exception) -> None:
        raise ValueError("another") from error

    async def scenario() -> None:
        rounds = Rounds()
        rounds.each(1, work, failed)
        other.start(rounds)
        await asyncio.sleep(10)

    with structlog.testing.capture_logs() as lines:
        run(scenario())
    assert len(other.done) == 5
    assert [(line["log_level"], line["exc_info"]) for line in lines] == [("error", True)]


def test_whoever_has_cancelled_is_let_go_at_once() -> None:
    async def scenario() -> bool:
        rounds, desk = Rounds(), Desk(1.0, 1)
        turn, known = desk.start(rounds), weakref.ref(desk)
        turn.cancel()
        del desk, turn
        return known() is None

    assert run(scenario())
