"""Letting a viewer in who may watch (`Door.watched`): the walk behind `POST .../whep` and `POST .../webrtc/offer`.

Look at the camera, reserve quota, draw a session id; then the offer goes to the agent and the StreamSession is created,
both at once. The agent decides: it waits for the source, counts viewers, answers or refuses with the
reason. If the viewer's program goes away meanwhile, the request to the agent is broken off, and the agent ends the
session.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from sightline_api.agent_proxy import SDP, AgentAnswer, AgentClient, AgentRequest, base_url, unavailable
from sightline_api.auth.caller import Caller
from sightline_api.cameras import CameraState
from sightline_api.clock import Clock
from sightline_api.problems import ProblemError, problem_error
from sightline_api.quota import SessionQuota
from sightline_api.recorder import Recorder, stream_session
from sightline_api.whereabouts import Whereabouts, admitted
from sightline_model.names import new_session_id
from sightline_model.problems import ProblemCode
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
    profile: str | None = None
    """The quality that is asked for; None: the one that the link carries."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that an agent has answered."""

    camera: CameraState
    session_id: str
    answer: str
    etag: str
    layered: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """How often a Watcher lets somebody in, and how long it waits beyond the camera's startTimeout."""

    quota: SessionQuota
    margin: float


class Watcher:
    """Opens, continues and ends viewers' sessions at agents."""

    def __init__(
        self,
        rules: Rules,
        agents: AgentClient,
        whereabouts: Whereabouts,
        recorder: Recorder,
        signers: Sequence[Signer],
        clock: Clock,
    ) -> None:
        self._rules = rules
        self._agents = agents
        self._whereabouts = whereabouts
        self._recorder = recorder
        self._signers = signers
        self._clock = clock

    async def open(self, viewer: Viewer, camera: CameraState, offer: str) -> Opened:
        """Let the viewer in, who may watch; ProblemError with the reason, AbandonedError if the viewer went away."""
        admitted(camera)
        user = viewer.caller.identity.user
        with self._rules.quota.reserve(user):
            if viewer.caller.session is not None:
                session_id = viewer.caller.session.session_id
                await self._recorder.require(camera.namespace, session_id)
                record = None
            else:
                session_id = new_session_id()
                record = self._recorder.begin(stream_session(camera, session_id, user, viewer.client, viewer.profile))
            request = AgentRequest(
                method="POST",
                path="/whep",
                token="",
                body=offer,
                headers={"Content-Type": SDP, "Accept": SDP, "User-Agent": viewer.client or "unknown"},
                query={"profile": viewer.profile} if viewer.profile else None,
                timeout=camera.start_timeout + self._rules.margin,
            )
            try:
                answer = await _unless_gone(self._ask(camera, (user, session_id), request), viewer.gone)
                _check_answer(answer)
            except BaseException:
                if record is not None:
                    record.discard()
                raise
            if record is not None:
                await record.settle(SETTLE_SECONDS)
        return Opened(camera, session_id, answer.body, answer.etag, answer.layered)

    async def _ask(self, camera: CameraState, right: tuple[str, str], request: AgentRequest) -> AgentAnswer:
        """Send the offer to the camera's agent, when there is one; once more if it went away meanwhile. Tokens do not
        live long, so each is made when it is sent, from the right (user, session id)."""
        base = await self._whereabouts.agent(camera)
        try:
            return await self._agents.send(base, replace(request, token=self._token(camera, *right)))
        except ProblemError as problem:
            base = await self._whereabouts.after_a_miss(camera, problem)
        return await self._agents.send(base, replace(request, token=self._token(camera, *right)))

    def opened_session(self, caller: Caller, namespace: str, name: str, segment: str) -> str:
        """The session id of a signed session address; ProblemError 404 for anything else."""
        for signer in self._signers:
            with suppress(TokenError):
                session_id = open_session_path(signer, namespace, name, segment)
                if caller.session is None or caller.session.session_id == session_id:
                    return session_id
                raise problem_error(ProblemCode.FORBIDDEN, "The session token is for another session.")
        raise problem_error(ProblemCode.SESSION_NOT_FOUND)

    async def tell(
        self,
        caller: Caller,
        camera: CameraState,
        session_id: str,
        request: tuple[str, str, dict[str, str]],
        below: str = "",
    ) -> AgentAnswer:
        """Send `request` (method, body, headers) about a session to its agent; `below`: to a part of the session."""
        method, body, headers = request
        token = self._token(camera, caller.identity.user, session_id)
        sent = AgentRequest(method, f"/whep/{session_id}{below}", token, body, headers)
        if below == "/layers":  # another quality may have to start first
            sent = replace(sent, timeout=camera.start_timeout + self._rules.margin)
        return await self._whoever_has_it(camera, sent)

    async def _whoever_has_it(self, camera: CameraState, request: AgentRequest) -> AgentAnswer:
        """Ask the camera's agent, and then those before it that still have viewers. While one of them does not answer,
        nobody can say that the session is gone."""
        agents = (base_url(agent) for agent in (camera.status.agent, *camera.status.former_agents))
        problem = problem_error(ProblemCode.SESSION_NOT_FOUND, "The camera's agent is gone, and the session with it.")
        for base in agents:
            if base is None:
                continue
            try:
                return await self._agents.send(base, request)
            except ProblemError as error:
                if error.problem.code not in (ProblemCode.SESSION_NOT_FOUND, ProblemCode.AGENT_UNAVAILABLE):
                    raise
                if problem.problem.code is not ProblemCode.AGENT_UNAVAILABLE:
                    problem = error
        raise problem

    def _token(self, camera: CameraState, user: str, session_id: str) -> str:
        return self._signers[0].sign(camera.audience, user, "View", session_id, self._clock.now())


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
