"""Every error leaves as application/problem+json; here foreign exceptions become problems, at one border.

Nothing internal and nothing that was sent to us is echoed: validation errors name the field and say what to do, text of
the cluster has user names and passwords of URLs taken out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from sightline_api.methods import allowed
from sightline_kube import errors as kube
from sightline_model.problems import MEDIA_TYPE, FieldError, Problem, ProblemCode

_USERINFO = re.compile(r"(://)[^\s/?#]+@")
CLIENT_CLOSED_REQUEST = 499
"""What is logged for a client that left before the answer; nobody receives it."""
_STATUS_CODES = {
    400: ProblemCode.INVALID_REQUEST,
    408: ProblemCode.INVALID_REQUEST,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.BODY_TOO_LARGE,
    415: ProblemCode.UNSUPPORTED_MEDIA_TYPE,
}
_DETAILS = {408: "The body did not come in time."}
MAX_FIELD_ERRORS = 20


class ProblemError(Exception):
    """An answer that is a problem."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.title)
        self.problem = problem
        self.headers = dict(headers or {})


def problem_error(code: ProblemCode, detail: str = "", retry_after: int | None = None) -> ProblemError:
    """The exception for a problem without further members."""
    return ProblemError(Problem(code=code, detail=detail, retry_after_seconds=retry_after))


def respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP response of a problem."""
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    if problem.retry_after_seconds is not None:
        all_headers.setdefault("Retry-After", str(problem.retry_after_seconds))
    if problem.code is ProblemCode.UNAUTHENTICATED:
        all_headers.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(problem.to_wire(), status_code=problem.status, headers=all_headers, media_type=MEDIA_TYPE)


def without_userinfo(text: str) -> str:
    """`text` with user names and passwords taken out of URLs."""
    return _USERINFO.sub(r"\1", text)


def of_cluster(error: kube.ClusterError) -> Problem:
    """What a caller is told when the cluster says no. Total over `sightline_kube.errors`."""
    text = without_userinfo(str(error))[:1024]
    match error:
        case kube.NotFoundError():
            return Problem(code=ProblemCode.NOT_FOUND, detail=text)
        case kube.AlreadyExistsError():
            return Problem(code=ProblemCode.ALREADY_EXISTS, detail=text)
        case kube.ConflictError():
            return Problem(code=ProblemCode.CONFLICT, detail="Read the camera again and repeat the change.")
        case kube.InvalidError():
            return Problem(code=ProblemCode.INVALID_CAMERA, detail=text)
        case kube.ForbiddenError():
            return Problem(code=ProblemCode.FORBIDDEN, detail="Kubernetes does not let the front door do this.")
        case kube.UnavailableError(retry_after=after):
            return _cluster_unavailable(1 if after is None else max(1, round(after)))
        # Our own credentials, an outdated watch, anything newer: nothing that the caller could mend.
        case _:
            return _cluster_unavailable(5)


def _cluster_unavailable(retry_after: int) -> Problem:
    return Problem(
        code=ProblemCode.CLUSTER_UNAVAILABLE,
        detail="Kubernetes cannot be asked at the moment.",
        retry_after_seconds=retry_after,
    )


def field_errors(errors: Sequence[ErrorDetails | dict[str, Any]], within: str = "") -> list[FieldError]:
    """Pydantic's errors as fields and messages, without what was sent; `within` is where the fields are."""
    found = []
    for error in errors[:MAX_FIELD_ERRORS]:
        parts = [str(part) for part in error["loc"] if part != "body"]
        field = ".".join([within, *parts] if within else parts)
        found.append(FieldError(field=field, message=_message(error)))
    return found


def _message(error: ErrorDetails | dict[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "There is no such field."
    return str(error["msg"]).removeprefix("Value error, ")


def of_validation(error: RequestValidationError) -> Problem:
    """A request that does not fit its schema: a camera's description is answered with 422, the rest with 400."""
    details = error.errors()
    syntax = any(detail["type"] == "json_invalid" for detail in details)
    in_body = all(detail["loc"][:1] == ("body",) and len(detail["loc"]) > 1 for detail in details)
    code = ProblemCode.INVALID_CAMERA if in_body and not syntax and _about_camera(error) else None
    if syntax:
        return Problem(code=ProblemCode.INVALID_REQUEST, detail="The body is not valid JSON.")
    return Problem(
        code=code or ProblemCode.INVALID_REQUEST,
        detail="Some fields are not valid.",
        errors=field_errors(details),
    )


def _about_camera(error: RequestValidationError) -> bool:
    return isinstance(error.body, dict) and "spec" in error.body


_GUARDED = (
    ProblemCode.UNAUTHENTICATED,
    ProblemCode.CLUSTER_UNAVAILABLE,
    ProblemCode.ISSUER_UNAVAILABLE,
    ProblemCode.STOPPING,
    ProblemCode.INTERNAL,
)


def describe(*codes: ProblemCode, guarded: bool = True) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems, and with those of every guarded route."""
    described: dict[int | str, dict[str, Any]] = {}
    by_status: dict[int, list[ProblemCode]] = {}
    for code in sorted({*codes, *(_GUARDED if guarded else ())}):
        by_status.setdefault(Problem(code=code).status, []).append(code)
    for status, same in sorted(by_status.items()):
        described[status] = {
            "description": " or ".join(Problem(code=code).title for code in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code.value: {"value": Problem(code=code).to_wire()} for code in same},
                }
            },
        }
    return described


def install(app: FastAPI) -> None:
    """Register the handlers."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101 - as registered below
        return respond(error.problem, error.headers)

    async def on_cluster(_: Request, error: Exception) -> Response:
        assert isinstance(error, kube.ClusterError)  # noqa: S101
        return respond(of_cluster(error))

    async def on_validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return respond(of_validation(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code == CLIENT_CLOSED_REQUEST:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        if error.status_code in {404, 405} and (methods := allowed(request.scope)):
            return respond(Problem(code=ProblemCode.METHOD_NOT_ALLOWED), {"Allow": ", ".join(methods)})
        code = _STATUS_CODES.get(error.status_code, ProblemCode.INTERNAL)
        return respond(Problem(code=code, detail=_DETAILS.get(error.status_code, "")), error.headers)

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(kube.ClusterError, on_cluster)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
