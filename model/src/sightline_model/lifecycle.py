"""The life of a session, for every transport: a pure machine that adapters drive and obey.

    Requested -> Connecting -> Streaming -> Ended(reason)

`_TABLE` holds every transition there is. An adapter calls `begin` once, `step` for what happened and `tick` when
`Session.next_deadline()` has come; both answer with the next Session and with effects to carry out, in order. Time is
the caller's (any monotonic seconds), so a test runs years in no time.

Promises: CLEANUP is the last effect of every life, and comes exactly once; an ended session has no deadline and no
further effects; each timer fires at most once in a `tick`, however late it is called.

What bounds a state: before the first media the connect timeout (each step forward winds it up again); while streaming
the acks and, where media is fed in, the idle timeout; always the maximum duration and the socket's grace.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase

State = SessionPhase

_SHORTEST = 0.001


class Input(StrEnum):
    """What can happen to a session."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ANSWERED = "answered"
    MEDIA = "media"
    ACK = "ack"
    MISSED_TICK = "missedTick"
    SOCKET_DOWN = "socketDown"
    SOCKET_UP = "socketUp"
    HANGUP = "hangup"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    AGENT_LOST = "agentLost"
    SOURCE_LOST = "sourceLost"
    TIMER = "timer"
    """`tick` gives it."""


class Effect(StrEnum):
    """What the adapter has to do."""

    SEND_KEEP_ALIVE = "sendKeepAlive"
    NOTIFY_STATUS = "notifyStatus"
    ON_TIMEOUT = "onTimeout"
    ON_ACK_MISSED = "onAckMissed"
    CLEANUP = "cleanup"


Effects = tuple[Effect, ...]


class UnexpectedInputError(Exception):
    """An input that does not fit the state; the message names what would have."""

    def __init__(self, state: State, given: Input, expected: tuple[Input, ...]) -> None:
        names = ", ".join(expected) or "nothing more"
        super().__init__(f"a session that is {state} got {given}; expected {names}")
        self.state = state
        self.given = given
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Config:
    """Seconds (and one count); 0 switches a bound off."""

    ack_interval: float = 0.0
    """Between keep-alives while streaming. 0: none are sent, and ack_timeout is how long the peer may be silent."""
    ack_timeout: float = 0.0
    """From a keep-alive to its ack. 0: only MISSED_TICK counts misses."""
    max_missed_acks: int = 0
    """Misses in a row that end the session. 0: misses are told (ON_ACK_MISSED) and end nothing."""
    socket_grace: float = 0.0
    """From SOCKET_DOWN to SOCKET_UP. 0: a lost socket is governed by missed acks alone."""
    connect_timeout: float = 0.0
    """From the answer to the first media."""
    idle_timeout: float = 0.0
    """Between two MEDIA inputs while streaming; only for adapters that feed them all the time."""
    max_duration: float = 0.0
    """From the request to the end, whatever happens."""
    answer_timeout: float = 0.0
    """From the request to the acceptance, and from there to the answer. 0: connect_timeout, for each of them."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (value == 0 or (math.isfinite(value) and value >= _SHORTEST)):
                raise ValueError(f"{item.name} is {value}; it must be 0 (off) or at least {_SHORTEST}")


@dataclass(frozen=True, slots=True)
class Session:
    """Where in its life a session is. Deadlines are on the caller's clock; None: not running."""

    state: State = State.REQUESTED
    end_reason: EndReason | None = None
    answered: bool = False
    missed_acks: int = 0
    connect_by: float | None = field(default=None, repr=False)
    keep_alive_at: float | None = field(default=None, repr=False)
    ack_by: float | None = field(default=None, repr=False)
    socket_by: float | None = field(default=None, repr=False)
    idle_by: float | None = field(default=None, repr=False)
    end_by: float | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        """True when nothing can happen any more."""
        return self.state is State.ENDED

    def next_deadline(self) -> float | None:
        """When `tick` is next to be called."""
        return min((due for due, _ in _deadlines(self)), default=None)


def begin(now: float, config: Config) -> Session:
    """A session that was just requested."""
    wait = config.answer_timeout or config.connect_timeout
    return Session(connect_by=_after(now, wait), end_by=_after(now, config.max_duration))


def step(session: Session, given: Input, now: float, config: Config) -> tuple[Session, Effects]:
    """The session after `given`, and what to do; UnexpectedInputError if it does not fit."""
    row = _TABLE[session.state]
    transition = row.get(given)
    if transition is None:
        raise UnexpectedInputError(session.state, given, tuple(row))
    return transition(session, now, config)


