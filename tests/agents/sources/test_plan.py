"""When the source runs, as a table of stories. Time is a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.plan import PROBE, UNWATCHED, WATCHED, Pauses, Plan
from sightline_model.reasons import SourceReason


def error(reason: SourceReason = SourceReason.UNREACHABLE) -> SourceError:
    return SourceError(reason, "away")


def plan(always: bool = False, random: float = 0.0) -> Plan:
    return Plan(always, 30.0, lambda: random)


def proven() -> Plan:
    """A plan whose probe has succeeded."""
    one = plan()
    one.started()
    one.streamed(0.0)
    one.proved()
    one.stopped()
    return one


def watched(since: float = 0.0) -> Plan:
    """A plan with one viewer and pictures."""
    one = proven()
    one.started()
    one.streamed(since)
    one.joined()
    return one


def test_a_new_source_is_probed_until_its_first_key_frame() -> None:
    one = plan()
    assert one.should_run(0.0)
    one.started()
    one.streamed(0.1)
    assert one.should_run(0.2)
    one.proved()
    assert not one.should_run(0.3)


def test_a_failing_probe_is_repeated_with_growing_pauses() -> None:
    one, now, pauses = plan(), 0.0, []
    for _ in range(6):
        assert one.should_run(now)
        one.started()
        one.failed(error(), now)
        assert not one.should_run(now)
        due = one.next_deadline(now)
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [5.0, 5.0, 10.0, 20.0, 30.0, 30.0]


def test_the_source_runs_on_for_the_idle_timeout() -> None:
    one = watched()
    one.left(100.0)
    assert one.should_run(129.9)
    assert one.next_deadline(101.0) == 130.0
    assert not one.should_run(130.0)


def test_a_return_within_the_idle_timeout_finds_it_running() -> None:
    one = watched()
    one.left(100.0)
    one.joined()
    assert one.should_run(1000.0)
    one.left(1000.0)
    assert one.should_run(1029.0)
    assert not one.should_run(1030.0)


def test_always_means_always() -> None:
    one = plan(always=True)
    one.started()
    one.streamed(0.0)
    one.proved()
    assert one.should_run(1e9)


def pauses_after_a_break(one: Plan, now: float) -> list[float]:
    """The first attempt is made at once; then these."""
    one.failed(error(), now)
    assert one.should_run(now)
    pauses = []
    for _ in range(7):
        one.started()
        one.failed(error(), now)
        due = one.next_deadline(now)
        assert due is not None
        pauses.append(due - now)
        now = due
    return pauses


def test_a_broken_stream_that_is_watched_is_tried_again_each_second() -> None:
    pauses = pauses_after_a_break(watched(), 50.0)
    assert pauses == [0.5] * 7
    assert WATCHED.after(7, 0.999) == pytest.approx(1.0, abs=0.01)


def test_a_broken_stream_that_nobody_watches_is_tried_with_growing_pauses() -> None:
    one = plan(always=True)
    one.started()
    one.streamed(0.0)
    assert pauses_after_a_break(one, 50.0) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_pauses_are_spread_between_half_and_full() -> None:
    assert UNWATCHED.after(4, 0.0) == 2.0
    assert UNWATCHED.after(4, 0.999) == pytest.approx(4.0, abs=0.01)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True), st.sampled_from([WATCHED, UNWATCHED, PROBE]))
def test_pauses_stay_in_their_bounds(failures: int, random: float, pauses: Pauses) -> None:
    assert pauses.first <= pauses.after(failures, random) <= pauses.longest


def test_a_sound_run_forgets_old_failures() -> None:
    one = watched()
    for now in (10.0, 30.0, 50.0):
        one.failed(error(), now)
        assert one.should_run(now)
        one.started()
        one.streamed(now)


def test_a_stream_that_breaks_again_and_again_is_not_hammered() -> None:
    one = watched(since=9.9)
    one.failed(error(), 10.0)
    one.started()
    one.streamed(10.1)
    one.failed(error(), 10.2)
    assert not one.should_run(10.2)


def test_a_wrong_password_is_tried_seldom() -> None:
    one = watched()
    one.failed(error(SourceReason.AUTHENTICATION_FAILED), 50.0)
    assert one.next_deadline(50.0) == 55.0


def test_who_comes_right_after_a_failure_gets_its_reason() -> None:
    one = plan()
    one.started()
    one.failed(error(), 10.0)
    assert one.fresh_failure(10.4) is not None
    assert one.fresh_failure(10.6) is None
    one.hurry()
    assert one.should_run(10.6)


def test_who_comes_after_a_wrong_password_waits_longer_for_a_new_try() -> None:
    one = plan()
    one.started()
    one.failed(error(SourceReason.AUTHENTICATION_FAILED), 10.0)
    assert one.fresh_failure(14.9) is not None
    assert one.fresh_failure(15.1) is None


def test_a_failure_makes_the_source_unproven() -> None:
    one = watched()
    one.left(40.0)
    one.failed(error(), 50.0)
    assert one.should_run(50.0)
    one.started()
    one.streamed(50.1)
    one.proved()
    assert not one.should_run(50.2)


def test_a_stream_that_ended_begins_again_for_the_next_viewer() -> None:
    one = watched()
    one.ended()
    assert not one.should_run(10.0)
    assert one.next_deadline(10.0) is None
    one.hurry()
    assert one.should_run(10.0)


def test_another_source_begins_anew() -> None:
    one = watched()
    one.failed(error(SourceReason.AUTHENTICATION_FAILED), 50.0)
    one.replaced()
    assert one.should_run(50.0)
    assert one.failure is None
    assert one.watching == 1


def test_nobody_waits_without_a_picture_for_the_idle_timeout() -> None:
    one = proven()
    one.waiting = 1
    one.started()
    one.waiting = 0
    assert not one.should_run(1.0)
