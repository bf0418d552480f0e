"""WHEP's layer extension: which qualities a session may get, and the viewer's choice among them.

Under the session's address and with its credential, like PATCH and DELETE. The agent knows the qualities and makes the
change; the front door checks what goes to and fro. A choice waits until the other quality has a picture to go on with.
"""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field, TypeAdapter, ValidationError

from sightline_api.agent_proxy import JSON, unavailable
from sightline_api.door import AnyCaller, FrontDoor
from sightline_api.middleware import ALLOWED_HEADERS
from sightline_api.problems import describe
from sightline_api.routes.common import CameraAt, CameraPath, Namespace
from sightline_api.routes.whep import SESSION, SessionPath
from sightline_api.schemas import LayerSelection, MediaLayers
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["watch"])

_C = ProblemCode
METHODS = "OPTIONS, GET, POST"
LAYERS = SESSION + "/layers"
Layers = dict[Annotated[str, Field(max_length=64)], MediaLayers]
_LAYERS = TypeAdapter(Layers)
_PROBLEMS = (_C.FORBIDDEN, _C.CAMERA_NOT_FOUND, _C.SESSION_NOT_FOUND, _C.AGENT_UNAVAILABLE)


@router.get(LAYERS, response_model=Layers, responses=describe(*_PROBLEMS))
async def get_layers(door: FrontDoor, caller: AnyCaller, session: SessionPath, camera: CameraAt) -> Layers:
    """The qualities by the `mid` of their track. Those that are inactive may be chosen, too: they start then."""
    session_id = door.watcher.opened_session(caller, camera, session)
    return _read((await door.watcher.tell(caller, camera, session_id, ("GET", "", {}), "/layers")).body)


@router.post(
    LAYERS,
    response_model=Layers,
    responses=describe(
        *_PROBLEMS,
        _C.INVALID_REQUEST,
        _C.BODY_TOO_LARGE,
        _C.PROFILE_NOT_FOUND,
        _C.CONFLICT,
        _C.CODEC_NOT_OFFERED,
        _C.SOURCE_NOT_READY,
        _C.SOURCE_UNREACHABLE,
        _C.SOURCE_AUTHENTICATION_FAILED,
        _C.SOURCE_NO_FRAMES,
        _C.SOURCE_CODEC_UNSUPPORTED,
        _C.SOURCE_NOT_FOUND,
        _C.SOURCE_STALLED,
        _C.SOURCE_PROTOCOL_ERROR,
    ),
)
async def select_layer(
    door: FrontDoor, caller: AnyCaller, session: SessionPath, camera: CameraAt, selection: LayerSelection
) -> Layers:
    """Choose a quality; without `encodingId` the agent chooses, by what the viewer's link carries. Answers when it is
    done: nothing is negotiated anew, the picture goes on with the other quality's next key frame."""
    session_id = door.watcher.opened_session(caller, camera, session)
    body = selection.model_dump_json(by_alias=True, exclude_none=True)
    request = ("POST", body, {"Content-Type": JSON})
    return _read((await door.watcher.tell(caller, camera, session_id, request, "/layers")).body)


@router.options(LAYERS, status_code=204)
async def options_layers(namespace: Namespace, name: CameraPath, session: SessionPath) -> Response:
    """What may be sent to the qualities of a session."""
    headers = {
        "Allow": METHODS,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Accept-Post": JSON,
    }
    return Response(status_code=204, headers=headers)


def _read(body: str) -> Layers:
    try:
        return _LAYERS.validate_json(body)
    except ValidationError:
        raise unavailable("The camera's agent gave an answer that is none.") from None
