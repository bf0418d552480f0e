"""How cameras are, for one and for all, from the cache: reading asks neither Kubernetes nor an agent."""

from fastapi import APIRouter

from sightline_api import views
from sightline_api.authorize import Action
from sightline_api.door import FrontDoor, User
from sightline_api.problems import describe
from sightline_api.routes.cameras import ListFilters, ListPaging, visible
from sightline_api.routes.common import CameraPath, Namespace
from sightline_api.schemas import CameraCombined, CameraStatusPage, CameraStatusView
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["cameras"])

_C = ProblemCode
_READ = describe(_C.INVALID_REQUEST, _C.FORBIDDEN, _C.CAMERA_NOT_FOUND, _C.CLUSTER_UNAVAILABLE)


@router.get("/cameras/status", response_model=CameraStatusPage, responses=describe(_C.INVALID_REQUEST))
async def list_camera_status(door: FrontDoor, user: User, wanted: ListFilters, paging: ListPaging) -> CameraStatusPage:
    """List how the cameras are that the caller may view or manage."""
    items, more, _ = await visible(door, user, wanted, paging)
    now = door.clock.now()
    return CameraStatusPage(items=[views.status(camera, now) for camera in items], continue_=more)


@router.get("/namespaces/{namespace}/cameras/{name}/status", response_model=CameraStatusView, responses=_READ)
async def get_camera_status(door: FrontDoor, user: User, namespace: Namespace, name: CameraPath) -> CameraStatusView:
    """Read how a camera is. Needs the right to view it, or to manage it."""
    camera = await door.camera(user, Action.VIEW, namespace, name, Action.READ)
    return views.status(camera, door.clock.now())


@router.get("/namespaces/{namespace}/cameras/{name}/combined", response_model=CameraCombined, responses=_READ)
async def get_camera_combined(door: FrontDoor, user: User, namespace: Namespace, name: CameraPath) -> CameraCombined:
    """Read description and status at once. Needs the right to manage the camera."""
    camera = await door.camera(user, Action.READ, namespace, name)
    return CameraCombined(config=views.config(camera), status=views.status(camera, door.clock.now()))
