"""Is a viewer still there? Pure; each peer asks about each second.

A viewer that plays sends receiver reports about each second and ICE checks each few seconds; nothing authentic for 10 s
means that it is gone. Without checks for 30 s its consent to receive has expired (RFC 7675), whatever else arrives.

Only time in which the agent listens counts. A process that stood still (its CPU was taken away, its machine paused)
finds minutes of silence when it goes on, and what viewers said meanwhile still in its sockets: nobody is gone for that.
"""

from dataclasses import dataclass

from sightline_model.reasons import EndReason


@dataclass(frozen=True, slots=True)
class Timings:
    """Of a peer, in seconds."""

    connect: float = 30.0
    """From the start of `run` to the end of the handshake. The session's own limit is usually shorter."""
    silence: float = 9.0
    """With `watch`, a dead viewer is gone within 10 s."""
    consent: float = 30.0
    watch: float = 1.0
    """Between looks at the clock."""
    late: float = 2.0
    """Between two looks at the clock; of a longer time it is not known whether anybody listened."""
    report_least: float = 2.0
    report_most: float = 3.0
    report_hurried: float = 0.1
    """While a viewer does not know yet how sound and pictures belong together."""
    sound: float = 0.5
    """From the first picture to the sound. Chromium keeps what comes before its loudspeaker runs, and plays all that
    follows later by as much, for seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a peer ended."""

    reason: EndReason
    message: str


def liveness(now: float, last_check: float, last_rtcp: float, timings: Timings) -> Outcome | None:
    """Is the viewer gone? None as long as it is not."""
    if now - max(last_check, last_rtcp) > timings.silence:
        return Outcome(EndReason.SOCKET_LOST, f"nothing was heard of the viewer for {timings.silence:g} s")
    if now - last_check > timings.consent:
        return Outcome(EndReason.SOCKET_LOST, f"no ICE check arrived for {timings.consent:g} s")
    return None


class Vigil:
    """The silence of one viewer, on a clock that stands still while nobody listens. Times are any monotonic seconds."""

    def __init__(self, now: float, last_check: float) -> None:
        self._looked = now
        self._clock = 0.0
        self._check = last_check, last_check - now
        self._rtcp = now, 0.0

    def look(self, now: float, last_check: float, last_rtcp: float, timings: Timings) -> Outcome | None:
        """Is the viewer gone? To be asked each `watch` seconds."""
        listened = min(now - self._looked, timings.late)
        self._looked = now
        self._clock += listened
        self._check = self._newest(self._check, last_check, listened)
        self._rtcp = self._newest(self._rtcp, last_rtcp, listened)
        return liveness(self._clock, self._check[1], self._rtcp[1], timings)

    def _newest(self, known: tuple[float, float], at: float, listened: float) -> tuple[float, float]:
        """A sign of life by both clocks; one that is new came since the last look."""
        return (at, self._clock - min(self._looked - at, listened)) if at > known[0] else known
