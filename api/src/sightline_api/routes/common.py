"""What the routes share: path and query parameters, the problems that belong to them, and the answer to OPTIONS."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Path, Query, Response

from sightline_api import turn
from sightline_api.auth.caller import Caller
from sightline_api.cameras import CameraState
from sightline_api.door import Door, FrontDoor
from sightline_api.middleware import ALLOWED_HEADERS
from sightline_api.paging import MAX_CONTINUE, MAX_LIMIT
from sightline_api.schemas import WebrtcConfig
from sightline_model.base import NAME_PATTERN
from sightline_model.problems import ProblemCode

Namespace = Annotated[
    str, Path(description="Namespace of the camera.", pattern=NAME_PATTERN, max_length=63, examples=["default"])
]
CameraPath = Annotated[
    str, Path(description="Name of the camera.", pattern=NAME_PATTERN, max_length=253, examples=["test-pattern"])
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


def options(methods: str, more: Mapping[str, str]) -> Response:
    """What may be sent to an address, for people and for a browser's preflight."""
    headers = {
        "Allow": methods,
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
    }
    return Response(status_code=204, headers={**headers, **more})


def webrtc_config(door: Door, caller: Caller, camera: CameraState) -> WebrtcConfig:
    """What the caller's peer connection with this camera needs; the caller may watch it."""

    def mint(secret: str) -> tuple[str, str] | None:
        found = door.turn.read(secret)
        return turn.credentials(found, caller.identity.user, door.clock.now().timestamp()) if found else None

    return turn.config_for(camera, turn.own_servers(door.settings.ice_servers), mint)


def _camera(door: FrontDoor, namespace: Namespace, name: CameraPath) -> CameraState:
    return door.cameras.get(namespace, name)


CameraAt = Annotated[CameraState, Depends(_camera)]
"""The camera that the address names; 404 if there is none."""
