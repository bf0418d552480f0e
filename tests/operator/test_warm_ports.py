"""Spare agents in networks where each needs something of its own: ports of the nodes, a load balancer."""

from sightline_kube.kinds import CAMERA_CLASS, POD, SERVICE
from sightline_model import names
from sightline_operator import network, pods
from sightline_operator.ports import parse_ports
from tests.operator.virtualtime import until
from tests.operator.warm import agent_ready, class_is, full, spares, story
from tests.operator.world import World, names_of


def test_spares_for_host_ports_lease_theirs_up_front_and_keep_them() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        waiting = {pods.name_of(spare): network.leased(spare) for spare in await spares(here)}
        assert len({*waiting.values()} - {None}) == 2
        await here.add_camera()
        await until(lambda: agent_ready(here))
        (pod,) = await here.pods()
        assert network.leased(pod) == waiting[pods.name_of(pod)]
        await until(lambda: full(here))
        every = (await here.cluster.list(POD, "default")).items
        ports = [network.leased(one) for one in every]
        assert len(ports) == len(set(ports)) == 4
        status = (await here.cluster.get(CAMERA_CLASS, None, "default"))["status"]
        assert sum(1 for _ in parse_ports(status["ports"])) == 4

    story(tell, {"network": {"mode": "HostPort", "portRange": {"first": 20000, "last": 20009}}})


def test_spares_with_ports_of_another_range_end_and_none_of_them_is_adopted() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        old = names_of(await spares(here))
        within = {"first": 25000, "last": 25009}
        await here.cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": {"network": {"portRange": within}}})
        await here.add_camera()
        await until(lambda: agent_ready(here))
        (pod,) = await here.pods()
        assert pods.name_of(pod) not in old
        await until(lambda: full(here))
        ports = [network.leased(one) or 0 for one in (*await spares(here), pod)]
        assert all(25000 <= port <= 25009 for port in ports)

    story(tell, {"network": {"mode": "HostPort", "portRange": {"first": 20000, "last": 20009}}})


def test_where_all_ports_are_taken_cameras_go_before_spares() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: class_is(here, ("False", "Refused")))
        assert len(await spares(here)) == 1
        await here.add_camera()
        await until(lambda: agent_ready(here))
        assert await spares(here) == []

    story(tell, {"network": {"mode": "HostPort", "portRange": {"first": 20000, "last": 20001}}})


def test_a_load_balancer_follows_the_adopted_agent() -> None:
    async def tell(here: World) -> None:
        await here.add_camera("first")
        await until(lambda: full(here))
        await here.add_camera()
        await until(lambda: agent_ready(here))
        await here.settled()
        (pod,) = await here.pods()
        balancer = await here.cluster.get(SERVICE, "default", "camera-gate-lb")
        assert balancer["spec"]["selector"] == {names.AGENT_LABEL: pods.name_of(pod)}
        assert pod["metadata"]["labels"][names.AGENT_LABEL] == pods.name_of(pod)

    story(tell, {"network": {"mode": "LoadBalancer"}})
