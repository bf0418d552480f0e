"""AgentReady for agents that are not well: each cause has its own reason, and a message that says what to do."""

from typing import Any

import pytest

from sightline_kube.kinds import NODE
from sightline_operator import nodes
from sightline_operator.decide import decide
from sightline_operator.facts import NOT_TRUSTED, UNREADABLE, LinkState
from tests.operator.looks import reason_is
from tests.operator.samples import NOW, ago, link, pod, running, text, waiting, well
from tests.operator.virtualtime import run, until
from tests.operator.world import World, world

LOST_NODE = {"metadata": {"name": "node-1"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
WELL_NODE = {"metadata": {"name": "node-1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SILENT = link(connected=False, report=None, error="no answer in time")


def ended(exit_code: int, reason: str, waits: str = "ContainerCreating") -> dict[str, Any]:
    last = {"exitCode": exit_code, "reason": reason, "startedAt": text(ago(61)), "finishedAt": text(ago(1))}
    return waiting(waits, lastState={"terminated": last}) | {"phase": "Running"}


def unready(age: float) -> dict[str, Any]:
    return running(age) | {"conditions": [{"type": "Ready", "status": "False"}]}


@pytest.mark.parametrize(
    ("status", "heard", "node", "reason", "words"),
    [
        (ended(137, "Error"), SILENT, None, "AgentEnded", "exit code 137, Error) and is started again"),
        (ended(137, "OOMKilled"), SILENT, None, "AgentEnded", "raise resources.limits.memory"),
        (ended(1, "Error", "CrashLoopBackOff"), SILENT, None, "AgentEnded", "another pod takes its place"),
        (unready(60), SILENT, None, "Unresponsive", "answers neither the kubelet nor the operator"),
        (unready(20), SILENT, None, "Starting", "is starting"),
        (running(60), SILENT, None, "Unreachable", "check NetworkPolicies"),
        (
            running(60),
            link(connected=False, report=None, error=NOT_TRUSTED),
            None,
            "Unreachable",
            "signing key (HTTP 401)",
        ),
        (running(60), SILENT, LOST_NODE, "NodeLost", "kubectl describe node node-1"),
        (running(60), SILENT, WELL_NODE, "Unreachable", "check NetworkPolicies"),
        (running(5), link(connected=False, report=None, error=UNREADABLE), None, "WrongVersion", "agent:1"),
    ],
)
def test_each_cause_has_its_reason(
    status: dict[str, Any], heard: LinkState, node: dict[str, Any] | None, reason: str, words: str
) -> None:
    known = {"node-1": node} if node else {}
    decision = decide(well(pods=(pod(status=status),), links={"camera-gate-one": heard}, nodes=known), NOW)
    assert decision.status
    told = next(item for item in decision.status.conditions if item.type == "AgentReady")
    assert (told.status.value, told.reason) == ("False", reason)
    assert words in told.message
    assert decision.status.conditions[-1].reason == "AgentNotReady"
    assert decision.status.conditions[-1].message == told.message


def test_an_agent_that_answers_is_well_whatever_is_said_of_its_node() -> None:
    decision = decide(well(nodes={"node-1": LOST_NODE}), NOW)
    assert decision.status
    assert decision.status.conditions[1].status.value == "True"


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_who_stays_on_a_cordoned_node(toleration: dict[str, Any], expected: bool) -> None:
    assert nodes.stays({"spec": {"tolerations": [toleration]}}) is expected


def test_a_node_that_is_lost_makes_its_cameras_look_again() -> None:
    async def look(here: World, node: dict[str, Any]) -> None:
        found = await here.cluster.get(NODE, None, "node-1")
        await here.cluster.replace({**found, "status": node["status"]})

    async def main() -> None:
        async with world() as here:
            await here.cluster.create({"apiVersion": "v1", "kind": "Node", **WELL_NODE})
            await here.start_camera()
            (one,) = await here.pods()
            here.links.disconnect(one["status"]["podIP"])
            await here.settled(40)
            assert await reason_is(here, "AgentReady", "Unreachable")
            await look(here, LOST_NODE)
            await until(lambda: reason_is(here, "AgentReady", "NodeLost"), 5)

    run(main)
