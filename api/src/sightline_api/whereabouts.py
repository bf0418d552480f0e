"""Where a camera's agent listens, by the camera's status alone, and the wait for one that is being started.

A camera that nobody watched for long has no agent; the StreamSession of whoever comes makes the operator start one. The
viewer's request is parked until the status names it, for the camera's startTimeout at most.
"""

import asyncio

from yarl import URL

from sightline_api.agent_proxy import base_url
from sightline_api.cameras import CameraState, Directory
from sightline_api.problems import ProblemError, problem_error, without_userinfo
from sightline_model.conditions import Condition
from sightline_model.problems import Problem, ProblemCode, source_problem
from sightline_model.reasons import (
    AcceptedReason,
    AgentReason,
    ConditionStatus,
    ConditionType,
    NetworkReason,
    SourceReason,
)

_SOURCE_REASONS = frozenset(SourceReason)
_ON_ITS_WAY = frozenset({AgentReason.SCALED_TO_ZERO, AgentReason.STARTING, AgentReason.AGENT_ENDED})
"""Reasons for which there is no agent now and one in a moment, if somebody wants it."""
_NO_WAY = frozenset({NetworkReason.PROBING, NetworkReason.PROBE_FAILED, NetworkReason.TURN_SECRET_MISSING})
"""Reasons for which an answer would name addresses that lead nowhere."""


def admitted(camera: CameraState) -> None:
    """ProblemError for a camera that gives no picture whoever comes: it is being deleted, refused, or not well."""
    if not coming(camera):
        reachable(camera)


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
    network = _false(camera, ConditionType.NETWORK_READY)
    if network is not None and network.reason in _NO_WAY:
        raise problem_error(ProblemCode.CAMERA_NOT_READY, network.message, 2)
    base = base_url(camera.status.agent)
    agent = camera.condition(ConditionType.AGENT_READY)
    if base is not None and not (agent is not None and agent.reason == AgentReason.NOT_WANTED):
        return base
    raise ProblemError(_why_not(camera))


def coming(camera: CameraState) -> bool:
    """True for a camera whose agent rests or starts."""
    accepted = camera.condition(ConditionType.ACCEPTED)
    if camera.deleting or accepted is None or accepted.status is not ConditionStatus.TRUE:
        return False
    agent, network = _false(camera, ConditionType.AGENT_READY), _false(camera, ConditionType.NETWORK_READY)
    if agent is None:
        return network is not None and network.reason == NetworkReason.PROBING
    return agent.reason in _ON_ITS_WAY


class Whereabouts:
    """Finds agents, waiting where that helps."""

    def __init__(self, cameras: Directory) -> None:
        self._cameras = cameras

    async def agent(self, camera: CameraState) -> URL:
        """Where the camera's agent listens, as soon as it does; ProblemError with the reason where it does not."""
        if not coming(camera):
            return reachable(camera)
        try:
            async with asyncio.timeout(camera.start_timeout):
                arrived = await self._cameras.until(camera, lambda state: not coming(state))
        except TimeoutError:
            return reachable(self._cameras.get(camera.namespace, camera.name))
        return reachable(arrived)

    async def after_a_miss(self, camera: CameraState, problem: ProblemError) -> URL:
        """Where to ask again when the agent did not answer: it may have been on its way out. Else the problem."""
        known = self._cameras.get(camera.namespace, camera.name)
        if problem.problem.code is ProblemCode.AGENT_UNAVAILABLE and known.uid == camera.uid and coming(known):
            return await self.agent(known)
        raise problem


def _false(camera: CameraState, type_: ConditionType) -> Condition | None:
    """The condition, if it is False."""
    found = camera.condition(type_)
    return found if found is not None and found.status is ConditionStatus.FALSE else None


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
