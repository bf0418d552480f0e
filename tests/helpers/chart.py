"""The chart as objects, rendered in this process without a cluster."""

from collections.abc import Iterator
from typing import Any

import yaml
from helm_python import Chart

from tests.helpers.apiserver import ROOT

CHART = ROOT / "charts" / "sightline"
NAMESPACE = "sightline-system"
Obj = dict[str, Any]


def render(chart: Chart, values: Obj | None = None, name: str = "sightline") -> list[Obj]:
    chart.validate_schema(values)
    texts = chart.render(values, name=name, namespace=NAMESPACE)
    # The loader in C: CRDs are long, and the one in Python takes ten times the time of rendering them.
    manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [obj for text in manifests for obj in yaml.load_all(text, yaml.CSafeLoader) if obj]


def pick(objects: list[Obj], kind: str, name: str) -> Obj:
    (found,) = [obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name]
    return found


def pod_specs(objects: list[Obj]) -> Iterator[tuple[str, Obj]]:
    for obj in objects:
        if obj["kind"] in {"Deployment", "Job"}:
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]
