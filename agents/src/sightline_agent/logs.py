"""Logging: one JSON object per line on standard output, for our own events and for the libraries' warnings.

Whoever sends rubbish shall not fill the disk: of the same warning at most `BURST` lines are written in `BURST_SECONDS`,
and the next one tells how many were left out. What is logged on purpose once per datagram or request has its own limit
where it is logged.
"""

import logging
import sys
import time
from collections.abc import Callable

import structlog

BURST = 10
BURST_SECONDS = 10.0
_MAX_KINDS = 256

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,  # tracebacks as text: never with local variables, which may hold passwords
]


class FloodFilter(logging.Filter):
    """Lets the first few of the same warning through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], list[float]] = {}
        """By kind: since when it is counted, how many came, how many of them were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line too many."""
        if record.levelno < logging.WARNING:
            return True
        # A library's message may hold what a peer sent, so for those the logger's name must do.
        event = str(record.msg.get("event", "")) if isinstance(record.msg, dict) else ""
        kind, now = (record.name, record.levelno, event), self._clock()
        if kind not in self._seen and len(self._seen) >= _MAX_KINDS:
            self._seen.clear()
        state = self._seen.setdefault(kind, [now, 0, 0])
        if now - state[0] >= BURST_SECONDS:
            _tell(record, int(state[2]))
            state[:] = [now, 0, 0]
        state[1] += 1
        if state[1] > BURST:
            state[2] += 1
        return state[1] <= BURST


def _tell(record: logging.LogRecord, left_out: int) -> None:
    if left_out and isinstance(record.msg, dict):
        record.msg = {**record.msg, "left_out": left_out}
    elif left_out:
        record.msg = f"{record.getMessage()} ({left_out} more were left out)"
        record.args = ()


def configure(level: str) -> None:
    """Set up logging for the process."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sightline_agent").setLevel(level.upper())
