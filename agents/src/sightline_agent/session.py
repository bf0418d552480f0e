"""One session: its task, its state, its peer.

The task alone owns the state and drives `sightline_model.lifecycle`; the registry and the peer put messages into the
inbox. Whatever ends a session, its cleanup runs once: the peer closed, the hub told, a waiting client answered.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from sightline_agent.attachment import Attachment
from sightline_agent.errors import ProblemError
from sightline_agent.observer import Observer
from sightline_agent.quality import Cause, Quality, Viewers
from sightline_agent.signaling.sessions import Opened, OpenRequest
from sightline_agent.sources.base import SourceError
from sightline_model import lifecycle
from sightline_model.agent import AgentConfig, SessionReport, SessionStats
from sightline_model.lifecycle import Effect, Input
from sightline_model.problems import Problem, ProblemCode, source_problem
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase

_SOURCE_RETRY_SECONDS = 3
_SILENCE_SECONDS = 15.0
"""The peer itself notices silence earlier; this holds if it should not."""
_LATE_SECONDS = 2.0
"""A deadline that is noticed so late: the process stood still, and what came meanwhile is still to be read."""
_ANSWER_MARGIN_SECONDS = 3.0
_CLOSE_SECONDS = 2.0
_INBOX = 64

_log = structlog.get_logger(__name__)


class Peer(Protocol):
    """One viewer's peer connection (`peers.Peer`)."""

    @property
    def etag(self) -> str: ...

    def answer(self, offer: str) -> str: ...

    def trickle(self, fragment: str) -> str | None: ...

    @property
    def media_id(self) -> str | None: ...

    def stats(self) -> SessionStats | None: ...

    async def switch(self, place: Attachment) -> None: ...

    async def run(self) -> None: ...

    def close(self, reason: EndReason) -> None: ...


MakePeer = Callable[[str, Attachment, Observer], Peer]


class Home(Protocol):
    """Where a session lives: the registry."""

    make_peer: MakePeer
    wall: Callable[[], datetime]
    inbox_dropped: int
    quality_changes: Counter[Cause]

    @property
    def renditions(self) -> Viewers: ...

    def publish(self, report: SessionReport) -> None:
        """Something about the session changed."""
        ...

    def retire(self, session: "Session") -> None:
        """The session has ended and cleaned up."""
        ...


@dataclass(frozen=True, slots=True)
class Closed:
    """Message: the session is to end, or its peer has."""

    reason: EndReason
    text: str = ""


class Connected:
    """Message: the peer connection stands."""


Message = Input | Closed | Connected

_INPUT_OF = {reason: given for given, reason in lifecycle.END_REASONS.items()}


