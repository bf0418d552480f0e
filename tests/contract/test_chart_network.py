"""Who reaches whom under the chart's NetworkPolicies: every flow of docs/networking.md, and what must not pass.

The policies are read as a network plugin reads them, so a label that matches nothing shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from helm_python import Chart
from helm_python.errors import HelmError

from sightline_kube.cluster import Obj
from sightline_model.names import agent_labels, spare_labels
from tests.contract.test_chart import EVERYTHING
from tests.helpers.chart import CHART, NAMESPACE, pick, render

NAME_LABEL = "kubernetes.io/metadata.name"
MONITORING = {"namespaceSelector": {"matchLabels": {NAME_LABEL: "monitoring"}}}
RECORDER = {"podSelector": {"matchLabels": {"app": "recorder"}}}
VALUES: Obj = {
    "watchNamespaces": ["doors"],
    "metrics": {"podMonitor": {"enabled": True}},
    "networkPolicies": {"metricsFrom": [MONITORING], "controlFrom": [RECORDER]},
}
CONTROL, MEDIA, HTTP = ("control", "TCP"), ("media", "UDP"), ("http", "TCP")


@dataclass(frozen=True)
class End:
    """A pod, or something outside of the cluster (no labels)."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)


VIEWER = End()
PROMETHEUS = End("monitoring", {"app": "prometheus"})
STRANGER = End("doors", {"app": "shop"})
NEIGHBOUR = End("doors", {"app": "recorder"})
AGENT = End("doors", agent_labels("front", "default"))


@pytest.fixture(scope="module")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def objects(chart: Chart) -> list[Obj]:
    return render(chart, VALUES)


def program(objects: list[Obj], name: str) -> End:
    labels = pick(objects, "Deployment", f"sightline-{name}")["spec"]["template"]["metadata"]["labels"]
    return End(NAMESPACE, labels)


