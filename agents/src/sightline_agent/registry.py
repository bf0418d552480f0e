"""All sessions of the agent: who may come in, who is there, who has just gone.

Signaling opens and closes sessions here, control reads the reports; what happens within a session is `session.py`'s
matter. Everything that is kept is bounded, by time and by number.

A session id opens once: it stays known for longer than any token lives, so a replayed token opens nothing.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from sightline_agent.errors import ProblemError
from sightline_agent.players import Players
from sightline_agent.quality import Cause, Viewers
from sightline_agent.session import Closed, MakePeer, Session
from sightline_agent.signaling.sessions import Layer, Layers, Opened, OpenRequest
from sightline_model.agent import MAIN_PROFILE, AgentConfig, PlayerReport, SessionReport, SourceReport
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionRole

ENDED_KEPT_SECONDS = 60.0
_ENDED_KEPT = 1000
_USED_KEPT_SECONDS = 180.0
_USED_KEPT = 20_000
_FULL_RETRY_SECONDS = 5
_ADAPT_SECONDS = 1.0
"""As often as receivers report."""


Watcher = Callable[[SessionReport], None]


class Gate(Protocol):
    """Knows what viewers cost (`gate.CpuGate`)."""

    def admit(self, viewers: int) -> Problem | None:
        """May one more come in beside these? Else what to tell it."""
        ...


class Qualities(Viewers, Protocol):
    """The camera's qualities, as far as the registry needs them."""

    def report(self) -> SourceReport: ...

    def reports(self) -> list[SourceReport]: ...


