"""One PodDisruptionBudget for each namespace with cameras, ours alone."""

from typing import Any

from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, POD_DISRUPTION_BUDGET
from sightline_operator import budgets
from tests.operator.virtualtime import run
from tests.operator.world import World, world


async def found(here: World) -> dict[str, Any] | None:
    try:
        return await here.cluster.get(POD_DISRUPTION_BUDGET, "default", budgets.NAME)
    except NotFoundError:
        return None


def test_it_comes_with_the_first_camera_and_goes_with_the_last() -> None:
    async def main() -> None:
        async with world() as here:
            await here.settled()
            assert await found(here) is None
            for name in ("a", "b"):
                await here.add_camera(name)
            await here.settled()
            budget = await found(here)
            assert budget is not None
            labels = (await here.pods("a"))[0]["metadata"]["labels"]
            assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert here.recording.count("apply", "PodDisruptionBudget") == 1
            await here.cluster.delete(CAMERA, "default", "a")
            await here.settled()
            assert await found(here) is not None
            await here.cluster.delete(CAMERA, "default", "b")
            await here.settled()
            assert await found(here) is None

    run(main)


def test_it_is_mended() -> None:
    async def main() -> None:
        async with world() as here:
            await here.add_camera()
            await here.settled()
            change = {"spec": {"minAvailable": 0}, "metadata": {"labels": {"mine": "1"}}}
            await here.cluster.merge_patch(POD_DISRUPTION_BUDGET, "default", budgets.NAME, change)
            await here.settled()
            budget = await found(here)
            assert budget is not None
            assert budget["spec"] == budgets.wanted("default")["spec"]
            assert budget["metadata"]["labels"]["mine"] == "1"
            await here.cluster.delete(POD_DISRUPTION_BUDGET, "default", budgets.NAME)
            await here.settled()
            assert await found(here) is not None

    run(main)


def test_somebody_elses_is_left_alone() -> None:
    async def main() -> None:
        async with world() as here:
            theirs = {**budgets.wanted("default"), "spec": {"minAvailable": 1}}
            theirs["metadata"] = {"name": budgets.NAME, "namespace": "default"}
            await here.cluster.create(theirs)
            await here.add_camera()
            await here.settled(400)
            budget = await found(here)
            assert budget is not None
            assert budget["spec"] == {"minAvailable": 1}
            await here.cluster.delete(CAMERA, "default", "gate")
            await here.settled()
            assert await found(here) is not None

    run(main)
