"""One PodDisruptionBudget for all agents of a namespace, so that `kubectl drain` waits for the hand-over.

It allows no eviction at all: what leaves a drained node is moved by the operator, the successor first (`handover`), and
then deleted, which no budget hinders; the drain's next try finds the pod gone. Agents that are not ready may be evicted
as ever. It lives as long as there are cameras in the namespace, and no longer than the release: without an operator no
drain would come to its end. So it names something of the release as its owner, and a ClusterRole is all that may own
objects of other namespaces.
"""

import logging
from collections.abc import Sequence

from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster, EventType, Obj, Preconditions
from sightline_kube.errors import ConflictError, ForbiddenError, NotFoundError
from sightline_kube.kinds import CAMERA, CLUSTER_ROLE, POD_DISRUPTION_BUDGET
from sightline_model import names
from sightline_operator import pods
from sightline_operator.drift import drifted

log = logging.getLogger(__name__)

NAME = "sightline-agents"
_MORE_THAN_THERE_ARE = 2**31 - 1
"""A share or maxUnavailable would make Kubernetes ask each pod's owner for its scale, and a Camera has none."""


def wanted(namespace: str, owners: Sequence[Obj] = ()) -> Obj:
    """The budget as it should be."""
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.COMPONENT_LABEL: "agent"}
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.kind,
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": labels,
            **({"ownerReferences": [*owners]} if owners else {}),
        },
        "spec": {
            "minAvailable": _MORE_THAN_THERE_ARE,
            "selector": {"matchLabels": labels},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


class Budgets:
    """Makes, mends and deletes the budgets."""

    def __init__(self, cluster: Cluster, cache: Cache, role: str = "") -> None:
        """`role`: the ClusterRole that is to own them; empty: nobody."""
        self._cluster = cluster
        self._cache = cache
        self._role = role
        self._owners: list[Obj] | None = None if role else []

    async def look(self, namespace: str) -> None:
        """One pass over a namespace."""
        found = self._cache.get(POD_DISRUPTION_BUDGET, namespace, NAME)
        ours = found is not None and _is_ours(found)
        if not self._cache.list(CAMERA, namespace):
            if found is not None and ours:
                await self._delete(namespace, found)
            return
        if found is not None and not ours:
            return
        for obj in drifted(wanted(namespace, await self._owned_by(new=found is None)), found):
            if found is None and await self._taken(namespace):
                log.warning("PodDisruptionBudget %s/%s belongs to somebody else and is left alone", namespace, NAME)
                return
            applied = await self._cluster.apply(obj, field_manager=names.OPERATOR_FIELD_MANAGER)
            self._cache.observe(POD_DISRUPTION_BUDGET, EventType.MODIFIED, applied)

    async def _owned_by(self, new: bool) -> list[Obj]:
        """The owner of all budgets. A new one must not name an owner that is gone, or it would be collected at once."""
        if self._owners is None or (self._role and new):
            self._owners = await self._look_for_owner()
        return self._owners

    async def _look_for_owner(self) -> list[Obj]:
        try:
            role = await self._cluster.get(CLUSTER_ROLE, None, self._role)
        except (NotFoundError, ForbiddenError) as error:
            log.warning("budgets stay when the operator is uninstalled: ClusterRole %s: %s", self._role, error)
            return []
        kind = {"apiVersion": CLUSTER_ROLE.api_version, "kind": CLUSTER_ROLE.kind}
        return [{**kind, "name": self._role, "uid": pods.uid_of(role)}]

    async def _taken(self, namespace: str) -> bool:
        """Whether there is one of that name that the cache, which holds only ours, does not have."""
        try:
            return not _is_ours(await self._cluster.get(POD_DISRUPTION_BUDGET, namespace, NAME))
        except NotFoundError:
            return False

    async def _delete(self, namespace: str, found: Obj) -> None:
        expected = Preconditions(uid=pods.uid_of(found))
        try:
            await self._cluster.delete(POD_DISRUPTION_BUDGET, namespace, NAME, preconditions=expected)
        except (NotFoundError, ConflictError):
            log.debug("PodDisruptionBudget %s/%s has gone or changed", namespace, NAME)
        self._cache.observe(POD_DISRUPTION_BUDGET, EventType.DELETED, found)


def _is_ours(obj: Obj) -> bool:
    return (obj["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
