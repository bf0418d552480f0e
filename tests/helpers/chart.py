"""The chart as objects, rendered in this process without a cluster."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from helm_python import Chart

from sightline_kube.objects import copied
from tests.helpers.apiserver import ROOT

CHART = ROOT / "charts" / "sightline"
NAMESPACE = "sightline-system"
Obj = dict[str, Any]


def render(chart: Chart, values: Obj | None = None, name: str = "sightline") -> list[Obj]:
    chart.validate_schema(values)
    texts = chart.render(values, name=name, namespace=NAMESPACE)
    return [obj for path, text in texts.items() if path.endswith(".yaml") for obj in copied(_parsed(text))]


@lru_cache(64)
def _parsed(text: str) -> list[Obj]:
    """By the loader in C, ten times faster than Python's, and once: CRDs are long and alike whatever the values."""
    return [obj for obj in yaml.load_all(text, yaml.CSafeLoader) if obj]


def pick(objects: list[Obj], kind: str, name: str) -> Obj:
    (found,) = [obj for obj in objects if obj["kind"] == kind and obj["metadata"]["name"] == name]
    return found


def pod_specs(objects: list[Obj]) -> Iterator[tuple[str, Obj]]:
    for obj in objects:
        if obj["kind"] in {"Deployment", "Job"}:
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]
