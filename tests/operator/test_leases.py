"""Ports of the nodes, with the whole operator on the in-memory cluster: leased, rested, known to the next operator."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from sightline_kube.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SERVICE, UDP_ROUTE, Kind
from sightline_kube.kinds import NODE as NODE_KIND
from sightline_model import names
from sightline_operator import network
from sightline_operator.ports import parse_ports
from sightline_operator.probe import Listener, Probed, Target
from tests.operator.looks import reason_is
from tests.operator.virtualtime import now, run, until
from tests.operator.world import World, world

TWO = {"network": {"mode": "HostPort", "portRange": {"first": 20000, "last": 20001}}}
NODE_PORTS = {"network": {"mode": "NodePort", "portRange": {"first": 30000, "last": 30002}}}
NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node-1"},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]},
}


async def begin(here: World) -> None:
    await here.cluster.create(NODE)


async def ports_of(here: World) -> dict[str, int]:
    pods = (await here.cluster.list(POD)).items
    return {pod["metadata"]["labels"][names.CAMERA_LABEL]: network.leased(pod) or 0 for pod in pods}


async def network_reason(here: World, camera: str) -> str:
    status = (await here.cluster.get(CAMERA, "default", camera)).get("status") or {}
    found = (item for item in status.get("conditions") or [] if item["type"] == "NetworkReady")
    return next((str(item["reason"]) for item in found), "")


def test_an_agent_of_a_node_s_port_is_told_where_it_is() -> None:
    async def main() -> None:
        async with world(TWO) as here:
            await begin(here)
            await here.start_camera()
            await here.settled()
            assert await ports_of(here) == {"gate": 20000}
            assert here.agent().config.advertise == ["192.0.2.10"]
            status = (await here.camera())["status"]["network"]
            assert status["external"] == [{"ip": "192.0.2.10", "port": 20000, "transport": "udp", "scope": "lan"}]
            assert status["portLease"] == {"port": 20000, "pod": here.agent().pod}
            here.recording.calls.clear()
            await here.settled(400)
            assert here.recording.calls == []

    run(main)


def test_a_port_rests_and_who_finds_none_waits_for_it() -> None:
    async def main() -> None:
        async with world(TWO) as here:
            await begin(here)
            for name in ("a", "b", "c"):
                await here.add_camera(name)
                await here.settled(1)
            assert await ports_of(here) == {"a": 20000, "b": 20001}
            await until(lambda: _is(network_reason(here, "c"), "PortsExhausted"))
            await here.cluster.delete(CAMERA, "default", "a")
            deleted = asyncio.get_running_loop().time()
            await until(lambda: _has(here, "c"), seconds=600)
            assert asyncio.get_running_loop().time() - deleted >= 180
            assert await ports_of(here) == {"b": 20001, "c": 20000}

    run(main)


def test_the_next_operator_does_not_hand_out_what_the_one_before_had() -> None:
    """Camera and pod are deleted while nobody works: only the class's status tells of their port."""

    async def main() -> None:
        async with world(TWO) as here:
            await begin(here)
            await here.add_camera("a")
            await here.settled()
            assert (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]["ports"] == "20000"
            await here.stop()
            await here.cluster.delete(CAMERA, "default", "a")
            await until(lambda: _is(count(here), 0))
            here.start()
            began = asyncio.get_running_loop().time()
            await here.add_camera("b")
            await here.add_camera("c")
            await here.settled()
            assert list((await ports_of(here)).values()) == [20001]
            await until(lambda: _is(count(here), 2), seconds=600)
            assert asyncio.get_running_loop().time() - began >= 180

    run(main)


def test_a_node_port_that_somebody_else_has_is_passed_over() -> None:
    async def main() -> None:
        async with world(NODE_PORTS) as here:
            await begin(here)

            def taken(verb: str, kind: Any, name: str) -> InvalidError | None:
                if (
                    verb == "apply"
                    and kind == SERVICE
                    and name != "camera-gate"
                    and here.recording.count(*_APPLIED) < 3
                ):
                    return InvalidError(
                        "Service is invalid: spec.ports[0].nodePort: provided port is already allocated"
                    )
                return None

            here.recording.fail = taken
            await here.start_camera()
            await here.settled()
            assert await ports_of(here) == {"gate": 30001}
            (pod,) = await here.pods()
            service = await here.cluster.get(SERVICE, "default", pod["metadata"]["name"])
            assert service["spec"]["selector"] == {names.AGENT_LABEL: pod["metadata"]["name"]}

    run(main)


