"""Is a viewer still there? Pure; each peer asks about each second.

A viewer that plays sends receiver reports about each second and ICE checks each few seconds; nothing authentic for 10 s
means that it is gone. Without checks for 30 s its consent to receive has expired (RFC 7675), whatever else arrives.
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
