"""The session lifecycle: the table, the timers on virtual time, and what no sequence of inputs may break."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_model.lifecycle import (
    END_REASONS,
    Config,
    Effect,
    Effects,
    Input,
    Session,
    State,
    UnexpectedInputError,
    begin,
    step,
    tick,
)
from sightline_model.reasons import EndReason

OFF = Config()
END: Effects = (Effect.NOTIFY_STATUS, Effect.CLEANUP)
TIMED_OUT: Effects = (Effect.ON_TIMEOUT, *END)


def after(*inputs: Input, config: Config = OFF, now: float = 0.0) -> Session:
    session = begin(now, config)
    for given_input in inputs:
        session, _ = step(session, given_input, now, config)
    return session


CONNECTING = (Input.ACCEPTED, Input.ANSWERED)
STREAMING = (*CONNECTING, Input.MEDIA)


def test_a_whole_life() -> None:
    session = begin(0, OFF)
    assert (session.state, session.next_deadline()) == (State.REQUESTED, None)
    story = [
        (Input.ACCEPTED, State.CONNECTING, (Effect.NOTIFY_STATUS,)),
        (Input.ANSWERED, State.CONNECTING, (Effect.NOTIFY_STATUS,)),
        (Input.MEDIA, State.STREAMING, (Effect.NOTIFY_STATUS,)),
        (Input.MEDIA, State.STREAMING, ()),
        (Input.ACK, State.STREAMING, ()),
        (Input.HANGUP, State.ENDED, END),
    ]
    for given_input, state, effects in story:
        session, done = step(session, given_input, 1, OFF)
        assert (session.state, done) == (state, effects)
    assert session.end_reason is EndReason.HANGUP


FITS = {
    State.REQUESTED: {Input.ACCEPTED, Input.REJECTED},
    State.CONNECTING: {Input.ANSWERED, Input.MEDIA, Input.REJECTED, Input.ACK, Input.MISSED_TICK},
    State.STREAMING: {Input.MEDIA, Input.ACK, Input.MISSED_TICK},
    State.ENDED: set(Input) - {Input.ACCEPTED, Input.ANSWERED},
}
ALWAYS = {
    Input.SOCKET_DOWN,
    Input.SOCKET_UP,
    Input.TIMER,
    Input.HANGUP,
    Input.EXPIRED,
    Input.REVOKED,
    Input.SUPERSEDED,
    Input.AGENT_LOST,
    Input.SOURCE_LOST,
}
PATHS = {
    State.REQUESTED: (),
    State.CONNECTING: (Input.ACCEPTED,),
    State.STREAMING: STREAMING,
    State.ENDED: (*STREAMING, Input.HANGUP),
}


@pytest.mark.parametrize("given_input", Input)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_fits_or_is_refused(state: State, given_input: Input) -> None:
    session = after(*PATHS[state])
    assert session.state is state
    if given_input in FITS[state] | ALWAYS:
        step(session, given_input, 1, OFF)
    else:
        with pytest.raises(UnexpectedInputError) as caught:
            step(session, given_input, 1, OFF)
        assert set(caught.value.expected) == FITS[state] | ALWAYS
        assert f"a session that is {state} got {given_input}; expected " in str(caught.value)


@pytest.mark.parametrize("state", [State.REQUESTED, State.CONNECTING, State.STREAMING])
@pytest.mark.parametrize("given_input", sorted(END_REASONS.keys() - {Input.REJECTED}))
def test_endings(state: State, given_input: Input) -> None:
    session, effects = step(after(*PATHS[state]), given_input, 1, OFF)
    assert (session.state, session.end_reason, effects) == (State.ENDED, END_REASONS[given_input], END)


@pytest.mark.parametrize("path", [(), (Input.ACCEPTED,)])
def test_a_rejection_ends_what_does_not_stream_yet(path: tuple[Input, ...]) -> None:
    session, effects = step(after(*path), Input.REJECTED, 1, OFF)
    assert (session.end_reason, effects) == (EndReason.REJECTED, END)


def test_a_second_answer_is_refused_and_does_not_prolong_the_wait() -> None:
    config = Config(connect_timeout=20)
    session = after(*CONNECTING, config=config)
    with pytest.raises(UnexpectedInputError, match="got answered; expected media"):
        step(session, Input.ANSWERED, 19, config)
    assert session.next_deadline() == 20


@pytest.mark.parametrize("late", sorted(set(Input) - {Input.ACCEPTED, Input.ANSWERED}))
def test_what_comes_after_the_end_changes_nothing(late: Input) -> None:
    session = after(*STREAMING, Input.HANGUP)
    assert step(session, late, 99, Config(idle_timeout=1, max_duration=1)) == (session, ())


class TestConnectTimeout:
    config = Config(connect_timeout=20)

    @pytest.mark.parametrize("path", [(), (Input.ACCEPTED,), CONNECTING])
    def test_bounds_every_step_before_media(self, path: tuple[Input, ...]) -> None:
        session = after(*path, config=self.config)
        assert session.next_deadline() == 20
        assert tick(session, 19.999, self.config) == (session, ())
        ended, effects = tick(session, 20, self.config)
        assert (ended.end_reason, effects) == (EndReason.CONNECT_TIMEOUT, TIMED_OUT)

    def test_each_step_winds_it_up_and_media_ends_it(self) -> None:
        session, _ = step(begin(0, self.config), Input.ACCEPTED, 15, self.config)
        assert session.next_deadline() == 35
        session, _ = step(session, Input.ANSWERED, 30, self.config)
        assert session.next_deadline() == 50
        session, _ = step(session, Input.MEDIA, 40, self.config)
        assert session.next_deadline() is None

    def test_answer_timeout_bounds_what_is_before_the_answer(self) -> None:
        config = replace(self.config, answer_timeout=60)
        assert begin(0, config).next_deadline() == 60
        assert after(Input.ACCEPTED, config=config).next_deadline() == 60
        assert after(*CONNECTING, config=config).next_deadline() == 20

    def test_acks_do_not_prolong_it(self) -> None:
        session = after(*CONNECTING, config=self.config)
        assert step(session, Input.ACK, 10, self.config) == (session, ())
        assert step(session, Input.MISSED_TICK, 10, self.config) == (session, ())


class TestKeepAlives:
    config = Config(ack_interval=5, ack_timeout=2, max_missed_acks=2)

    def test_acknowledged_ones_go_on_for_ever(self) -> None:
        session = after(*STREAMING, config=self.config)
        for turn in range(1, 20):
            session, effects = tick(session, 5.0 * turn, self.config)
            assert effects == (Effect.SEND_KEEP_ALIVE,)
            session, effects = step(session, Input.ACK, 5 * turn + 1, self.config)
            assert effects == ()
        assert session.missed_acks == 0

    def test_misses_in_a_row_end_the_session(self) -> None:
        session = after(*STREAMING, config=self.config)
        heard = []
        while (due := session.next_deadline()) is not None:
            session, effects = tick(session, due, self.config)
            heard.append((due, effects))
        assert heard == [
            (5, (Effect.SEND_KEEP_ALIVE,)),
            (7, (Effect.ON_ACK_MISSED,)),
            (10, (Effect.SEND_KEEP_ALIVE,)),
            (12, (Effect.ON_ACK_MISSED, *TIMED_OUT)),
        ]
        assert session.end_reason is EndReason.ACK_TIMEOUT

    def test_an_ack_forgives(self) -> None:
        session = after(*STREAMING, config=self.config)
        for now in (5, 7):
            session, _ = tick(session, now, self.config)
        assert session.missed_acks == 1
        session, _ = step(session, Input.ACK, 8, self.config)
        assert session.missed_acks == 0

    def test_the_adapters_own_ticks_count_like_timeouts(self) -> None:
        config = Config(max_missed_acks=2)
        session = after(*STREAMING, config=config)
        assert session.next_deadline() is None
        session, effects = step(session, Input.MISSED_TICK, 1, config)
        assert effects == (Effect.ON_ACK_MISSED,)
        session, effects = step(session, Input.MISSED_TICK, 2, config)
        assert (session.end_reason, effects) == (EndReason.ACK_TIMEOUT, (Effect.ON_ACK_MISSED, *TIMED_OUT))

    def test_without_keep_alives_silence_is_the_miss(self) -> None:
        config = Config(ack_timeout=10, max_missed_acks=1)
        session = after(*STREAMING, config=config)
        assert session.next_deadline() == 10
        session, _ = step(session, Input.ACK, 9, config)
        assert session.next_deadline() == 19
        session, _ = tick(session, 19, config)
        assert session.end_reason is EndReason.ACK_TIMEOUT

    def test_without_a_bound_misses_are_told_only(self) -> None:
        config = replace(self.config, max_missed_acks=0)
        session = after(*STREAMING, config=config)
        for _ in range(50):
            due = session.next_deadline()
            assert due is not None
            session, _ = tick(session, due, config)
        assert session.state is State.STREAMING
        assert session.missed_acks == 25

    def test_a_late_tick_fires_each_timer_once(self) -> None:
        session = after(*STREAMING, config=self.config)
        session, effects = tick(session, 1000, self.config)
        assert effects == (Effect.SEND_KEEP_ALIVE,)
        session, effects = tick(session, 2000, self.config)
        assert effects == (Effect.ON_ACK_MISSED, Effect.SEND_KEEP_ALIVE)


class TestSocket:
    config = Config(socket_grace=8)

    @pytest.mark.parametrize("path", [(), (Input.ACCEPTED,), STREAMING])
    def test_a_socket_that_stays_away_ends_the_session(self, path: tuple[Input, ...]) -> None:
        session, effects = step(after(*path), Input.SOCKET_DOWN, 10, self.config)
        assert (effects, session.next_deadline()) == ((), 18)
        session, effects = tick(session, 18, self.config)
        assert (session.end_reason, effects) == (EndReason.SOCKET_LOST, TIMED_OUT)

    def test_a_socket_that_is_back_in_time_changes_nothing(self) -> None:
        before = after(*STREAMING, config=self.config)
        session, _ = step(before, Input.SOCKET_DOWN, 10, self.config)
        session, _ = step(session, Input.SOCKET_UP, 17, self.config)
        assert session == before

    def test_saying_it_twice_does_not_prolong_the_grace(self) -> None:
        session, _ = step(after(*STREAMING), Input.SOCKET_DOWN, 0, self.config)
        session, _ = step(session, Input.SOCKET_DOWN, 5, self.config)
        assert session.next_deadline() == 8

    def test_zero_grace_leaves_it_to_the_acks(self) -> None:
        session, _ = step(after(*STREAMING), Input.SOCKET_DOWN, 0, OFF)
        assert session.next_deadline() is None


def test_idle_is_the_time_without_media() -> None:
    config = Config(idle_timeout=30)
    session = after(*STREAMING, config=config)
    session, _ = step(session, Input.ACK, 20, config)
    assert session.next_deadline() == 30
    session, _ = step(session, Input.MEDIA, 25, config)
    assert session.next_deadline() == 55
    session, effects = tick(session, 55, config)
    assert (session.end_reason, effects) == (EndReason.IDLE, TIMED_OUT)


def test_the_maximum_duration_counts_from_the_request() -> None:
    config = Config(max_duration=100)
    session = begin(0, config)
    for given_input in STREAMING:
        session, _ = step(session, given_input, 50, config)
    session, effects = tick(session, 100, config)
    assert (session.end_reason, effects) == (EndReason.MAX_DURATION, TIMED_OUT)


def test_the_earliest_of_several_late_timers_decides() -> None:
    config = Config(idle_timeout=30, max_duration=20)
    session, effects = tick(after(*STREAMING, config=config), 1000, config)
    assert (session.end_reason, effects) == (EndReason.MAX_DURATION, TIMED_OUT)


@pytest.mark.parametrize("value", [-1, 0.0001, float("nan"), float("inf")])
def test_a_config_that_could_spin_or_never_fire_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="ack_interval"):
        Config(ack_interval=value)


seconds = st.one_of(st.just(0.0), st.floats(min_value=0.5, max_value=60))
configs = st.builds(
    Config,
    ack_interval=seconds,
    ack_timeout=seconds,
    max_missed_acks=st.integers(0, 4),
    socket_grace=seconds,
    connect_timeout=seconds,
    idle_timeout=seconds,
    max_duration=seconds,
    answer_timeout=seconds,
)
# An input and the time since the one before; early endings would leave little to try, so they are rare.
common = st.sampled_from([i for i in Input if i not in END_REASONS])
happenings = st.lists(st.tuples(st.one_of(common, st.sampled_from(Input)), st.floats(0, 20)), max_size=60)


@given(configs, happenings)
def test_no_sequence_of_inputs_breaks_a_life(config: Config, story: list[tuple[Input, float]]) -> None:
    now = 1000.0
    session = begin(now, config)
    cleanups = 0
    for given_input, pause in story:
        now += pause
        before = session
        try:
            session, effects = step(session, given_input, now, config)
        except UnexpectedInputError:
            assert session is before
            continue
        cleanups += effects.count(Effect.CLEANUP)
        assert cleanups == (1 if session.ended else 0)
        assert (session.end_reason is not None) == session.ended
        if Effect.CLEANUP in effects:
            assert effects[-1] is Effect.CLEANUP
        if before.ended:
            assert (session, effects) == (before, ())
        if session.ended:
            assert session.next_deadline() is None
        if given_input is Input.TIMER and (due := session.next_deadline()) is not None:
            assert due > now  # an adapter that sleeps until the next deadline never spins


@given(configs, happenings)
def test_time_alone_ends_every_life_that_has_a_bound(config: Config, story: list[tuple[Input, float]]) -> None:
    config = replace(config, max_duration=600)
    now = 0.0
    session = begin(now, config)
    for given_input, pause in story:
        now += pause
        try:
            session, _ = step(session, given_input, now, config)
        except UnexpectedInputError:
            continue
    ticks = 0
    while (due := session.next_deadline()) is not None:
        session, _ = tick(session, max(due, now), config)
        ticks += 1
    assert session.ended
    assert ticks < 4 * 600 / 0.5
