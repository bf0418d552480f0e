"""Tokens of the cluster, by TokenReview. Answers are kept for seconds only, so that a revoked token soon fails."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from sightline_api.auth.caller import Caller, RejectedError, check_names
from sightline_api.ttl import TtlCache
from sightline_kube.cluster import Cluster, TokenUser
from sightline_model.access import Identity

ACCEPTED_SECONDS = 15.0
REJECTED_SECONDS = 2.0
CACHE_SIZE = 4096
MAX_REVIEWS = 16
"""TokenReviews at the same time: a flood of made-up tokens must not become a flood at the API server."""


class KubernetesAuthenticator:
    """Asks the cluster whose token it is."""

    def __init__(
        self,
        cluster: Cluster,
        audiences: Sequence[str],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._audiences = tuple(audiences)
        self._now = now
        self._answers: TtlCache[bytes, TokenUser | None] = TtlCache(CACHE_SIZE, monotonic)
        self._gate = asyncio.Semaphore(MAX_REVIEWS)

    async def authenticate(self, token: str, expires: float | None) -> Caller:
        """The token's user; `expires` is the time that the token itself names. ClusterError when nobody answers."""
        left = ACCEPTED_SECONDS if expires is None else expires - self._now().timestamp()
        if left <= 0:
            raise RejectedError("the Kubernetes token has expired")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._answers.get(digest)
        if known is None:
            async with self._gate:
                user = await self._cluster.review_token(token, self._audiences)
            lifetime = REJECTED_SECONDS if user is None else min(ACCEPTED_SECONDS, left)
            self._answers.put(digest, user, lifetime)
        else:
            user = known[0]
        if user is None:
            raise RejectedError("the cluster does not accept the token for our audience")
        check_names(user.username, user.groups)
        identity = Identity(user.username, user.groups, issuer="kubernetes", uid=user.uid)
        return Caller(identity, "kubernetes", user.extra)
