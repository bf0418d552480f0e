"""Sessions as resources: make one for somebody to open, list, read, end.

A session that is made here is opened by sending an offer to its endpoint with its token, within a minute: so a server
that decides may hand endpoint and token to a player that knows nothing else.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from sightline_api import views
from sightline_api.auth import stream
from sightline_api.auth.caller import Caller, SessionRight
from sightline_api.authorize import Action, Target
from sightline_api.door import Door, FrontDoor, User
from sightline_api.problems import ProblemError, describe, problem_error
from sightline_api.recorder import stream_session, user_label
from sightline_api.routes.common import CameraFilter, Namespace, NamespaceFilter, webrtc_config
from sightline_api.routes.whep import client_of
from sightline_api.schemas import SessionList, SessionRequest, SessionTicket, SessionView
from sightline_api.urls import public_base
from sightline_api.whereabouts import admitted
from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import STREAM_SESSION
from sightline_model.base import NAME_PATTERN
from sightline_model.names import CAMERA_LABEL, USER_LABEL, new_session_id
from sightline_model.problems import ProblemCode
from sightline_model.session import SessionRole, Transport

router = APIRouter(tags=["sessions"])

_C = ProblemCode
SessionName = Annotated[str, Path(description="The session's id.", pattern=NAME_PATTERN, max_length=63)]
_ONE = describe(_C.INVALID_REQUEST, _C.FORBIDDEN, _C.SESSION_NOT_FOUND, _C.CAMERA_NOT_FOUND, _C.CLUSTER_UNAVAILABLE)


@router.post(
    "/sessions",
    status_code=201,
    response_model=SessionTicket,
    response_model_exclude_none=True,
    responses=describe(
        _C.INVALID_REQUEST,
        _C.FORBIDDEN,
        _C.CAMERA_NOT_FOUND,
        _C.PROFILE_NOT_FOUND,
        _C.NOT_SUPPORTED_YET,
        _C.TOO_MANY_REQUESTS,
        _C.CAMERA_NOT_READY,
        _C.CLUSTER_UNAVAILABLE,
    ),
)
async def create_session(
    door: FrontDoor, user: User, body: SessionRequest, request: Request, response: Response
) -> SessionTicket:
    """Make a session that whoever holds the token may open."""
    if body.role is not SessionRole.VIEW or body.transport is not Transport.WHEP:
        raise problem_error(_C.NOT_SUPPORTED_YET, "This version makes sessions to View by WHEP.")
    camera = await door.camera(user, Action.VIEW, body.namespace, body.camera)
    admitted(camera)
    if body.profile is not None and body.profile not in camera.profiles:
        raise problem_error(_C.PROFILE_NOT_FOUND, f"The camera has {', '.join(camera.profiles)}.")
    base = public_base(request, door.settings)
    session_id = new_session_id()
    session = stream_session(camera, session_id, user.identity.user, client_of(request), body.profile)
    with door.quota.reserve(user.identity.user):
        await door.cluster.create(session)
    config = webrtc_config(door, user, camera)
    right = SessionRight(camera.namespace, camera.name, camera.uid, session_id)
    token, expires_at = stream.mint(door.signer, user.identity.user, right, door.clock.now())
    response.headers["Location"] = f"{base}/v1/sessions/{camera.namespace}/{session_id}"
    query = f"?profile={body.profile}" if body.profile else ""
    return SessionTicket(
        id=session_id,
        endpoint=f"{base}{views.camera_path(camera.namespace, camera.name)}/whep{query}",
        token=token,
        ice_servers=config.ice_servers,
        ice_transport_policy=config.ice_transport_policy,
        expires_at=expires_at,
    )


@router.get(
    "/sessions",
    response_model=SessionList,
    responses=describe(_C.INVALID_REQUEST, _C.FORBIDDEN, _C.CLUSTER_UNAVAILABLE),
)
async def list_sessions(
    door: FrontDoor, user: User, namespace: NamespaceFilter = None, camera: CameraFilter = None
) -> SessionList:
    """List the caller's own sessions; with `namespace` and `camera`, all of a camera that the caller manages."""
    if camera is not None and namespace is None:
        raise problem_error(_C.INVALID_REQUEST, "With `camera`, name its `namespace`, too.")
    if namespace is not None and not door.serves(namespace):
        return SessionList(items=[])
    all_of_it = namespace is not None and camera is not None and await _manages(door, user, namespace, camera)
    labels = {} if all_of_it else {USER_LABEL: user_label(user.identity.user)}
    if camera is not None:
        labels[CAMERA_LABEL] = camera
    listings = [
        await door.cluster.list(STREAM_SESSION, place, labels=labels)
        for place in ([namespace] if namespace is not None else door.namespaces)
    ]
    found = [view for listing in listings for obj in listing.items if (view := views.session(obj)) is not None]
    # Labels may be anybody's; what the session says itself is as it was made.
    own = [view for view in found if all_of_it or view.user == user.identity.user]
    return SessionList(items=sorted(own, key=lambda view: (view.namespace, view.id)))


async def _manages(door: Door, user: Caller, namespace: str, camera: str) -> bool:
    """Whether the caller sees the sessions of others; asked about a camera that is not there, too (`Door.camera`)."""
    found = door.cameras.find(namespace, camera)
    target = found.target if found is not None else Target(namespace, camera)
    return (await door.authorizer.decide(user, Action.READ, target)).allowed


@router.get("/sessions/{namespace}/{session}", response_model=SessionView, responses=_ONE)
async def get_session(door: FrontDoor, user: User, namespace: Namespace, session: SessionName) -> SessionView:
    """Read a session: the caller's own, or one of a camera that the caller manages."""
    return await _own_session(door, user, namespace, session)


@router.delete(
    "/sessions/{namespace}/{session}",
    status_code=204,
    responses={**_ONE, **describe(_C.AGENT_UNAVAILABLE, _C.CLUSTER_UNAVAILABLE)},
)
async def delete_session(door: FrontDoor, user: User, namespace: Namespace, session: SessionName) -> Response:
    """End a session: the agent hangs up. One that was never opened is deleted."""
    view = await _own_session(door, user, namespace, session)
    camera = door.cameras.get(namespace, view.camera)
    try:
        await door.watcher.tell(user, camera, session, ("DELETE", "", {}))
    except ProblemError as error:
        if error.problem.code is not _C.SESSION_NOT_FOUND:
            raise
        await _delete_object(door, namespace, session)
    return Response(status_code=204)


async def _delete_object(door: Door, namespace: str, session: str) -> None:
    try:
        await door.cluster.delete(STREAM_SESSION, namespace, session)
    except NotFoundError:
        return


async def _own_session(door: Door, user: Caller, namespace: str, session: str) -> SessionView:
    """The session, if it is the caller's or of a managed camera; a session of others looks as if there were none."""
    view = views.session(await _get(door, namespace, session))
    if view is None:
        raise problem_error(_C.SESSION_NOT_FOUND)
    if view.user != user.identity.user and not await _manages(door, user, namespace, view.camera):
        raise problem_error(_C.SESSION_NOT_FOUND)
    return view


async def _get(door: Door, namespace: str, session: str) -> Obj:
    if not door.serves(namespace):
        raise problem_error(_C.SESSION_NOT_FOUND)
    try:
        return await door.cluster.get(STREAM_SESSION, namespace, session)
    except NotFoundError:
        raise problem_error(_C.SESSION_NOT_FOUND) from None
