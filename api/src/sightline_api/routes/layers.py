"""WHEP's layer extension: which qualities a session may get, and the viewer's choice among them.

Under the session's address and with its credential, like PATCH and DELETE. The agent knows the qualities and makes the
change; the front door checks what goes to and fro. A choice waits until the other quality has a picture to go on with.
"""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, TypeAdapter, ValidationError

from sightline_api.agent_proxy import JSON, unavailable
from sightline_api.door import AnyCaller, FrontDoor
from sightline_api.problems import describe
from sightline_api.routes.common import (
    SESSION_PROBLEMS,
    SOURCE_PROBLEMS,
    CameraPath,
    Namespace,
    SessionAt,
    SessionPath,
    options,
)
from sightline_api.routes.whep import SESSION
from sightline_api.schemas import LayerSelection, MediaLayers
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["watch"])

_C = ProblemCode
LAYERS = SESSION + "/layers"
Layers = dict[Annotated[str, Field(max_length=64)], MediaLayers]
_LAYERS = TypeAdapter(Layers)


@router.get(LAYERS, response_model=Layers, responses=describe(*SESSION_PROBLEMS))
async def get_layers(door: FrontDoor, caller: AnyCaller, session: SessionAt) -> Layers:
    """The qualities by the `mid` of their track. Those that are inactive may be chosen, too: they start then."""
    return _read((await door.watcher.tell(caller, session.camera, session.id, ("GET", "", {}), "/layers")).body)


@router.post(
    LAYERS,
    response_model=Layers,
    responses=describe(
        *SESSION_PROBLEMS,
        _C.INVALID_REQUEST,
        _C.BODY_TOO_LARGE,
        _C.PROFILE_NOT_FOUND,
        _C.CONFLICT,
        _C.CODEC_NOT_OFFERED,
        *SOURCE_PROBLEMS,
    ),
)
async def select_layer(door: FrontDoor, caller: AnyCaller, session: SessionAt, selection: LayerSelection) -> Layers:
    """Choose a quality; without `encodingId` the agent chooses, by what the viewer's link carries. Answers when it is
    done: nothing is negotiated anew, the picture goes on with the other quality's next key frame."""
    body = selection.model_dump_json(by_alias=True, exclude_none=True)
    request = ("POST", body, {"Content-Type": JSON})
    return _read((await door.watcher.tell(caller, session.camera, session.id, request, "/layers")).body)


@router.options(LAYERS, status_code=204)
async def options_layers(namespace: Namespace, name: CameraPath, session: SessionPath, request: Request) -> Response:
    """What may be sent to the qualities of a session."""
    return options(request, {"Accept-Post": JSON})


def _read(body: str) -> Layers:
    try:
        return _LAYERS.validate_json(body)
    except ValidationError:
        raise unavailable("The camera's agent gave an answer that is none.") from None
