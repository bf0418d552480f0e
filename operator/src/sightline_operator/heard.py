"""What one agent has said so far: a snapshot, and the events since merged into it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sightline_model.agent import (
    MAIN_PROFILE,
    AgentEvent,
    AgentReport,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceEvent,
    SourceReport,
)
from sightline_model.session import SessionPhase, SessionRole
from sightline_operator.facts import LinkState

STATS_SECONDS = 10.0
"""Statistics alone make nobody look at the camera more often than its status may be written."""
_ENDED_KEPT = timedelta(minutes=2)
_TIDY_EVERY = timedelta(seconds=10)
"""Not at each event: who has thousands of sessions has as many events."""
SESSIONS_KEPT = 6000
"""Of one agent, as many as its snapshot has room for; of further ones nothing is heard until others have gone."""
PROFILES_KEPT = 8
"""As many as a camera may have."""


@dataclass(frozen=True, slots=True)
class News:
    """Who has to look again: the camera, some sessions, or all of them."""

    camera: bool = False
    viewers: bool = False
    """For the camera, only how many watch it has changed: that can wait."""
    sessions: frozenset[str] = frozenset()
    all_sessions: bool = False

    def __bool__(self) -> bool:
        return self.camera or self.viewers or self.all_sessions or bool(self.sessions)


class Heard:
    """The state of one link. Events come in the order in which the agent sent them."""

    def __init__(self, now: datetime, limited: Callable[[str], None] = lambda limit: None) -> None:
        """`limited` is told of each event that is left out, by what there was too much of."""
        self._limited = limited
        self._followed_at = now
        self._report: AgentReport | None = None
        self._sessions: dict[str, SessionReport] = {}
        self._ends: dict[str, datetime] = {}
        """When the end of a session was heard of; the agent's own clock may be wrong."""
        self._connected = False
        self._changed_at: datetime | None = None
        self._error = ""
        self._pushed: tuple[str, datetime] | None = None
        self._stats_told_at: datetime | None = None
        self._source_failed_at: datetime | None = None
        self._idle_since: datetime | None = None
        self._tidied_at: datetime | None = None

    @property
    def connected(self) -> bool:
        """Whether the link stands."""
        return self._connected

    @property
    def state(self) -> LinkState:
        """The link as facts want it; `sessions` is a live view."""
        return LinkState(
            connected=self._connected,
            report=self._report,
            sessions=self._sessions,
            followed_at=self._followed_at,
            changed_at=self._changed_at,
            error=self._error,
            source_failed_at=self._source_failed_at,
            idle_since=self._idle_since,
            pushed_revision=self._pushed[0] if self._pushed else "",
            pushed_at=self._pushed[1] if self._pushed else None,
        )

    def take(self, event: AgentEvent, now: datetime) -> News:
        """Merge one event."""
        if isinstance(event, SnapshotEvent):
            return self.snapshot(event.report, now)
        if self._report is None:
            return News()
        if isinstance(event, SessionEvent):
            self._forget_ended(now)
            if len(self._sessions) >= SESSIONS_KEPT and event.session.id not in self._sessions:
                self._limited("sessions")
                return News()
            self._sessions[event.session.id] = event.session
            if event.session.phase is SessionPhase.ENDED:
                self._ends.setdefault(event.session.id, now)
            else:
                self._ends.pop(event.session.id, None)
            self._note_sessions(now)
            publishes = event.session.role is SessionRole.PUBLISH
            return News(camera=publishes, viewers=not publishes, sessions=frozenset({event.session.id}))
        if isinstance(event, SourceEvent):
            return self._source(event.source, now, told=True)
        self._report = self._report.model_copy(update={"stats": event.stats})
        return self._source(event.source, now, told=False)

    def snapshot(self, report: AgentReport, now: datetime) -> News:
        """Everything anew: whoever is not in it is not there."""
        self._report = report
        self._note_source(report.source, now)
        self._sessions = {session.id: session for session in report.sessions}
        ended = (sid for sid, session in self._sessions.items() if session.phase is SessionPhase.ENDED)
        self._ends = {sid: self._ends.get(sid, now) for sid in ended}
        self._note_sessions(now)
        if not self._connected:
            self._connected, self._changed_at = True, now
        self._error = ""
        return News(camera=True, all_sessions=True)

    def lost(self, error: str, now: datetime) -> News:
        """The stream ended, or could not be opened."""
        news = self._connected or error != self._error
        if self._connected or self._changed_at is None:
            self._changed_at = now
        self._connected, self._error = False, error
        return News(camera=news, all_sessions=news)

    def pushed(self, revision: str, now: datetime) -> None:
        """The agent has been told a config."""
        self._pushed = (revision, now)

    def adopted(self, now: datetime) -> None:
        """The spare that this was serves a camera from now on: how long it was idle before does not count."""
        self._source_failed_at, self._idle_since = None, now

    def _source(self, source: SourceReport, now: datetime, told: bool) -> News:
        assert self._report is not None  # noqa: S101 - both callers have looked
        if source.profile != MAIN_PROFILE:
            said = {report.profile: report for report in self._report.profiles} | {source.profile: source}
            if len(said) > PROFILES_KEPT:
                self._limited("profiles")
                return News()
            self._report = self._report.model_copy(update={"profiles": list(said.values())})
            return News(camera=True)
        before = self._report.source
        self._note_source(source, now)
        self._report = self._report.model_copy(update={"source": source})
        due = self._stats_told_at is None or (now - self._stats_told_at).total_seconds() >= STATS_SECONDS
        if not (told or due or _essence(before) != _essence(source)):
            return News()
        self._stats_told_at = now
        return News(camera=True)

    def _note_sessions(self, now: datetime) -> None:
        if any(session.phase is not SessionPhase.ENDED for session in self._sessions.values()):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def _note_source(self, source: SourceReport, now: datetime) -> None:
        if not source.reason.failed:
            self._source_failed_at = None
        elif self._source_failed_at is None:
            self._source_failed_at = now

    def _forget_ended(self, now: datetime) -> None:
        """Agents forget sessions a while after their end; so do we, or the table would grow for ever."""
        if self._tidied_at is not None and now - self._tidied_at < _TIDY_EVERY:
            return
        self._tidied_at = now
        for sid in [sid for sid, heard_at in self._ends.items() if now - heard_at > _ENDED_KEPT]:
            del self._sessions[sid], self._ends[sid]


def _essence(source: SourceReport) -> SourceReport:
    """What somebody should hear of at once."""
    return source.model_copy(update={"fps": 0.0, "bitrate": 0, "keyframe_interval": 0.0, "last_frame_time": None})
