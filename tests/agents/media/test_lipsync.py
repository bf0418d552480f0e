"""Sound beside pictures: what sender reports have to say."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.lipsync import LipSync, Unwrapper, signed

RATE = 48_000
STAMPS = st.integers(0, (1 << 32) - 1)


@given(STAMPS, STAMPS, st.floats(-2, 2), st.floats(0, 5))
def test_sound_is_told_beside_the_pictures_however_late_it_comes(
    picture: int, sound: int, late: float, since: float
) -> None:
    """The sound of a picture's moment comes `late` seconds after the picture, or before it."""
    sync = LipSync()
    sync.picture(picture, 100.0)
    sync.sound(sound, 100.0 + late, picture)
    now = 103.0 + since
    by_arrival = sound + round((now - 100.0 - late) * RATE)
    told = by_arrival + sync.correction(RATE, now)
    assert abs(signed(told - sound - round((now - 100.0) * RATE))) <= 2


def test_without_a_relation_arrival_counts() -> None:
    sync = LipSync()
    assert sync.correction(RATE, 5.0) == 0
    sync.picture(1, 1.0)
    sync.sound(1, 3.0, None)
    assert sync.correction(RATE, 5.0) == 0
    sync.sound(2, 3.0, 1)
    assert sync.correction(RATE, 5.0) == 2 * RATE
    sync.restart()
    assert sync.correction(RATE, 5.0) == 0


def test_the_newest_part_of_a_picture_counts_as_in_the_reports_of_the_pictures() -> None:
    sync = LipSync()
    sync.picture(1, 1.0)
    sync.sound(0, 1.0, 1)
    assert sync.correction(RATE, 9.0) == 0
    sync.picture(1, 1.5)
    assert sync.correction(RATE, 9.0) == -RATE // 2


@given(st.lists(st.integers(-(1 << 31) + 1, (1 << 31) - 1), max_size=20), STAMPS)
def test_timestamps_go_on_over_wraps(steps: list[int], first: int) -> None:
    unwrapper, exact = Unwrapper(), first
    assert unwrapper.unwrap(first) == first
    for step in steps:
        exact += step
        assert unwrapper.unwrap(exact % (1 << 32)) == exact