class Session:
    """One session: its task, its state, its peer."""

    def __init__(self, home: Home, request: OpenRequest, config: AgentConfig) -> None:
        self._home = home
        self.request = request
        self.peer: Peer | None = None
        self.opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self._inbox: asyncio.Queue[Message] = asyncio.Queue(_INBOX)
        self._config = _lifecycle_config(config)
        self._state = lifecycle.begin(self._now(), self._config)
        self._task: asyncio.Task[None] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._ending: Closed | None = None
        self.quality = Quality(home.renditions, request, self._quality_changed)
        self._problem: Problem | None = None
        self._heard_at: float | None = None
        """A sign of life that the machine does not know of yet: it is told when it would give the peer up."""
        self._times: dict[str, datetime] = {"requested_at": home.wall()}

    def start(self) -> None:
        self._home.publish(self.report())
        self._task = asyncio.create_task(self._live(), name=f"session {self.request.sid}")

    def tell(self, message: Message) -> None:
        """Put a message into the inbox. When it is full the message is dropped and counted; an end takes the oldest's
        place instead."""
        if isinstance(message, Closed):
            if self._ending is not None or self._state.ended:
                return
            self._ending = message
        if self._inbox.full():
            self._home.inbox_dropped += 1
            if not isinstance(message, Closed):
                return
            self._inbox.get_nowait()
        self._inbox.put_nowait(message)

    async def wait(self) -> None:
        """Until the session has ended."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def report(self, details: bool = False) -> SessionReport:
        """What it is now; with how the viewer receives when `details` are wanted."""
        reason = self._state.end_reason
        text = ""
        if reason is not None and self._ending is not None:
            reason, text = self._ending.reason, self._ending.text
        return SessionReport(
            id=self.request.sid,
            user=self.request.user,
            role=self.request.role,
            transport=self.request.transport,
            profile=self.quality.name,
            phase=self._state.state,
            end_reason=reason,
            message=text,
            stats=self.peer.stats() if details and self.peer is not None else None,
            **self._times,
        )

    # The quality

    def adapt(self, names: list[str]) -> None:
        """Fit the quality to the link."""
        if self._state.state is SessionPhase.STREAMING:
            self.quality.adapt(names)

    def refit(self) -> None:
        """The camera sends something else. Where that cannot be shown the session ends, and its player asks anew."""
        self.quality.refit(lambda why: self.tell(Closed(EndReason.SOURCE_LOST, why)))

    def _quality_changed(self, cause: Cause) -> None:
        self._home.quality_changes[cause] += 1
        self._home.publish(self.report())

    # What the peer tells (Observer)

    def connected(self) -> None:
        self.tell(Connected())
        self.quality.want_key_frame()

    def media(self) -> None:
        self.tell(Input.MEDIA)

    def alive(self) -> None:
        self._heard_at = self._now()  # no turn of the session: receiver reports come each second from each viewer

    def key_frame_wanted(self) -> None:
        self.quality.want_key_frame()

    def closed(self, reason: EndReason, message: str) -> None:
        self.tell(Closed(reason, message))

    # The task

    async def _live(self) -> None:
        self._answering = asyncio.create_task(self._answer(), name=f"answer {self.request.sid}")
        try:
            while not self._state.ended:
                await self._turn()
        finally:
            if not self._state.ended:  # the task itself was cancelled, or there is a bug in it
                self._state, _ = lifecycle.step(self._state, Input.AGENT_LOST, self._now(), self._config)
                await self._cleanup()

    async def _turn(self) -> None:
        deadline = self._state.next_deadline()
        message = await self._next(deadline)
        if message is None and deadline is not None and self._now() - deadline > _LATE_SECONDS:
            message = await self._next(self._now() + _LATE_SECONDS)
        await self._apply(message)

    async def _next(self, deadline: float | None) -> Message | None:
        """The next message; None when there is none by then."""
        delay = None if deadline is None else max(deadline - self._now(), 0.0)
        try:
            async with asyncio.timeout(delay):
                return await self._inbox.get()
        except TimeoutError:
            return None if self._inbox.empty() else self._inbox.get_nowait()

    async def _apply(self, message: Message | None) -> None:
        now = self._now()
        if message is None:
            heard, self._heard_at = self._heard_at, None
            if heard is not None:
                self._state, _ = lifecycle.step(self._state, Input.ACK, heard, self._config)
            self._state, effects = lifecycle.tick(self._state, now, self._config)
        elif isinstance(message, Connected):
            self._times.setdefault("connected_at", self._home.wall())
            effects = (Effect.NOTIFY_STATUS,)
        elif isinstance(message, Closed):
            # Reasons that the machine has no input for end it like a revocation; the report names them as they are.
            given = _INPUT_OF.get(message.reason, Input.REVOKED)
            if given is Input.REJECTED and self._state.state is SessionPhase.STREAMING:
                given = Input.REVOKED
            self._state, effects = lifecycle.step(self._state, given, now, self._config)
        else:
            self._state, effects = lifecycle.step(self._state, message, now, self._config)
            if message is Input.ANSWERED:
                self._times["answered_at"] = self._home.wall()
            elif message is Input.MEDIA:
                self._times.setdefault("first_media_at", self._home.wall())
        await self._carry_out(effects)

    async def _carry_out(self, effects: lifecycle.Effects) -> None:
        for effect in effects:
            match effect:
                case Effect.NOTIFY_STATUS:
                    if self._state.ended:
                        self._times["ended_at"] = self._home.wall()
                    else:
                        self._home.publish(self.report())
                case Effect.ON_TIMEOUT | Effect.ON_ACK_MISSED:
                    _log.info("session timed out", session=self.request.sid, phase=self._state.state)
                case Effect.SEND_KEEP_ALIVE:
                    pass  # sender reports are the peer's business
                case Effect.CLEANUP:
                    await self._cleanup()

    async def _answer(self) -> None:
        """Wait for the source, make the peer, answer the offer. The session's task hears how it went."""
        try:
            place = await self.quality.attach()
            self.tell(Input.ACCEPTED)
            self.peer = self.quality.peer = self._home.make_peer(self.request.sid, place, self)
            answer = self.peer.answer(self.request.offer)
        except SourceError as error:
            self._problem = source_problem(error.reason, str(error), _SOURCE_RETRY_SECONDS)
            lost = error.reason is not SourceReason.IDLE
            self.tell(Closed(EndReason.SOURCE_LOST if lost else EndReason.AGENT_LOST, str(error)))
        except ProblemError as error:
            self._problem = error.problem
            self.tell(Closed(EndReason.REJECTED, str(error)))
        except Exception:
            _log.exception("session could not be answered", session=self.request.sid)
            self._problem = Problem(code=ProblemCode.INTERNAL)
            self.tell(Closed(EndReason.REJECTED, "internal error"))
        else:
            self._running = asyncio.create_task(self._run_peer(self.peer), name=f"peer {self.request.sid}")
            self.tell(Input.ANSWERED)
            if not self.opened.done():
                layered = len(self._home.renditions.names) > 1
                self.opened.set_result(Opened(self.request.sid, answer, self.peer.etag, layered))

    async def _run_peer(self, peer: Peer) -> None:
        try:
            await peer.run()
        except Exception:
            _log.exception("peer failed", session=self.request.sid)
            self.tell(Closed(EndReason.HANGUP, "the peer connection failed"))
        else:
            self.tell(Closed(EndReason.HANGUP))

    async def _cleanup(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait({self._answering})
        await self.quality.stop()
        reason = self.report().end_reason or EndReason.HANGUP
        if self.peer is not None:
            self.peer.close(reason)
        if self._running is not None:
            _, pending = await asyncio.wait({self._running}, timeout=_CLOSE_SECONDS)
            if pending:
                _log.warning("peer did not close in time", session=self.request.sid)
                self._running.cancel()
                await asyncio.wait({self._running})
        self.quality.leave()
        if not self.opened.done():
            self.opened.set_exception(ProblemError(self._problem or _ended_problem(reason)))
            self.opened.exception()  # retrieved: a client that went away asks no more
        self._times.setdefault("ended_at", self._home.wall())
        self._home.retire(self)
        self._home.publish(self.report())
        _log.info("session ended", session=self.request.sid, reason=self.report().end_reason)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _lifecycle_config(config: AgentConfig) -> lifecycle.Config:
    return lifecycle.Config(
        ack_timeout=_SILENCE_SECONDS,
        max_missed_acks=1,
        connect_timeout=config.lifecycle.connect_timeout,
        answer_timeout=config.lifecycle.start_timeout + _ANSWER_MARGIN_SECONDS,
    )


def _ended_problem(reason: EndReason) -> Problem:
    return Problem(code=ProblemCode.SESSION_NOT_FOUND, detail=f"the session ended before it began: {reason}")
