"""WHEP (draft-ietf-wish-whep, with RFC 9725's session resource): watch a camera.

The endpoint is the camera's, the session resource carries a signed session id, so any replica serves it. What differs
between servers in the field is chosen so that every client is content: 201 with an absolute Location without a query, a
quoted ETag, one Link line per ICE server, DELETE 200, PATCH 204, OPTIONS with PATCH listed.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from sightline_api import views
from sightline_api.agent_proxy import LAYER_RELATION, SDP, TRICKLE
from sightline_api.auth.caller import Caller
from sightline_api.cameras import CameraState
from sightline_api.door import AnyCaller, Door, FrontDoor
from sightline_api.problems import ProblemError, describe, problem_error
from sightline_api.routes.common import (
    SESSION_PROBLEMS,
    SOURCE_PROBLEMS,
    CameraPath,
    Namespace,
    SessionAt,
    SessionPath,
    WatchedCamera,
    options,
    webrtc_config,
)
from sightline_api.urls import public_base
from sightline_api.watch import AbandonedError, Opened, Viewer
from sightline_model.base import NAME_PATTERN
from sightline_model.problems import ProblemCode
from sightline_model.tokens import sign_session_path

router = APIRouter(tags=["watch"])

_C = ProblemCode
MAX_CLIENT = 256
ENDPOINT = "/namespaces/{namespace}/cameras/{name}/whep"
SESSION = ENDPOINT + "/{session}"

ProfileQuery = Annotated[
    str | None,
    Query(
        description="A quality of the camera: main, or a name of spec.profiles. Without it the agent begins with the "
        "best and follows what the viewer's link carries.",
        pattern=NAME_PATTERN,
        max_length=32,
    ),
]

_SDP_BODY = {"schema": {"type": "string"}, "example": "v=0\r\n..."}
OPENING = (
    _C.FORBIDDEN,
    _C.CAMERA_NOT_FOUND,
    _C.PROFILE_NOT_FOUND,
    _C.INVALID_SDP,
    _C.BODY_TOO_LARGE,
    _C.CODEC_NOT_OFFERED,
    _C.NOT_SUPPORTED_YET,
    _C.TOO_MANY_REQUESTS,
    _C.TOO_MANY_VIEWERS,
    _C.CAMERA_NOT_READY,
    _C.AGENT_UNAVAILABLE,
    _C.AGENT_OVERLOADED,
    _C.CLUSTER_UNAVAILABLE,
    _C.SESSION_NOT_FOUND,
    _C.CONFLICT,
    *SOURCE_PROBLEMS,
)
_SESSION_PROBLEMS = describe(*SESSION_PROBLEMS)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody who wants to watch, and by which request."""

    door: Door
    caller: Caller
    namespace: str
    name: str
    request: Request
    profile: str | None

    async def watch(self, offer: str) -> Opened:
        """Let the caller in, who must have the right to, and count the outcome."""
        # Refuses a host by which nobody could be told where the session is.
        public_base(self.request, self.door.settings)
        outcomes = self.door.metrics.watches
        try:
            camera = await self.door.watched(self.caller, self.namespace, self.name)
            viewer = Viewer(self.caller, client_of(self.request), self._gone, self.profile)
            opened = await self.door.watcher.open(viewer, camera, offer)
        except ProblemError as error:
            outcomes.labels(error.problem.code).inc()
            raise
        except AbandonedError:
            outcomes.labels("abandoned").inc()
            raise
        outcomes.labels("created").inc()
        return opened

    def session_url(self, session_id: str) -> str:
        """The absolute address of a session."""
        segment = sign_session_path(self.door.signer, self.namespace, self.name, session_id)
        base = public_base(self.request, self.door.settings)
        return f"{base}{views.camera_path(self.namespace, self.name)}/whep/{segment}"

    async def _gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


def _attempt(
    door: FrontDoor,
    caller: AnyCaller,
    namespace: Namespace,
    name: CameraPath,
    request: Request,
    profile: ProfileQuery = None,
) -> Attempt:
    return Attempt(door, caller, namespace, name, request, profile)


Watching = Annotated[Attempt, Depends(_attempt)]
"""What a route that lets somebody in knows of the request."""


