"""Logging as the agent sets it up."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sightline_agent import logs
from sightline_model.flood import BURST


@pytest.fixture
def untouched() -> Iterator[None]:
    """Logging afterwards as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    logging.getLogger("sightline_agent").setLevel(logging.NOTSET)


def test_as_configured(capsys: pytest.CaptureFixture[str], untouched: None) -> None:
    logs.configure("info")
    log = structlog.get_logger("sightline_agent.test")
    for number in range(100):
        log.warning("a datagram was not handled", number=number)
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 * BURST
    assert {line["event"] for line in lines} == {"a datagram was not handled", "Invalid HTTP request received."}
