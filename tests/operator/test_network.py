"""How viewers reach agents: what pods and Services look like, which addresses are told, and what proves them."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.camera import CameraStatus
from sightline_model.cameraclass import CameraClassSpec, Network, NetworkMode, PortRange
from sightline_operator import build, network, pods
from sightline_operator.decide import Decision, decide
from sightline_operator.facts import CameraFacts, Options, Ports
from sightline_operator.probe import Probed, Target
from sightline_operator.reachable import PROBE_AGAIN_SECONDS
from tests.operator import samples
from tests.operator.samples import NOW, ago

NODE: Obj = {
    "metadata": {"name": "node-1"},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.1.1.5"},
            {"type": "Hostname", "address": "node-1"},
            {"type": "ExternalIP", "address": "198.51.100.5"},
            {"type": "ExternalIP", "address": "8.8.8.8"},
        ]
    },
}
TURN = {"urls": ["turn:turn.example"], "secretRef": "coturn"}
MODES: dict[str, dict[str, Any]] = {"Relay": {"turn": TURN}}


def class_of(mode: str, **settings: Any) -> Obj:
    return samples.camera_class({"network": {"mode": mode, **MODES.get(mode, {}), **settings}})


def facts(mode: str, *found: Obj, settings: dict[str, Any] | None = None, **changes: Any) -> CameraFacts:
    """A camera of a class with that mode, with these pods."""
    values: dict[str, Any] = {
        "camera_class": class_of(mode, **(settings or {})),
        "pods": found,
        "nodes": {"node-1": NODE},
        "ports": Ports(fresh=20007),
    }
    return samples.facts(**(values | changes))


def pod(mode: str, port: int = 20003, suffix: str = "one", **metadata: Any) -> Obj:
    """A running pod of that mode."""
    plan = samples.plan_of(facts(mode))
    made = build.agent_pod(plan, suffix, port=port)
    created = {"uid": f"p-{suffix}", "creationTimestamp": samples.text(ago(60))}
    return {
        **made,
        "metadata": {**made["metadata"], **created, **metadata},
        "spec": {**made["spec"], "nodeName": "node-1"},
        "status": samples.running(),
    }


def told(given: CameraFacts, one: Obj) -> CameraFacts:
    """The agent has taken over what it is to name."""
    once = decide(replace(given, links={pods.name_of(one): samples.link()}), NOW)
    revision = once.push[0].config.revision if once.push else samples.revision()
    link = samples.link(report=samples.report(revision=revision))
    return replace(given, links={pods.name_of(one): link})


def condition(decision: Decision, type_: str = "NetworkReady") -> tuple[str, str]:
    assert decision.status
    found = next(item for item in decision.status.conditions if item.type == type_)
    return found.status.value, found.reason


def media(one: Obj) -> dict[str, Any]:
    return next(port for port in one["spec"]["containers"][0]["ports"] if port["name"] == "media")


@pytest.mark.parametrize("mode", [mode.value for mode in NetworkMode])
def test_pods_of_a_mode(mode: str) -> None:
    """The process listens on the port that viewers dial; the port is not in the hash, the mode is."""
    one, other = pod(mode), pod(mode, 20004)
    assert pods.desired_hash(one) == pods.desired_hash(other) == build.pod_hash(samples.plan_of(facts(mode)))
    leases = mode in {"HostPort", "HostNetwork", "NodePort"}
    assert network.leased(one) == (20003 if leases else None)
    assert network.listens(one, "media") == (20003 if leases else 5004)
    assert network.listens(one, "control") == (20003 if mode == "HostNetwork" else 8080)
    assert media(one).get("hostPort") == (20003 if mode in {"HostPort", "HostNetwork"} else None)
    assert one["spec"].get("hostNetwork", False) is (mode == "HostNetwork")
    env = {item["name"]: item.get("value") for item in one["spec"]["containers"][0]["env"]}
    assert env.get("SIGHTLINE_AGENT_MEDIA_PORT") == ("20003" if leases else None)
    plain = pods.desired_hash(pod("PodIP"))
    assert (pods.desired_hash(one) != plain) is leases
    settings = Network.model_validate({"mode": mode, **MODES.get(mode, {})})
    assert network.effective(settings, one).mode.value == mode


def test_a_pod_stays_what_it_was_made_for() -> None:
    """Until it is replaced, a changed class does not send viewers to ports that it does not have."""
    wanted = Network(mode=NetworkMode.NODE_PORT)
    for mode in ("HostPort", "HostNetwork", "PodIP"):
        assert network.effective(wanted, pod(mode)).mode.value == mode
    assert network.effective(Network(mode=NetworkMode.LOAD_BALANCER), pod("PodIP")).mode is NetworkMode.LOAD_BALANCER


@pytest.mark.parametrize("mode", ["HostPort", "HostNetwork", "NodePort"])
def test_node_addresses_are_told_to_agent_and_people(mode: str) -> None:
    """Those of the class first, then of the internet, then of the cluster; never the pod's own."""
    one = pod(mode)
    given = facts(mode, one, settings={"advertise": ["203.0.113.9"]}, links={"camera-gate-one": samples.link()})
    decision = decide(given, NOW)
    [push] = decision.push
    assert push.config.advertise == ["203.0.113.9", "198.51.100.5", "8.8.8.8", "10.1.1.5"]
    assert not push.config.own_addresses
    assert decision.status
    assert decision.status.network
    found = decision.status.network
    assert [(at.ip, at.port, at.scope) for at in found.external] == [
        ("203.0.113.9", 20003, "lan"),
        ("198.51.100.5", 20003, "lan"),
        ("8.8.8.8", 20003, "wan"),
        ("10.1.1.5", 20003, "lan"),
    ]
    assert found.port_lease
    assert (found.port_lease.port, found.port_lease.pod) == (20003, "camera-gate-one")
    assert decision.status.agent
    assert decision.status.agent.port == (20003 if mode == "HostNetwork" else 8080)


