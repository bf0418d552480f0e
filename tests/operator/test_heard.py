"""Event streams: bytes to events, events to what is known."""

import tracemalloc
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_model.agent import AgentStats, SessionEvent, SnapshotEvent, SourceEvent, SourceReport, StatsEvent
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from sightline_operator.heard import PROFILES_KEPT, SESSIONS_KEPT, Heard, News
from sightline_operator.sse import EventTooLargeError, ServerEvent, SseParser
from tests.operator.samples import NOW, ago, report, session_report

STREAM = (
    b": hello\n\n"
    b"event: snapshot\ndata: {}\n\n"
    b"data: one\r\ndata: two\r\n\r\n"
    b": keep-alive\n\n"
    b"id: 7\nevent: source\ndata:no space\n\n"
    b"event: lost\n\n"
    b"data: \xc3\xa9\n\n"
    b"data: never ended"
)
EVENTS = [
    ServerEvent("snapshot", "{}"),
    ServerEvent("", "one\ntwo"),
    ServerEvent("source", "no space"),
    ServerEvent("", "é"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_come_out_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    parser = SseParser()
    places = sorted({0, len(STREAM), *cuts})
    pieces = [STREAM[begin:end] for begin, end in pairwise(places)]
    assert [event for piece in pieces for event in parser.feed(piece)] == EVENTS


LIMITED = st.sampled_from(
    [b"data: " + b"x" * size + b"\n" for size in (0, 15, 30, 94, 95, 100)] + [b"\n", b"data\r\n", b":\n"]
)


@given(st.lists(LIMITED, max_size=12).map(b"".join), st.lists(st.integers(0, 1000), max_size=20))
def test_what_is_too_large_is_so_however_the_bytes_are_cut(stream: bytes, cuts: list[int]) -> None:
    def said(places: list[int]) -> list[ServerEvent | None]:
        parser, events = SseParser(max_bytes=100), list[ServerEvent | None]()
        with suppress(EventTooLargeError):
            for begin, end in pairwise(places):
                events.extend(parser.feed(stream[begin:end]))
            events.append(None)
        return events

    assert said(sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})) == said([0, len(stream)])


def test_small_pieces_of_a_long_line_do_not_copy_it() -> None:
    """Counted by what is allocated for a piece, at its peak: the line may move to a larger place now and then."""
    parser, line = SseParser(), b"data: " + b"x" * 1_000_000
    assert not list(parser.feed(line))
    copied = 0
    tracemalloc.start()
    try:
        for _ in range(200):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert not list(parser.feed(b"y"))
            copied += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert copied < 3 * len(line)
    assert [len(event.data) for event in parser.feed(b"\n\n")] == [1_000_200]


@pytest.mark.parametrize(
    "stream", [b"data: " + b"x" * 200, b"data: xxxxxxxxxxx\n" * 20, b"data\n" * 101, b": " + b"x" * 200 + b"\n\n"]
)
def test_an_event_without_end_is_refused(stream: bytes) -> None:
    parser = SseParser(max_bytes=100)
    with pytest.raises(EventTooLargeError):
        list(parser.feed(stream))


def connected() -> Heard:
    heard = Heard(ago(60))
    assert heard.take(SnapshotEvent(report=report()), ago(60)) == News(camera=True, all_sessions=True)
    return heard


def test_what_an_agent_makes_up_takes_bounded_room() -> None:
    limits: list[str] = []
    heard = Heard(ago(60), limits.append)
    heard.take(SnapshotEvent(report=report()), ago(60))
    live = session_report(SessionPhase.STREAMING)
    for number in range(SESSIONS_KEPT + 5):
        heard.take(SessionEvent(session=live.model_copy(update={"id": f"s-{number}"})), NOW)
    assert len(heard.state.sessions) == SESSIONS_KEPT
    assert limits == ["sessions"] * 5
    known = live.model_copy(update={"id": "s-0", "phase": SessionPhase.ENDED, "ended_at": NOW})
    assert heard.take(SessionEvent(session=known), NOW).sessions == {"s-0"}
    # It is forgotten after a while, and leaves room.
    later = NOW + timedelta(minutes=3)
    assert heard.take(SessionEvent(session=live.model_copy(update={"id": "new"})), later).sessions == {"new"}

    limits.clear()
    for number in range(PROFILES_KEPT + 3):
        heard.take(SourceEvent(source=SourceReport(profile=f"p-{number}")), NOW)
    said = heard.state.report
    assert said
    assert [profile.profile for profile in said.profiles] == [f"p-{number}" for number in range(PROFILES_KEPT)]
    assert limits == ["profiles"] * 3
    assert heard.take(SourceEvent(source=SourceReport(profile="p-0")), NOW).camera


def test_nothing_is_known_before_a_snapshot() -> None:
    heard = Heard(ago(1))
    assert not heard.take(SourceEvent(source=SourceReport()), NOW)
    assert heard.state.fresh(NOW)
    assert not heard.state.fresh(NOW + timedelta(seconds=10))
    assert not connected().state.fresh(ago(59))


