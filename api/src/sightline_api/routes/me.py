"""What a signed-in caller asks about: themselves, and what a peer connection needs."""

from fastapi import APIRouter

from sightline_api import views
from sightline_api.door import AnyCaller, FrontDoor, User
from sightline_api.problems import describe
from sightline_api.schemas import Me, WebrtcConfig

router = APIRouter(tags=["own"])


@router.get("/me", response_model=Me, responses=describe())
async def get_me(user: User) -> Me:
    """Whom the front door takes the caller for."""
    identity = user.identity
    return Me(user=identity.user, groups=list(identity.groups), issuer=identity.issuer)


@router.get("/webrtc/config", response_model=WebrtcConfig, responses=describe())
async def get_webrtc_config(door: FrontDoor, caller: AnyCaller) -> WebrtcConfig:
    """STUN and TURN servers for a peer connection."""
    return WebrtcConfig(ice_servers=views.ice_servers(door.settings.ice_servers))