def test_pods_that_a_quota_refuses_use_no_ports_up() -> None:
    """The Service was there each time, and its port with it; no agent ever listened there."""

    async def main() -> None:
        async with world(NODE_PORTS) as here:
            await begin(here)

            def full(verb: str, kind: Any, name: str) -> ForbiddenError | None:
                refused = verb == "apply" and kind == POD and name.startswith("camera-gate-")
                return ForbiddenError(f'pods "{name}" is forbidden: exceeded quota: small') if refused else None

            here.recording.fail = full
            await here.add_camera()
            await until(lambda: reason_is(here, "AgentReady", "QuotaExceeded"))
            await asyncio.sleep(120)
            # One Service is there for all attempts; what comes and goes would bring the next one at once.
            assert 3 < here.recording.count("apply", "Pod") < 15
            services = {name for verb, kind, name in here.recording.calls if (verb, kind) == ("apply", "Service")}
            assert len(services - {"camera-gate"}) == 1
            assert here.operator._lessor.states()["quarantined"] == 0
            await here.start_camera("yard")
            here.recording.fail = lambda verb, kind, name: None
            await here.ready()
            await here.settled()
            exposing = [found for found in (await here.cluster.list(SERVICE)).items if network.leased(found)]
            assert len(exposing) == len(await ports_of(here)) == 2

    run(main)


def test_the_service_goes_with_its_pod() -> None:
    async def main() -> None:
        async with world(NODE_PORTS) as here:
            await begin(here)
            await here.start_camera()
            (before,) = await here.pods()
            await here.cluster.delete(POD, "default", before["metadata"]["name"])
            await until(lambda: _has(here, "gate"))
            await here.ready()
            await here.settled()
            (after,) = await here.pods()
            found = [obj["metadata"]["name"] for obj in (await here.cluster.list(SERVICE)).items]
            assert sorted(found) == ["camera-gate", after["metadata"]["name"]]
            assert await ports_of(here) == {"gate": 30001}

    run(main)


def test_without_stunner_a_route_is_refused_and_no_pod_is_made() -> None:
    """The operator goes on trying, and is done as soon as the kind is there."""

    async def main() -> None:
        gateway = {"namespace": "stunner", "name": "udp"}
        turn = {"urls": ["turn:turn.example"], "secretRef": "coturn", "gatewayRef": gateway}
        async with world({"network": {"mode": "Relay", "turn": turn}}) as here:

            def unknown(verb: str, kind: Kind, name: str) -> NotFoundError | None:
                return NotFoundError("no such kind") if kind == UDP_ROUTE else None

            here.recording.fail = unknown
            await here.add_camera()
            await until(lambda: _is(network_reason(here, "gate"), "RouteRefused"))
            assert await here.pods() == []
            here.recording.fail = lambda verb, kind, name: None
            await here.ready()
            route = await here.cluster.get(UDP_ROUTE, "default", "camera-gate")
            assert route["spec"]["parentRefs"] == [gateway]
            await here.cluster.merge_patch(
                CAMERA_CLASS, "", "default", {"spec": {"network": {"turn": {"gatewayRef": None}}}}
            )
            await here.settled()
            with pytest.raises(NotFoundError):
                await here.cluster.get(UDP_ROUTE, "default", "camera-gate")

    run(main)


class FakeProber:
    """Answers what the test says, a moment later."""

    def __init__(self) -> None:
        self.answers = False
        self.outcomes: Counter[str] = Counter()
        self.asked: list[Target] = []
        self._results: dict[tuple[str, str], Probed] = {}
        self._listeners: list[Listener] = []
        self._questions: asyncio.Queue[Target] = asyncio.Queue()

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def ask(self, target: Target) -> None:
        self.asked.append(target)
        self._questions.put_nowait(target)

    def result(self, namespace: str, pod: str) -> Probed | None:
        return self._results.get((namespace, pod))

    def forget(self, namespace: str, pod: str) -> None:
        self._results.pop((namespace, pod), None)

    async def run(self) -> None:
        while True:
            target = await self._questions.get()
            self._results[target.namespace, target.pod] = Probed(target, now(), self.answers)
            for listener in self._listeners:
                listener(target)


