"""Who may ask the agent what: media tokens, verified offline against the mounted public keys.

`View` and `Publish` tokens open the session they name, `Control` tokens (the operator's) read status and
events, write the configuration and end sessions. Nothing here remembers anything; that a token opens only
once is the registry's matter.

Standalone, whoever reaches the agent over the loopback device may watch without a token. The name in the
request must be a loopback name too: else a web page could point a name of its own at 127.0.0.1 and be taken
for a local program.
"""

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from starlette.requests import Request

from sightline_agent.errors import ProblemError
from sightline_model.agent import SPARE_UID, AgentConfig
from sightline_model.names import new_session_id
from sightline_model.problems import Problem, ProblemCode
from sightline_model.tokens import MediaClaims, TokenError, verify

_LOCAL_LIFETIME = timedelta(seconds=60)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authenticator(Protocol):
    """What the routes ask."""

    def viewer(self, request: Request) -> MediaClaims:
        """Who opens a session; ProblemError 401 or 403 where nobody may."""
        ...

    def control(self, request: Request) -> None:
        """Let the operator pass; ProblemError for everybody else."""
        ...


class TokenAuthenticator:
    """In a cluster: nothing without a token."""

    def __init__(
        self, config: Callable[[], AgentConfig], wall: Callable[[], datetime] = _utc_now, *, control_audience: str = ""
    ) -> None:
        """`control_audience`: the `aud` of Control tokens, where it is not the camera's."""
        self._config = config
        self._wall = wall
        self._control_audience = control_audience

    def viewer(self, request: Request) -> MediaClaims:
        camera = self._config().camera
        if camera.uid == SPARE_UID:
            detail = "this agent has no camera yet"
            raise ProblemError(Problem(code=ProblemCode.AGENT_UNAVAILABLE, detail=detail, retry_after_seconds=1))
        claims = self._claims(request, camera.audience)
        if claims.role == "Control" or not claims.session_id:
            raise forbidden("this token opens no session")
        return claims

    def control(self, request: Request) -> None:
        if self._claims(request, self._control_audience or self._config().camera.audience).role != "Control":
            raise forbidden("this token is not for the control interface")

    def _claims(self, request: Request, audience: str) -> MediaClaims:
        token = bearer(request)
        try:
            return verify(token, self._config().token_keys, audience, self._wall())
        except TokenError as error:
            raise unauthenticated(str(error)) from error


class LoopbackAuthenticator:
    """Standalone: local programs need no token, nobody else gets in."""

    def __init__(self, audience: str, wall: Callable[[], datetime] = _utc_now) -> None:
        self._audience = audience
        self._wall = wall

    def viewer(self, request: Request) -> MediaClaims:
        self._require_loopback(request)
        return MediaClaims(self._audience, "local", "View", new_session_id(), self._wall() + _LOCAL_LIFETIME, key_id="")

    def control(self, request: Request) -> None:
        self._require_loopback(request)

    def _require_loopback(self, request: Request) -> None:
        peer = request.client.host if request.client is not None else ""
        if not (_is_loopback(peer) and _is_loopback_name(request.headers.get("host", ""))):
            raise unauthenticated("a standalone agent serves local programs only")


def bearer(request: Request) -> str:
    """The token of the Authorization header; ProblemError 401 without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthenticated("")
    return token.strip()


def unauthenticated(detail: str) -> ProblemError:
    """401; the answer says how to authenticate."""
    return ProblemError(Problem(code=ProblemCode.UNAUTHENTICATED, detail=detail))


def forbidden(detail: str) -> ProblemError:
    """403."""
    return ProblemError(Problem(code=ProblemCode.FORBIDDEN, detail=detail))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_loopback_name(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower() == "localhost" or _is_loopback(name)
