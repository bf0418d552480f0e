"""Drift of what is ours is repaired within ten seconds, on the virtual clock."""

from collections.abc import Awaitable, Callable

import pytest

from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import POD, SERVICE
from tests.operator.virtualtime import run, until
from tests.operator.world import World, world

REPAIR_SECONDS = 10.0
Drift = Callable[[World], Awaitable[None]]


async def service_deleted(here: World) -> None:
    await here.cluster.delete(SERVICE, "default", "camera-gate")


async def selector_bent(here: World) -> None:
    await here.cluster.merge_patch(SERVICE, "default", "camera-gate", {"spec": {"selector": {"a": "b"}}})


async def label_removed(here: World) -> None:
    bare = {"metadata": {"labels": {"app.kubernetes.io/component": None}}}
    await here.cluster.merge_patch(SERVICE, "default", "camera-gate", bare)


async def pod_deleted(here: World) -> None:
    (pod,) = await here.pods()
    here.links.died(pod["status"]["podIP"])
    await here.cluster.delete(POD, "default", pod["metadata"]["name"], grace_seconds=0)


@pytest.mark.parametrize("drift", [service_deleted, selector_bent, label_removed, pod_deleted])
def test_drift_is_repaired_in_time(drift: Drift) -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            before = await here.cluster.get(SERVICE, "default", "camera-gate")

            async def whole() -> bool:
                try:
                    service = await here.cluster.get(SERVICE, "default", "camera-gate")
                except NotFoundError:
                    return False
                kept = all(service["metadata"]["labels"].get(key) for key in before["metadata"]["labels"])
                led = service["spec"]["selector"] == before["spec"]["selector"]
                return kept and led and len(await here.pods()) == 1

            await drift(here)
            assert not await whole()
            await until(whole, REPAIR_SECONDS)

    run(main)