def selected(selector: Obj, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def is_peer(peer: Obj, end: End, policy_namespace: str) -> bool:
    if not end.namespace:
        return False
    where = peer.get("namespaceSelector")
    there = selected(where, {NAME_LABEL: end.namespace}) if where is not None else end.namespace == policy_namespace
    return there and selected(peer.get("podSelector", {}), end.labels)


def passes(objects: list[Obj], source: End, target: End, port: tuple[str, str]) -> bool:
    """Whether a pod is let through to that port of another one."""
    policies = [
        obj
        for obj in objects
        if obj["kind"] == "NetworkPolicy"
        and obj["metadata"]["namespace"] == target.namespace
        and selected(obj["spec"]["podSelector"], target.labels)
    ]
    rules = [(policy, rule) for policy in policies for rule in policy["spec"].get("ingress", [])]
    return not policies or any(
        any(at["protocol"] == port[1] and at.get("port", port[0]) == port[0] for at in rule["ports"])
        and ("from" not in rule or any(is_peer(peer, source, policy["metadata"]["namespace"]) for peer in rule["from"]))
        for policy, rule in rules
    )


def test_what_has_to_pass(objects: list[Obj]) -> None:
    operator, front_door = program(objects, "operator"), program(objects, "api")
    flows = {
        "signaling by the front door": (front_door, AGENT, CONTROL),
        "the operator's event streams and configs": (operator, AGENT, CONTROL),
        "the operator's probe of an address": (operator, AGENT, MEDIA),
        "viewers' media": (VIEWER, AGENT, MEDIA),
        "RTP that a camera sends by UDP": (End(), AGENT, ("any", "UDP")),
        "another program that may call agents": (NEIGHBOUR, AGENT, CONTROL),
        "people and the ingress at the front door": (VIEWER, front_door, HTTP),
        **{
            f"metrics of {name}": (PROMETHEUS, target, port)
            for name, target, port in (
                ("the operator", operator, HTTP),
                ("the front door", front_door, HTTP),
                ("agents", AGENT, CONTROL),
            )
        },
    }
    assert [name for name, flow in flows.items() if not passes(objects, *flow)] == []


def test_what_has_to_be_kept_out(objects: list[Obj]) -> None:
    operator = program(objects, "operator")
    flows = {
        "orders to agents from outside": (VIEWER, AGENT, CONTROL),
        "orders to agents from a neighbour": (STRANGER, AGENT, CONTROL),
        "orders from agent to agent": (AGENT, AGENT, CONTROL),
        "orders from somebody who calls himself operator": (End("doors", operator.labels), AGENT, CONTROL),
        "anything at the operator from outside": (VIEWER, operator, HTTP),
        "anything at the operator from an agent": (AGENT, operator, HTTP),
        "a recorder of another namespace": (End("gates", NEIGHBOUR.labels), AGENT, CONTROL),
    }
    assert [name for name, flow in flows.items() if passes(objects, *flow)] == []


def test_nothing_that_our_programs_call_is_cut_off(objects: list[Obj]) -> None:
    """Cameras, DNS, the API server and identity providers may be anywhere, so what goes out is nobody's business."""
    policies = [obj["spec"] for obj in objects if obj["kind"] == "NetworkPolicy"]
    assert policies
    assert all(policy["policyTypes"] == ["Ingress"] and "egress" not in policy for policy in policies)


def test_ports_are_named_as_the_pods_name_them(objects: list[Obj]) -> None:
    """A policy that names a port which no container has lets nobody in."""
    (front_door,) = pick(objects, "Deployment", "sightline-api")["spec"]["template"]["spec"]["containers"]
    assert [port["name"] for port in front_door["ports"]] == [HTTP[0]]
    monitors = [obj for obj in objects if obj["kind"] == "PodMonitor"]
    ports = {obj["metadata"]["name"]: obj["spec"]["podMetricsEndpoints"][0]["port"] for obj in monitors}
    assert ports == {"sightline-operator": HTTP[0], "sightline-api": HTTP[0], "sightline-agents": CONTROL[0]}


def test_the_front_door_s_service_has_both_families_where_the_cluster_has(objects: list[Obj]) -> None:
    assert pick(objects, "Service", "sightline-api")["spec"]["ipFamilyPolicy"] == "PreferDualStack"


class TestNetworkPolicies:
    def policies(self, objects: list[Obj]) -> dict[tuple[str, str], Obj]:
        return {
            (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"]
            for obj in objects
            if obj["kind"] == "NetworkPolicy"
        }

    def test_operator_and_agents_are_closed_and_the_front_door_is_open(self, chart: Chart) -> None:
        objects = render(chart, EVERYTHING)
        found = self.policies(objects)
        assert sorted(found) == [
            ("doors", "sightline-agents"),
            (NAMESPACE, "sightline-api"),
            (NAMESPACE, "sightline-operator"),
        ]
        assert all(spec["policyTypes"] == ["Ingress"] for spec in found.values())
        scraper, recorder = EVERYTHING["networkPolicies"]["metricsFrom"], EVERYTHING["networkPolicies"]["controlFrom"]
        http = [{"port": "http", "protocol": "TCP"}]
        assert found[NAMESPACE, "sightline-operator"]["ingress"] == [{"ports": http, "from": scraper}]
        assert found[NAMESPACE, "sightline-api"]["ingress"] == [{"ports": http}]
        media, control = found["doors", "sightline-agents"]["ingress"]
        assert media == {"ports": [{"protocol": "UDP"}]}
        *ours, last, but_one = control["from"]
        assert [last, but_one] == [*scraper, *recorder]
        for peer, component in zip(ours, ("operator", "api"), strict=True):
            pods = pick(objects, "Deployment", f"sightline-{component}")["spec"]["template"]["metadata"]["labels"]
            assert peer["podSelector"]["matchLabels"].items() <= pods.items()
            assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}

    def test_by_default_nothing_reaches_the_operator(self, chart: Chart) -> None:
        assert "ingress" not in self.policies(render(chart))[NAMESPACE, "sightline-operator"]

    def test_agents_are_found_by_their_labels(self, chart: Chart) -> None:
        spec = self.policies(render(chart, {"watchNamespaces": ["gates"]}))["gates", "sightline-agents"]
        wanted = spec["podSelector"]["matchLabels"].items()
        assert wanted <= agent_labels("front", "default").items()
        assert wanted <= spare_labels("default").items()

    def test_may_be_left_out(self, chart: Chart) -> None:
        assert self.policies(render(chart, {"networkPolicies": {"enabled": False}})) == {}

    def test_scraping_needs_somebody_who_may(self, chart: Chart) -> None:
        with pytest.raises(HelmError, match=r"networkPolicies\.metricsFrom"):
            render(chart, {"metrics": {"podMonitor": {"enabled": True}}})