async def probed(here: World, *, answers: bool) -> FakeProber:
    """As `begin`, by an operator that looks whether addresses answer."""
    here.prober = prober = FakeProber()
    prober.answers = answers
    await here.restart()
    await begin(here)
    return prober


def test_an_address_is_told_once_the_agent_has_answered_there() -> None:
    async def main() -> None:
        async with world(TWO) as here:
            prober = await probed(here, answers=False)
            await here.add_camera()
            await until(lambda: _is(network_reason(here, "gate"), "ProbeFailed"))
            assert (await here.camera())["status"]["network"]["external"] == []
            prober.answers = True
            await here.ready()
            [external] = (await here.camera())["status"]["network"]["external"]
            assert (external["ip"], external["port"]) == ("192.0.2.10", 20000)
            # Proved is proved, also for the next operator.
            asked = len(prober.asked)
            assert {(target.address, target.port) for target in prober.asked} == {("192.0.2.10", 20000)}
            here.prober = FakeProber()
            await here.restart()
            await here.settled(30)
            assert (len(prober.asked), here.prober.asked) == (asked, [])
            assert await network_reason(here, "gate") == "AddressPublished"
            # Another pod is another proof.
            await here.cluster.delete(POD, "default", (await here.pods())[0]["metadata"]["name"])
            await until(lambda: _is(network_reason(here, "gate"), "ProbeFailed"))

    run(main)


def test_nobody_is_told_of_a_port_that_the_next_operator_would_not_know() -> None:
    """The operator dies before it has noted the port: no viewer's packets can be on their way there, so it need not
    rest."""

    async def main() -> None:
        async with world(TWO) as here:
            prober = await probed(here, answers=True)
            unavailable = UnavailableError("not now")
            here.recording.fail = lambda verb, kind, name: unavailable if kind == CAMERA_CLASS else None
            await here.add_camera()
            await until(lambda: _is(count(here), 1))
            await here.settled(30)
            assert prober.asked
            assert await network_reason(here, "gate") == "Probing"
            status = (await here.camera())["status"]
            assert (status["network"]["external"], await here.is_ready()) == ([], False)
            here.recording.fail = lambda verb, kind, name: None
            await here.ready()
            assert (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]["ports"] == "20000"
            [external] = (await here.camera())["status"]["network"]["external"]
            assert external["port"] == 20000

    run(main)


OTHER_NETWORKS = [
    {"portRange": {"first": 25000, "last": 25001}},
    {"mode": "NodePort", "portRange": None},
    {"mode": "PodIP", "portRange": None},
]


@pytest.mark.parametrize("edited", OTHER_NETWORKS)
def test_a_port_of_an_earlier_range_is_known_as_long_as_it_is_held_or_rests(edited: dict[str, Any]) -> None:
    """No successor comes to answer, so the agent with the old port is all that viewers have."""

    async def main() -> None:
        async with world(TWO) as here:
            await probed(here, answers=True)
            await here.start_camera()
            here.kubelet.hold = True
            await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"network": edited}})
            await here.settled(10)
            # Its node has another address now: what was proved before proves nothing.
            addresses = [{"type": "InternalIP", "address": "192.0.2.11"}]
            await here.cluster.merge_patch(NODE_KIND, None, "node-1", {"status": {"addresses": addresses}})
            await until(lambda: _is(told(here), [("192.0.2.11", 20000)]))
            assert await network_reason(here, "gate") == "AddressPublished"
            assert 20000 in await noted(here)
            # Given up while nobody works, it rests all the same.
            await here.stop()
            await here.cluster.delete(CAMERA, "default", "gate")
            await until(lambda: _is(here.pods(), []))
            here.start()
            await here.settled(10)
            assert here.operator._lessor.states()["quarantined"] >= 1
            assert 20000 in await noted(here)
            await here.restart()
            await here.settled(700)
            assert await noted(here) == set()

    run(main)


async def told(here: World) -> list[tuple[str, int]]:
    status = (await here.camera()).get("status") or {}
    return [(at["ip"], at["port"]) for at in (status.get("network") or {}).get("external") or []]


async def noted(here: World) -> set[int]:
    status = (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]
    return set(parse_ports(status.get("ports", "")))


_APPLIED = ("apply", "Service")


async def _is(found: Any, expected: object) -> bool:
    return bool(await found == expected)


async def _has(here: World, camera: str) -> bool:
    return camera in await ports_of(here)


async def count(here: World) -> int:
    return len(await ports_of(here))
