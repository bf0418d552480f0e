"""Time as the operator uses it: one kind of value (aware UTC datetimes), passed in everywhere."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def parse_time(text: object) -> datetime | None:
    """A Kubernetes timestamp; None when there is none or it cannot be read."""
    if not isinstance(text, str):
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def seconds_until(deadline: datetime, now: datetime) -> float:
    """Seconds from `now` to `deadline`, never negative."""
    return max(0.0, (deadline - now).total_seconds())


def after(moment: datetime, seconds: float) -> datetime:
    """`moment` + `seconds`."""
    return moment + timedelta(seconds=seconds)


def soonest(*delays: float | None) -> float | None:
    """The smallest of the delays that are given."""
    return min((delay for delay in delays if delay is not None), default=None)