def test_only_addresses_of_the_pod_s_families_are_told() -> None:
    addresses = [{"type": "InternalIP", "address": address} for address in ("2001:db8::5", "10.1.1.5")]
    node = {"metadata": {"name": "node-1"}, "status": {"addresses": addresses}}
    for pod_ip, told_of in {"10.0.0.1": "10.1.1.5", "2001:db8::1": "2001:db8::5"}.items():
        one = pod("HostPort")
        one["status"] |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
        decision = decide(
            facts("HostPort", one, nodes={"node-1": node}, links={"camera-gate-one": samples.link()}), NOW
        )
        assert decision.push[0].config.advertise == [told_of]


def test_without_the_node_the_kubelets_word_counts() -> None:
    one = pod("HostPort")
    one["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "2001:db8::1"}]
    one["status"]["hostIPs"] = [{"ip": "10.1.1.6"}, {"ip": "2001:db8::6"}]
    decision = decide(facts("HostPort", one, nodes={}, links={"camera-gate-one": samples.link()}), NOW)
    assert decision.push[0].config.advertise == ["10.1.1.6", "2001:db8::6"]
    del one["status"]["hostIPs"]
    unknown = decide(facts("HostPort", one, nodes={}), NOW)
    assert condition(unknown) == ("False", "AddressPending")


@pytest.mark.parametrize("mode", ["PodIP", "Relay"])
def test_pods_that_are_dialled_themselves_start_from_the_config_that_stays(mode: str) -> None:
    one = pod(mode)
    given = facts(mode, one, links={"camera-gate-one": samples.link()})
    plan = samples.plan_of(given)
    assert build.agent_config(plan).own_addresses
    assert [push.config for push in decide(given, NOW).push] in ([], [build.agent_config(plan)])


def test_a_new_pod_takes_the_port_and_its_service_comes_first() -> None:
    for mode, kinds in {"HostPort": ["Pod"], "NodePort": ["Service", "Pod"], "PodIP": ["Pod"]}.items():
        made = decide(facts(mode), NOW).new_pod
        assert [obj["kind"] for obj in made if obj["kind"] != "Secret"] == kinds
        assert network.leased(made[-1]) == (None if mode == "PodIP" else 20007)
    service = next(obj for obj in decide(facts("NodePort"), NOW).new_pod if obj["kind"] == "Service")
    assert service["spec"] == {
        "type": "NodePort",
        "selector": {names.AGENT_LABEL: "camera-gate-new"},
        "publishNotReadyAddresses": True,
        "ipFamilyPolicy": "PreferDualStack",
        "externalTrafficPolicy": "Local",
        "ports": [{"name": "media", "port": 20007, "targetPort": "media", "protocol": "UDP", "nodePort": 20007}],
    }
    assert service["metadata"]["name"] == "camera-gate-new"


def test_no_port_no_pod() -> None:
    none_left = Ports(free_at=ago(-70))
    given = facts("HostPort", ports=none_left)
    decision = decide(replace(given, **samples.children(given)), NOW)
    assert decision.new_pod == ()
    assert decision.requeue_after == 70
    assert condition(decision) == ("False", "PortsExhausted")
    assert decision.status
    assert "20000 to 29999" in str(decision.status.conditions)
    # One that runs goes on, and its successor waits.
    old = pod("HostPort", annotations={names.HASH_ANNOTATION: "older"})
    kept = decide(facts("HostPort", old, ports=none_left), NOW)
    assert (kept.new_pod, kept.delete) == ((), ())


def test_services_follow_their_pods() -> None:
    one, going = pod("NodePort"), pod("NodePort", 20004, "two", deletionTimestamp=samples.text(NOW))
    plan = samples.plan_of(facts("NodePort"))
    services = [build.exposing_service(plan, f"camera-gate-{suffix}", 20000) for suffix in ("one", "two", "gone")]
    exposing = tuple({**obj, "metadata": {**obj["metadata"], "uid": "s"}} for obj in services if obj)
    decision = decide(facts("NodePort", one, going, exposing=exposing), NOW)
    assert [d.name for d in decision.delete] == ["camera-gate-gone"]
    [mended] = [obj for obj in decision.apply if names.AGENT_LABEL in obj["metadata"]["labels"]]
    assert (mended["metadata"]["name"], mended["spec"]["ports"][0]["nodePort"]) == ("camera-gate-one", 20003)
    # The class has changed: what still runs keeps its Service.
    later = decide(facts("PodIP", one, exposing=exposing), NOW)
    assert sorted(d.name for d in later.delete) == ["camera-gate-gone", "camera-gate-two"]


def balancer(*ingress: dict[str, str], pod_name: str = "camera-gate-one") -> Obj:
    made = build.exposing_service(samples.plan_of(facts("LoadBalancer")), pod_name, 5004)
    assert made
    return {**made, "metadata": {**made["metadata"], "uid": "lb"}, "status": {"loadBalancer": {"ingress": [*ingress]}}}


@pytest.mark.parametrize(
    ("ingress", "advertise", "reason", "words"),
    [
        ([], [], "AddressPending", "provider of load balancers"),
        ([{"hostname": "lb.example"}], [], "AddressPending", "network.advertise"),
        ([{"hostname": "lb.example"}], ["198.51.100.1"], "AddressPublished", "LoadBalancer"),
        ([{"ip": "198.51.100.2"}], [], "AddressPublished", "LoadBalancer"),
    ],
)
def test_load_balancers(ingress: list[dict[str, str]], advertise: list[str], reason: str, words: str) -> None:
    one = pod("LoadBalancer")
    given = facts("LoadBalancer", one, settings={"advertise": advertise}, exposing=(balancer(*ingress),))
    decision = decide(told(given, one), NOW)
    assert condition(decision)[1] == reason
    assert decision.status
    assert words in next(item.message for item in decision.status.conditions if item.type == "NetworkReady")
    assert decision.apply == () or all(names.AGENT_LABEL not in o["metadata"]["labels"] for o in decision.apply)


def test_a_load_balancer_is_there_before_the_pod_and_follows_it() -> None:
    first = [obj for obj in decide(facts("LoadBalancer"), NOW).apply if obj["metadata"]["name"] == "camera-gate-lb"]
    assert first[0]["spec"]["selector"] == {names.AGENT_LABEL: "none"}
    moved = decide(facts("LoadBalancer", pod("LoadBalancer"), exposing=(balancer(pod_name="none"),)), NOW)
    [patched] = [obj for obj in moved.apply if obj["metadata"]["name"] == "camera-gate-lb"]
    assert patched["spec"]["selector"] == {names.AGENT_LABEL: "camera-gate-one"}
    assert patched["metadata"]["uid"] == "lb"
    away = decide(facts("PodIP", pod("PodIP"), exposing=(balancer(),)), NOW)
    assert [d.name for d in away.delete] == ["camera-gate-lb"]


@pytest.mark.parametrize(("known", "reason"), [(None, "AddressPublished"), ((), "TurnSecretMissing")])
def test_a_relay_needs_the_secret(known: tuple[str, ...] | None, reason: str) -> None:
    secrets = None if known is None else frozenset(known)
    options = Options(agent_image="agent:1", turn_secrets=secrets)
    one = pod("Relay")
    decision = decide(facts("Relay", one, options=options, links={"camera-gate-one": samples.link()}), NOW)
    assert condition(decision)[1] == reason
    assert decision.status
    assert decision.status.network
    assert decision.status.network.external == []
    assert decision.status.network.turn
    assert decision.status.network.turn.to_wire() == TURN


class TestRoutes:
    GATEWAY: ClassVar[dict[str, Any]] = {"turn": {**TURN, "gatewayRef": {"namespace": "stunner", "name": "udp"}}}

    def case(self, mode: str = "Relay", **changes: Any) -> CameraFacts:
        one = pod("Relay")
        given = facts(mode, one, settings=self.GATEWAY, links={"camera-gate-one": samples.link()}, **changes)
        return replace(given, **samples.children(given)) if "service" not in changes else given

    def test_a_gateway_may_dial_this_camera_and_nothing_else(self) -> None:
        [route, *_] = [obj for obj in decide(self.case(service=None), NOW).apply if obj["kind"] == "UDPRoute"]
        assert route["spec"] == {
            "parentRefs": [{"namespace": "stunner", "name": "udp"}],
            "rules": [{"backendRefs": [{"name": "camera-gate", "namespace": "site", "port": 5004}]}],
        }
        assert route["metadata"]["ownerReferences"]

    def test_it_is_written_once(self) -> None:
        assert decide(self.case(), NOW).apply == ()

    def test_it_goes_when_nobody_wants_it(self) -> None:
        had = self.case()
        decision = decide(replace(self.case("PodIP"), service=had.service), NOW)
        assert [(d.kind.kind, d.name, d.uid) for d in decision.delete] == [("UDPRoute", "camera-gate", "")]
        [service] = decision.apply
        assert names.ROUTE_HASH_ANNOTATION not in service["metadata"]["annotations"]
        assert decide(self.case("PodIP"), NOW).delete == ()

    def test_a_refusal_is_told(self) -> None:
        decision = decide(self.case(service=None, refusal="UDPRoute camera-gate: no such kind."), NOW)
        assert condition(decision) == ("False", "RouteRefused")


class TestProbes:
    TARGET = Target("site", "gate", "camera-gate-one", "10.1.1.5", 20003)

    def case(self, *, probed: Probed | None = None, status: CameraStatus | None = None) -> CameraFacts:
        one = pod("HostPort")
        results = {"camera-gate-one": probed} if probed else {}
        camera = samples.camera(status=status.to_wire() if status else None)
        given = facts("HostPort", one, ports=Ports(20007, None, results, probing=True), camera=camera)
        return told(given, one)

    def test_nothing_is_published_before_the_agent_has_answered(self) -> None:
        decision = decide(self.case(), NOW)
        assert condition(decision) == ("False", "Probing")
        assert decision.probe == self.TARGET
        assert decision.status
        assert decision.status.network
        assert decision.status.network.external == []

    def test_an_answer_publishes(self) -> None:
        decision = decide(self.case(probed=Probed(self.TARGET, ago(1), answered=True)), NOW)
        assert condition(decision) == ("True", "AddressPublished")
        assert decision.probe is None

    @pytest.mark.parametrize("age", [0.0, PROBE_AGAIN_SECONDS])
    def test_silence_is_told_and_asked_again(self, age: float) -> None:
        decision = decide(self.case(probed=Probed(self.TARGET, ago(age), answered=False)), NOW)
        assert condition(decision) == ("False", "ProbeFailed")
        assert (decision.probe is None) is (age == 0.0)
        assert decision.requeue_after == PROBE_AGAIN_SECONDS

    def test_the_answer_of_another_address_proves_nothing(self) -> None:
        elsewhere = Target("site", "gate", "camera-gate-one", "10.1.1.9", 20003)
        decision = decide(self.case(probed=Probed(elsewhere, ago(1), answered=True)), NOW)
        assert condition(decision) == ("False", "Probing")

    def test_what_an_operator_before_has_proved_holds(self) -> None:
        proved = decide(self.case(probed=Probed(self.TARGET, ago(1), answered=True)), NOW).status
        decision = decide(self.case(status=proved), NOW)
        assert condition(decision) == ("True", "AddressPublished")
        assert decision.probe is None

    def test_an_agent_that_does_not_know_its_addresses_is_not_asked(self) -> None:
        given = facts("HostPort", pod("HostPort"), ports=Ports(probing=True), links={"camera-gate-one": samples.link()})
        decision = decide(given, NOW)
        assert decision.probe is None
        assert condition(decision) == ("False", "Probing")


@pytest.mark.parametrize(
    ("refusal", "mode", "explains"),
    [
        ('pods "x" is forbidden: violates PodSecurity "baseline:latest": hostPort', NetworkMode.HOST_PORT, True),
        ('pods "x" is forbidden: violates PodSecurity "baseline:latest": hostPort', NetworkMode.POD_IP, False),
        ("exceeded quota", NetworkMode.HOST_NETWORK, False),
    ],
)
def test_pod_security_is_explained(refusal: str, mode: NetworkMode, explains: bool) -> None:
    said = network.explained(refusal, mode)
    assert said.startswith(refusal)
    assert ("enforce=privileged" in said) is explains


def test_ranges() -> None:
    given = PortRange(first=2000, last=2001)
    assert network.port_range(CameraClassSpec().network) is None
    assert network.port_range(Network(mode=NetworkMode.HOST_PORT, port_range=given)) == given
    nodes = network.port_range(Network(mode=NetworkMode.NODE_PORT))
    assert nodes
    assert (nodes.first, nodes.last) == (30000, 32767)