def tick(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    """The session after every timer that is due by `now`, the earliest first."""
    return step(session, Input.TIMER, now, config)


_Transition = Callable[[Session, float, Config], tuple[Session, Effects]]


def _accepted(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    wait = config.answer_timeout or config.connect_timeout
    after = replace(session, state=State.CONNECTING, connect_by=_after(now, wait))
    return after, (Effect.NOTIFY_STATUS,)


def _answered(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    if session.answered:  # a second answer must not wind the connect timeout up again
        row = tuple(given for given in _TABLE[session.state] if given is not Input.ANSWERED)
        raise UnexpectedInputError(session.state, Input.ANSWERED, row)
    after = replace(session, answered=True, connect_by=_after(now, config.connect_timeout))
    return after, (Effect.NOTIFY_STATUS,)


def _first_media(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    after = replace(
        session,
        state=State.STREAMING,
        connect_by=None,
        keep_alive_at=_after(now, config.ack_interval),
        ack_by=_silence(now, config),
        idle_by=_after(now, config.idle_timeout),
    )
    return after, (Effect.NOTIFY_STATUS,)


def _media(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    return replace(session, idle_by=_after(now, config.idle_timeout)), ()


def _ack(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    return replace(session, missed_acks=0, ack_by=_silence(now, config)), ()


def _missed(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    missed = session.missed_acks + 1
    if 0 < config.max_missed_acks <= missed:
        after, effects = _end(session, EndReason.ACK_TIMEOUT)
        return after, (Effect.ON_ACK_MISSED, Effect.ON_TIMEOUT, *effects)
    return replace(session, missed_acks=missed, ack_by=_silence(now, config)), (Effect.ON_ACK_MISSED,)


def _socket_down(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    # A socket that is down already keeps its deadline: saying it twice must not prolong the grace.
    due = _after(now, config.socket_grace) if session.socket_by is None else session.socket_by
    return replace(session, socket_by=due), ()


def _socket_up(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    return replace(session, socket_by=None), ()


def _timers(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    due = sorted(
        ((at, order, fire) for order, (at, fire) in enumerate(_deadlines(session)) if at <= now),
        key=lambda entry: entry[:2],
    )
    effects: Effects = ()
    for _, _, fire in due:
        session, more = fire(session, now, config)
        effects += more
        if session.ended:
            break
    return session, effects


def _keep_alive(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    waiting = _after(now, config.ack_timeout) if session.ack_by is None else session.ack_by
    after = replace(session, keep_alive_at=_after(now, config.ack_interval), ack_by=waiting)
    return after, (Effect.SEND_KEEP_ALIVE,)


def _ends(reason: EndReason) -> _Transition:
    return lambda session, now, config: _end(session, reason)


def _times_out(reason: EndReason) -> _Transition:
    def transition(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
        after, effects = _end(session, reason)
        return after, (Effect.ON_TIMEOUT, *effects)

    return transition


def _ignored(session: Session, now: float, config: Config) -> tuple[Session, Effects]:
    return session, ()


END_REASONS: Mapping[Input, EndReason] = {
    Input.REJECTED: EndReason.REJECTED,
    Input.HANGUP: EndReason.HANGUP,
    Input.EXPIRED: EndReason.EXPIRED,
    Input.REVOKED: EndReason.REVOKED,
    Input.SUPERSEDED: EndReason.SUPERSEDED,
    Input.AGENT_LOST: EndReason.AGENT_LOST,
    Input.SOURCE_LOST: EndReason.SOURCE_LOST,
}
"""Inputs that end a session wherever it is (REJECTED: before it streams), with the reason they leave."""

_ANY_TIME: Mapping[Input, _Transition] = {
    Input.SOCKET_DOWN: _socket_down,
    Input.SOCKET_UP: _socket_up,
    Input.TIMER: _timers,
    **{given: _ends(reason) for given, reason in END_REASONS.items() if given is not Input.REJECTED},
}

_TABLE: Mapping[State, Mapping[Input, _Transition]] = {
    State.REQUESTED: {
        Input.ACCEPTED: _accepted,
        Input.REJECTED: _ends(EndReason.REJECTED),
        **_ANY_TIME,
    },
    State.CONNECTING: {
        Input.ANSWERED: _answered,
        Input.MEDIA: _first_media,
        Input.REJECTED: _ends(EndReason.REJECTED),
        Input.ACK: _ignored,  # the peer lives, but it is the first media that counts here
        Input.MISSED_TICK: _ignored,  # the connect timeout governs
        **_ANY_TIME,
    },
    State.STREAMING: {
        Input.MEDIA: _media,
        Input.ACK: _ack,
        Input.MISSED_TICK: _missed,
        **_ANY_TIME,
    },
    # What may still be under way when a session ends changes nothing; a new start would be a bug.
    State.ENDED: {given: _ignored for given in Input if given not in (Input.ACCEPTED, Input.ANSWERED)},
}


def _deadlines(session: Session) -> list[tuple[float, _Transition]]:
    # At the same instant ends come before keep-alives, so that nothing is sent in vain.
    timers: tuple[tuple[float | None, _Transition], ...] = (
        (session.end_by, _times_out(EndReason.MAX_DURATION)),
        (session.connect_by, _times_out(EndReason.CONNECT_TIMEOUT)),
        (session.socket_by, _times_out(EndReason.SOCKET_LOST)),
        (session.idle_by, _times_out(EndReason.IDLE)),
        (session.ack_by, _missed),
        (session.keep_alive_at, _keep_alive),
    )
    return [(at, fire) for at, fire in timers if at is not None]


def _end(session: Session, reason: EndReason) -> tuple[Session, Effects]:
    after = Session(State.ENDED, reason, session.answered, session.missed_acks)
    return after, (Effect.NOTIFY_STATUS, Effect.CLEANUP)


def _after(now: float, seconds: float) -> float | None:
    return now + seconds if seconds else None


def _silence(now: float, config: Config) -> float | None:
    # Without keep-alives of our own the peer's acks come by themselves, and their absence is the miss.
    return None if config.ack_interval else _after(now, config.ack_timeout)
