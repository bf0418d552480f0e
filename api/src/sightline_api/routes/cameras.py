"""Cameras: list, read, make, change and delete. Reads come from the cache, writes go to Kubernetes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from pydantic_core import from_json

from sightline_api import editing, escalation, selectors, views
from sightline_api.auth.caller import Caller
from sightline_api.authorize import Action, Target
from sightline_api.cameras import CameraState, absent, page_key, parse
from sightline_api.door import Door, FrontDoor, User
from sightline_api.paging import beyond, page
from sightline_api.preconditions import Expected, IfMatch, entity_tag
from sightline_api.problems import describe, problem_error
from sightline_api.routes.common import (
    CameraPath,
    Continue,
    LabelSelector,
    Limit,
    Live,
    Namespace,
    NamespaceFilter,
    Search,
)
from sightline_api.schemas import CameraConfig, CameraCreate, CameraPage, CameraReplace
from sightline_api.urls import public_base
from sightline_api.visibility import Rights, rights
from sightline_model.base import Model
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["cameras"])

_C = ProblemCode
MERGE_PATCH = "application/merge-patch+json"
_READ = describe(_C.INVALID_REQUEST, _C.FORBIDDEN, _C.CAMERA_NOT_FOUND, _C.CLUSTER_UNAVAILABLE)
_WRITE = describe(
    _C.INVALID_REQUEST,
    _C.FORBIDDEN,
    _C.CAMERA_NOT_FOUND,
    _C.CONFLICT,
    _C.PRECONDITION_FAILED,
    _C.BODY_TOO_LARGE,
    _C.INVALID_CAMERA,
    _C.CLUSTER_UNAVAILABLE,
)
_ETAG: dict[str, Any] = {
    "headers": {"ETag": {"description": "For `If-Match`: the camera as it is now.", "schema": {"type": "string"}}}
}


class Filters(Model):
    """Which cameras a list shall hold."""

    namespace: str | None = None
    requirements: tuple[selectors.Requirement, ...] = ()
    words: str = ""
    live: bool | None = None

    def match(self, camera: CameraState) -> bool:
        """Whether a camera is wanted."""
        shown = camera.presentation
        text = f"{camera.name}\n{shown.title}\n{shown.description}".casefold()
        return (
            (self.live is None or camera.status.live is self.live)
            and (not self.words or self.words in text)
            and all(requirement.matches(camera.labels) for requirement in self.requirements)
        )


def filters(
    namespace: NamespaceFilter = None,
    label_selector: LabelSelector = None,
    q: Search = None,
    live: Live = None,
) -> Filters:
    """The list's query parameters."""
    try:
        requirements = selectors.parse(label_selector or "")
    except ValueError as error:
        raise problem_error(_C.INVALID_REQUEST, f"labelSelector: {error}.") from error
    return Filters(namespace=namespace, requirements=requirements, words=(q or "").strip().casefold(), live=live)


class Paging(Model):
    """Which page of a list."""

    limit: int
    after: Annotated[str | None, Field()] = None


def paging(limit: Limit = 100, continue_: Continue = None) -> Paging:
    """The list's paging parameters."""
    return Paging(limit=limit, after=continue_)


ListFilters = Annotated[Filters, Depends(filters)]
ListPaging = Annotated[Paging, Depends(paging)]


async def visible(
    door: Door, caller: Caller, wanted: Filters, paging: Paging
) -> tuple[list[CameraState], str | None, Rights]:
    """A page of the cameras that match and that the caller may view or manage."""
    matching = [camera for camera in door.cameras.all(wanted.namespace) if wanted.match(camera)]
    given = await rights(door.authorizer, caller, {camera.namespace for camera in matching})
    seen = (camera for camera in beyond(matching, page_key, paging.after) if given.sees(camera))
    items, more = page(seen, page_key, paging.limit, None)
    return items, more, given


@router.get("/cameras", response_model=CameraPage, responses=describe(_C.INVALID_REQUEST))
async def list_cameras(door: FrontDoor, user: User, wanted: ListFilters, paging: ListPaging) -> CameraPage:
    """List the cameras that the caller may view or manage."""
    items, more, given = await visible(door, user, wanted, paging)
    return CameraPage(items=[views.summary(camera, given.of(camera)) for camera in items], continue_=more)


@router.get("/namespaces/{namespace}/cameras/{name}", response_model=CameraConfig, responses={200: _ETAG, **_READ})
async def get_camera(
    door: FrontDoor, user: User, namespace: Namespace, name: CameraPath, response: Response
) -> CameraConfig:
    """Read how a camera is described. Needs the right to manage it: addresses and rules are not for viewers."""
    return _described(await door.camera(user, Action.READ, namespace, name), response)


