"""What players say of themselves: kept for who is there, summed up for all, and never beyond what time allows."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.players import LEAST_SECONDS, Players
from sightline_model.agent import PlayerReport


def report(freezes: int = 0, seconds: float = 0.0, dropped: int = 0) -> PlayerReport:
    return PlayerReport(
        freezes=freezes, frozen_seconds=seconds, frames_dropped=dropped, frames_per_second=30.0, jitter_buffer_ms=40.0
    )


def test_totals_are_summed_up_as_differences() -> None:
    players = Players()
    players.note("a", report(2, 1.5, 10), 100.0)
    players.note("b", report(1, 0.5, 0), 100.0)
    players.note("a", report(3, 2.5, 14), 110.0)
    assert (players.freezes, players.frozen_seconds, players.frames_dropped) == (4, 3.0, 14)
    assert (players.counted, players.ignored) == (3, 0)
    assert players.of("a") == report(3, 2.5, 14)
    assert players.frame_rate.buckets()[-1][1] == 3
    assert players.jitter_buffer.total == 0.12


def test_reports_that_come_too_soon_are_ignored() -> None:
    players = Players()
    players.note("a", report(1), 100.0)
    players.note("a", report(2), 100.0 + LEAST_SECONDS - 0.1)
    assert (players.freezes, players.ignored, players.of("a")) == (1, 1, report(1))
    players.note("a", report(2), 100.0 + LEAST_SECONDS)
    assert players.freezes == 2


def test_a_player_that_began_anew_takes_nothing_away() -> None:
    players = Players()
    players.note("a", report(5, 3.0), 100.0)
    players.note("a", report(1, 0.5), 110.0)
    players.note("a", report(2, 1.0), 120.0)
    assert (players.freezes, players.frozen_seconds) == (6, 3.5)


def test_who_has_gone_is_forgotten() -> None:
    players = Players()
    players.note("a", report(), 100.0)
    players.forget("a")
    players.forget("a")
    assert players.of("a") is None


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.integers(0, 10**9),
            st.floats(0, 10**9),
            st.integers(0, 10**12),
        )
    )
)
def test_nobody_freezes_longer_than_time_passes(said: list[tuple[float, int, float, int]]) -> None:
    players, now = Players(), 1000.0
    for pause, freezes, seconds, dropped in said:
        now += pause
        before = players.frozen_seconds
        players.note("a", report(freezes, seconds, dropped), now)
        assert players.frozen_seconds >= before
    assert players.frozen_seconds <= 60.0 + now - 1000.0
    assert players.frames_dropped <= (60.0 + now - 1000.0) * 240
    assert players.counted + players.ignored == len(said)
