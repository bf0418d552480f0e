"""The one way to write a status: nothing where nothing changed, not too often, never over somebody else's write.

`plan` is pure and knows the two rates: numbers that move all the time wait ten seconds, everything else one second.
`StatusWriter` writes with the resourceVersion that the decision was made on; on a conflict it reads the object again
and lets the caller come back with fresh facts.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster, EventType, Obj
from sightline_kube.errors import ConflictError, NotFoundError
from sightline_kube.kinds import kind_of
from sightline_model.camera import CameraStatus
from sightline_model.conditions import find
from sightline_model.reasons import ConditionStatus, ConditionType
from sightline_operator.clock import after, seconds_until

NUMBERS_SECONDS = 10.0
CHANGES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WritePlan:
    """Whether to write now, or in how many seconds to look again."""

    write: bool
    wait: float | None = None


def plan(stored: CameraStatus, wanted: CameraStatus, last_write: datetime | None, now: datetime) -> WritePlan:
    """Whether a camera's status is due."""
    if stored == wanted:
        return WritePlan(write=False)
    if last_write is None:
        return WritePlan(write=True)
    # Viewers wait for this one.
    if _answers(wanted) and not _answers(stored):
        return WritePlan(write=True)
    pause = NUMBERS_SECONDS if _without_numbers(stored) == _without_numbers(wanted) else CHANGES_SECONDS
    wait = seconds_until(after(last_write, pause), now)
    return WritePlan(write=wait <= 0, wait=wait or None)


class StatusWriter:
    """Writes statuses through the port and tells the cache at once."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache

    async def write(self, obj: Obj, status: Obj) -> bool:
        """Replace the object's status by this one, as it is on the wire; False if the object is gone. ConflictError
        after the cache was refreshed."""
        kind = kind_of(obj)
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace"), str(metadata["name"])
        try:
            written = await self._cluster.replace_status({**obj, "status": status})
        except NotFoundError:
            self._cache.observe(kind, EventType.DELETED, obj)
            return False
        except ConflictError:
            try:
                self._cache.observe(kind, EventType.MODIFIED, await self._cluster.get(kind, namespace, name))
            except NotFoundError:
                self._cache.observe(kind, EventType.DELETED, obj)
                return False
            raise
        self._cache.observe(kind, EventType.MODIFIED, written)
        return True


def _answers(status: CameraStatus) -> bool:
    ready = find(status.conditions, ConditionType.AGENT_READY)
    return ready is not None and ready.status is ConditionStatus.TRUE


def _without_numbers(status: CameraStatus) -> CameraStatus:
    status = status.model_copy(update={"viewers": 0})
    if status.source is None:
        return status
    source = status.source.model_copy(update={"fps": 0, "bitrate": 0, "keyframe_interval": "", "last_frame_time": None})
    return status.model_copy(update={"source": source})
