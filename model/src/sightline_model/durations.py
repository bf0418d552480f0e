"""Durations as Kubernetes users write them: "500ms", "30s", "1h30m"."""

import re

# Five digits at most: 99999h still fits what CEL and Go can hold, so no duration overflows anywhere.
PATTERN = r"([0-9]{1,5}(ms|s|m|h))+"

_PART = re.compile(r"([0-9]{1,5})(ms|s|m|h)")
_WHOLE = re.compile(PATTERN, re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def is_duration(text: str) -> bool:
    """Whether `seconds` can read it."""
    return _WHOLE.fullmatch(text) is not None


def seconds(duration: str) -> float:
    """Seconds of a duration string; ValueError if it is none."""
    if not is_duration(duration):
        raise ValueError(f"{duration[:32]!r} is no duration; write for example 30s, 500ms or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))
