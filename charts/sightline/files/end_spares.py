"""Ends the spare agents that wait in the namespaces that are named; a Job runs it in the operator's image once the
release is gone.

They belong to classes, which stay, and no operator is left to end them. Agents with a camera are let alone, as somebody
may watch: a spare that a camera adopts while this runs is another version by then, which is not deleted.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from sightline_kube.cluster import Obj, Preconditions
from sightline_kube.errors import ConflictError, NotFoundError
from sightline_kube.kinds import POD
from sightline_kube.real import RealCluster
from sightline_model.names import SPARE_LABEL, SPARE_WAITING


async def end(namespaces: Sequence[str]) -> None:
    """End them all."""
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    cluster = await (RealCluster.in_cluster() if in_cluster else RealCluster.from_kubeconfig())
    try:
        for namespace in namespaces:
            while waiting := await _waiting(cluster, namespace):
                for spare in waiting:
                    await _end(cluster, spare["metadata"])
    finally:
        await cluster.close()


async def _waiting(cluster: RealCluster, namespace: str) -> list[Obj]:
    listing = await cluster.list(POD, namespace, labels={SPARE_LABEL: SPARE_WAITING})
    return [spare for spare in listing.items if "deletionTimestamp" not in spare["metadata"]]


async def _end(cluster: RealCluster, metadata: Obj) -> None:
    seen = Preconditions(metadata["uid"], metadata["resourceVersion"])
    try:
        await cluster.delete(POD, metadata["namespace"], metadata["name"], preconditions=seen)
    except (ConflictError, NotFoundError):
        return  # the next list shows what became of it


if __name__ == "__main__":
    asyncio.run(end(sys.argv[1:]))
