"""A small world with spare agents switched on, and questions that the tests of them ask."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA_CLASS, POD
from sightline_model import names
from sightline_operator import pods
from tests.operator.virtualtime import run
from tests.operator.world import OPTIONS, World, world

WARM: dict[str, Any] = {"warmAgents": 2}
ON = replace(OPTIONS, spare_namespaces=frozenset({"default"}))


def story(tell: Callable[[World], Awaitable[None]], class_spec: dict[str, Any] | None = None) -> None:
    """Run a test with spares switched on in the cameras' namespace."""

    async def main() -> None:
        async with world({**WARM, **(class_spec or {})}, ON) as here:
            await tell(here)

    run(main)


async def spares(here: World) -> list[Obj]:
    return (await here.cluster.list(POD, "default", labels={names.SPARE_LABEL: names.SPARE_WAITING})).items


async def full(here: World, count: int = 2) -> bool:
    """Whether so many spares wait and answer."""
    waiting = [spare for spare in await spares(here) if pods.live(spare)]
    status = (await here.cluster.get(CAMERA_CLASS, None, "default")).get("status") or {}
    return len(waiting) == count and status.get("spares") == count


async def class_condition(here: World) -> tuple[str, str]:
    status = (await here.cluster.get(CAMERA_CLASS, None, "default")).get("status") or {}
    found = (item for item in status.get("conditions") or [] if item["type"] == "SparesReady")
    return next(((item["status"], item["reason"]) for item in found), ("", ""))


async def agent_ready(here: World) -> bool:
    return (await here.condition("AgentReady"))[0] == "True"


async def class_is(here: World, expected: tuple[str, str]) -> bool:
    return await class_condition(here) == expected
