"""The body of a request within bounds, for signaling and for control."""

from starlette.requests import Request

from sightline_agent.errors import ProblemError
from sightline_model.problems import Problem, ProblemCode

_MAX_DIGITS = 10
"""Of a declared length; Python refuses to read very long numbers."""


async def read_body(request: Request, limit: int) -> bytes:
    """All of it; ProblemError 413 as soon as it is longer than `limit`, or says that it will be."""
    too_large = ProblemError(Problem(code=ProblemCode.BODY_TOO_LARGE, detail=f"at most {limit} bytes are accepted"))
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > _MAX_DIGITS or int(declared) > limit):
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_large
    return bytes(body)