@router.post(
    "/namespaces/{namespace}/cameras",
    status_code=201,
    response_model=CameraConfig,
    responses={
        201: _ETAG,
        **describe(
            _C.INVALID_REQUEST,
            _C.FORBIDDEN,
            _C.NOT_FOUND,
            _C.ALREADY_EXISTS,
            _C.BODY_TOO_LARGE,
            _C.INVALID_CAMERA,
            _C.CLUSTER_UNAVAILABLE,
        ),
    },
)
async def create_camera(
    door: FrontDoor, user: User, namespace: Namespace, body: CameraCreate, request: Request, response: Response
) -> CameraConfig:
    """Make a camera."""
    await door.authorizer.require(user, Action.CREATE, Target(namespace))
    if not door.serves(namespace):
        raise problem_error(_C.NOT_FOUND, f"Cameras of namespace {namespace} are not served here.")
    base = public_base(request, door.settings)
    made = editing.new_camera(namespace, body)
    target = Target(namespace, body.name)
    await escalation.require(door.authorizer, user, target, None, made["spec"])
    obj = await door.cluster.create(made)
    door.cameras.wrote(obj)
    response.headers["Location"] = f"{base}{views.camera_path(namespace, body.name)}"
    return _described(parse(obj), response)


@router.put("/namespaces/{namespace}/cameras/{name}", response_model=CameraConfig, responses=_WRITE)
async def replace_camera(
    door: FrontDoor, user: User, namespace: Namespace, name: CameraPath, body: CameraReplace, tags: IfMatch
) -> CameraConfig:
    """Describe a camera anew."""
    editor = _editor(door, user, namespace, name)
    obj = await editor.change(Expected(body.resource_version, tags), lambda current: editing.replacement(current, body))
    door.cameras.wrote(obj)
    # No ETag, for what is stored is not what was sent (RFC 9110, section 9.3.4); the body has the resourceVersion.
    return views.config(parse(obj))


@router.patch(
    "/namespaces/{namespace}/cameras/{name}",
    response_model=CameraConfig,
    responses={**_WRITE, **describe(_C.UNSUPPORTED_MEDIA_TYPE)},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                MERGE_PATCH: {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "labels": {"type": "object"},
                            "annotations": {"type": "object"},
                            "spec": {"type": "object"},
                            "resourceVersion": {"type": "string"},
                        },
                        "additionalProperties": False,
                    },
                    "example": {"spec": {"presentation": {"title": "Harbour"}}},
                }
            },
        }
    },
)
async def patch_camera(
    door: FrontDoor, user: User, namespace: Namespace, name: CameraPath, request: Request, tags: IfMatch
) -> CameraConfig:
    """Change parts of a camera's description by a JSON merge patch (RFC 7396)."""
    editor = _editor(door, user, namespace, name)
    patch = await _patch_body(request)
    version = patch.get("resourceVersion")
    if version is not None and not isinstance(version, str):
        raise problem_error(_C.INVALID_REQUEST, "resourceVersion is a text.")
    obj = await editor.change(Expected(version, tags), lambda current: editing.patched(current, patch))
    door.cameras.wrote(obj)
    return views.config(parse(obj))


@router.delete(
    "/namespaces/{namespace}/cameras/{name}",
    status_code=204,
    responses=describe(
        _C.INVALID_REQUEST, _C.FORBIDDEN, _C.CAMERA_NOT_FOUND, _C.PRECONDITION_FAILED, _C.CLUSTER_UNAVAILABLE
    ),
)
async def delete_camera(door: FrontDoor, user: User, namespace: Namespace, name: CameraPath, tags: IfMatch) -> Response:
    """Delete a camera. Its sessions end, and everything that was made for it goes."""
    await _editor(door, user, namespace, name).remove(Expected(tags=tags))
    return Response(status_code=204)


def _editor(door: Door, user: Caller, namespace: str, name: str) -> editing.Editor:
    """Kubernetes may have cameras that are not served here; the cache has no others."""
    if not door.serves(namespace):
        raise absent(namespace, name)
    return editing.Editor(door.cluster, door.authorizer, user, namespace, name)


def _described(camera: CameraState, response: Response) -> CameraConfig:
    response.headers["ETag"] = entity_tag(camera.obj)
    return views.config(camera)


async def _patch_body(request: Request) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type not in {MERGE_PATCH, "application/json"}:
        raise problem_error(_C.UNSUPPORTED_MEDIA_TYPE, f"Send {MERGE_PATCH}.")
    try:
        # Stricter than the standard library, whose texts may be none (\ud800) and nest without end.
        patch = from_json(await request.body(), allow_inf_nan=False)
    except ValueError as error:
        raise problem_error(_C.INVALID_REQUEST, "The body is not valid JSON.") from error
    if not isinstance(patch, dict):
        raise problem_error(_C.INVALID_REQUEST, "A merge patch is a JSON object.")
    return patch
