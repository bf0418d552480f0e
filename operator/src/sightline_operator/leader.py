"""Leader election: one of several operators works, the others wait to take over.

`Elector.run` contends, then renews until it is cancelled; it raises as soon as it can no longer be sure to be the only
one, and the process ends with it. `Fenced` is the cluster as the working parts see it: without a Lease that is sure to
hold, nothing is written, however late somebody notices.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sightline_kube.cluster import AccessQuery, Cluster, Listing, Obj, Preconditions, TokenUser, WatchEvent
from sightline_kube.errors import ClusterError, ConflictError, NotFoundError, UnavailableError
from sightline_kube.kinds import LEASE, Kind
from sightline_operator.clock import Clock, utc_now
from sightline_operator.errors import LeaseLostError
from sightline_operator.lease import Move, Sight, Times, given_back, held_by, holder, seen, step

log = logging.getLogger(__name__)

T = TypeVar("T")
CALL_SECONDS = 5.0
"""For one look at the Lease or one renewal."""


def steady_clock() -> float:
    """Seconds that go on while the machine sleeps, as they do for everybody else."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Elector:
    """One contender. `identity` must be no other process's, not even an earlier one's of the same pod."""

    def __init__(
        self,
        cluster: Cluster,
        place: tuple[str, str],
        identity: str,
        times: Times,
        *,
        clock: Callable[[], float] = steady_clock,
        wall_clock: Clock = utc_now,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.acquired = asyncio.Event()
        self._cluster = cluster
        self._place = place
        self._identity = identity
        self._times = times
        self._clock = clock
        self._wall_clock = wall_clock
        self._rng = rng
        self._sight: Sight | None = None
        self._held: Obj | None = None
        self._sent = float("-inf")
        """When the last write that succeeded was sent: others count from a later moment."""

    def seconds_left(self) -> float:
        """For how long this process may still write without another renewal; not positive when it may not."""
        return self._sent + self._times.give_up - self._clock()

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self.seconds_left() > 0

    async def run(self) -> None:
        """Contend until the Lease is held, then renew it; LeaseLostError when that fails for too long."""
        while not self.leading:
            await self._contend()
            if not self.leading:
                await asyncio.sleep(self._times.look * (0.8 + 0.4 * self._rng()))
        log.info("leading as %s", self._identity)
        self.acquired.set()
        while True:
            await asyncio.sleep(self._times.renew)
            await self._renew()

    async def release(self) -> None:
        """Give the Lease back, so that another one may begin at once. Nothing may be written any more."""
        found, leading = self._held, self.leading
        self._sent, self._held = float("-inf"), None
        if found is None or not leading:
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                try:
                    await self._cluster.replace(given_back(found))
                except ConflictError:  # a renewal was cut off, and has come about all the same
                    current = await self._found()
                    if current is None or holder(current) != self._identity:
                        return
                    await self._cluster.replace(given_back(current))
            log.info("the lease is given back")
        except (ClusterError, TimeoutError) as error:
            log.warning("the lease is not given back and has to run out: %s", _words(error))

    async def _contend(self) -> None:
        """Look, and take the Lease if it is free."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                found = await self._found()
                self._sight = seen(self._sight, found, self._clock(), self._times.duration)
                move = step(self._sight, self._identity, self._clock())
                if move is not Move.WAIT:
                    await self._write(found)
        except (ClusterError, TimeoutError) as error:
            log.debug("the lease is not ours yet: %s", _words(error))

    async def _renew(self) -> None:
        """Write once more, as often as it takes."""
        sure = True
        """Whether what is there is what was written last."""
        while True:
            left = self.seconds_left()
            if left <= 0:
                raise LeaseLostError(f"the lease could not be renewed for {self._times.give_up:.0f} s")
            try:
                async with asyncio.timeout(min(left, CALL_SECONDS)):
                    found = self._held if sure else await self._found()
                    if found is None:
                        raise LeaseLostError("the lease was deleted")
                    if holder(found) != self._identity:
                        raise LeaseLostError(f"the lease was taken by {holder(found) or 'nobody'}")
                    await self._write(found)
                return
            except NotFoundError as error:
                raise LeaseLostError("the lease was deleted") from error
            except (ClusterError, TimeoutError) as error:
                log.warning("the lease is not renewed yet: %s", _words(error))
                if not (sure and isinstance(error, ConflictError)):
                    await asyncio.sleep(min(self._times.look, max(self.seconds_left(), 0.0)))
                sure = False

    async def _found(self) -> Obj | None:
        try:
            return await self._cluster.get(LEASE, *self._place)
        except NotFoundError:
            return None

    async def _write(self, found: Obj | None) -> None:
        wanted = held_by(self._place, found, self._identity, self._times, self._wall_clock())
        sent = self._clock()
        self._held = await (self._cluster.replace(wanted) if found else self._cluster.create(wanted))
        self._sent = sent


class Fence(Protocol):
    """What `Fenced` asks before each write."""

    def seconds_left(self) -> float:
        """For how long writing is safe."""
        ...


class Fenced:
    """A Cluster that writes only while the fence allows it; reads go through.

    `grace` is how much longer a write under way may last: until nobody may have taken the Lease yet.
    """

    def __init__(self, cluster: Cluster, fence: Fence, grace: float) -> None:
        self._cluster = cluster
        self._fence = fence
        self._grace = grace

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        """As the port's."""
        return await self._cluster.get(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Listing:
        """As the port's."""
        return await self._cluster.list(kind, namespace, labels=labels)

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """As the port's."""
        return self._cluster.watch(kind, namespace, labels=labels, resource_version=resource_version)

    async def create(self, obj: Obj) -> Obj:
        """As the port's, while leading."""
        return await self._guarded(lambda: self._cluster.create(obj))

    async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
        """As the port's, while leading."""
        return await self._guarded(lambda: self._cluster.apply(obj, field_manager=field_manager))

    async def replace(self, obj: Obj) -> Obj:
        """As the port's, while leading."""
        return await self._guarded(lambda: self._cluster.replace(obj))

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Obj:
        """As the port's, while leading."""
        return await self._guarded(lambda: self._cluster.merge_patch(kind, namespace, name, patch))

    async def replace_status(self, obj: Obj) -> Obj:
        """As the port's, while leading."""
        return await self._guarded(lambda: self._cluster.replace_status(obj))

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """As the port's, while leading."""
        await self._guarded(
            lambda: self._cluster.delete(
                kind, namespace, name, preconditions=preconditions, grace_seconds=grace_seconds
            )
        )

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenUser | None:
        """As the port's."""
        return await self._cluster.review_token(token, audiences)

    async def review_access(self, query: AccessQuery) -> bool:
        """As the port's."""
        return await self._cluster.review_access(query)

    async def close(self) -> None:
        """As the port's."""
        await self._cluster.close()

    async def _guarded(self, call: Callable[[], Awaitable[T]]) -> T:
        left = self._fence.seconds_left()
        if left <= 0:
            raise UnavailableError("this operator does not hold the lease, so it writes nothing")
        try:
            async with asyncio.timeout(left + self._grace):
                return await call()
        except TimeoutError as error:
            raise UnavailableError("a write was given up because the lease may have run out") from error


def _words(error: Exception) -> str:
    return str(error) or "no answer in time"
