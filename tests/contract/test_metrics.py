"""docs/reference/metrics.md against the three programs: each metric with its type and labels, none missing, none made
up."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from sightline_agent.control.events import EventHub
from sightline_agent.control.status import Agent, Transport
from sightline_agent.gate import CpuGate, own_resources
from sightline_agent.hub import Hub, Tracks
from sightline_agent.metrics import registry_of
from sightline_agent.registry import SessionRegistry
from sightline_agent.renditions import Renditions
from sightline_agent.settings import parse
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.standalone import standalone_config
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.mux import MuxCount, UdpMux
from sightline_api.metrics import Metrics as ApiMetrics
from sightline_kube.cache import FeedStats
from sightline_kube.kinds import POD
from sightline_operator.metrics import Figures
from sightline_operator.metrics import Metrics as OperatorMetrics

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
ROW = re.compile(r"\| `([a-z_]+)` \| (\w+) \| ((?:`\w+`(?:, )?)*) ?\| [^|]+ \|")
FORBIDDEN = {"session", "sid", "user", "address", "ip", "camera", "namespace"}


class Described(NamedTuple):
    """One row of the page."""

    name: str
    type: str
    labels: frozenset[str]


def page(heading: str) -> set[Described]:
    (section,) = [part for part in PAGE.read_text().split("\n## ") if part.startswith(heading + "\n")]
    rows = [
        Described(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(section)
    ]
    assert len(rows) == section.count("\n| `") == len({row.name for row in rows})
    return set(rows)


def described(registry: CollectorRegistry) -> Iterator[Described]:
    """Everything that a registry may ever show."""
    for collector in tuple(registry._collector_to_names):
        declared = frozenset(collector._labelnames) if isinstance(collector, MetricWrapperBase) else None
        for family in collector.collect():
            name = family.name + ("_total" if family.type == "counter" else "")
            shown = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
            yield Described(name, family.type, shown if declared is None else declared)


def agent_registry() -> CollectorRegistry:
    config, _ = standalone_config(parse(["--standalone", "--source", "test"]))
    fanout = PythonFanOut(UdpMux("127.0.0.1", 0))
    tracks = Tracks(fanout, Soundtrack(lambda: fanout))
    renditions = Renditions(
        config,
        lambda _, of_it: Hub(of_it, lambda spec: pytest.fail("no source here"), tracks),
        lambda feed, of_it: pytest.fail("nothing to transcode"),
    )
    sessions = SessionRegistry(config, renditions, lambda *_: pytest.fail("no peer here"))
    transport = Transport(renditions.totals, lambda: dict.fromkeys(MuxCount, 0))
    agent = Agent(config, renditions, sessions, transport, CpuGate(own_resources()))
    return registry_of(agent, EventHub(agent.report))


def operator_registry() -> CollectorRegistry:
    one = Counter({"x": 1})
    metrics = OperatorMetrics()
    metrics.watch(lambda: Figures(one, one, one, one, 0.0, 0.0, 0, 0, 0, True, one, one, one, one, one, one, one))
    metrics.feed({POD: FeedStats()})
    return metrics.registry


def api_registry() -> CollectorRegistry:
    return ApiMetrics().registry


REGISTRIES = {
    "Agent": agent_registry,
    "Operator": operator_registry,
    "Front door": api_registry,
}


@pytest.mark.parametrize("program", REGISTRIES)
async def test_the_page_has_every_metric_and_no_other(program: str) -> None:
    assert set(described(REGISTRIES[program]())) == page(program)


def test_no_metric_is_about_one_person_or_place() -> None:
    rows = [row for program in REGISTRIES for row in page(program)]
    assert [row for row in rows if row.labels & FORBIDDEN] == []
