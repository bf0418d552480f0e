"""A LIST of every kind each minute: kopf does not tell of deletions that happened while a watch was broken.

Measured with kopf 1.45: after a watch that ended with 410, objects deleted in the gap stay in its memory for ever. The
cache drops what the LIST does not have, and tells its subscribers as if the deletion had been seen.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence

from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster
from sightline_kube.errors import ClusterError, UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, POD_DISRUPTION_BUDGET, SERVICE, STREAM_SESSION, Kind
from sightline_model.names import MANAGED_BY, MANAGED_BY_LABEL
from sightline_operator.backoff import Backoff

log = logging.getLogger(__name__)

OURS: Mapping[str, str] = {MANAGED_BY_LABEL: MANAGED_BY}
SELECTORS: Mapping[Kind, Mapping[str, str] | None] = {
    CAMERA_CLASS: None,
    CAMERA: None,
    STREAM_SESSION: None,
    POD: OURS,
    SERVICE: OURS,
    NODE: None,
    POD_DISRUPTION_BUDGET: OURS,
}
"""What the operator looks at: its own kinds and the nodes whole, of the other kinds only what it made itself, and of
that no Secrets (docs/design/0005)."""
FIRST = Backoff(base=0.5, cap=15.0)
EARLY_SECONDS = (2.0, 10.0)
"""The pauses after the first sweep: what was deleted between it and kopf's own first LIST is in nobody's watch."""


class Sweeper:
    """Lists everything, once at the start and then again and again."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        namespaces: Sequence[str] = (),
        interval: float = 60.0,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._namespaces = tuple(namespaces)
        self._interval = interval
        self._rng = rng
        self.ghosts = 0
        """Objects whose deletion only a LIST showed."""
        self.failures = 0
        self._completed_at: float | None = None

    def age(self) -> float:
        """Seconds since the API server last answered for every kind; endless before it has."""
        if self._completed_at is None:
            return math.inf
        return asyncio.get_running_loop().time() - self._completed_at

    async def run(self) -> None:
        """Sweep until cancelled; failures are logged and tried again, sooner while nothing was ever listed."""
        attempt = 0
        while not await self.sweep(counting=False):
            attempt += 1
            await asyncio.sleep(FIRST.delay(attempt, self._rng))
        for pause in EARLY_SECONDS:
            await asyncio.sleep(min(pause, self._interval))
            await self.sweep()
        while True:
            await asyncio.sleep(self._interval * (0.75 + 0.5 * self._rng()))
            await self.sweep()

    async def sweep(self, counting: bool = True) -> bool:
        """One LIST of every kind; whether all of them were answered."""
        complete = True
        for kind, labels in SELECTORS.items():
            for namespace in self._scopes(kind):
                try:
                    listing = await self._cluster.list(kind, namespace, labels=labels)
                except ClusterError as error:
                    self.failures += 1
                    complete = False
                    log.warning("listing %s: %s", kind.plural, error)
                    if isinstance(error, UnavailableError) and error.retry_after:
                        await asyncio.sleep(min(error.retry_after, 30.0))
                    continue
                dropped = self._cache.resync(
                    kind, listing.items, resource_version=listing.resource_version, namespace=namespace
                )
                if counting and dropped:
                    self.ghosts += dropped
                    log.warning("%d %s had gone without an event", dropped, kind.plural)
        if complete:
            self._completed_at = asyncio.get_running_loop().time()
        return complete

    def _scopes(self, kind: Kind) -> Sequence[str | None]:
        return self._namespaces if kind.namespaced and self._namespaces else (None,)
