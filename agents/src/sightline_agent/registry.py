"""All sessions of the agent: who may come in, who is there, who has just gone.

Signaling opens and closes sessions here, control reads the reports; what happens within a session is `session.py`'s
matter. Everything that is kept is bounded, by time and by number.

A session id opens once: it stays known for longer than any token lives, so a replayed token opens nothing.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from sightline_agent.errors import ProblemError
from sightline_agent.session import Closed, MakePeer, Session, Viewers
from sightline_agent.signaling.sessions import Opened, OpenRequest
from sightline_model.agent import AgentConfig, SessionReport
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason
from sightline_model.session import SessionRole

ENDED_KEPT_SECONDS = 60.0
_ENDED_KEPT = 1000
_USED_KEPT_SECONDS = 180.0
_USED_KEPT = 20_000
_FULL_RETRY_SECONDS = 5


Watcher = Callable[[SessionReport], None]


class Gate(Protocol):
    """Knows what viewers cost (`gate.CpuGate`)."""

    def admit(self, viewers: int) -> Problem | None:
        """May one more come in beside these? Else what to tell it."""
        ...


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SessionRegistry:
    """Implements `signaling.sessions.Sessions`."""

    def __init__(
        self,
        config: AgentConfig,
        hub: Viewers,
        make_peer: MakePeer,
        wall: Callable[[], datetime] = _utc_now,
        gate: Gate | None = None,
    ) -> None:
        self._config = config
        self.hub = hub
        self.make_peer = make_peer
        self.wall = wall
        self._gate = gate
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, tuple[float, SessionReport]] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._watchers: list[Watcher] = []
        self._closing = False
        self.ended_by_reason: Counter[EndReason] = Counter()
        self.key_frames_wanted = 0
        self.acks_dropped = 0
        self.refused: Counter[ProblemCode] = Counter()
        """Viewers whom a limit kept out: too-many-viewers, agent-overloaded."""

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

    # What control and the process call

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
        live = [session.report(details) for session in self._live.values()]
        return live + [report for _, report in self._ended.values()]

    @property
    def viewers(self) -> int:
        """Live sessions that watch or are about to."""
        return sum(session.request.role is SessionRole.VIEW for session in self._live.values())

    @property
    def peer_connections(self) -> int:
        """Sessions that have a peer."""
        return sum(session.peer is not None for session in self._live.values())

    def source_ended(self) -> None:
        """The stream came to its end: nobody will see anything more."""
        for session in tuple(self._live.values()):
            if session.attached:
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
        problem = self._limit()
        if problem is not None:
            self.refused[problem.code] += 1
            raise ProblemError(problem)
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
        self._ended[report.id] = (self._now(), report)
        while len(self._ended) > _ENDED_KEPT:
            self._ended.popitem(last=False)
        if report.end_reason is not None:
            self.ended_by_reason[report.end_reason] += 1

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
