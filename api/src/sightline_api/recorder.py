"""StreamSessions, written beside the session that an agent opens, never in its way.

A viewer is let in while Kubernetes is away: the write then fails, is logged and counted, and the session lives on in
its agent alone. Writes run as supervised tasks, at most MAX_WRITES of them; one more is dropped and counted.
"""

import asyncio
import hashlib
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

from sightline_api.cameras import CameraState
from sightline_api.metrics import Metrics
from sightline_api.problems import problem_error
from sightline_kube.cluster import Cluster, Obj
from sightline_kube.errors import ClusterError, NotFoundError
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_model.base import API_VERSION
from sightline_model.names import CAMERA_LABEL, USER_LABEL
from sightline_model.problems import ProblemCode
from sightline_model.session import CameraReference, SessionRole, StreamSessionSpec, Transport

MAX_WRITES = 512
WRITE_SECONDS = 10.0
LOOK_SECONDS = 1.0

_log = structlog.get_logger(__name__)


def user_label(user: str) -> str:
    """A user's name as a label's value: names may hold what labels may not, so it is a hash."""
    return hashlib.sha256(user.encode()).hexdigest()[:32]


def stream_session(
    camera: CameraState, session_id: str, user: str, client: str = "", profile: str | None = None
) -> Obj:
    """The object of a viewer's session; the camera owns it, so that it goes with it."""
    spec = StreamSessionSpec(
        camera_ref=CameraReference(name=camera.name),
        user=user,
        role=SessionRole.VIEW,
        transport=Transport.WHEP,
        profile=profile,
        client=client or None,
    )
    return {
        "apiVersion": API_VERSION,
        "kind": STREAM_SESSION.kind,
        "metadata": {
            "name": session_id,
            "namespace": camera.namespace,
            "labels": {CAMERA_LABEL: camera.name, USER_LABEL: user_label(user)},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": CAMERA.kind,
                    "name": camera.name,
                    "uid": camera.uid,
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec.to_wire(),
    }


class Record:
    """One StreamSession on its way."""

    def __init__(self, recorder: "Recorder", obj: Obj, task: "asyncio.Task[bool] | None") -> None:
        self._recorder = recorder
        self._obj = obj
        self._task = task

    async def settle(self, seconds: float) -> None:
        """The session came about: wait for the write, but not longer."""
        self._recorder.decided(self)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    def discard(self) -> None:
        """The session did not come about: take the object away, once it is there."""
        if self._task is not None:
            self._recorder.start(self._remove(self._task))
        self._recorder.decided(self)

    async def _remove(self, task: "asyncio.Task[bool]") -> bool:
        if not await task:
            return False
        return await self._recorder.remove(self._obj)


class Recorder:
    """Writes and removes StreamSessions in the background."""

    def __init__(self, cluster: Cluster, metrics: Metrics) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._tasks: set[asyncio.Task[bool]] = set()
        self._undecided: set[Record] = set()
        """Sessions of which nobody knows yet whether they come about."""
        self._decision = asyncio.Event()

    def begin(self, obj: Obj) -> Record:
        """Start to write."""
        if len(self._tasks) >= MAX_WRITES:
            self._metrics.records.labels("dropped").inc()
            _log.warning("session not recorded", why="too many writes wait")
            return Record(self, obj, None)
        record = Record(self, obj, self.start(self._create(obj)))
        self._undecided.add(record)
        return record

    def decided(self, record: Record) -> None:
        """A session came about, or not."""
        self._undecided.discard(record)
        self._decision.set()

    def start(self, work: Coroutine[Any, Any, bool]) -> "asyncio.Task[bool]":
        """Run `work`, which reports its own failures, until it ends or the front door closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, seconds: float) -> None:
        """Give what is on its way, and what requests that were just cancelled leave behind, some seconds; then abandon
        it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.idle()
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            _log.warning("writes abandoned", count=len(late))
            await asyncio.gather(*late, return_exceptions=True)

    async def idle(self) -> None:
        """Until nothing is on its way, nor may come of a session that is being opened."""
        while self._tasks or self._undecided:
            self._decision.clear()
            await (asyncio.wait(self._tasks) if self._tasks else self._decision.wait())

    async def remove(self, obj: Obj) -> bool:
        """Delete a session's object; True if it is gone."""
        metadata = obj["metadata"]
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._cluster.delete(STREAM_SESSION, metadata["namespace"], metadata["name"])
        except NotFoundError:
            return True
        except (ClusterError, TimeoutError) as error:
            _log.warning("session record not removed", error=type(error).__name__)
            return False
        self._metrics.records.labels("discarded").inc()
        return True

    async def require(self, namespace: str, session_id: str) -> None:
        """Refuse a session that was deleted between its making and its opening; while nobody can tell, it counts."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._cluster.get(STREAM_SESSION, namespace, session_id)
        except NotFoundError:
            raise problem_error(ProblemCode.SESSION_NOT_FOUND, "The session was deleted.") from None
        except (ClusterError, TimeoutError) as error:
            _log.warning("session not looked up", error=type(error).__name__)

    async def _create(self, obj: Obj) -> bool:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._cluster.create(obj)
        except (ClusterError, TimeoutError) as error:
            self._metrics.records.labels("failed").inc()
            _log.warning("session not recorded", error=type(error).__name__)
            return False
        self._metrics.records.labels("created").inc()
        return True
