"""What a signed-in caller asks about: themselves, and what a peer connection needs."""

from fastapi import APIRouter

from sightline_api import turn
from sightline_api.door import AnyCaller, FrontDoor, User
from sightline_api.problems import describe, problem_error
from sightline_api.routes.common import CameraFilter, NamespaceFilter, webrtc_config
from sightline_api.schemas import Me, WebrtcConfig
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["own"])

_C = ProblemCode


@router.get("/me", response_model=Me, responses=describe())
async def get_me(user: User) -> Me:
    """Whom the front door takes the caller for."""
    identity = user.identity
    return Me(user=identity.user, groups=list(identity.groups), issuer=identity.issuer)


@router.get(
    "/webrtc/config",
    response_model=WebrtcConfig,
    response_model_exclude_none=True,
    responses=describe(_C.INVALID_REQUEST, _C.FORBIDDEN, _C.CAMERA_NOT_FOUND),
)
async def get_webrtc_config(
    door: FrontDoor, caller: AnyCaller, namespace: NamespaceFilter = None, camera: CameraFilter = None
) -> WebrtcConfig:
    """STUN and TURN servers for a peer connection; with a camera, its own too, for those who may watch it."""
    if camera is None:
        return WebrtcConfig(ice_servers=turn.own_servers(door.settings.ice_servers))
    if namespace is None:
        raise problem_error(_C.INVALID_REQUEST, "With `camera`, name its `namespace`, too.")
    return webrtc_config(door, caller, await door.watched(caller, namespace, camera))