@router.post(
    ENDPOINT,
    status_code=201,
    response_class=Response,
    responses={
        201: {"description": "The SDP answer.", "content": {SDP: _SDP_BODY}},
        **describe(*OPENING, _C.UNSUPPORTED_MEDIA_TYPE),
    },
    openapi_extra={"requestBody": {"required": True, "content": {SDP: _SDP_BODY}}},
)
async def post_whep(attempt: Watching) -> Response:
    """Send an SDP offer, get the answer. Waits until the camera's source sends or has failed. Where the camera has more
    than one quality, `Link` leads to them (`urn:ietf:params:whep:ext:core:layer`)."""
    _require_type(attempt.request, SDP)
    offer = await _text(attempt.request)
    if not offer.startswith("v=0"):
        raise problem_error(_C.INVALID_SDP, "An SDP offer starts with v=0.")
    opened = await attempt.watch(offer)
    response = Response(opened.answer, status_code=201, media_type=SDP)
    session = attempt.session_url(opened.session_id)
    response.headers["Location"] = session
    response.headers["Accept-Patch"] = TRICKLE
    if opened.etag:
        response.headers["ETag"] = opened.etag
    _add_links(response, attempt.door, attempt.caller, opened.camera)
    if opened.layered:
        response.headers.append("Link", f'<{session}/layers>; rel="{LAYER_RELATION}"')
    return response


@router.get(ENDPOINT, status_code=204, responses=_SESSION_PROBLEMS)
async def get_whep(_: WatchedCamera) -> Response:
    """Nothing to get; says so politely, as the specification wants."""
    return Response(status_code=204)


@router.head(ENDPOINT, responses=_SESSION_PROBLEMS)
async def head_whep(_: WatchedCamera) -> Response:
    """Tells that this address speaks SDP."""
    return Response(status_code=200, headers={"Content-Type": SDP})


@router.options(ENDPOINT, status_code=204, responses=describe(_C.FORBIDDEN, _C.CAMERA_NOT_FOUND))
async def options_whep(door: FrontDoor, namespace: Namespace, name: CameraPath, request: Request) -> Response:
    """What may be sent here. ICE servers are told to those only who send a valid token with the right to view."""
    response = options(request, {"Accept-Post": SDP})
    authorization = request.headers.getlist("authorization")
    if authorization:
        caller = await door.chain.authenticate(authorization)
        camera = await door.watched(caller, namespace, name)
        _add_links(response, door, caller, camera)
    return response


@router.patch(
    SESSION,
    status_code=204,
    response_class=Response,
    responses={
        200: {"description": "ICE restarted.", "content": {TRICKLE: {"schema": {"type": "string"}}}},
        **describe(
            *SESSION_PROBLEMS,
            _C.UNSUPPORTED_MEDIA_TYPE,
            _C.BODY_TOO_LARGE,
            _C.PRECONDITION_FAILED,
            _C.PRECONDITION_REQUIRED,
            _C.INVALID_SDP,
            _C.NOT_SUPPORTED_YET,
        ),
    },
    openapi_extra={"requestBody": {"required": True, "content": {TRICKLE: {"schema": {"type": "string"}}}}},
)
async def patch_whep_session(door: FrontDoor, caller: AnyCaller, request: Request, session: SessionAt) -> Response:
    """Send further ICE candidates."""
    _require_type(request, TRICKLE)
    headers = {"Content-Type": TRICKLE}
    if "if-match" in request.headers:
        headers["If-Match"] = request.headers["if-match"][:512]
    answer = await door.watcher.tell(caller, session.camera, session.id, ("PATCH", await _text(request), headers))
    if answer.status == 204:
        return Response(status_code=204)
    response = Response(answer.body, status_code=200, media_type=TRICKLE)
    if answer.etag:
        response.headers["ETag"] = answer.etag
    return response


@router.delete(SESSION, status_code=200, response_class=Response, responses=_SESSION_PROBLEMS)
async def delete_whep_session(door: FrontDoor, caller: AnyCaller, session: SessionAt) -> Response:
    """Hang up. The second time there is nothing left: 404."""
    await door.watcher.tell(caller, session.camera, session.id, ("DELETE", "", {}))
    return Response(status_code=200)


@router.get(SESSION, status_code=204, responses=_SESSION_PROBLEMS)
async def get_whep_session(_: SessionAt) -> Response:
    """Nothing to get here either."""
    return Response(status_code=204)


@router.options(SESSION, status_code=204)
async def options_whep_session(
    namespace: Namespace, name: CameraPath, session: SessionPath, request: Request
) -> Response:
    """What may be sent to a session."""
    return options(request, {"Accept-Patch": TRICKLE})


def _require_type(request: Request, wanted: str) -> None:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != wanted:
        raise problem_error(_C.UNSUPPORTED_MEDIA_TYPE, f"Send {wanted}.")


async def _text(request: Request) -> str:
    try:
        return (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise problem_error(_C.INVALID_SDP, "The body is not UTF-8 text.") from error


def client_of(request: Request) -> str:
    """The peer's program in a few words, as it names itself."""
    agent = request.headers.get("user-agent", "")
    return "".join(character for character in agent if character.isascii() and character.isprintable())[:MAX_CLIENT]


def _add_links(response: Response, door: Door, caller: Caller, camera: CameraState) -> None:
    for line in views.link_headers(webrtc_config(door, caller, camera).ice_servers):
        response.headers.append("Link", line)
