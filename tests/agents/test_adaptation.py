"""When a link is too thin, and when a better quality is tried again."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.adaptation import Judge, Rules, Verdict, neighbour

RULES = Rules()


def tell(judge: Judge, begin: float, seconds: int, loss: float = 0.0, trip: float | None = 0.02) -> Iterator[Verdict]:
    """A report each second; the verdict after each."""
    for second in range(seconds):
        judge.hear(begin + second, loss, trip)
        yield judge.verdict(begin + second)


def test_heavy_loss_leads_down_after_three_reports() -> None:
    assert list(tell(Judge(0), 0, 3, loss=0.2)) == [Verdict.STAY, Verdict.STAY, Verdict.DOWN]


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05])
def test_loss_that_repair_keeps_up_with_leads_nowhere_down(loss: float) -> None:
    assert Verdict.DOWN not in list(tell(Judge(0), 0, 60, loss=loss))


def test_one_bad_report_is_no_reason() -> None:
    judge = Judge(0)
    assert set(tell(judge, 0, 5)) == {Verdict.STAY}
    judge.hear(5, 0.2, 0.02)
    assert judge.verdict(5) is Verdict.STAY


def test_a_full_queue_on_the_way_leads_down() -> None:
    judge = Judge(0)
    assert Verdict.DOWN not in list(tell(judge, 0, 5, trip=0.05))
    assert list(tell(judge, 10, 3, trip=0.6))[-1] is Verdict.DOWN


def test_a_link_that_is_long_by_nature_is_no_trouble() -> None:
    assert Verdict.DOWN not in list(tell(Judge(0), 0, 60, trip=0.7))


def test_a_clean_link_leads_up_but_not_soon() -> None:
    verdicts = list(tell(Judge(0), 0, 20))
    assert verdicts.index(Verdict.UP) == RULES.up_after
    assert Verdict.UP not in list(tell(Judge(0), 0, 60, loss=0.03))


def test_silence_leads_nowhere() -> None:
    judge = Judge(0)
    list(tell(judge, 0, 3, loss=0.5))
    assert judge.verdict(1000) is Verdict.STAY


def test_reports_of_before_a_change_do_not_count() -> None:
    judge = Judge(0)
    list(tell(judge, 0, 3, loss=0.5))
    judge.moved(3, Verdict.DOWN)
    assert set(tell(judge, 3, 3, loss=0.5)) == {Verdict.STAY}


def test_a_try_that_was_too_early_makes_the_next_one_late() -> None:
    judge, now, waits = Judge(0), 0.0, []
    for _ in range(6):
        began = now
        while judge.verdict(now) is not Verdict.UP:
            now += 1
            judge.hear(now, 0.0, 0.02)
        waits.append(now - began)
        judge.moved(now, Verdict.UP)
        while judge.verdict(now) is not Verdict.DOWN:
            now += 1
            judge.hear(now, 0.2, 0.02)
        judge.moved(now, Verdict.DOWN)
    assert waits == sorted(waits)
    assert waits[0] == RULES.up_after
    assert waits[-1] >= RULES.up_after_most
    assert waits[2] >= 3 * waits[0]


def test_a_better_quality_that_is_not_to_be_had_is_tried_less_and_less() -> None:
    judge, now, tries = Judge(0), 0.0, []
    while now < 600:
        now += 1
        judge.hear(now, 0.0, 0.02)
        if judge.verdict(now) is Verdict.UP:
            tries.append(now)
            judge.moved(now, Verdict.UP)
            judge.failed()
    steps = [after - before for before, after in pairwise(tries)]
    assert steps[0] == 2 * RULES.up_after
    assert steps[-1] == RULES.up_after_most


reports = st.lists(
    st.tuples(st.floats(0, 5), st.floats(0, 1), st.none() | st.floats(0.001, 60)),
    max_size=200,
)


@given(reports)
def test_never_up_within_the_time_and_never_much_kept(steps: list[tuple[float, float, float | None]]) -> None:
    judge, now, quiet_since = Judge(0), 0.0, 0.0
    for pause, loss, trip in steps:
        now += pause
        judge.hear(now, loss, trip)
        if loss > RULES.clean_loss:
            quiet_since = now
        verdict = judge.verdict(now)
        if verdict is Verdict.UP:
            assert now - quiet_since >= RULES.up_after
        if verdict is not Verdict.STAY:
            judge.moved(now, verdict)
            quiet_since = now
        assert all(at >= now - RULES.window for at, _, _ in judge._reports)


def test_neighbours() -> None:
    names = ["main", "sd", "tiny"]
    assert neighbour(names, "main", Verdict.DOWN) == "sd"
    assert neighbour(names, "tiny", Verdict.UP) == "sd"
    assert neighbour(names, "tiny", Verdict.DOWN) is None
    assert neighbour(names, "main", Verdict.UP) is None
    assert neighbour(names, "main", Verdict.STAY) is None
    assert neighbour(names, "gone", Verdict.DOWN) is None
