"""LISTs again and again: kopf does not tell of deletions that happened while a watch was broken.

Measured with kopf 1.45: after a watch that ended with 410, objects deleted in the gap stay in its memory for ever. The
cache drops what the LIST does not have, and tells its subscribers as if the deletion had been seen.

Of what comes through `sightline_kube.cache.Feed` the sweep is only the proof: its watches go on where the first LIST
ended, and list themselves where they cannot. Ten thousand pods and Services are some seconds of CPU, here and at the
API server, so they have their turn now and then.
"""

import asyncio
import itertools
import logging
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence

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
TAKEN_OVER = (CAMERA_CLASS, POD, SERVICE)
"""What an operator makes under names that it draws, and where it notes the ports that it has handed out: who takes
over has to know of the last ones, too."""
WATCHED = (CAMERA, CAMERA_CLASS)
"""What comes through kopf (`handlers`)."""
AGAIN = Backoff(base=0.5, cap=15.0)
EARLY_SECONDS = (2.0, 10.0)
"""The pauses after the first sweep: what kopf watches and was deleted between it and kopf's own first LIST is in
nobody's watch."""
WHOLE_EACH = 5
"""Rounds: what kopf does not watch is listed in each fifth."""


class Sweeper:
    """Lists everything at the start, and what kopf watches again and again, the rest now and then."""

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
        self._unanswered: set[Kind] = set()
        """The last LIST of these has failed; they are tried in each round."""
        self._completed_at: float | None = None

    def age(self) -> float:
        """Seconds since the last round after which no kind was without an answer; endless before the first."""
        if self._completed_at is None:
            return math.inf
        return asyncio.get_running_loop().time() - self._completed_at

    async def run(self) -> None:
        """Sweep until cancelled; failures are logged and tried again, sooner while nothing was ever listed."""
        await self.make_sure(SELECTORS)
        for pause in EARLY_SECONDS:
            await asyncio.sleep(min(pause, self._interval))
            await self.sweep(WATCHED)
        for number in itertools.count(1):
            await asyncio.sleep(self._interval * (0.75 + 0.5 * self._rng()))
            whole = number % WHOLE_EACH == 0
            await self.sweep([kind for kind in SELECTORS if whole or kind in WATCHED or kind in self._unanswered])

    async def make_sure(self, kinds: Collection[Kind]) -> None:
        """Back once these kinds have been listed, each anew: as they were when this was called, or later."""
        attempt = 0
        while not await self.sweep(kinds, counting=False):
            attempt += 1
            await asyncio.sleep(AGAIN.delay(attempt, self._rng))

    async def sweep(self, kinds: Collection[Kind] = tuple(SELECTORS), counting: bool = True) -> bool:
        """One LIST of each kind; whether all of them were answered."""
        complete = True
        for kind in kinds:
            self._unanswered.discard(kind)
            for namespace in self._scopes(kind):
                try:
                    listing = await self._cluster.list(kind, namespace, labels=SELECTORS[kind])
                except ClusterError as error:
                    self.failures += 1
                    self._unanswered.add(kind)
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
        if not self._unanswered:
            self._completed_at = asyncio.get_running_loop().time()
        return complete

    def _scopes(self, kind: Kind) -> Sequence[str | None]:
        return self._namespaces if kind.namespaced and self._namespaces else (None,)
