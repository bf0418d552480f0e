"""Tokens of the cluster, by TokenReview. Answers are kept for seconds only, so that a revoked token soon fails.

Requests with one token that come at the same moment, such as a page's, share one review. A flood of made-up tokens,
which cost nothing to make, is kept from the API server (MAX_REVIEWS) and from our memory (MAX_WAITING: one more is told
to come again), and pushes out no answer about a token that was accepted.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from sightline_api.auth.caller import Caller, RejectedError, check_names
from sightline_api.flights import Flights
from sightline_api.ttl import TtlCache
from sightline_kube.cluster import Cluster, TokenUser
from sightline_kube.errors import UnavailableError
from sightline_model.access import Identity

ACCEPTED_SECONDS = 15.0
REJECTED_SECONDS = 2.0
CACHE_SIZE = 4096
MAX_REVIEWS = 16
"""TokenReviews at the same time: a flood of made-up tokens must not become a flood at the API server."""
MAX_WAITING = 512
"""Tokens that wait until one of those is done; with the API server's 5 ms for each they wait for 0.2 s."""
MAX_SHARING = 4096
"""Requests that wait in all, where they wait for the review of a token that another one has brought already."""


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
        self._accepted: TtlCache[bytes, TokenUser] = TtlCache(CACHE_SIZE, monotonic)
        self._rejected: TtlCache[bytes, None] = TtlCache(CACHE_SIZE, monotonic)
        self._reviews: Flights[bytes, TokenUser | None] = Flights()
        self._gate = asyncio.Semaphore(MAX_REVIEWS)

    async def authenticate(self, token: str, expires: float | None) -> Caller:
        """The token's user; `expires` is the time that the token itself names. ClusterError when nobody answers."""
        left = ACCEPTED_SECONDS if expires is None else expires - self._now().timestamp()
        if left <= 0:
            raise RejectedError("the Kubernetes token has expired")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._accepted.get(digest) or self._rejected.get(digest)
        user = known[0] if known is not None else await self._ask(digest, token, min(ACCEPTED_SECONDS, left))
        if user is None:
            raise RejectedError("the cluster does not accept the token for our audience")
        check_names(user.username, user.groups)
        identity = Identity(user.username, user.groups, issuer="kubernetes", uid=user.uid)
        return Caller(identity, "kubernetes", user.extra)

    async def _ask(self, digest: bytes, token: str, lifetime: float) -> TokenUser | None:
        """Ask, or wait for the answer that somebody else has asked for."""

        async def review() -> TokenUser | None:
            async with self._gate:
                user = await self._cluster.review_token(token, self._audiences)
            if user is None:
                self._rejected.put(digest, None, REJECTED_SECONDS)
            else:
                self._accepted.put(digest, user, lifetime)
            return user

        asked = digest in self._reviews
        if self._reviews.waiting >= MAX_SHARING if asked else len(self._reviews) >= MAX_REVIEWS + MAX_WAITING:
            raise UnavailableError("too many tokens wait for their review", 1)
        return await self._reviews.ask(digest, review)
