"""Changing cameras: read, change a copy, write with the version that was read; again if somebody was faster, as far as
the caller did not mind (preconditions.py).

A whole object is written (not server-side applied): a PUT must also remove what kubectl or another tool had set, such
as the source that it replaces, and apply drops only the fields that its own manager had named.
"""

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from sightline_api.preconditions import Expected, changed
from sightline_api.problems import ProblemError, field_errors, problem_error
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

Change = Callable[[Obj], Awaitable[None]]
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


def secrets_of(value: Any) -> frozenset[str]:
    """Names of the Secrets that a spec refers to."""
    if isinstance(value, Mapping):
        names: set[str] = set()
        for key, item in value.items():
            is_reference = key in {"credentialsRef", "tokenRef", "secretRef"} and isinstance(item, Mapping)
            names |= {str(item.get("name"))} if is_reference else secrets_of(item)
        return frozenset(names)
    if isinstance(value, list):
        return frozenset().union(*(secrets_of(item) for item in value))
    return frozenset()


async def change(cluster: Cluster, namespace: str, name: str, expected: Expected, edit: Change) -> Obj:
    """Carry out `edit` on the current object, if that is as it is expected."""
    attempts = ATTEMPTS
    while True:
        attempts -= 1
        current = await _current(cluster, namespace, name)
        wanted = copy.deepcopy(current)
        await edit(wanted)
        expected.require(current)
        if wanted == current:
            return current
        try:
            return await cluster.replace(wanted)
        except ConflictError:
            if attempts <= 0:
                raise


async def remove(cluster: Cluster, namespace: str, name: str, expected: Expected, check: Change) -> None:
    """Delete the object, if that is as it is expected and `check` lets it: the very one that was looked at."""
    current = await _current(cluster, namespace, name)
    await check(current)
    expected.require(current)
    metadata = current["metadata"]
    only = Preconditions(uid=metadata["uid"], resource_version=metadata["resourceVersion"] if expected.asks else None)
    try:
        await cluster.delete(CAMERA, namespace, name, preconditions=only)
    except NotFoundError:
        raise absent(namespace, name) from None
    except ConflictError:
        raise (changed() if expected.asks else absent(namespace, name)) from None


async def _current(cluster: Cluster, namespace: str, name: str) -> Obj:
    try:
        return await cluster.get(CAMERA, namespace, name)
    except NotFoundError:
        raise absent(namespace, name) from None


def absent(namespace: str, name: str) -> ProblemError:
    """The answer where there is no such camera."""
    return problem_error(ProblemCode.CAMERA_NOT_FOUND, f"There is no camera {name} in namespace {namespace}.")


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
