"""Changing cameras: read, change a copy, write with the version that was read; again if somebody was faster, as far as
the caller did not mind (preconditions.py).

A whole object is written (not server-side applied): a PUT must also remove what kubectl or another tool had set, such
as the source that it replaces, and apply drops only the fields that its own manager had named.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sightline_api import escalation
from sightline_api.auth.caller import Caller
from sightline_api.authorize import Action, Authorizer, Target
from sightline_api.cameras import CameraState, absent, parse
from sightline_api.preconditions import Expected, changed
from sightline_api.problems import ProblemError, field_errors
from sightline_api.schemas import CameraCreate, CameraReplace
from sightline_api.views import FOREIGN_ANNOTATIONS, own_annotations
from sightline_kube.cluster import Cluster, Obj, Preconditions
from sightline_kube.errors import ConflictError, NotFoundError
from sightline_kube.kinds import CAMERA
from sightline_model.base import API_VERSION
from sightline_model.camera import CameraSpec
from sightline_model.problems import FieldError, Problem, ProblemCode

ATTEMPTS = 4
PATCHABLE = frozenset({"labels", "annotations", "spec", "resourceVersion"})

Change = Callable[[Obj], None]
"""Changes a copy of the current object in place; may refuse by raising."""


def new_camera(namespace: str, wanted: CameraCreate) -> Obj:
    """The object to create."""
    return {
        "apiVersion": API_VERSION,
        "kind": CAMERA.kind,
        "metadata": {
            "name": wanted.name,
            "namespace": namespace,
            "labels": dict(wanted.labels),
            "annotations": own_annotations(wanted.annotations),
        },
        "spec": validated(wanted.spec),
    }


def replacement(current: Obj, wanted: CameraReplace) -> None:
    """Make `current` what a PUT wants."""
    current["spec"] = validated(wanted.spec)
    if wanted.labels is not None:
        current["metadata"]["labels"] = dict(wanted.labels)
    if wanted.annotations is not None:
        _set_annotations(current, wanted.annotations)


def patched(current: Obj, patch: Mapping[str, Any]) -> None:
    """Make `current` what a merge patch (RFC 7396) of {labels, annotations, spec} wants; ProblemError if it is bad."""
    unknown = sorted(set(patch) - PATCHABLE)
    if unknown:
        errors = [FieldError(field=str(name)[:64], message="There is no such field.") for name in unknown[:20]]
        raise _invalid(errors)
    metadata = current["metadata"]
    if "labels" in patch:
        metadata["labels"] = _texts("labels", merge(metadata.get("labels") or {}, patch["labels"]))
    if "annotations" in patch:
        wanted = merge(metadata.get("annotations") or {}, patch["annotations"])
        _set_annotations(current, _texts("annotations", wanted))
    if "spec" in patch:
        current["spec"] = validated(merge(current.get("spec") or {}, patch["spec"]))


def validated(spec: Any) -> dict[str, Any]:
    """A spec as it shall be written; ProblemError that names the fields that are wrong."""
    try:
        model = CameraSpec.model_validate(spec)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        raise _invalid(field_errors(details, within="spec")) from None
    wire: dict[str, Any] = model.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return wire


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396; nothing that was given is changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


@dataclass(frozen=True, slots=True)
class Editor:
    """Changes or deletes one camera for one caller, by what Kubernetes has, not by the cache."""

    cluster: Cluster
    authorizer: Authorizer
    caller: Caller
    namespace: str
    name: str

    async def change(self, expected: Expected, edit: Change) -> Obj:
        """Carry out `edit`, if the caller may and the camera is as it is expected."""
        attempts = ATTEMPTS
        while True:
            attempts -= 1
            camera = await self._camera(Action.UPDATE)
            wanted = copy.deepcopy(camera.obj)
            edit(wanted)
            before, after = camera.obj.get("spec") or {}, wanted.get("spec") or {}
            await escalation.require(self.authorizer, self.caller, camera.target, before, after)
            expected.require(camera.obj)
            if wanted == camera.obj:
                return wanted
            try:
                return await self.cluster.replace(wanted)
            except ConflictError:
                if attempts <= 0:
                    raise

    async def remove(self, expected: Expected) -> None:
        """Delete the camera, if the caller may and it is as it is expected: the very one that was looked at."""
        current = (await self._camera(Action.DELETE)).obj
        expected.require(current)
        version = current["metadata"]["resourceVersion"] if expected.asks else None
        only = Preconditions(uid=current["metadata"]["uid"], resource_version=version)
        try:
            await self.cluster.delete(CAMERA, self.namespace, self.name, preconditions=only)
        except NotFoundError:
            raise absent(self.namespace, self.name) from None
        except ConflictError:
            raise (changed() if expected.asks else absent(self.namespace, self.name)) from None

    async def _camera(self, action: Action) -> CameraState:
        """The camera, for somebody who may do that to it; who may not is not told whether there is one."""
        try:
            found = parse(await self.cluster.get(CAMERA, self.namespace, self.name))
        except NotFoundError:
            await self.authorizer.require(self.caller, action, Target(self.namespace, self.name))
            raise absent(self.namespace, self.name) from None
        await self.authorizer.require(self.caller, action, found.target)
        return found


def _set_annotations(current: Obj, wanted: Mapping[str, str]) -> None:
    before = current["metadata"].get("annotations") or {}
    foreign = {key: value for key, value in before.items() if key.startswith(FOREIGN_ANNOTATIONS)}
    current["metadata"]["annotations"] = {**own_annotations(wanted), **foreign}


def _texts(field: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _invalid([FieldError(field=field, message="An object with texts is wanted.")])
    return value


def _invalid(errors: list[FieldError]) -> ProblemError:
    return ProblemError(Problem(code=ProblemCode.INVALID_CAMERA, detail="Some fields are not valid.", errors=errors))
