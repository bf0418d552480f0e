"""Looks at a world that several convergence tests wait for."""

from typing import Any

from sightline_kube.cache import Key
from sightline_kube.kinds import Kind
from tests.operator.world import World, names_of


def key(kind: Kind, obj: dict[str, Any]) -> Any:

    return Key(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


async def phase_is(here: World, sid: str, phase: str) -> bool:
    return await here.phase(sid) == phase


async def reason_is(here: World, type_: str, reason: str) -> bool:
    return (await here.condition(type_))[1] == reason


async def names_are(here: World, expected: list[str]) -> bool:
    return names_of(await here.pods()) == expected


async def another(here: World, gone: dict[str, Any]) -> bool:
    return gone["metadata"]["name"] not in names_of(await here.pods()) and bool(await here.pods())


async def has_pods(here: World) -> bool:
    return bool(await here.pods())
