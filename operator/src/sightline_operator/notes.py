"""Events of cameras: one for each change between well and unwell, for `kubectl describe` and `kubectl get events`.

`of` is pure and silent about everything that is on its way to be well; sessions and viewers make no events at all.
`Notebook` writes them. Equal notes within ten minutes are one Event with a count, and a camera that flaps all the time
has a small allowance, as client-go's recorder does it. Notes that cannot be written are dropped and counted: the
conditions are the truth, events only their history.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sightline_kube.cluster import Cluster, Obj
from sightline_kube.errors import ClusterError, NotFoundError
from sightline_kube.kinds import EVENT
from sightline_model import names
from sightline_model.camera import CameraStatus
from sightline_model.conditions import Condition, find
from sightline_model.reasons import (
    PENDING,
    AgentReason,
    ConditionStatus,
    ConditionType,
    NetworkReason,
    ReadyReason,
)
from sightline_operator import pods
from sightline_operator.clock import Clock

log = logging.getLogger(__name__)

QUEUE_SIZE = 256
CAMERAS_KNOWN = 4096
"""Of so many cameras the last events are remembered; the one that was quiet for longest is forgotten."""
AGGREGATE = timedelta(minutes=10)
ALLOWANCE = 25
REFILL = timedelta(minutes=5)
"""Every so often a camera may have one event more, up to the allowance."""
_BEHIND = {
    ReadyReason.NOT_ACCEPTED: ConditionType.ACCEPTED,
    ReadyReason.AGENT_NOT_READY: ConditionType.AGENT_READY,
    ReadyReason.NETWORK_NOT_READY: ConditionType.NETWORK_READY,
    ReadyReason.SOURCE_NOT_READY: ConditionType.SOURCE_READY,
}
_ON_ITS_WAY = frozenset({PENDING, AgentReason.STARTING, NetworkReason.ADDRESS_PENDING, NetworkReason.PROBING})


@dataclass(frozen=True, slots=True)
class Note:
    """One event to be."""

    type: str
    reason: str
    message: str


def of(before: CameraStatus, after: CameraStatus) -> Note | None:
    """What is worth an event between two statuses."""
    trouble, former = _trouble(after), _trouble(before)
    if trouble is not None:
        known = former is not None and former.reason == trouble.reason
        return None if known else Note("Warning", trouble.reason, trouble.message)
    ready = find(after.conditions, ConditionType.READY)
    was = find(before.conditions, ConditionType.READY)
    if ready is None or ready.status is not ConditionStatus.TRUE:
        return None
    if was is not None and was.status is ConditionStatus.TRUE:
        return None
    return Note("Normal", ready.reason, ready.message)


def _trouble(status: CameraStatus) -> Condition | None:
    """The condition that keeps the camera from being ready, unless that passes by itself."""
    ready = find(status.conditions, ConditionType.READY)
    if ready is None or ready.status is not ConditionStatus.FALSE or ready.reason not in _BEHIND:
        return None
    cause = find(status.conditions, _BEHIND[ReadyReason(ready.reason)])
    if cause is None or cause.status is not ConditionStatus.FALSE or cause.reason in _ON_ITS_WAY:
        return None
    return cause


class Counts(Protocol):
    """Who counts what became of notes."""

    def event(self, result: str) -> None:
        """`written`, `aggregated`, `limited`, `dropped` or `failed`."""
        ...


@dataclass(slots=True)
class _Written:
    """An Event that is there, and how often it has been told."""

    name: str
    count: int
    at: datetime


@dataclass(slots=True)
class _Page:
    """The events of one camera."""

    left: float
    refilled_at: datetime
    written: dict[Note, _Written]


class Notebook:
    """Writes notes as core/v1 Events, one after the other, in a task of its own."""

    def __init__(self, cluster: Cluster, clock: Clock, counts: Counts) -> None:
        self._cluster = cluster
        self._clock = clock
        self._counts = counts
        self._queue: asyncio.Queue[tuple[Obj, Note]] = asyncio.Queue(QUEUE_SIZE)
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    def add(self, camera: Obj, note: Note) -> None:
        """Have the note written; where too many wait, the newest is dropped."""
        try:
            self._queue.put_nowait((camera, note))
        except asyncio.QueueFull:
            self._counts.event("dropped")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            camera, note = await self._queue.get()
            try:
                self._counts.event(await self._write(camera, note))
            except ClusterError as error:
                self._counts.event("failed")
                log.warning("event %s of %s: %s", note.reason, pods.name_of(camera), error)

    async def _write(self, camera: Obj, note: Note) -> str:
        now = self._clock()
        page = self._page(pods.uid_of(camera), now)
        if page.left < 1.0:
            return "limited"
        page.left -= 1.0
        known = page.written.get(note)
        if known is not None and now - known.at < AGGREGATE:
            patch = {"count": known.count + 1, "lastTimestamp": _text(now)}
            try:
                await self._cluster.merge_patch(EVENT, camera["metadata"]["namespace"], known.name, patch)
            except NotFoundError:
                pass  # events do not live long
            else:
                known.count += 1
                known.at = now
                return "aggregated"
        made = await self._cluster.create(_event(camera, note, now))
        page.written = {key: value for key, value in page.written.items() if now - value.at < AGGREGATE}
        page.written[note] = _Written(pods.name_of(made), 1, now)
        return "written"

    def _page(self, uid: str, now: datetime) -> _Page:
        page = self._pages.pop(uid, None) or _Page(ALLOWANCE, now, {})
        page.left = min(float(ALLOWANCE), page.left + (now - page.refilled_at) / REFILL)
        page.refilled_at = now
        self._pages[uid] = page
        if len(self._pages) > CAMERAS_KNOWN:
            self._pages.popitem(last=False)
        return page


def _event(camera: Obj, note: Note, now: datetime) -> dict[str, Any]:
    metadata = camera["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{names.random_suffix(10)}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": camera["apiVersion"],
            "kind": camera["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        },
        "type": note.type,
        "reason": note.reason,
        "message": note.message[:1024],
        "count": 1,
        "firstTimestamp": _text(now),
        "lastTimestamp": _text(now),
        "source": {"component": names.OPERATOR_FIELD_MANAGER},
        "reportingComponent": names.OPERATOR_FIELD_MANAGER,
        "reportingInstance": "",
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
