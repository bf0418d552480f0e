"""Whose turn it is in a roll-out."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_operator.rollout import Rollouts, Standing

A, B, C, D = ("site", "a"), ("site", "b"), ("site", "c"), ("site", "d")


def test_one_at_a_time_and_the_next_is_named() -> None:
    rollouts = Rollouts()
    assert rollouts.may_begin("default", A, 0, 1)
    assert not rollouts.may_begin("default", B, 0, 1)
    assert not rollouts.may_begin("default", C, 0, 1)
    assert rollouts.may_begin("default", A, 0, 1)
    assert rollouts.standing("default") == Standing((A,), 2, 0)
    assert rollouts.done(A) == (B,)
    assert rollouts.may_begin("default", B, 0, 1)
    assert rollouts.done(C) == ()
    assert rollouts.done(B) == ()
    assert rollouts._classes == {}


def test_watched_cameras_let_idle_ones_go_first() -> None:
    rollouts = Rollouts()
    assert not rollouts.may_begin("default", A, 3, 1)
    assert rollouts.may_begin("default", B, 0, 1)
    assert not rollouts.may_begin("default", A, 3, 1)
    assert rollouts.standing("default") == Standing((B,), 1, 1)
    assert rollouts.done(B) == (A,)
    assert rollouts.may_begin("default", A, 3, 1)


def test_classes_do_not_wait_for_each_other() -> None:
    rollouts = Rollouts()
    rollouts.under_way("default", A)
    assert rollouts.may_begin("other", B, 0, 1)


def test_a_named_camera_that_needs_no_move_any_more_passes_its_turn_on() -> None:
    rollouts = Rollouts()
    rollouts.under_way("default", A)
    for camera in (B, C):
        assert not rollouts.may_begin("default", camera, 0, 1)
    assert rollouts.done(A) == (B,)
    assert rollouts.done(B) == (C,)


def test_a_camera_whose_turn_it_is_need_not_wait_for_another_one_whose_turn_it_is() -> None:
    """Those that are named come back in any order, and one of them may fail for a while."""
    rollouts = Rollouts()
    rollouts.under_way("default", C)
    rollouts.under_way("default", D)
    for camera in (A, B):
        assert not rollouts.may_begin("default", camera, 0, 2)
    rollouts.done(C)
    assert rollouts.done(D) == (A, B)
    assert rollouts.may_begin("default", B, 0, 2)
    assert rollouts.may_begin("default", A, 0, 2)


def test_a_camera_whose_viewers_are_not_known_yet_has_to_wait() -> None:
    rollouts = Rollouts()
    assert not rollouts.may_begin("default", A, None, 1)
    assert rollouts.standing("default") == Standing()
    rollouts.under_way("default", A)
    assert rollouts.may_begin("default", A, None, 1)


def test_as_many_as_may_be_unavailable_move_at_a_time() -> None:
    rollouts = Rollouts()
    assert [rollouts.may_begin("default", camera, 0, 2) for camera in (A, B, C, D)] == [True, True, False, False]
    assert rollouts.done(A) == (C,)
    assert rollouts.may_begin("default", C, 0, 2)
    assert rollouts.classes_of(D) == ("default",)
    assert rollouts.done(C) == (D,)
    assert rollouts.done(B) == (D,)
    assert rollouts.standing("other") == Standing()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 3))
def test_everybody_gets_a_turn(viewers: list[int], at_a_time: int) -> None:
    rollouts = Rollouts()
    left = {("site", f"c{number}"): count for number, count in enumerate(viewers)}
    moving: set[tuple[str, str]] = set()
    for _ in range(3 * len(viewers) + 3):
        for camera, count in left.items():
            if camera not in moving and rollouts.may_begin("default", camera, count, at_a_time):
                moving.add(camera)
        assert len(moving) <= at_a_time
        for camera in list(moving):
            rollouts.done(camera)
            moving.discard(camera)
            del left[camera]
    assert left == {}
