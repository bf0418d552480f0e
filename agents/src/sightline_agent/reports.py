"""When viewers get sender reports. Pure but for chance.

Players put two tracks in step by them: each report names a timestamp and the time at which it was. A peer has them sent
for the pictures, its listener for the sound; the fan-outs know what is in them.
"""

import random

from sightline_agent.liveness import Timings

_AT_FIRST = 4
"""Browsers need two of each track to keep lips in step; the first sound may come a little after its time."""
_AGAIN = 20
"""Chromium fits a line through the last twenty: so many until those of before a jump are forgotten."""


class Schedule:
    """When the next one is due: at irregular intervals, so that many viewers do not get theirs in step (RFC 3550
    section 6.2), and soon for a viewer who does not know yet how sound and pictures belong together."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._hurried = 0
        self._rest = 0.0

    def begin(self) -> None:
        """The viewer begins to see, and will hear: until then there is nothing to tell."""
        self._hurried, self._rest = _AT_FIRST, self._timings.sound

    def again(self) -> None:
        """The pictures' timestamps have jumped beside those of the sound."""
        self._hurried = _AGAIN

    def seconds(self) -> float:
        """Until the next report."""
        if self._hurried:
            self._hurried -= 1
            rest, self._rest = self._rest, 0.0
            return rest + self._timings.report_hurried
        return random.uniform(self._timings.report_least, self._timings.report_most)  # noqa: S311
