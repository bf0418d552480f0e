"""Letting a viewer in: the walk behind `POST .../whep` and `POST .../webrtc/offer`.

Authorize, look at the camera, reserve quota, draw a session id; then the offer goes to the agent and the StreamSession
is created, both at once. The agent decides: it waits for the source, counts viewers, answers or refuses with the
reason. If the viewer's program goes away meanwhile, the request to the agent is broken off, and the agent ends the
session.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from yarl import URL

from sightline_api.agent_proxy import SDP, AgentAnswer, AgentClient, AgentRequest, base_url, unavailable
from sightline_api.auth.caller import Caller
from sightline_api.authorize import Action, Authorizer
from sightline_api.cameras import CameraState
from sightline_api.clock import Clock
from sightline_api.problems import ProblemError, problem_error, without_userinfo
from sightline_api.quota import SessionQuota
from sightline_api.recorder import Recorder, stream_session
from sightline_model.names import new_session_id
from sightline_model.problems import Problem, ProblemCode, source_problem
from sightline_model.reasons import (
    AcceptedReason,
    AgentReason,
    ConditionStatus,
    ConditionType,
    SourceReason,
)
from sightline_model.tokens import Signer, TokenError, open_session_path

SETTLE_SECONDS = 0.25
"""How long an answered viewer waits for the StreamSession, so that it is normally there when the answer comes."""

_log = structlog.get_logger(__name__)


class AbandonedError(Exception):
    """The viewer's program went away before the answer."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who wants to watch, with which program, and how to notice that it went away."""

    caller: Caller
    client: str
    gone: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that an agent has answered."""

    session_id: str
    answer: str
    etag: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a Watcher asks before it lets somebody in, and how long it waits beyond the camera's startTimeout."""

    authorizer: Authorizer
    quota: SessionQuota
    margin: float


class Watcher:
    """Opens, continues and ends viewers' sessions at agents."""

    def __init__(
        self, rules: Rules, agents: AgentClient, recorder: Recorder, signers: Sequence[Signer], clock: Clock
    ) -> None:
        self._rules = rules
        self._agents = agents
        self._recorder = recorder
        self._signers = signers
        self._clock = clock

    async def allow(self, caller: Caller, camera: CameraState) -> None:
        """May the caller watch? By right, or because the session token is for this camera."""
        right = caller.session
        if right is None:
            await self._rules.authorizer.require(caller, Action.VIEW, camera.target)
        elif (right.namespace, right.camera, right.uid) != (camera.namespace, camera.name, camera.uid):
            raise problem_error(ProblemCode.FORBIDDEN, "The session token is for another camera.")

    async def open(self, viewer: Viewer, camera: CameraState, offer: str) -> Opened:
        """Let the viewer in; ProblemError with the reason, AbandonedError if the viewer went away."""
        await self.allow(viewer.caller, camera)
        base = reachable(camera)
        user = viewer.caller.identity.user
        with self._rules.quota.reserve(user):
            if viewer.caller.session is not None:
                session_id = viewer.caller.session.session_id
                await self._recorder.require(camera.namespace, session_id)
                record = None
            else:
                session_id = new_session_id()
                record = self._recorder.begin(stream_session(camera, session_id, user, viewer.client))
            request = AgentRequest(
                method="POST",
                path="/whep",
                token=self._token(camera, user, session_id),
                body=offer,
                headers={"Content-Type": SDP, "Accept": SDP, "User-Agent": viewer.client or "unknown"},
                timeout=camera.start_timeout + self._rules.margin,
            )
            try:
                answer = await _unless_gone(self._agents.send(base, request), viewer.gone)
                _check_answer(answer)
            except BaseException:
                if record is not None:
                    record.discard()
                raise
            if record is not None:
                await record.settle(SETTLE_SECONDS)
        return Opened(session_id, answer.body, answer.etag)

    def opened_session(self, caller: Caller, camera: CameraState, segment: str) -> str:
        """The session id of a signed session address; ProblemError 404 for anything else."""
        for signer in self._signers:
            with suppress(TokenError):
                session_id = open_session_path(signer, camera.namespace, camera.name, segment)
                if caller.session is None or caller.session.session_id == session_id:
                    return session_id
                raise problem_error(ProblemCode.FORBIDDEN, "The session token is for another session.")
        raise problem_error(ProblemCode.SESSION_NOT_FOUND)

    async def tell(
        self, caller: Caller, camera: CameraState, session_id: str, request: tuple[str, str, dict[str, str]]
    ) -> AgentAnswer:
        """Send `request` (method, body, headers) about a session to its agent."""
        method, body, headers = request
        base = base_url(camera.status.agent)
        if base is None:
            raise problem_error(ProblemCode.SESSION_NOT_FOUND, "The camera's agent is gone, and the session with it.")
        token = self._token(camera, caller.identity.user, session_id)
        return await self._agents.send(base, AgentRequest(method, f"/whep/{session_id}", token, body, headers))

    def _token(self, camera: CameraState, user: str, session_id: str) -> str:
        return self._signers[0].sign(camera.audience, user, "View", session_id, self._clock.now())


def reachable(camera: CameraState) -> URL:
    """Where the camera's agent listens; ProblemError with the status's own reason where there is none to ask.

    An address is tried even where the operator doubts it: the operator may be away, and the agent knows best.
    """
    if camera.deleting:
        raise problem_error(ProblemCode.CAMERA_NOT_FOUND, "The camera is being deleted.")
    accepted = camera.condition(ConditionType.ACCEPTED)
    if accepted is not None and accepted.status is ConditionStatus.FALSE:
        if accepted.reason == AcceptedReason.NOT_SUPPORTED_YET:
            raise problem_error(ProblemCode.NOT_SUPPORTED_YET, accepted.message)
        raise problem_error(ProblemCode.CAMERA_NOT_READY, accepted.message, 10)
    base = base_url(camera.status.agent)
    agent = camera.condition(ConditionType.AGENT_READY)
    if base is not None and not (agent is not None and agent.reason == AgentReason.NOT_WANTED):
        return base
    raise ProblemError(_why_not(camera))


def _why_not(camera: CameraState) -> Problem:
    """Why a camera without an agent gives no picture, by its status."""
    source = camera.condition(ConditionType.SOURCE_READY)
    if source is not None and source.status is ConditionStatus.FALSE and source.reason in _SOURCE_REASONS:
        reason = SourceReason(source.reason)
        if reason.failed:
            return source_problem(reason, without_userinfo(source.message), 5)
    agent = camera.condition(ConditionType.AGENT_READY)
    detail = agent.message if agent is not None and agent.message else "The camera's agent is starting."
    return Problem(code=ProblemCode.CAMERA_NOT_READY, detail=detail, retry_after_seconds=2)


_SOURCE_REASONS = frozenset(SourceReason)


def _check_answer(answer: AgentAnswer) -> None:
    if answer.status != 201 or answer.content_type != SDP or not answer.body.startswith("v=0"):
        _log.warning("agent's answer is no session", status=answer.status, type=answer.content_type)
        raise unavailable("The camera's agent gave an answer that is none.")


async def _unless_gone(
    work: Coroutine[object, object, AgentAnswer], gone: Callable[[], Awaitable[None]]
) -> AgentAnswer:
    """The outcome of `work`, unless the client leaves first: then `work` is cancelled, which tells the agent."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise AbandonedError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