def unknown_profile(name: str, known: Iterable[str]) -> Problem:
    """The answer to who asks for a quality that the camera does not have."""
    detail = f"the camera has no quality {name[:64]!r}; it has {', '.join(known)}"
    return Problem(code=ProblemCode.PROFILE_NOT_FOUND, detail=detail)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SessionRegistry:
    """Implements `signaling.sessions.Sessions`."""

    def __init__(
        self,
        config: AgentConfig,
        renditions: Qualities,
        make_peer: MakePeer,
        wall: Callable[[], datetime] = _utc_now,
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self.renditions = renditions
        self.make_peer = make_peer
        self.wall = wall
        self._gate = gate
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, tuple[float, SessionReport]] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._watchers: list[Watcher] = []
        self._closing = False
        self.ended_by_reason: Counter[EndReason] = Counter()
        self.inbox_dropped = 0
        self.quality_changes: Counter[Cause] = Counter()
        self.came = 0
        """Viewers who were let in, ever."""
        self.refused: Counter[ProblemCode] = Counter()
        """Viewers whom a limit kept out: too-many-viewers, agent-overloaded."""
        self.players = Players()

    # What signaling calls

    async def open(self, request: OpenRequest) -> Opened:
        """Park until the source runs, then answer; ProblemError where it cannot be."""
        self._admit(request)
        session = Session(self, request, self._config)
        self._live[request.sid] = session
        session.start()
        try:
            return await session.opened
        except asyncio.CancelledError:
            session.tell(Closed(EndReason.HANGUP, "the client hung up while it waited"))
            raise

    async def close(self, sid: str, reason: EndReason, text: str = "") -> bool:
        """End a session and wait until it has ended; False when there is no live one of this name."""
        session = self._live.get(sid)
        if session is None:
            return False
        session.tell(Closed(reason, text))
        await session.wait()
        return True

    def etag(self, sid: str) -> str | None:
        """Names the ICE session of a live session."""
        session = self._live.get(sid)
        return session.peer.etag if session is not None and session.peer is not None else None

    def trickle(self, sid: str, fragment: str) -> str | None:
        """Hand an SDP fragment to the session's peer."""
        session = self._live.get(sid)
        if session is None or session.peer is None:
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        return session.peer.trickle(fragment)

    def note_player(self, sid: str, report: PlayerReport) -> bool:
        """A player tells how its picture is; False when there is no live session of this name."""
        if sid not in self._live:
            return False
        self.players.note(sid, report, self._now())
        return True

    def layers(self, sid: str) -> Layers:
        """The qualities that a session may choose from."""
        session = self._session(sid)
        peer = session.peer
        layers = [
            Layer(
                name=report.profile,
                running=report.reason is SourceReason.STREAMING,
                codec=report.video_codec,
                width=report.width,
                height=report.height,
                bitrate=report.bitrate,
            )
            for report in (self.renditions.report(), *self.renditions.reports())
        ]
        selected = session.quality.profile or MAIN_PROFILE
        return Layers(peer.media_id if peer is not None else None, layers, selected, session.quality.automatic)

    async def select(self, sid: str, profile: str | None) -> None:
        """Change the quality that a session gets."""
        session = self._session(sid)
        if profile is not None and profile not in self.renditions.names:
            raise ProblemError(unknown_profile(profile, self.renditions.names))
        await session.quality.select(profile)

    def _session(self, sid: str) -> Session:
        session = self._live.get(sid)
        if session is None:
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        return session

    # What control and the process call

    async def run(self) -> None:
        """Fit the quality of each session to its link, until cancelled."""
        while True:
            await asyncio.sleep(_ADAPT_SECONDS)
            names = self.renditions.names
            for session in tuple(self._live.values()) if len(names) > 1 else ():
                session.adapt(names)

    def reconfigure(self, config: AgentConfig) -> None:
        """Limits and timeouts for sessions from now on."""
        self._config = config

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Be told each change of a session; the answer ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def reports(self, details: bool = False) -> list[SessionReport]:
        """Live sessions, and ended ones for a minute; `details`: with how each viewer receives."""
        self._forget()
        live = [self._report(session, details) for session in self._live.values()]
        return live + [report for _, report in self._ended.values()]

    @property
    def viewers(self) -> int:
        """Live sessions that watch or are about to."""
        return sum(session.request.role is SessionRole.VIEW for session in self._live.values())

    @property
    def peer_connections(self) -> int:
        """Sessions that have a peer."""
        return sum(session.peer is not None for session in self._live.values())

    def refit(self, profile: str) -> None:
        """What the source of this quality sends may have changed."""
        for session in tuple(self._live.values()):
            if session.quality.profile == profile:
                session.refit()

    def source_ended(self, profile: str) -> None:
        """The stream of this quality came to its end: who watches it will see nothing more."""
        for session in tuple(self._live.values()):
            if session.quality.profile == profile:
                session.tell(Closed(EndReason.SOURCE_LOST, "the stream has ended"))

    async def shutdown(self, reason: EndReason, text: str) -> None:
        """Let nobody in any more and end all."""
        self._closing = True
        sessions = tuple(self._live.values())
        for session in sessions:
            session.tell(Closed(reason, text))
        await asyncio.gather(*(session.wait() for session in sessions))

    def _admit(self, request: OpenRequest) -> None:
        self._forget()
        if self._closing:
            raise ProblemError(Problem(code=ProblemCode.AGENT_UNAVAILABLE, detail="the agent is shutting down"))
        if request.role is not SessionRole.VIEW:
            detail = "this agent cannot be published to yet"
            raise ProblemError(Problem(code=ProblemCode.NOT_SUPPORTED_YET, detail=detail))
        if request.sid in self._used:
            detail = "this session was opened before; ask for a new one"
            raise ProblemError(Problem(code=ProblemCode.CONFLICT, detail=detail))
        if request.profile is not None and request.profile not in self.renditions.names:
            raise ProblemError(unknown_profile(request.profile, self.renditions.names))
        problem = self._limit()
        if problem is not None:
            self.refused[problem.code] += 1
            raise ProblemError(problem)
        self.came += 1
        self._used[request.sid] = self._now()
        while len(self._used) > _USED_KEPT:
            self._used.popitem(last=False)

    def _limit(self) -> Problem | None:
        """What keeps one more viewer out, if anything does."""
        viewers = self.viewers
        if viewers >= self._config.max_viewers:
            detail = f"{self._config.max_viewers} people watch already"
            code = ProblemCode.TOO_MANY_VIEWERS
            return Problem(code=code, detail=detail, retry_after_seconds=_FULL_RETRY_SECONDS)
        return self._gate.admit(viewers) if self._gate is not None else None

    def _report(self, session: Session, details: bool) -> SessionReport:
        report = session.report(details)
        player = self.players.of(session.request.sid)
        if report.stats is None or player is None:
            return report
        return report.model_copy(update={"stats": report.stats.model_copy(update={"player": player})})

    def _forget(self) -> None:
        now = self._now()
        while self._ended and next(iter(self._ended.values()))[0] < now - ENDED_KEPT_SECONDS:
            self._ended.popitem(last=False)
        while self._used:
            sid, at = next(iter(self._used.items()))
            if at >= now - _USED_KEPT_SECONDS:
                break
            del self._used[sid]
            if sid in self._live:  # a long session: its id is in use, and moves to the end
                self._used[sid] = now

    def publish(self, report: SessionReport) -> None:
        for watcher in tuple(self._watchers):
            watcher(report)

    def retire(self, session: Session) -> None:
        report = session.report()
        self._live.pop(report.id, None)
        self.players.forget(report.id)
        self._ended[report.id] = (self._now(), report)
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        if report.end_reason is not None:
            self.ended_by_reason[report.end_reason] += 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
