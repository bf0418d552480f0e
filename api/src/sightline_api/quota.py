"""How often one user may open sessions: a token bucket and a bound on requests that wait, per user, in memory.

Each replica counts for itself, which bounds a user to the sum; what must hold exactly (viewers per camera) the agent
counts. The table of users is bounded; the user who was quiet for longest is forgotten, which can only be generous.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sightline_api.problems import problem_error
from sightline_api.settings import Quota
from sightline_model.problems import ProblemCode

MAX_USERS = 20_000


@dataclass(slots=True)
class _Account:
    tokens: float
    filled_at: float
    waiting: int = 0


class SessionQuota:
    """Reserves openings."""

    def __init__(self, quota: Quota, monotonic: Callable[[], float]) -> None:
        self._quota = quota
        self._monotonic = monotonic
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @contextmanager
    def reserve(self, user: str) -> Iterator[None]:
        """Count one opening while the block runs; ProblemError 429 with when to come again."""
        account = self._account(user)
        if account.waiting >= self._quota.concurrent:
            raise _too_many("Too many of your requests wait already.", 1)
        if account.tokens < 1:
            seconds = math.ceil((1 - account.tokens) / self._quota.rate_per_second)
            raise _too_many("You open sessions too fast.", max(1, seconds))
        account.tokens -= 1
        account.waiting += 1
        try:
            yield
        finally:
            account.waiting -= 1

    def _account(self, user: str) -> _Account:
        now = self._monotonic()
        account = self._accounts.pop(user, None)
        if account is None:
            account = _Account(float(self._quota.burst), now)
            while len(self._accounts) >= MAX_USERS:
                self._accounts.popitem(last=False)
        earned = (now - account.filled_at) * self._quota.rate_per_second
        account.tokens = min(float(self._quota.burst), account.tokens + earned)
        account.filled_at = now
        self._accounts[user] = account
        return account


def _too_many(detail: str, retry_after: int) -> Exception:
    return problem_error(ProblemCode.TOO_MANY_REQUESTS, detail, retry_after)
