"""What the routes share: path and query parameters, the problems that belong to them, and the answer to OPTIONS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response

from sightline_api import turn
from sightline_api.auth.caller import Caller
from sightline_api.cameras import CameraState
from sightline_api.door import AnyCaller, Door, FrontDoor
from sightline_api.methods import allowed
from sightline_api.middleware import ALLOWED_HEADERS, ALLOWED_METHODS
from sightline_api.paging import MAX_CONTINUE, MAX_LIMIT
from sightline_api.schemas import WebrtcConfig
from sightline_model.base import MAX_CAMERA_NAME, NAME_PATTERN
from sightline_model.problems import ProblemCode

Namespace = Annotated[
    str, Path(description="Namespace of the camera.", pattern=NAME_PATTERN, max_length=63, examples=["default"])
]
CameraPath = Annotated[
    str, Path(description="Name of the camera.", pattern=NAME_PATTERN, max_length=253, examples=["test-pattern"])
]
SessionPath = Annotated[str, Path(description="The signed session id of `Location`.", max_length=256)]
CameraFilter = Annotated[
    str | None, Query(description="A camera of that namespace.", pattern=NAME_PATTERN, max_length=MAX_CAMERA_NAME)
]
NamespaceFilter = Annotated[str | None, Query(description="Only this namespace.", pattern=NAME_PATTERN, max_length=63)]
LabelSelector = Annotated[
    str | None,
    Query(alias="labelSelector", description="Kubernetes label selector.", examples=["site=harbour,floor!=2"]),
]
Search = Annotated[str | None, Query(description="Words that name, title or description contain.", max_length=128)]
Live = Annotated[bool | None, Query(description="Only cameras that send now (true) or do not (false).")]
Limit = Annotated[int, Query(description="Cameras on a page.", ge=1, le=MAX_LIMIT)]
Continue = Annotated[
    str | None,
    Query(alias="continue", description="The `continue` of the page before.", max_length=MAX_CONTINUE),
]

_C = ProblemCode
SESSION_PROBLEMS = (_C.FORBIDDEN, _C.CAMERA_NOT_FOUND, _C.SESSION_NOT_FOUND, _C.AGENT_UNAVAILABLE)
"""Of whatever is asked under a session's address."""
SOURCE_PROBLEMS = (
    _C.SOURCE_NOT_READY,
    _C.SOURCE_UNREACHABLE,
    _C.SOURCE_AUTHENTICATION_FAILED,
    _C.SOURCE_NO_FRAMES,
    _C.SOURCE_CODEC_UNSUPPORTED,
    _C.SOURCE_NOT_FOUND,
    _C.SOURCE_STALLED,
    _C.SOURCE_PROTOCOL_ERROR,
)
"""Of whoever waits for a picture of the camera's source."""


def options(request: Request, more: Mapping[str, str]) -> Response:
    """What may be sent to an address, for people and for a browser's preflight; some players read the latter's names
    even here, and send candidates only where PATCH is among them."""
    headers = {
        "Allow": ", ".join(allowed(request.scope)),
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
    }
    return Response(status_code=204, headers={**headers, **more})


def webrtc_config(door: Door, caller: Caller, camera: CameraState) -> WebrtcConfig:
    """What the caller's peer connection with this camera needs; the caller may watch it."""

    def mint(secret: str) -> tuple[str, str] | None:
        found = door.turn.read(secret)
        return turn.credentials(found, caller.identity.user, door.clock.now().timestamp()) if found else None

    return turn.config_for(camera, turn.own_servers(door.settings.ice_servers), mint)


async def _watched(door: FrontDoor, caller: AnyCaller, namespace: Namespace, name: CameraPath) -> CameraState:
    return await door.watched(caller, namespace, name)


WatchedCamera = Annotated[CameraState, Depends(_watched)]
"""The camera that the address names, for somebody who may watch it."""


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session that an agent has answered, as its address names it; it may be over."""

    camera: CameraState
    id: str


def _session(
    door: FrontDoor, caller: AnyCaller, namespace: Namespace, name: CameraPath, session: SessionPath
) -> OpenedSession:
    # The signature first: without it nobody learns whether there is such a camera.
    session_id = door.watcher.opened_session(caller, namespace, name, session)
    return OpenedSession(door.cameras.get(namespace, name), session_id)


SessionAt = Annotated[OpenedSession, Depends(_session)]
"""The session that the address names; 404 for an address that is not ours, and where the camera is gone."""
