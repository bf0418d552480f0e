"""POST /offer: the same as WHEP's POST for programs that would rather speak JSON.

    {"sdp": "v=0...", "type": "offer"} -> {"sdp": "v=0...", "type": "answer", "sessionId": "s-..."}

The session ends with the peer connection, or by DELETE /whep/{sessionId}.
"""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sightline_agent.signaling.requests import (
    Authenticate,
    problem,
    read_text,
    require_type,
    watch,
)
from sightline_agent.signaling.sdp import MAX_SDP_BYTES
from sightline_agent.signaling.sessions import Sessions
from sightline_model.problems import ProblemCode

JSON_TYPE = "application/json"
MAX_BODY_BYTES = 2 * MAX_SDP_BYTES
"""JSON writes line ends with two characters; the SDP in it has its own limit."""


def offer_routes(sessions: Sessions, authenticate: Authenticate) -> list[BaseRoute]:
    """The route; errors are ProblemErrors for the application's handler."""

    async def offer(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=200, headers={"Allow": "OPTIONS, POST", "Accept-Post": JSON_TYPE})
        claims = authenticate(request)
        require_type(request, JSON_TYPE)
        sdp = parse_body(await read_text(request, MAX_BODY_BYTES))
        opened = await watch(request, sessions, claims, sdp)
        body = {"sdp": opened.answer, "type": "answer", "sessionId": opened.sid}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return [Route("/offer", offer, methods=["OPTIONS", "POST"], name="offer")]


def parse_body(text: str) -> str:
    """The SDP in the body; ProblemError invalid-request."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise problem(ProblemCode.INVALID_REQUEST, "the body is not JSON") from None
    if not isinstance(body, dict) or body.get("type") != "offer" or not isinstance(body.get("sdp"), str):
        raise problem(ProblemCode.INVALID_REQUEST, 'the body must be {"sdp": "...", "type": "offer"}')
    return str(body["sdp"])
