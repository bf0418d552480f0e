"""Errors as answers: every failed request ends in `application/problem+json`, also those that are bugs.

A bug is logged with its traceback under an id; the answer holds the id and nothing else.
"""

import secrets

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_agent.errors import ProblemError
from sightline_model.problems import MEDIA_TYPE, Problem, ProblemCode

_log = structlog.get_logger(__name__)

_CLIENT_GONE = 499
"""Nobody reads this answer; access logs know the number."""
_CODE_OF_STATUS = {
    400: ProblemCode.INVALID_REQUEST,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.BODY_TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
}


def problem_response(problem: Problem) -> Response:
    """The answer for a problem, with the headers that belong to it."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(problem.retry_after_seconds)
    if problem.status == 401:
        error = ', error="invalid_token"' if problem.detail else ""
        headers["WWW-Authenticate"] = f'Bearer realm="sightline"{error}'
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, MEDIA_TYPE)


async def on_problem(request: Request, error: Exception) -> Response:
    """ProblemError: what was raised is the answer."""
    if not isinstance(error, ProblemError):
        raise error
    return problem_response(error.problem)


async def on_disconnect(request: Request, error: Exception) -> Response:
    """ClientDisconnect: whoever asked has hung up, in the middle of a body or while it was parked."""
    if not isinstance(error, ClientDisconnect):
        raise error
    return Response(status_code=_CLIENT_GONE)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown paths, wrong methods."""
    if not isinstance(error, HTTPException):
        raise error
    code = _CODE_OF_STATUS.get(error.status_code)
    if code is None:
        code = ProblemCode.INVALID_REQUEST if error.status_code < 500 else ProblemCode.INTERNAL
    response = problem_response(Problem(code=code))
    response.headers.update(error.headers or {})  # Allow
    return response


class BugMiddleware:
    """Outermost: an exception that nobody expected becomes an answer with an id, and a log line with the same id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            number = secrets.token_hex(6)
            _log.exception("unexpected error", id=number, path=scope["path"])
            if started:
                raise
            problem = Problem(code=ProblemCode.INTERNAL, detail=f"The log has more under {number}.")
            await problem_response(problem)(scope, receive, send)
