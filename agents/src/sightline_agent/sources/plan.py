"""When a source is to run: the pure part of the hub.

The hub tells what happened and when (any monotonic seconds) and asks `should_run`; it looks again at
`next_deadline`. A source runs

* while somebody watches or waits for the first picture, or always, where the camera says so;
* for `idle_timeout` after the last viewer left, so that a return finds it running;
* as a probe, until its first key frame, when nobody knows yet whether it works: at start, after its
  description changed, and after a failure. So a wrong password is seen before anybody watches, and is seen to
  be mended. Further qualities are not probed: a camera serves few connections at once.

A stream that broke is tried again at once, then with growing pauses. Nobody waiting, or a camera that refuses
our password (many lock an account after a few wrong ones), makes the pauses longer. Somebody who comes during
a pause ends it, unless the failure is so fresh that the answer would be the same: then it is given from
memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_STABLE_SECONDS = 5.0
"""A run that streamed this long was sound: what broke it begins a new count of failures."""

# What no reconnect will cure by itself: someone has to correct the camera or its description.
_NEEDS_SOMEONE = frozenset({SourceReason.AUTHENTICATION_FAILED, SourceReason.CODEC_UNSUPPORTED, SourceReason.NOT_FOUND})


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between attempts: the first and the longest."""

    first: float
    longest: float

    def after(self, failures: int, random: float) -> float:
        """The pause after that many failures in a row; `random` in [0, 1) spreads it."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 16))
        least = max(self.first, full / 2)
        return least + (full - least) * random


WATCHED = Pauses(0.5, 1.0)
"""Somebody looks at a picture that stands still: a camera that is back must show within three seconds, its connection
and its next key frame included."""
UNWATCHED = Pauses(0.5, 10.0)
"""A source that always runs, while nobody watches."""
PROBE = Pauses(5.0, 60.0)


class Plan:
    """What is known, and what follows from it. `random` answers in [0, 1)."""

    def __init__(self, always: bool, idle_timeout: float, random: Callable[[], float], probes: bool = True) -> None:
        self._probes = probes
        self.always = always
        self.idle_timeout = idle_timeout
        self._random = random
        self.watching = 0
        self.waiting = 0
        self.running = False
        self.failure: SourceError | None = None
        """Of the last run; None after a run that delivered."""
        self._streaming_since: float | None = None
        self._idle_until: float | None = None
        self._unproven = True
        self._over = False
        self._failures = 0
        self._failed_at = 0.0
        self._retry_at: float | None = None

    @property
    def streaming(self) -> bool:
        """True while pictures come."""
        return self._streaming_since is not None

    def wanted(self, now: float) -> bool:
        """Is there a reason to run?"""
        if self._over:
            return False
        if self.always or self.watching or self.waiting or (self._probes and self._unproven):
            return True
        return self._idle_until is not None and now < self._idle_until

    def should_run(self, now: float) -> bool:
        """Run now: go on if it runs, start if it does not."""
        if not self.wanted(now):
            return False
        return self.running or self._retry_at is None or now >= self._retry_at

    def next_deadline(self, now: float) -> float | None:
        """When the answer may change by itself; None: not before something happens."""
        if not self.wanted(now):
            return None
        due = self._idle_until if self.running else self._retry_at
        return due if due is not None and due > now else None

    def fresh_failure(self, now: float) -> SourceError | None:
        """The failure that a viewer who comes now is answered with, without asking the camera again."""
        if self.failure is None or self.running:
            return None
        age = now - self._failed_at
        limit = PROBE.first if self.failure.reason in _NEEDS_SOMEONE else WATCHED.first
        return self.failure if age < limit else None

    def hurry(self) -> None:
        """Somebody waits: no pause, and a stream that is over begins again."""
        self._retry_at = None
        self._over = False

    def joined(self) -> None:
        """A viewer watches."""
        self.watching += 1
        self._idle_until = None

    def left(self, now: float) -> None:
        """A viewer went."""
        self.watching -= 1
        if not self.watching and self.streaming:
            self._idle_until = now + self.idle_timeout

    def started(self) -> None:
        """A run began."""
        self.running = True

    def streamed(self, now: float) -> None:
        """The first picture of this run."""
        self._streaming_since = now
        self.failure = None

    def proved(self) -> None:
        """A key frame: the source works."""
        self._unproven = False

    def failed(self, error: SourceError, now: float) -> None:
        """The run failed; whoever waited has been told."""
        streamed_for = now - self._streaming_since if self._streaming_since is not None else None
        if streamed_for is not None and streamed_for >= _STABLE_SECONDS:
            self._failures = 0
        self._failures += 1
        self._rest()
        self.failure, self._failed_at = error, now
        self.waiting = 0
        self._unproven = True
        pauses = WATCHED if self.watching else UNWATCHED if self.always else PROBE
        if error.reason in _NEEDS_SOMEONE:
            pauses = PROBE
        elif streamed_for is not None and self._failures == 1:
            self._retry_at = now
            return
        self._retry_at = now + pauses.after(self._failures, self._random())

    def stopped(self) -> None:
        """The run was ended by us."""
        self._rest()

    def ended(self) -> None:
        """The stream came to its end by itself; it begins again for the next viewer."""
        self._rest()
        self._over = True

    def replaced(self) -> None:
        """The source has another description: nothing known about the old one counts."""
        self._rest()
        self.failure = None
        self._failures = 0
        self._retry_at = None
        self._unproven = True
        self._over = False

    def _rest(self) -> None:
        self.running = False
        self._streaming_since = None
        self._idle_until = None
