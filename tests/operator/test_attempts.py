"""Pods whose creation was not answered: made once, however often it is tried and however late the watch is."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, SERVICE, kind_of
from sightline_operator import network, pods
from tests.operator.looks import another, has_pods
from tests.operator.virtualtime import run, until
from tests.operator.warm import full, spares, story
from tests.operator.world import World, names_of, world

NODE_PORTS: dict[str, Any] = {"network": {"mode": "NodePort", "portRange": {"first": 30000, "last": 30001}}}
MODES: list[dict[str, Any]] = [
    {},
    {"network": {"mode": "HostPort", "portRange": {"first": 20000, "last": 20001}}},
    NODE_PORTS,
]


class Lossy:
    """Pods are made and the first answers get lost; from the first on no watch tells anything."""

    def __init__(self, here: World, verb: str, lost: int = 4) -> None:
        self._here = here
        self._lost = lost
        self._verb: Callable[..., Awaitable[Obj]] = getattr(here.cluster, verb)
        self.tried: list[str] = []
        setattr(here.cluster, verb, self._call)

    def answered(self) -> bool:
        return len(self.tried) > self._lost

    def heal(self) -> None:
        """The watches go on where they were cut."""
        self._here._feed.start()

    async def _call(self, obj: Obj, **options: Any) -> Obj:
        if kind_of(obj) != POD:
            return await self._verb(obj, **options)
        self.tried.append(pods.name_of(obj))
        await self._here._feed.stop()
        try:
            return await self._verb(obj, **options)
        finally:
            if len(self.tried) <= self._lost:
                raise UnavailableError("no answer in time")


@pytest.mark.parametrize("settings", MODES)
def test_a_pod_whose_creation_was_not_answered_is_made_once(settings: dict[str, Any]) -> None:
    async def main() -> None:
        async with world(settings) as here:
            await here.cluster.create({"apiVersion": "v1", "kind": NODE.kind, "metadata": {"name": "node-1"}})
            lossy = Lossy(here, "apply")
            await here.add_camera()
            await until(lossy.answered)
            assert names_of(await here.pods()) == [lossy.tried[0]]
            assert set(lossy.tried) == {lossy.tried[0]}
            lossy.heal()
            await here.settled(30)
            assert names_of(await here.pods()) == [lossy.tried[0]]
            assert (await here.condition("AgentReady"))[:2] == ("True", "Ready")
            assert len(here.operator._attempts) == 0
            # The next one has a name of its own.
            (first,) = await here.pods()
            await here.cluster.delete(POD, "default", lossy.tried[0])
            await until(lambda: another(here, first))

    run(main)


def test_an_edited_camera_is_not_made_under_the_name_of_another_spec() -> None:
    async def main() -> None:
        async with world(NODE_PORTS) as here:

            def fail(verb: str, kind: Any, name: str) -> Any:
                return UnavailableError("not now") if (verb, kind) == ("apply", POD) else None

            here.recording.fail = fail
            await here.add_camera()
            await until(lambda: here.recording.count("apply", "Pod") > 2)
            assert len(tried(here)) == 1
            range_ = {"first": 31000, "last": 31001}
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"network": {"portRange": range_}}})
            await until(lambda: len(tried(here)) == 2)
            here.recording.fail = lambda verb, kind, name: None
            await until(lambda: has_pods(here))
            await here.settled()
            (pod,) = await here.pods()
            services = (await here.cluster.list(SERVICE)).items
            assert [network.leased(found) for found in services if network.leased(found)] == [31000]
            assert network.leased(pod) == 31000
            await here.cluster.delete(CAMERA, "default", "gate")
            await here.settled()
            assert len(here.operator._attempts) == 0

    run(main)


def test_a_spare_whose_creation_was_not_answered_is_made_once() -> None:
    async def tell(here: World) -> None:
        lossy = Lossy(here, "create")
        await here.add_camera()
        await until(lambda: len(set(lossy.tried)) == 2)
        first, *others = lossy.tried
        assert others[:4] == [first] * 4
        lossy.heal()
        await until(lambda: full(here))
        await here.settled(30)
        assert {pods.name_of(spare) for spare in await spares(here)} <= set(lossy.tried)

    story(tell)


def tried(here: World) -> set[str]:
    return {name for verb, kind, name in here.recording.calls if (verb, kind) == ("apply", "Pod")}
