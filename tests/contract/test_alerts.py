"""The chart's alerts and dashboard before Prometheus itself: all of it is read, and each alert fires when it should."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helm_python import Chart

from sightline_kube.cluster import Obj
from tests.contract.alert_cases import CASES, Case
from tests.contract.test_monitoring import VALUES, dashboard, rules
from tests.helpers.chart import CHART, pick, render

pytestmark = [
    pytest.mark.promtool,
    pytest.mark.skipif(
        shutil.which("promtool") is None, reason="promtool is missing (in the Debian package prometheus)"
    ),
]


@pytest.fixture(scope="module")
def objects() -> Iterator[list[Obj]]:
    with Chart.load(CHART) as chart:
        yield render(chart, VALUES)


@pytest.fixture(scope="module")
def directory(objects: list[Obj], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where promtool finds the rules."""
    directory = tmp_path_factory.mktemp("rules")
    write(directory / "rules.yaml", pick(objects, "PrometheusRule", "sightline")["spec"])
    return directory


def write(path: Path, content: Obj) -> None:
    path.write_text(yaml.safe_dump(content))


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def asked(case: Case, rule: Obj) -> Obj:
    """A case as promtool reads it; what an alert says beside its summary is the same each time."""
    fires = [
        {
            "exp_labels": {**rule["labels"], **alert.labels},
            "exp_annotations": {**rule["annotations"], "summary": alert.summary},
        }
        for alert in case.fires
    ]
    return {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [{"alertname": case.alert, "eval_time": case.at, "exp_alerts": fires}],
            }
        ],
    }


def test_prometheus_reads_the_rules(directory: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", directory / "rules.yaml")


def test_prometheus_reads_the_dashboard(objects: list[Obj], tmp_path: Path) -> None:
    """Questions as rules: promtool has no other way to have them read. Grafana puts its interval in beforehand."""
    questions = [
        {"record": f"panel:{panel['id']}:{target['refId']}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for panel in dashboard(objects)["panels"]
        for target in panel.get("targets", [])
    ]
    assert questions
    write(tmp_path / "questions.yaml", {"groups": [{"name": "dashboard", "rules": questions}]})
    promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "questions.yaml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.what}")
def test_an_alert_fires_when_it_should(case: Case, objects: list[Obj], directory: Path, tmp_path: Path) -> None:
    (rule,) = [rule for rule in rules(objects) if rule["alert"] == case.alert]
    write(tmp_path / "case.yaml", asked(case, rule))
    (tmp_path / "rules.yaml").symlink_to(directory / "rules.yaml")
    promtool("test", "rules", tmp_path / "case.yaml")
