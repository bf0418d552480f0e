"""Nobody fills the disk by sending rubbish."""

import logging

import pytest

from sightline_model.flood import BURST, BURST_SECONDS, MAX_KINDS, FloodFilter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(message: object, level: int = logging.WARNING, name: str = "uvicorn.error") -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, message, None, None)


def test_the_same_warning_is_written_a_few_times(clock: Clock) -> None:
    flood = FloodFilter(clock)
    passed = [flood.filter(record("Invalid HTTP request received.")) for _ in range(1000)]
    assert sum(passed) == BURST
    clock.now += BURST_SECONDS
    again = record("Invalid HTTP request received.")
    assert flood.filter(again)
    assert again.getMessage() == f"Invalid HTTP request received. ({1000 - BURST} more were left out)"
    later = record("Invalid HTTP request received.")
    clock.now += BURST_SECONDS
    assert flood.filter(later)
    assert later.getMessage() == "Invalid HTTP request received."


def test_what_a_library_quotes_makes_no_new_kind(clock: Clock) -> None:
    flood = FloodFilter(clock)
    assert sum(flood.filter(record(f"cannot parse {i}")) for i in range(1000)) == BURST


def test_other_events_loggers_and_levels_have_their_own(clock: Clock) -> None:
    flood = FloodFilter(clock)
    for event in ("a", "b"):
        for level in (logging.WARNING, logging.ERROR):
            for name in ("x", "y"):
                assert sum(flood.filter(record({"event": event, "n": i}, level, name)) for i in range(50)) == BURST


def test_everyday_lines_are_not_limited(clock: Clock) -> None:
    flood = FloodFilter(clock)
    assert all(flood.filter(record({"event": "session ended"}, logging.INFO)) for _ in range(1000))


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    flood = FloodFilter(clock)
    for i in range(10_000):
        flood.filter(record("x", name=f"logger {i}"))
    assert len(flood._seen) <= MAX_KINDS


def test_answers_to_requests_are_told_apart_by_route_and_status(clock: Clock) -> None:
    flood = FloodFilter(clock)
    for route in ("/v1/cameras", "unmatched"):
        for status in (401, 404):
            lines = [record({"event": "request", "route": route, "status": status, "ms": i}) for i in range(50)]
            assert sum(map(flood.filter, lines)) == BURST
