"""Times on one line, pace, and the border to FFmpeg's errors."""

import itertools

import av
import av.error
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.access_units import Line, Pace
from sightline_agent.sources.averrors import TABLE, Row, translated
from sightline_model.reasons import SourceReason

WRAP = 1 << 33


def test_a_line_goes_on_over_every_kind_of_break() -> None:
    line = Line()
    assert [line.resume(900_000), line.place(903_000), line.place(906_000)] == [0, 3000, 6000]
    assert line.resume(909_000) == 9000
    assert line.resume(5, anew=True) == 12_000
    assert line.place(3005) == 15_000
    assert line.resume(3005 + 90_000 * 60) == 18_000  # too far ahead to be a pause
    assert line.place(90_000) == 21_000  # too far back to be a B-frame
    assert line.resume(90_000) == 24_000


def test_a_line_goes_on_where_mpegs_clock_wraps() -> None:
    line = Line()
    assert [line.place(WRAP - 3000), line.place(0), line.place(3000)] == [0, 3000, 6000]


def test_pictures_out_of_order_keep_their_times() -> None:
    line = Line()
    assert [line.place(ticks) for ticks in (3000, 12_000, 6000, 9000, 15_000)] == [0, 9000, 3000, 6000, 12_000]
    assert line.place(24_000) == 21_000
    assert line.place(18_000) == 15_000
    assert line.resume(5, anew=True) > 21_000  # after the latest, not after the last that came


@given(st.lists(st.tuples(st.integers(0, WRAP - 1), st.booleans()), max_size=50))
def test_a_line_only_ever_rises(times: list[tuple[int, bool]]) -> None:
    line = Line()
    placed = [line.resume(ticks, anew) for ticks, anew in times]
    assert placed == sorted(set(placed))
    assert all(after - before <= 900_000 for before, after in itertools.pairwise(placed))


def test_pace_does_not_race_after_an_absence() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.wait(0.0) == 0.0
    assert pace.wait(0.5) == 0.5
    now[0] += 0.75
    assert pace.wait(0.5) == -0.25  # a little late: catches up
    now[0] += 60
    pace.wait(0.6)
    assert pace.wait(1.0) == pytest.approx(0.4)


def every_class() -> list[type[Exception]]:
    found = [one for one in vars(av.error).values() if isinstance(one, type) and issubclass(one, av.FFmpegError)]
    assert len(found) > 30
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_of_ffmpeg_has_a_reason(kind: type[Exception]) -> None:
    secret = "rtmp://host/live/stream-key"
    found = translated(kind(1, secret, secret), "the stream")
    assert found.reason.failed
    assert "the stream" in str(found)
    assert "key" not in str(found)


def test_the_table_says_what_it_should() -> None:
    expected = {
        "HTTPUnauthorizedError": SourceReason.AUTHENTICATION_FAILED,
        "HTTPForbiddenError": SourceReason.AUTHENTICATION_FAILED,
        "HTTPNotFoundError": SourceReason.NOT_FOUND,
        "FileNotFoundError": SourceReason.NOT_FOUND,
        "ConnectionRefusedError": SourceReason.UNREACHABLE,
        "TimeoutError": SourceReason.UNREACHABLE,
        "ExitError": SourceReason.UNREACHABLE,
        "InvalidDataError": SourceReason.PROTOCOL_ERROR,
        "DecoderNotFoundError": SourceReason.CODEC_UNSUPPORTED,
        "HTTPServerError": SourceReason.UNREACHABLE,
        "UnknownError": SourceReason.UNREACHABLE,
    }
    assert {name: translated(getattr(av.error, name)(1, ""), "it").reason for name in expected} == expected
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))


def test_special_rows_come_first() -> None:
    row = Row(("PermissionError",), SourceReason.NOT_FOUND, "{it} is refused")
    assert str(translated(av.error.PermissionError(1, ""), "the stream", (row,))) == "the stream is refused"
    assert translated(OSError("other"), "the file").reason is SourceReason.UNREACHABLE
