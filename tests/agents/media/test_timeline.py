"""One line of timestamps: across runs, and across a camera that begins to count anew within one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import CLOCK_RATE, Chunk
from sightline_agent.media.timeline import Timeline

FRAME = CLOCK_RATE // 25
MODULUS = 1 << 32


def step(timeline: Timeline, before: int, timestamp: int, now: float) -> int:
    """From the timestamp placed before to this one's."""
    placed = timeline.place(Chunk((b"x",), timestamp % MODULUS, True, False), now).timestamp
    assert timeline.placed(timestamp % MODULUS) == placed
    return (placed - before + MODULUS // 2) % MODULUS - MODULUS // 2


@given(begin=st.integers(0, MODULUS - 1), jump=st.integers(0, MODULUS - 1))
def test_a_clock_that_begins_anew_leaves_no_jump(begin: int, jump: int) -> None:
    timeline = Timeline()
    last = timeline.place(Chunk((b"x",), begin, True, True), 5.0).timestamp
    for number in range(1, 4):
        moved = step(timeline, last, begin + jump + number * FRAME, 5.0 + number / 25)
        # What is no more than pictures in another order, or that waited on the way, is left as it is.
        assert -2 * CLOCK_RATE <= moved <= 10 * CLOCK_RATE + FRAME
        last = (last + moved) % MODULUS
    assert step(timeline, last, begin + jump + 4 * FRAME, 5.0 + 4 / 25) == FRAME


@pytest.mark.parametrize("back", [3 * CLOCK_RATE, 1000 * CLOCK_RATE, MODULUS // 2 + 7])
def test_time_goes_on_by_what_has_passed(back: int) -> None:
    timeline = Timeline()
    last = timeline.place(Chunk((b"x",), 0, True, True), 0.0).timestamp
    assert step(timeline, last, -back, 0.04) == FRAME


def test_pictures_in_another_order_stay_where_they_are() -> None:
    timeline = Timeline()
    last = timeline.place(Chunk((b"x",), 90_000, True, True), 0.0).timestamp
    assert [step(timeline, last, 90_000 + at * FRAME, 0.04 * n) for n, at in enumerate((4, 2, 1, 3, 8), 1)] == [
        at * FRAME for at in (4, 2, 1, 3, 8)
    ]


@pytest.mark.parametrize("seconds", [0.04, 4.9, 60.0])
def test_a_pause_is_no_other_clock(seconds: float) -> None:
    timeline = Timeline()
    last = timeline.place(Chunk((b"x",), 7, True, True), 0.0).timestamp
    ticks = round(seconds * CLOCK_RATE)
    assert step(timeline, last, 7 + ticks, seconds) == ticks


@pytest.mark.parametrize("seconds", [0.0, 4.9])
def test_what_waited_on_the_way_is_no_other_clock(seconds: float) -> None:
    timeline = Timeline()
    last = timeline.place(Chunk((b"x",), 7, True, True), 0.0).timestamp
    assert step(timeline, last, 7 + FRAME, seconds) == FRAME
