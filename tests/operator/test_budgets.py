"""One PodDisruptionBudget for each namespace with cameras, ours alone."""

from dataclasses import replace
from typing import Any

from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, CLUSTER_ROLE, POD_DISRUPTION_BUDGET
from sightline_operator import budgets
from tests.operator.virtualtime import run
from tests.operator.world import OPTIONS, World, world


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


ROLE = {
    "apiVersion": CLUSTER_ROLE.api_version,
    "kind": CLUSTER_ROLE.kind,
    "metadata": {"name": "sightline-operator"},
    "rules": [],
}
RELEASED = replace(OPTIONS, owner_role="sightline-operator")


def test_it_goes_with_the_release() -> None:
    async def main() -> None:
        async with world(options=RELEASED) as here:
            await here.cluster.create(ROLE)
            await here.start_camera()
            await here.settled()
            await here.stop()
            await here.cluster.delete(CLUSTER_ROLE, None, "sightline-operator")
            assert await found(here) is None
            # The camera and its agent stay; a release that comes later makes another budget.
            assert await here.pods()
            await here.cluster.create(ROLE)
            here.start()
            await here.settled()
            assert await found(here) is not None

    run(main)


def test_one_of_an_older_release_gets_its_owner_with_one_write() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.settled()
            role = await here.cluster.create(ROLE)
            here.options = RELEASED
            here.recording.calls.clear()
            await here.restart()
            await here.settled(700)
            budget = await found(here)
            assert budget is not None
            (owner,) = budget["metadata"]["ownerReferences"]
            assert owner["uid"] == role["metadata"]["uid"]
            assert [call for call in here.recording.calls if call[1] == "PodDisruptionBudget"] == [
                ("apply", "PodDisruptionBudget", budgets.NAME)
            ]

    run(main)


def test_it_does_not_come_and_go_when_the_owner_is_made_again() -> None:
    async def main() -> None:
        async with world(options=RELEASED) as here:
            await here.start_camera()
            await here.settled()
            assert "ownerReferences" not in (await found(here) or {})["metadata"]
            await here.cluster.create(ROLE)
            await here.restart()
            await here.settled()
            await here.cluster.delete(CLUSTER_ROLE, None, "sightline-operator")
            await here.cluster.create(ROLE)
            await here.settled()
            here.recording.calls.clear()
            await here.settled(700)
            assert await found(here) is not None
            assert here.recording.calls == []

    run(main)
