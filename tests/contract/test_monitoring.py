"""Alerts and dashboard of the chart: they ask for metrics that the programs have, by labels that these have, and each
alert is explained."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helm_python import Chart

from sightline_kube.cluster import Obj
from sightline_model.reasons import AgentReason, NetworkReason, SourceReason
from tests.contract.alert_cases import CASES
from tests.helpers.chart import CHART, NAMESPACE, pick, render

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `([a-z_]+)` \| (\w+) \| ((?:`\w+`(?:, )?)*) ?\|", re.MULTILINE)
SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"(?:by|on) \(([^)]*)\)")
TARGET = {"job", "instance", "namespace", "pod", "sightline_dev_camera", "le"}
"""Labels of what was scraped, by the chart's PodMonitors, and of a histogram's buckets."""
STATES: dict[str, set[str]] = {
    "sightline_agents": set(AgentReason),
    "sightline_networks": set(NetworkReason),
    "sightline_agent_source_state": set(SourceReason),
}
JOBS = {"Agent": "agents", "Operator": "operator", "Front door": "api"}
VALUES: Obj = {
    "metrics": {
        "podMonitor": {"enabled": True},
        "rules": {"enabled": True, "labels": {"release": "p"}, "runbookUrl": "https://docs.example.org/alerts"},
        "dashboard": {"enabled": True, "annotations": {"folder": "cameras"}},
    },
    "networkPolicies": {"enabled": False},
}


@pytest.fixture(scope="module")
def objects() -> Iterator[list[Obj]]:
    with Chart.load(CHART) as chart:
        yield render(chart, VALUES)


def metrics() -> dict[str, dict[str, set[str]]]:
    """The documented metrics of each program with their labels, as Prometheus names the samples."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    found: dict[str, dict[str, set[str]]] = {}
    for section in text.split("\n## ")[1:]:
        program = found[section.partition("\n")[0]] = {}
        for name, kind, labels in ROW.findall(section):
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            program.update({name + suffix: set(re.findall(r"`(\w+)`", labels)) for suffix in suffixes})
    return found


def expressions(objects: list[Obj]) -> dict[str, str]:
    """Every question to Prometheus, by the name of the alert or panel."""
    asked = {rule["alert"]: rule["expr"] for rule in rules(objects)}
    for panel in dashboard(objects)["panels"]:
        for target in panel.get("targets", []):
            asked[f"{panel['title']} {target['refId']}"] = target["expr"]
    return asked


def rules(objects: list[Obj]) -> list[Obj]:
    return [rule for group in pick(objects, "PrometheusRule", "sightline")["spec"]["groups"] for rule in group["rules"]]


def dashboard(objects: list[Obj]) -> Obj:
    return dict(json.loads(pick(objects, "ConfigMap", "sightline-dashboard")["data"]["sightline.json"]))


def test_every_question_is_about_metrics_that_there_are(objects: list[Obj]) -> None:
    known = metrics()
    job_of = {f"{NAMESPACE}/sightline-{job}": program for program, job in JOBS.items()}
    monitored = {f"{NAMESPACE}/{obj['metadata']['name']}" for obj in objects if obj["kind"] == "PodMonitor"}
    assert set(job_of) == monitored
    for name, expression in expressions(objects).items():
        selectors = SELECTOR.findall(expression)
        assert selectors, name
        labels = set(TARGET)
        for metric, matchers in selectors:
            matched = dict(MATCHER.findall(matchers))
            program = known[job_of[matched["job"]]]
            assert metric in program, (name, metric)
            assert set(matched) <= program[metric] | TARGET, (name, metric)
            labels |= program[metric]
            if metric in STATES:
                words = set(matched.get("state", "Ready").split("|")) - {"Pending"}
                assert words <= STATES[metric] | {"Ready"}, (name, words)
        grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
        assert grouped <= labels, name


def test_no_metric_is_asked_for_without_its_job(objects: list[Obj]) -> None:
    """Other controllers have metrics of the same names."""
    names = {metric for program in metrics().values() for metric in program}
    for name, expression in expressions(objects).items():
        bare = re.sub(r'"[^"]*"', '""', expression)
        asked = {word for word in re.findall(r"[a-z_]+", bare) if word in names}
        assert asked == {metric for metric, _ in SELECTOR.findall(expression)}, name
        assert "_JOB" not in expression


def test_each_alert_is_explained_and_leads_there(objects: list[Obj]) -> None:
    page = (ROOT / "docs/operations/alerts.md").read_text()
    explained = re.findall(r"^## (Sightline\w+)$", page, re.MULTILINE)
    assert [rule["alert"] for rule in rules(objects)] == explained
    for rule in rules(objects):
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert rule["annotations"]["runbook_url"] == f"https://docs.example.org/alerts#{rule['alert'].lower()}"
    with Chart.load(CHART) as chart:
        without = render(chart, {**VALUES, "metrics": {**VALUES["metrics"], "rules": {"enabled": True}}})
    assert all("runbook_url" not in rule["annotations"] for rule in rules(without))


def test_labels_in_an_alert_s_words_are_those_of_its_question(objects: list[Obj]) -> None:
    for rule in rules(objects):
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        kept = {label.strip() for group in GROUPING.findall(rule["expr"]) for label in group.split(",")}
        if " by (" not in rule["expr"] and not re.match(r"\(?(sum|max|absent)\(", rule["expr"]):
            kept |= TARGET | {"state"}
        assert named <= kept, rule["alert"]


def test_each_alert_is_tried_with_what_fires_it_and_what_does_not(objects: list[Obj]) -> None:
    alerts = {rule["alert"] for rule in rules(objects)}
    assert {case.alert for case in CASES if case.fires} == alerts
    assert {case.alert for case in CASES if not case.fires} == alerts


def test_a_source_that_fails_is_told_of_whatever_the_reason(objects: list[Obj]) -> None:
    (states,) = re.findall(r'state=~"([^"]*)"', expressions(objects)["SightlineSourceFails"])
    assert set(states.split("|")) == {reason for reason in SourceReason if reason.failed}


def test_the_dashboard_s_panels_have_their_places(objects: list[Obj]) -> None:
    panels = dashboard(objects)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    variables = {variable["name"] for variable in dashboard(objects)["templating"]["list"]}
    assert {panel["datasource"]["uid"] for panel in panels if "targets" in panel} == {"${source}"}
    assert "source" in variables


def test_objects_carry_what_finds_them(objects: list[Obj]) -> None:
    assert pick(objects, "PrometheusRule", "sightline")["metadata"]["labels"]["release"] == "p"
    metadata = pick(objects, "ConfigMap", "sightline-dashboard")["metadata"]
    assert metadata["labels"]["grafana_dashboard"] == "1"
    assert metadata["annotations"] == {"folder": "cameras"}


def test_nothing_of_it_is_there_by_default() -> None:
    with Chart.load(CHART) as chart:
        texts = chart.render({}, name="sightline", namespace=NAMESPACE)
    assert not list(yaml.safe_load_all(texts["sightline/templates/monitoring.yaml"]))
