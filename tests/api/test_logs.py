"""What the front door logs of requests: everything that was served, and a few lines of each flood of bad ones."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from sightline_api.__main__ import configure_logging
from sightline_model.flood import BURST, FloodFilter
from tests.api.world import World


async def test_what_is_refused_is_a_warning_without_what_was_sent(world: World) -> None:
    with structlog.testing.capture_logs() as lines:
        assert (await world.call("GET", "/v1/me", "a-wrong-token")).status_code == 401
        assert (await world.call("GET", "/v1/a-wrong-path")).status_code == 404
        assert (await world.call("GET", "/v1/me")).status_code == 200
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["log_level"]) for line in requests] == [
        (401, "warning"),
        (404, "warning"),
        (200, "info"),
    ]
    assert [line["log_level"] for line in lines if line["event"] == "not authenticated"] == ["warning"]
    assert "a-wrong" not in str(lines)


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    """The process's own; afterwards logging is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("json")
    yield root.handlers[0]
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


def test_floods_of_them_are_cut_short(handler: logging.Handler) -> None:
    (flood,) = handler.filters
    assert isinstance(flood, FloodFilter)
    request = {"event": "request", "route": "unmatched", "status": 404}
    lines = [logging.LogRecord("sightline_api", logging.WARNING, "", 0, request, None, None) for _ in range(100)]
    assert sum(bool(handler.filter(line)) for line in lines) == BURST
