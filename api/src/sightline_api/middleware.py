"""What surrounds every request, from the outside in: Observe, Cors, Methods (`methods`), BodyLimit, Gate.

Plain ASGI, because the handlers that wait for agents must see a client leave, which wrapping middlewares hide.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from traceback import format_exception
from typing import cast

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline_api.door import Door
from sightline_api.metrics import METHODS, Metrics
from sightline_api.problems import CLIENT_CLOSED_REQUEST, ProblemError, of_cluster, respond
from sightline_kube.errors import ClusterError
from sightline_model.problems import Problem, ProblemCode

MAX_BODY = 256 * 1024
MAX_SDP_BODY = 64 * 1024
BODY_SECONDS = 20.0
"""From the request's head to the end of its body: 256 KiB over 100 kbit/s."""
ALLOWED_HEADERS = "Authorization, Content-Type, If-Match"
ALLOWED_METHODS = "OPTIONS, GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED_HEADERS = "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate, X-Request-Id"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

_WITHIN = re.compile(r"/whep/[^/]+/(report|layers)$")
"""Asked of a session that was opened before."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_log = structlog.get_logger(__name__)


class Observe:
    """Counts, times and logs each request (route template, never the address), catches what nobody caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, page_policy: str) -> None:
        self.app = app
        self._metrics = metrics
        self._page_policy = page_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        started, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message), scope["path"], request_id)
            await send(message)

        self._metrics.in_progress.inc()
        try:
            with structlog.contextvars.bound_contextvars(request=request_id):
                try:
                    await self.app(scope, receive, observed)
                except asyncio.CancelledError:
                    # The server's doing, which stops and has given the request its time: another one answers.
                    if not status:
                        await _stopping()(scope, receive, observed)
                    self._count(scope, status, time.perf_counter() - started)
                    raise
                except Exception as error:
                    # As plain text: pretty tracebacks show local variables, and those may hold tokens.
                    _log.error("request failed", route=_route(scope), trace="".join(format_exception(error)))
                    if status:
                        raise
                    await _internal(request_id)(scope, receive, observed)
                self._count(scope, status, time.perf_counter() - started)
        finally:
            self._metrics.in_progress.dec()

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.durations.labels(route, method).observe(seconds)
        if route not in QUIET:
            # What is refused is a warning: of those, floods are cut short (`sightline_model.flood`).
            log = _log.info if status < 400 else _log.warning
            log("request", route=route, method=method, status=status, ms=round(seconds * 1000, 1))

    def _add_headers(self, headers: MutableHeaders, path: str, request_id: str) -> None:
        headers["X-Request-Id"] = request_id
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        if path.startswith("/v1/"):
            headers.setdefault("Cache-Control", "no-store")
        else:
            headers["Content-Security-Policy"] = self._page_policy
            headers["Cross-Origin-Opener-Policy"] = "same-origin"


def page_policy(frame_ancestors: Sequence[str]) -> str:
    """The page's Content-Security-Policy: its own scripts and styles, media of its own peer connections."""
    return "; ".join(
        (
            "default-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "media-src 'self' blob: mediastream:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {' '.join(frame_ancestors)}",
        )
    )


class Cors:
    """Lets pages of other origins call the API with a token they hold (no cookies, so there is nothing to ride on)."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        request = Headers(scope=scope)
        allowed = self._allowed(request.get("origin"))

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.append("Vary", "Origin")
                if allowed:
                    headers["Access-Control-Allow-Origin"] = allowed
                    headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in request:
            await _preflight(scope["path"])(scope, receive, opened)
        else:
            await self.app(scope, receive, opened)

    def _allowed(self, origin: str | None) -> str | None:
        if "*" in self._origins:
            return "*"
        return origin if origin in self._origins else None


def _preflight(path: str) -> Response:
    headers = {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "600",
    }
    if path.endswith("/whep"):
        headers["Accept-Post"] = "application/sdp"
    return Response(status_code=204, headers=headers)


class BodyLimit:
    """Refuses bodies that no request of ours has, by what they claim, by what comes, and by when it comes. Who hangs up
    in the middle of one is gone, whoever reads it: handlers of ours and FastAPI have different words for that."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        limit = MAX_SDP_BODY if path.endswith("/whep") or "/whep/" in path else MAX_BODY
        taken, complete = 0, False
        until = asyncio.get_running_loop().time() + BODY_SECONDS
        claimed = Headers(scope=scope).get("content-length", "0")
        if not (claimed.isascii() and claimed.isdigit()) or int(claimed[:12]) > limit:
            await respond(Problem(code=ProblemCode.BODY_TOO_LARGE))(scope, receive, send)
            return

        async def limited() -> Message:
            nonlocal taken, complete
            if complete:  # from here on it is waited for the client to leave
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(status_code=408, headers={"Connection": "close"}) from None
            if message["type"] == "http.disconnect":
                raise HTTPException(status_code=CLIENT_CLOSED_REQUEST)
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(status_code=413)
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, limited, send)


class Gate:
    """Authenticates everything under /v1 before any of it is looked at; OPTIONS tells nothing and passes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/") or scope["method"] == "OPTIONS":
            await self.app(scope, receive, send)
            return
        door = cast("Door", scope["app"].state.door)
        opening = scope["method"] not in {"PATCH", "DELETE"} and not _WITHIN.search(scope["path"])
        try:
            caller = await door.chain.authenticate(Headers(scope=scope).getlist("authorization"), opening=opening)
        except ProblemError as error:
            await respond(error.problem, error.headers)(scope, receive, send)
            return
        except ClusterError as error:
            await respond(of_cluster(error))(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self.app(scope, receive, send)


def _route(scope: Scope) -> str:
    """The route's template: bounded, and without names, ids and tokens."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "page" if scope.get("endpoint") is not None else "unmatched"
    # An included router's routes do not know its prefix.
    return f"/v1{path}" if scope["path"].startswith("/v1/") and not path.startswith("/v1/") else str(path)


def _stopping() -> Response:
    detail = "This took longer than the process lasts. Try again: another one answers."
    return respond(Problem(code=ProblemCode.STOPPING, detail=detail, retry_after_seconds=1))


def _internal(request_id: str) -> Response:
    return respond(Problem(code=ProblemCode.INTERNAL, detail=f"Tell your operator this number: {request_id}."))
