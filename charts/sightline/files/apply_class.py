"""Applies the default CameraClass; a Job runs it in the operator's image after each install, upgrade and rollback.

Helm cannot do it itself: it plans all of a release before the CRDs are there, and would know no kind of that name.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from sightline_kube.real import RealCluster

FIELD_MANAGER = "sightline-chart"


async def apply(obj: dict[str, Any]) -> None:
    """Apply the object; fields that others have set and it does not name are left alone."""
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ
    cluster = await (RealCluster.in_cluster() if in_cluster else RealCluster.from_kubeconfig())
    try:
        await cluster.apply(obj, field_manager=FIELD_MANAGER)
    finally:
        await cluster.close()


if __name__ == "__main__":
    asyncio.run(apply(json.loads(Path(sys.argv[1]).read_text())))
