"""One door for all credentials. It denies unless exactly the authenticator that is responsible says yes.

Who is responsible is told by the token's unverified `iss`: our own name, a configured OIDC issuer, else Kubernetes.
Each then verifies for itself. A token that its authenticator refuses is not offered to another one.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import structlog

from sightline_api.auth.caller import Caller, RejectedError
from sightline_api.auth.jwks import KeysUnavailableError
from sightline_api.auth.kubernetes import KubernetesAuthenticator
from sightline_api.auth.oidc import OidcAuthenticator
from sightline_api.auth.static import StaticAuthenticator
from sightline_api.auth.stream import SessionTokenAuthenticator
from sightline_api.metrics import Metrics
from sightline_api.problems import ProblemError, problem_error
from sightline_kube.errors import ClusterError
from sightline_model.problems import Problem, ProblemCode
from sightline_model.tokens import ISSUER

MAX_TOKEN = 16 * 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Authenticators:
    """The authenticators that are switched on."""

    session: SessionTokenAuthenticator
    oidc: Mapping[str, OidcAuthenticator]
    kubernetes: KubernetesAuthenticator | None
    static: StaticAuthenticator | None


class Method(StrEnum):
    """Kinds of credentials, as logs and metrics name them."""

    NONE = "none"
    UNKNOWN = "unknown"
    STATIC = "static"
    SIGHTLINE = "sightline"
    OIDC = "oidc"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and what it says of itself, which is believed by nobody but chooses who is asked."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


class Chain:
    """Turns an Authorization header into a Caller."""

    def __init__(self, authenticators: Authenticators, now: Callable[[], datetime], metrics: Metrics) -> None:
        self._with = authenticators
        self._now = now
        self._metrics = metrics

    async def close(self) -> None:
        """End what is under way on its own."""
        for authenticator in self._with.oidc.values():
            await authenticator.close()

    async def authenticate(self, authorization: Sequence[str], *, opening: bool = True) -> Caller:
        """The caller; ProblemError otherwise. `opening` is False where a session is only continued or ended."""
        method = Method.UNKNOWN if authorization else Method.NONE
        try:
            token = _token(authorization)
            method = self._responsible(token)
            caller = await self._ask(method, token, opening)
        except RejectedError as error:
            self._metrics.authentications.labels(method, "rejected").inc()
            _log.warning("not authenticated", method=str(method), why=str(error))
            raise _refusal(method) from None
        except ClusterError as error:
            self._metrics.authentications.labels(method, "unavailable").inc()
            _log.warning("token not reviewed", error=type(error).__name__)
            raise
        except KeysUnavailableError as error:
            self._metrics.authentications.labels(method, "unavailable").inc()
            detail = "The issuer of the token cannot be asked for its keys."
            raise problem_error(ProblemCode.ISSUER_UNAVAILABLE, detail, 5) from error
        self._metrics.authentications.labels(method, "accepted").inc()
        return caller

    def _responsible(self, token: _Token) -> Method:
        issuer = token.claims.get("iss")
        if self._with.static is not None and self._with.static.authenticate(token.text) is not None:
            return Method.STATIC
        if issuer == ISSUER:
            return Method.SIGHTLINE
        if isinstance(issuer, str) and issuer in self._with.oidc:
            return Method.OIDC
        return Method.KUBERNETES if self._with.kubernetes is not None else Method.UNKNOWN

    async def _ask(self, method: Method, token: _Token, opening: bool) -> Caller:
        found: Caller | None = None
        if method is Method.STATIC and self._with.static is not None:
            found = self._with.static.authenticate(token.text)
        elif method is Method.SIGHTLINE:
            session = self._with.session
            found = session.authenticate(token.text, token.claims, self._now(), opening=opening)
        elif method is Method.OIDC:
            found = await self._with.oidc[token.claims["iss"]].authenticate(token.text, token.header)
        elif method is Method.KUBERNETES and self._with.kubernetes is not None:
            found = await self._with.kubernetes.authenticate(token.text, _time(token.claims.get("exp")))
        if found is None:
            raise RejectedError("nobody is responsible for the token")
        return found


def _refusal(method: Method) -> ProblemError:
    detail = "Send a valid token: Authorization: Bearer <token>."
    challenge = "Bearer" if method is Method.NONE else 'Bearer error="invalid_token"'
    problem = Problem(code=ProblemCode.UNAUTHENTICATED, detail=detail)
    return ProblemError(problem, {"WWW-Authenticate": challenge})


def _token(authorization: Sequence[str]) -> _Token:
    text = _bearer(authorization)
    parts = text.split(".")
    header, claims = (_segment(parts[0]), _segment(parts[1])) if len(parts) == 3 else ({}, {})
    return _Token(text, header, claims)


def _bearer(authorization: Sequence[str]) -> str:
    if len(authorization) != 1:
        raise RejectedError("there is not exactly one Authorization header")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise RejectedError("the Authorization header is no Bearer token")
    if len(token) > MAX_TOKEN:
        raise RejectedError("the token is too large")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise RejectedError("the token has characters that no token has")
    return token


def _segment(part: str) -> Mapping[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 2**53 else None