def test_sessions_are_merged_and_a_snapshot_replaces_them() -> None:
    heard = connected()
    news = heard.take(SessionEvent(session=session_report(SessionPhase.CONNECTING)), NOW)
    assert news == News(viewers=True, sessions=frozenset({"s-1"}))
    heard.take(SessionEvent(session=session_report(SessionPhase.STREAMING)), NOW)
    assert heard.state.sessions["s-1"].phase is SessionPhase.STREAMING
    heard.snapshot(report(), NOW)
    assert heard.state.sessions == {}


def test_a_further_quality_is_heard_of_beside_the_main_source() -> None:
    heard = connected()
    said = heard.state.report
    assert said is not None
    for reason in (SourceReason.CONNECTING, SourceReason.STREAMING):
        assert heard.take(SourceEvent(source=SourceReport(profile="sd", reason=reason)), NOW) == News(camera=True)
    heard.take(SourceEvent(source=SourceReport(profile="tiny")), NOW)
    known = heard.state.report
    assert known is not None
    assert known.source == said.source
    assert [(one.profile, one.reason) for one in known.profiles] == [
        ("sd", SourceReason.STREAMING),
        ("tiny", SourceReason.IDLE),
    ]


def test_ended_sessions_are_forgotten_after_a_while() -> None:
    heard = connected()
    heard.take(SessionEvent(session=session_report(SessionPhase.ENDED)), NOW)
    other = session_report(SessionPhase.STREAMING).model_copy(update={"id": "s-2"})
    heard.take(SessionEvent(session=other), NOW + timedelta(seconds=60))
    assert set(heard.state.sessions) == {"s-1", "s-2"}
    heard.take(SessionEvent(session=other), NOW + timedelta(seconds=121))
    assert set(heard.state.sessions) == {"s-2"}


@pytest.mark.parametrize("skew", [-86400, 86400])
@pytest.mark.parametrize("by_snapshot", [True, False])
def test_ended_sessions_of_an_agent_whose_clock_is_wrong_are_kept_as_long(skew: int, by_snapshot: bool) -> None:
    heard = connected()
    ended = session_report(SessionPhase.ENDED).model_copy(update={"ended_at": NOW + timedelta(seconds=skew)})
    other = session_report(SessionPhase.STREAMING).model_copy(update={"id": "s-2"})
    if by_snapshot:
        heard.snapshot(report().model_copy(update={"sessions": [ended]}), NOW)
    else:
        heard.take(SessionEvent(session=ended), NOW)
    heard.take(SessionEvent(session=other), NOW + timedelta(seconds=110))
    assert set(heard.state.sessions) == {"s-1", "s-2"}
    # Told once more it is no other end.
    heard.snapshot(report().model_copy(update={"sessions": [ended, other]}), NOW + timedelta(seconds=111))
    heard.take(SessionEvent(session=other), NOW + timedelta(seconds=121))
    assert set(heard.state.sessions) == {"s-2"}


def test_numbers_alone_are_news_every_ten_seconds() -> None:
    heard = connected()
    told = []
    for second in range(30):
        source = SourceReport(reason=SourceReason.STREAMING, verified=True, bitrate=second)
        event = StatsEvent(stats=AgentStats(packets_sent=second), source=source)
        if heard.take(event, NOW + timedelta(seconds=second)):
            told.append(second)
    assert told == [0, 10, 20]
    assert heard.state.report
    assert heard.state.report.source.bitrate == 29
    changed = StatsEvent(stats=AgentStats(), source=SourceReport(reason=SourceReason.STALLED))
    assert heard.take(changed, NOW + timedelta(seconds=30))


def test_a_loss_is_news_once() -> None:
    heard = connected()
    assert heard.lost("refused", NOW)
    assert not heard.lost("refused", NOW + timedelta(seconds=1))
    assert heard.lost("no route", NOW + timedelta(seconds=2))
    state = heard.state
    assert (state.connected, state.changed_at, state.error) == (False, NOW, "no route")
    assert state.report is not None
    heard.snapshot(report(), NOW + timedelta(seconds=5))
    assert (heard.state.connected, heard.state.error) == (True, "")
    assert heard.state.changed_at == NOW + timedelta(seconds=5)


def test_since_when_an_agent_has_no_sessions() -> None:
    heard = Heard(ago(100))
    heard.snapshot(report(), ago(90))
    assert heard.state.idle_since == ago(90)
    heard.take(SessionEvent(session=session_report(SessionPhase.CONNECTING)), ago(80))
    assert heard.state.idle_since is None
    heard.take(SessionEvent(session=session_report(SessionPhase.ENDED)), ago(70))
    heard.take(SessionEvent(session=session_report(SessionPhase.ENDED)), ago(60))
    assert heard.state.idle_since == ago(70)
    heard.lost("gone", ago(50))
    heard.snapshot(report(), ago(40))
    assert heard.state.idle_since == ago(70)


def test_since_when_a_source_fails() -> None:
    heard = Heard(ago(100))
    heard.snapshot(report(SourceReason.STREAMING), ago(90))
    assert heard.state.source_failed_at is None
    for reason, moment in ((SourceReason.STALLED, ago(80)), (SourceReason.UNREACHABLE, ago(70))):
        heard.take(SourceEvent(source=SourceReport(reason=reason)), moment)
        assert heard.state.source_failed_at == ago(80)
    heard.take(SourceEvent(source=SourceReport(reason=SourceReason.STREAMING)), ago(60))
    assert heard.state.source_failed_at is None
