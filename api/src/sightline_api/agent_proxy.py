"""Talking to agents: offers, trickled candidates, hang-ups, over HTTP inside the cluster.

Addresses come from `Camera.status` alone, where only the operator writes. What an agent refuses comes as a problem and
is passed on; what makes no sense to a viewer (no connection, our token refused, an answer that is none) becomes
`agent-unavailable`, which tells a player to try again soon.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import structlog
from pydantic import ValidationError
from yarl import URL

from sightline_api import outbound
from sightline_api.problems import ProblemError, problem_error, without_userinfo
from sightline_model.camera import AgentStatus
from sightline_model.problems import Problem, ProblemCode
from sightline_model.words import sentence

SDP = "application/sdp"
TRICKLE = "application/trickle-ice-sdpfrag"
JSON = "application/json"
LAYER_RELATION = "urn:ietf:params:whep:ext:core:layer"
MAX_BODY = 64 * 1024
RETRY_SECONDS = 1
CONTROL_TIMEOUT = 5.0

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?|::1")
_OWN = frozenset({ProblemCode.UNAUTHENTICATED, ProblemCode.FORBIDDEN, ProblemCode.INTERNAL})
"""Between us and the agent, not between the agent and the viewer: a viewer who read them would sign in again."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One request to an agent."""

    method: str
    path: str
    token: str
    body: str = ""
    headers: Mapping[str, str] | None = None
    query: Mapping[str, str] | None = None
    timeout: float = CONTROL_TIMEOUT


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """A 2xx answer."""

    status: int
    content_type: str
    body: str
    etag: str
    layered: bool = False
    """The session has qualities to choose from (WHEP's layer extension)."""


def base_url(agent: AgentStatus | None) -> URL | None:
    """Where an agent listens; None where the status names no usable address."""
    if agent is None or not 0 < agent.port < 65536 or not _HOST.fullmatch(agent.address):
        return None
    return URL.build(scheme="http", host=agent.address, port=agent.port)


def unavailable(detail: str) -> ProblemError:
    """The problem of an agent that does not answer."""
    return problem_error(ProblemCode.AGENT_UNAVAILABLE, detail, RETRY_SECONDS)


class AgentClient:
    """Sends requests to agents over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, connect_timeout: float) -> None:
        self._session = session
        self._connect_timeout = connect_timeout

    async def send(self, base: URL, request: AgentRequest) -> AgentAnswer:
        """The agent's answer; ProblemError for everything but 2xx."""
        headers = {"Authorization": f"Bearer {request.token}", **(request.headers or {})}
        timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=self._connect_timeout)
        try:
            async with self._session.request(
                request.method,
                base.with_path(request.path).with_query(request.query or {}),
                data=request.body.encode() or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                return _answer(response, await outbound.read(response.content, MAX_BODY))
        except outbound.TooLargeError as error:
            raise unavailable("The camera's agent answered with too much.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("agent does not answer", agent=str(base), error=type(error).__name__)
            raise unavailable("The camera's agent does not answer. Try again in a moment.") from error


def _answer(response: aiohttp.ClientResponse, body: bytes) -> AgentAnswer:
    if response.status not in {200, 201, 204}:
        raise ProblemError(_refusal(response, body))
    return AgentAnswer(
        status=response.status,
        content_type=response.content_type,
        body=body.decode("utf-8", "replace"),
        etag=_entity_tag(response.headers.get("ETag", "")),
        layered=any(LAYER_RELATION in line for line in response.headers.getall("Link", [])),
    )


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> Problem:
    try:
        problem = Problem.model_validate(json.loads(body))
    except (ValueError, ValidationError, RecursionError):
        problem = None
    if problem is None or problem.code in _OWN:
        code = problem.code if problem else "none"
        _log.warning("agent refused us", status=response.status, code=code)
        return unavailable("The camera's agent cannot take the request now.").problem
    retry_after = problem.retry_after_seconds
    header = response.headers.get("Retry-After", "")
    if retry_after is None and header.isascii() and header.isdigit() and len(header) < 6:
        retry_after = int(header)
    return Problem(
        code=problem.code,
        detail=sentence(without_userinfo(problem.detail))[:1024],
        reason=problem.reason,
        retry_after_seconds=retry_after,
        errors=problem.errors,
    )


def _entity_tag(value: str) -> str:
    """A strong, quoted entity tag that can be sent on; empty if it is none."""
    return value if re.fullmatch(r'"[\x21\x23-\x7e]{1,256}"', value) else ""
