"""What the API server checks and fills in before it stores an object, for the in-memory cluster.

Our own kinds are checked and defaulted as their CRDs say, through `sightline_model.crd`. Of the core kinds only those
rules are here on which Sightline's behaviour rests: names, the immutable parts of pods, generation.
"""

import base64
import re
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.errors import InvalidError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, EVENT, NAMESPACE, POD, SECRET, SERVICE, STREAM_SESSION, Kind
from sightline_kube.objects import copied
from sightline_model import crd
from sightline_model.schema import Schema

OWN = frozenset({CAMERA, CAMERA_CLASS, STREAM_SESSION})
STATUS_SUBRESOURCE = OWN | {POD, SERVICE, NAMESPACE}
GENERATION = OWN | {POD}

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABELS_ONLY = frozenset({NAMESPACE, SERVICE})


def check_name(kind: Kind, name: str) -> None:
    """InvalidError if an object of that kind cannot have that name."""
    pattern, bound = (_LABEL, 63) if kind in _LABELS_ONLY else (_SUBDOMAIN, 253)
    if len(name) > bound or not pattern.fullmatch(name):
        raise _invalid(
            kind,
            name,
            [f"metadata.name: must be lower case letters, digits and '-', at most {bound} characters"],
        )


def admitted(kind: Kind, new: Obj, old: Obj | None) -> Obj:
    """The object with its defaults; InvalidError if it may not be stored."""
    name = str(new["metadata"].get("name"))
    if kind in OWN:
        return _admitted_own(kind, name, new, old)
    problems = _core_problems(kind, new, old)
    if problems:
        raise _invalid(kind, name, problems)
    return _with_encoded_data(new) if kind == SECRET and "stringData" in new else new


def spec_moved(new: Obj, old: Obj) -> bool:
    """Whether anything but metadata and status differs: then the generation moves."""
    return any(new.get(key) != old.get(key) for key in (new.keys() | old.keys()) - {"metadata", "status"})


def _admitted_own(kind: Kind, name: str, new: Obj, old: Obj | None) -> Obj:
    status = crd.schema_of(kind.kind)["properties"]["status"]
    if "status" in new:
        new = {**new, "status": _pruned(new["status"], status)}
    result = crd.defaulted(kind.kind, new)
    problems = crd.validate(kind.kind, result, old)
    if problems:
        raise _invalid(kind, name, problems)
    return result


def _pruned(value: Any, schema: Schema) -> Any:
    """Without the fields that the schema does not know. Of a status they are dropped, elsewhere they are refused."""
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return {name: _pruned(item, known[name]) for name, item in value.items() if name in known}
    if isinstance(value, list) and "items" in schema:
        return [_pruned(item, schema["items"]) for item in value]
    return value


def _core_problems(kind: Kind, new: Obj, old: Obj | None) -> list[str]:
    if kind == POD:
        return _pod_problems(new, old)
    if kind == SECRET and old:
        return _secret_problems(new, old)
    if kind == EVENT and not new.get("involvedObject"):
        return ["involvedObject: required"]
    return []


def _secret_problems(new: Obj, old: Obj) -> list[str]:
    if new.get("type", "Opaque") != old.get("type", "Opaque"):
        return ["type: field is immutable"]
    if old.get("immutable") and any(new.get(key) != old.get(key) for key in ("data", "stringData", "immutable")):
        return ["data: field is immutable when `immutable` is set"]
    return []


def _pod_problems(new: Obj, old: Obj | None) -> list[str]:
    containers = (new.get("spec") or {}).get("containers") or []
    if not containers:
        return ["spec.containers: required"]
    problems = [
        f"spec.containers[{index}].{field}: required"
        for index, container in enumerate(containers)
        for field in ("name", "image")
        if not container.get(field)
    ]
    bound = bool(old and old["spec"].get("nodeName"))  # a pod without a node may be given one: that is binding
    if old and _fixed_part(new, bound) != _fixed_part(old, bound):
        problems.append("spec: pod updates may not change fields other than the containers' images")
    return problems


def _fixed_part(pod: Obj, bound: bool) -> dict[str, Any]:
    """A pod's spec without what may change."""
    spec: dict[str, Any] = copied(pod["spec"])
    for field in ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"):
        spec.pop(field, None)
    if not bound:
        spec.pop("nodeName", None)
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        container.pop("image", None)
    return spec


def _with_encoded_data(secret: Obj) -> Obj:
    """`stringData` is for writing only: it lands in `data`."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (secret["stringData"] or {}).items()}
    result = {key: value for key, value in secret.items() if key != "stringData"}
    return {**result, "data": {**(secret.get("data") or {}), **encoded}}


def _invalid(kind: Kind, name: str, problems: list[str]) -> InvalidError:
    return InvalidError(f'{kind.kind} "{name}" is invalid: {"; ".join(problems)}')
