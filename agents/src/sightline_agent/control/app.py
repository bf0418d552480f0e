"""The control port: signaling for viewers, status, events and commands for the operator, health and metrics.

`/v1/...` needs a Control token; `/healthz`, `/readyz` and `/metrics` answer everybody and show nothing
secret; the routes of signaling are handed in and authenticate by themselves. Every error is problem+json.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sightline_agent.bodies import read_body
from sightline_agent.control.auth import Authenticator
from sightline_agent.control.events import EventHub, Subscription, TooManySubscribersError
from sightline_agent.control.problems import BugMiddleware, on_disconnect, on_http_exception, on_problem
from sightline_agent.control.status import Agent
from sightline_agent.errors import ProblemError
from sightline_agent.spare import Spare
from sightline_model.agent import Adoption, AgentConfig, SealedAdoption
from sightline_model.problems import FieldError, Problem, ProblemCode
from sightline_model.reasons import EndReason
from sightline_model.sealing import SealError

T = TypeVar("T", bound=BaseModel)
MAX_CONFIG_BYTES = 256 * 1024
MAX_ADOPTION_BYTES = 2 * MAX_CONFIG_BYTES
"""Sealed text is a third longer."""
_EXPOSED_HEADERS = ["Location", "ETag", "Link", "Accept-Patch", "Retry-After"]


@dataclass(frozen=True, slots=True)
class Control:
    """What the routes work on."""

    agent: Agent
    events: EventHub
    authenticator: Authenticator
    spare: Spare | None = None
    """Of an agent that began without a camera."""

    def routes(self) -> list[BaseRoute]:
        """The agent's own routes."""
        return [
            Route("/v1/status", self.status),
            Route("/v1/events", self.stream),
            Route("/v1/config", self.configure, methods=["PUT"]),
            Route("/v1/sessions/{sid}", self.end_session, methods=["DELETE"]),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    def short_status(self) -> BaseRoute:
        """The same report under the name that programs beside a standalone agent know."""
        return Route("/status", self.status)

    async def status(self, request: Request) -> Response:
        """Everything the agent knows."""
        self.authenticator.control(request)
        return self._report()

    async def stream(self, request: Request) -> Response:
        """A snapshot, then what happens."""
        self.authenticator.control(request)
        try:
            subscription = self.events.subscribe()
        except TooManySubscribersError:
            problem = Problem(code=ProblemCode.TOO_MANY_REQUESTS, detail="too many event streams are open")
            raise ProblemError(problem) from None
        return _Events(subscription)

    async def configure(self, request: Request) -> Response:
        """Put another configuration of the same camera in force, or a spare's first."""
        self.authenticator.control(request)
        if self.spare is not None:
            self._adopt(self.spare, await read_body(request, MAX_ADOPTION_BYTES))
            return self._report()
        config = parse_body(AgentConfig, await read_body(request, MAX_CONFIG_BYTES))
        self._require(config.camera.audience == self.agent.config.camera.audience, config)
        self.agent.apply(config)
        return self._report()

    def _adopt(self, spare: Spare, body: bytes) -> None:
        sealed = parse_body(SealedAdoption, body).sealed
        try:
            adoption = parse_body(Adoption, spare.open(sealed))
        except SealError as error:
            raise ProblemError(Problem(code=ProblemCode.INVALID_REQUEST, detail=str(error))) from None
        self._require(not spare.belongs_to_another(adoption.config.camera), adoption.config)
        first = spare.camera is None
        spare.adopt(adoption)
        self.agent.apply(adoption.config)
        if first:
            self.events.everything()

    def _require(self, same_camera: bool, config: AgentConfig) -> None:
        if not same_camera:
            problem = Problem(code=ProblemCode.CONFLICT, detail="this agent serves another camera")
            raise ProblemError(problem)
        if self.agent.config.token_keys and not config.token_keys:
            detail = "tokenKeys must hold a key, or nobody could ever reach this agent again"
            raise ProblemError(Problem(code=ProblemCode.INVALID_REQUEST, detail=detail))

    async def end_session(self, request: Request) -> Response:
        """End a session; the reason is told to everybody who asks for it."""
        self.authenticator.control(request)
        name = request.query_params.get("reason", EndReason.REVOKED)
        try:
            reason = EndReason(name)
        except ValueError:
            known = ", ".join(EndReason)
            problem = Problem(code=ProblemCode.INVALID_REQUEST, detail=f"the reason must be one of {known}")
            raise ProblemError(problem) from None
        if not await self.agent.registry.close(request.path_params["sid"], reason):
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        return Response(status_code=204)

    async def healthz(self, request: Request) -> Response:
        """The process lives and its loop turns."""
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """It takes new sessions."""
        if not self.agent.ready:
            return PlainTextResponse("shutting down\n", 503)
        return PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        from sightline_agent.metrics import expose  # not needed to start

        page = expose(self.agent, self.events)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _report(self) -> Response:
        body = self.agent.report(details=True).model_dump_json(exclude_none=True)
        return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


class _Events(StreamingResponse):
    """A subscription's stream. Who hangs up at once is gone before the stream has begun, and so before anything in it
    could end the subscription."""

    def __init__(self, subscription: Subscription) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(subscription.stream(), headers=headers, media_type="text/event-stream")
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._subscription.close()


def build_app(control: Control, signaling: Sequence[BaseRoute], allowed_origins: Sequence[str] = ()) -> Starlette:
    """The whole application; browsers of `allowed_origins` may call it from their pages."""
    middleware = [Middleware(BugMiddleware)]
    if allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(allowed_origins),
                allow_methods=["GET", "POST", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "If-Match"],
                expose_headers=_EXPOSED_HEADERS,
            )
        )
    return Starlette(
        routes=[*control.routes(), *signaling],
        middleware=middleware,
        exception_handlers={
            ProblemError: on_problem,
            HTTPException: on_http_exception,
            ClientDisconnect: on_disconnect,
        },
    )


def parse_body(model: type[T], body: bytes) -> T:
    """The configuration in a request; ProblemError names the fields that are wrong, never their values."""
    try:
        return model.model_validate(json.loads(body))
    except (ValueError, RecursionError) as error:
        errors = field_errors(error) if isinstance(error, ValidationError) else None
        detail = "the configuration is not valid" if errors else "the body is no JSON"
        raise ProblemError(Problem(code=ProblemCode.INVALID_REQUEST, detail=detail, errors=errors)) from None


def field_errors(error: ValidationError) -> list[FieldError]:
    """Which fields are wrong and why, without what was in them."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldError(field=".".join(map(str, one["loc"])), message=one["msg"]) for one in found[:20]]
