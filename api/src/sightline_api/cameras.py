"""The front door's view of the cameras: parsed once per change, read from the cache without asking Kubernetes."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sightline_api.authorize import Target
from sightline_api.problems import ProblemError, problem_error
from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA
from sightline_model import conditions, durations
from sightline_model.agent import MAIN_PROFILE
from sightline_model.camera import Access, CameraSpec, CameraStatus, Lifecycle, Presentation
from sightline_model.conditions import Condition
from sightline_model.problems import ProblemCode
from sightline_model.reasons import ConditionType


@dataclass(frozen=True, slots=True)
class CameraState:
    """One camera: the object as it is, and the parts that decide something in typed form.

    What another version wrote and this one cannot read gives no rights (`access` is then empty) and no status.
    """

    namespace: str
    name: str
    uid: str
    obj: Obj
    access: Access
    presentation: Presentation
    start_timeout: float
    source_kind: str
    profiles: list[str]
    """The qualities that may be asked for, the main one first."""
    status: CameraStatus

    @property
    def labels(self) -> Mapping[str, str]:
        """The camera's labels."""
        return self.obj["metadata"].get("labels") or {}

    @property
    def deleting(self) -> bool:
        """True once somebody deleted it."""
        return bool(self.obj["metadata"].get("deletionTimestamp"))

    @property
    def audience(self) -> str:
        """The `aud` of media tokens for it."""
        return f"{self.namespace}/{self.name}/{self.uid}"

    @property
    def target(self) -> Target:
        """It as the target of an action."""
        return Target(self.namespace, self.name, self.access)

    def condition(self, type_: ConditionType) -> Condition | None:
        """One condition of its status."""
        return conditions.find(self.status.conditions, type_)


def parse(obj: Obj) -> CameraState:
    """Read a Camera object; never fails."""
    metadata = obj["metadata"]
    spec = read_spec(obj.get("spec") or {})
    return CameraState(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        obj=obj,
        access=spec.access if spec else Access(),
        presentation=spec.presentation if spec else Presentation(),
        start_timeout=durations.seconds((spec.lifecycle if spec else Lifecycle()).start_timeout),
        source_kind=spec.source.kind if spec else "",
        profiles=[MAIN_PROFILE, *(profile.name for profile in spec.profiles)] if spec else [MAIN_PROFILE],
        status=_status(obj.get("status") or {}),
    )


def read_spec(raw: Mapping[str, Any]) -> CameraSpec | None:
    """A spec; None where this version cannot read it."""
    try:
        return CameraSpec.model_validate(raw)
    except ValidationError:
        return None


def _status(raw: Mapping[str, Any]) -> CameraStatus:
    try:
        return CameraStatus.model_validate(raw)
    except ValidationError:
        return CameraStatus()


class Directory:
    """Cameras by name, from the cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._parsed: dict[tuple[str, str], CameraState] = {}
        self._waiting: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        """Viewers who wait for a camera to change; their number is bounded by the quota of requests under way."""
        cache.subscribe(self._forget)

    def synced(self) -> bool:
        """True once the cameras have been listed."""
        return self._cache.synced()

    def find(self, namespace: str, name: str) -> CameraState | None:
        """The camera, if there is one."""
        obj = self._cache.get(CAMERA, namespace, name)
        return self._state(obj) if obj is not None else None

    def get(self, namespace: str, name: str) -> CameraState:
        """The camera, for somebody who knew of it; ProblemError 404."""
        found = self.find(namespace, name)
        if found is None:
            raise absent(namespace, name)
        return found

    def all(self, namespace: str | None) -> list[CameraState]:
        """All cameras (of a namespace), by namespace and name."""
        states = [self._state(obj) for obj in self._cache.list(CAMERA, namespace)]
        return sorted(states, key=page_key)

    async def until(self, camera: CameraState, accept: Callable[[CameraState], bool]) -> CameraState:
        """The camera as soon as it is acceptable; ProblemError 404 when it, that very one, is gone."""
        key = (camera.namespace, camera.name)
        while True:
            state = self.get(*key)
            if state.uid != camera.uid:
                raise problem_error(ProblemCode.CAMERA_NOT_FOUND, "The camera was deleted.")
            if accept(state):
                return state
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(key, set())
            waiting.add(changed)
            try:
                await changed
            finally:
                waiting.discard(changed)
                if not waiting and self._waiting.get(key) is waiting:
                    del self._waiting[key]

    def wrote(self, obj: Obj) -> None:
        """Take the object that a write answered with, so that whoever wrote reads it here at once."""
        self._cache.observe(CAMERA, EventType.MODIFIED, obj)

    def _state(self, obj: Obj) -> CameraState:
        key = (obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
        state = self._parsed.get(key)
        if state is None or state.obj is not obj:
            state = self._parsed[key] = parse(obj)
        return state

    def _forget(self, key: Key, _: Obj | None, __: Obj | None) -> None:
        if key.kind != CAMERA:
            return
        self._parsed.pop((key.namespace, key.name), None)
        for changed in self._waiting.pop((key.namespace, key.name), ()):
            if not changed.done():
                changed.set_result(None)


def absent(namespace: str, name: str) -> ProblemError:
    """The answer where there is no such camera, for those who may know that (`Door.camera`)."""
    return problem_error(ProblemCode.CAMERA_NOT_FOUND, f"There is no camera {name} in namespace {namespace}.")


def page_key(state: CameraState) -> tuple[str, str]:
    """Where a camera stands in lists."""
    return state.namespace, state.name
