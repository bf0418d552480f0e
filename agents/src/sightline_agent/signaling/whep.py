"""WHEP (draft-ietf-wish-whep, RFC 9725 where it is alike): watch with one POST.

    POST   /whep         offer -> 201, answer, Location, ETag; parked until the source runs; ?profile= is a quality
    GET    /whep[/sid]   204; HEAD 200; OPTIONS 200 and what is accepted
    PATCH  /whep/sid     trickle -> 204; a new ufrag restarts ICE -> 200 with our new credentials
    DELETE /whep/sid     200; again: 404
    Link: </whep/sid/layers> where there is more than one quality (`layers.py`)

PATCH and DELETE ask for no token: the session id has 124 random bits and is told only to who opened the session, and
players send none. Location is a path; the front door, which sends the Location that players see, writes its own. CORS
is the application's matter.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sightline_agent.errors import ProblemError
from sightline_agent.signaling.layers import layer_routes, link
from sightline_agent.signaling.requests import (
    Authenticate,
    problem,
    read_text,
    require_type,
    watch,
)
from sightline_agent.signaling.sessions import Sessions
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason

SDP_TYPE = "application/sdp"
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"

_ALLOWED_HEADERS = "Authorization, Content-Type, If-Match"
_ENDPOINT_METHODS = ("OPTIONS", "GET", "HEAD", "POST")
_SESSION_METHODS = ("OPTIONS", "GET", "HEAD", "PATCH", "DELETE")
_ALL_METHODS = "OPTIONS, GET, HEAD, POST, PATCH, DELETE"


def whep_routes(sessions: Sessions, authenticate: Authenticate) -> list[BaseRoute]:
    """The routes; errors are ProblemErrors for the application's handler."""
    whep = _Whep(sessions, authenticate)
    return [
        Route("/whep", whep.endpoint, methods=_ENDPOINT_METHODS, name="whep"),
        *layer_routes(sessions),
        Route("/whep/{sid}", whep.session, methods=_SESSION_METHODS, name="whep-session"),
    ]


class _Whep:
    def __init__(self, sessions: Sessions, authenticate: Authenticate) -> None:
        self._sessions = sessions
        self._authenticate = authenticate

    async def endpoint(self, request: Request) -> Response:
        """/whep"""
        if request.method == "POST":
            return await self._open(request)
        return _describe(request, _ENDPOINT_METHODS)

    async def session(self, request: Request) -> Response:
        """/whep/{sid}"""
        sid = request.path_params["sid"]
        if request.method == "OPTIONS":
            return _describe(request, _SESSION_METHODS)
        if request.method == "DELETE":
            return await self._close(sid)
        etag = self._sessions.etag(sid)
        if etag is None:
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        if request.method == "PATCH":
            return await self._trickle(request, sid, etag)
        return _describe(request, _SESSION_METHODS)

    async def _open(self, request: Request) -> Response:
        claims = self._authenticate(request)
        require_type(request, SDP_TYPE)
        offer = await read_text(request)
        opened = await watch(request, self._sessions, claims, offer)
        headers = {
            "Location": f"/whep/{opened.sid}",
            "ETag": f'"{opened.etag}"',
            "Accept-Patch": FRAGMENT_TYPE,
            "Cache-Control": "no-store",
        }
        if opened.layered:
            headers["Link"] = link(opened.sid)
        return Response(opened.answer, 201, headers, SDP_TYPE)

    async def _close(self, sid: str) -> Response:
        if not await self._sessions.close(sid, EndReason.HANGUP):
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        return Response(status_code=200)

    async def _trickle(self, request: Request, sid: str, etag: str) -> Response:
        require_type(request, FRAGMENT_TYPE)
        # Players write `*` for plain trickle too, so it is the ufrag in the body that tells a restart.
        condition = request.headers.get("if-match", "").strip()
        if not condition:
            raise problem(ProblemCode.PRECONDITION_REQUIRED, "If-Match must name the session's ETag, or be *")
        if condition != "*" and f'"{etag}"' not in (part.strip() for part in condition.split(",")):
            raise problem(ProblemCode.PRECONDITION_FAILED, "this ICE session was replaced by a newer one")
        answer = self._sessions.trickle(sid, await read_text(request))
        if answer is None:
            return Response(status_code=204)
        renewed = self._sessions.etag(sid)
        return Response(answer, 200, {"ETag": f'"{renewed}"', "Cache-Control": "no-store"}, FRAGMENT_TYPE)


def _describe(request: Request, methods: tuple[str, ...]) -> Response:
    """GET, HEAD and OPTIONS: nothing to read here, but what may be done."""
    if request.method == "GET":
        return Response(status_code=204)
    if request.method == "HEAD":
        # The type tells a client that looks for it that this URL speaks WHEP.
        return Response(status_code=200, headers={"Content-Type": SDP_TYPE})
    headers = {
        "Allow": ", ".join(methods),
        "Access-Control-Allow-Methods": _ALL_METHODS,
        "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
    }
    if "POST" in methods:
        headers["Accept-Post"] = SDP_TYPE
    else:
        headers["Accept-Patch"] = FRAGMENT_TYPE
    return Response(status_code=200, headers=headers)
