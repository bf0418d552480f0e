"""May this caller do that? One function decides: a grant of the camera, or Kubernetes RBAC; nothing else.

RBAC is asked by SubjectAccessReview about `cameras` and the virtual subresources `cameras/view` and `cameras/publish`
of sightline.dev, after the camera's own rules said no. Answers are kept for seconds. While Kubernetes cannot be asked,
grants still count, and who has none is told so (503) rather than refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sightline_api.auth.caller import Caller
from sightline_api.flights import Flights
from sightline_api.metrics import Metrics
from sightline_api.problems import problem_error
from sightline_api.ttl import TtlCache
from sightline_kube.cluster import AccessQuery, Cluster
from sightline_kube.errors import ClusterError
from sightline_model.access import Verdict, decide
from sightline_model.base import GROUP
from sightline_model.camera import Access, Role
from sightline_model.problems import ProblemCode

ALLOWED_SECONDS = 15.0
DENIED_SECONDS = 2.0
LISTS_DENIED_SECONDS = 30.0
"""For lists, which ask about every namespace, and of which each open page wants one every five seconds: with 20
namespaces, 50 viewers would be 600 questions a second."""
CACHE_SIZE = 16384


class Action(StrEnum):
    """What can be asked for."""

    VIEW = "view"
    PUBLISH = "publish"
    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which grant gives the right, and which RBAC verb on which resource does."""

    role: Role | None
    verb: str
    subresource: str = ""
    group: str = GROUP
    resource: str = "cameras"


RULES = {
    Action.VIEW: Rule(Role.VIEW, "get", "view"),
    Action.PUBLISH: Rule(Role.PUBLISH, "create", "publish"),
    Action.READ: Rule(Role.MANAGE, "get"),
    Action.CREATE: Rule(None, "create"),
    Action.UPDATE: Rule(Role.MANAGE, "update"),
    Action.DELETE: Rule(Role.MANAGE, "delete"),
}
READ_SECRET = Rule(None, "get", group="", resource="secrets")
"""Asked about whoever has a camera use a Secret; the target then names the Secret."""


NO_RULES = Access()


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be acted on: a camera with its rules, or without any where there is none, or all cameras of a
    namespace (no name)."""

    namespace: str
    name: str = ""
    access: Access = NO_RULES


class Authorizer:
    """Decides, and remembers what Kubernetes answered."""

    def __init__(
        self,
        cluster: Cluster,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._now = now
        self._metrics = metrics
        self._answers: TtlCache[tuple[Any, ...], bool] = TtlCache(CACHE_SIZE, monotonic)
        self._questions: Flights[tuple[Any, ...], bool] = Flights()

    async def decide(self, caller: Caller, action: Action, target: Target) -> Verdict:
        """May `caller` do `action` to `target`? ClusterError where only Kubernetes could tell and does not answer."""
        rule = RULES[action]
        granted = self.granted(caller, action, target)
        if granted.allowed:
            self._metrics.decisions.labels(action, "grant").inc()
            return granted
        if caller.session is not None:
            # A session's token stands for one session, not for its user's other rights.
            self._metrics.decisions.labels(action, "denied").inc()
            return Verdict(False, "a session token is good for its session only")
        try:
            allowed = await self._review(caller, rule, target)
        except ClusterError:
            self._metrics.decisions.labels(action, "unavailable").inc()
            raise
        self._metrics.decisions.labels(action, "rbac" if allowed else "denied").inc()
        return Verdict(True, "rbac") if allowed else granted

    def granted(self, caller: Caller, action: Action, target: Target) -> Verdict:
        """What the camera's own rules say."""
        role = RULES[action].role
        if caller.session is not None or role is None:
            return Verdict(False, "no grant gives this right")
        return decide(target.access, caller.identity, role, self._now())

    async def by_rbac(self, caller: Caller, rule: Rule, target: Target, denied_seconds: float = DENIED_SECONDS) -> bool:
        """What Kubernetes says, or has said: a refusal for so long."""
        return caller.session is None and await self._review(caller, rule, target, denied_seconds)

    async def require(self, caller: Caller, action: Action, target: Target, *others: Action) -> None:
        """ProblemError 403 unless the right is there, or that to one of the others."""
        reasons = []
        # Grants first: they count while Kubernetes cannot be asked, too.
        for wanted in sorted((action, *others), key=lambda one: not self.granted(caller, one, target).allowed):
            verdict = await self.decide(caller, wanted, target)
            if verdict.allowed:
                return
            reasons.append(verdict.reason)
        # The same words for a camera that is not there: whoever may not see it is not told.
        what = f"camera {target.name}" if target.name else "cameras"
        where = f"in namespace {target.namespace}" + (", should there be one" if target.name else "")
        raise problem_error(ProblemCode.FORBIDDEN, f"You may not {action} {what} {where}: {reasons[0]}.")

    async def _review(self, caller: Caller, rule: Rule, target: Target, denied_seconds: float = DENIED_SECONDS) -> bool:
        user = caller.token_user()
        extra = tuple(sorted((name, tuple(values)) for name, values in user.extra.items()))
        key = (user.username, user.uid, user.groups, extra, rule, target.namespace, target.name)
        known = self._answers.get(key)
        if known is not None:
            return known[0]
        query = AccessQuery(
            user=user,
            verb=rule.verb,
            group=rule.group,
            resource=rule.resource,
            subresource=rule.subresource,
            namespace=target.namespace,
            name=target.name,
        )

        async def ask() -> bool:
            allowed = await self._cluster.review_access(query)
            self._answers.put(key, allowed, ALLOWED_SECONDS if allowed else denied_seconds)
            return allowed

        return await self._questions.ask(key, ask)
