"""Is a spec something that this version can run? The first of several named checks that objects, or the parsed spec.

Objects come from the cluster as dicts; the API server has validated them, but another version of the CRD may have let
more in, so they are parsed here once more, strictly: what we do not know we do not run.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sightline_kube.cluster import Obj
from sightline_model.camera import CameraSpec
from sightline_model.cameraclass import CameraClassSpec
from sightline_model.durations import seconds
from sightline_model.reasons import AcceptedReason
from sightline_model.session import StreamSessionSpec
from sightline_model.support import not_supported_yet
from sightline_operator.facts import CameraFacts
from sightline_operator.verdicts import Verdict, no, yes

T = TypeVar("T", bound=BaseModel)
_REMEMBERED = 4096
"""Specs that were parsed a while ago; the oldest is forgotten."""
_memory: dict[tuple[type[BaseModel], int], tuple[dict[str, Any], Any]] = {}
"""By the identity of the dict, which is kept too: else its id could be another one's."""


@dataclass(frozen=True, slots=True)
class AcceptedCamera:
    """The verdict, and both specs where it is yes."""

    verdict: Verdict
    spec: CameraSpec | None = None
    camera_class: CameraClassSpec | None = None


def camera(facts: CameraFacts) -> AcceptedCamera:
    """Accepted, for a camera with its class."""
    spec = parse(CameraSpec, facts.camera or {})
    if isinstance(spec, str):
        return AcceptedCamera(no(AcceptedReason.INVALID, spec))
    refused = not_supported_yet(spec)
    if refused:
        return AcceptedCamera(no(AcceptedReason.NOT_SUPPORTED_YET, _unsupported(refused)))
    if facts.camera_class is None:
        return AcceptedCamera(no(AcceptedReason.CLASS_NOT_FOUND, _missing_class(facts.class_name)))
    verdict, class_spec = camera_class(facts.camera_class)
    if class_spec is None:
        message = f"CameraClass {facts.class_name} is not accepted: {verdict.message}"
        return AcceptedCamera(no(AcceptedReason.CLASS_NOT_ACCEPTED, message))
    return AcceptedCamera(yes(AcceptedReason.ACCEPTED), spec, class_spec)


def camera_class(obj: Obj) -> tuple[Verdict, CameraClassSpec | None]:
    """Accepted, for a CameraClass; the spec where it is yes."""
    spec = parse(CameraClassSpec, obj)
    if isinstance(spec, str):
        return no(AcceptedReason.INVALID, spec), None
    refused = not_supported_yet(spec)
    if refused:
        return no(AcceptedReason.NOT_SUPPORTED_YET, _unsupported(refused)), None
    return yes(AcceptedReason.ACCEPTED), spec


def session(obj: Obj) -> StreamSessionSpec | str:
    """The spec of a session, or why it is refused."""
    spec = parse(StreamSessionSpec, obj)
    if isinstance(spec, str):
        return spec
    refused = not_supported_yet(spec)
    return _unsupported(refused) if refused else spec


def class_spec_or_default(obj: Obj | None) -> CameraClassSpec:
    """The class's spec, or the defaults where the class is gone or not accepted: sessions must end in any case."""
    spec = parse(CameraClassSpec, obj) if obj else None
    return spec if isinstance(spec, CameraClassSpec) else CameraClassSpec()


def parse(model: type[T], obj: Obj) -> T | str:
    """The spec of an object as a model, or what is wrong with it in words (never with the value).

    The same spec is looked at in every pass (a class's in the passes of all its sessions), so it is parsed once for as
    long as the cache holds it. Specs in the cache do not change: an update is another dict.
    """
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return _parsed(model, spec or {})
    known = _memory.get((model, id(spec)))
    if known is not None and known[0] is spec:
        found: T | str = known[1]
        return found
    found = _parsed(model, spec)
    if len(_memory) >= _REMEMBERED:
        _memory.pop(next(iter(_memory)))
    _memory[model, id(spec)] = (spec, found)
    return found


def _parsed(model: type[T], spec: object) -> T | str:
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        return "; ".join(
            f"spec.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False, include_input=False, include_context=False)[:5]
        )


@lru_cache(maxsize=256)
def span(duration: str, default: float) -> float:
    """Seconds of a duration that the API server has validated; `default` should it be none all the same."""
    try:
        return seconds(duration)
    except ValueError:
        return default


def _unsupported(lines: list[str]) -> str:
    return "This version cannot do what these fields ask for: " + "; ".join(lines)


def _missing_class(name: str) -> str:
    if name:
        return f"There is no CameraClass {name}: create it, or name another one in spec.className."
    return (
        "No CameraClass is the default: annotate one with sightline.dev/is-default-class=true, "
        "or name one in spec.className."
    )
