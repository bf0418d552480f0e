"""One PodDisruptionBudget for all agents of a namespace, so that `kubectl drain` waits for the hand-over.

It allows no eviction at all: what leaves a drained node is moved by the operator, the successor first (`handover`), and
then deleted, which no budget hinders; the drain's next try finds the pod gone. Agents that are not ready may be evicted
as ever. It lives as long as there are cameras in the namespace.
"""

import logging

from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster, EventType, Obj, Preconditions
from sightline_kube.errors import ConflictError, NotFoundError
from sightline_kube.kinds import CAMERA, POD_DISRUPTION_BUDGET
from sightline_model import names
from sightline_operator import pods
from sightline_operator.drift import drifted

log = logging.getLogger(__name__)

NAME = "sightline-agents"
_MORE_THAN_THERE_ARE = 2**31 - 1
"""A share or maxUnavailable would make Kubernetes ask each pod's owner for its scale, and a Camera has none."""


def wanted(namespace: str) -> Obj:
    """The budget as it should be."""
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.COMPONENT_LABEL: "agent"}
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.kind,
        "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
        "spec": {
            "minAvailable": _MORE_THAN_THERE_ARE,
            "selector": {"matchLabels": labels},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


class Budgets:
    """Makes, mends and deletes the budgets."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache

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
        for obj in drifted(wanted(namespace), found):
            if found is None and await self._taken(namespace):
                log.warning("PodDisruptionBudget %s/%s belongs to somebody else and is left alone", namespace, NAME)
                return
            applied = await self._cluster.apply(obj, field_manager=names.OPERATOR_FIELD_MANAGER)
            self._cache.observe(POD_DISRUPTION_BUDGET, EventType.MODIFIED, applied)

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
