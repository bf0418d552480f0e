"""The three CustomResourceDefinitions, generated from the models: `python -m sightline_model.crd --write crds`.

`KINDS` says what the models cannot: names, printer columns, what the API server may filter by, the conditions that an
object has before the operator has seen it. `defaulted` and `validate` do in Python what the API server does with these
definitions; the in-memory cluster lives on them.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sightline_model import validation
from sightline_model.base import API_VERSION, GROUP, MAX_CAMERA_NAME, VERSION, Model
from sightline_model.camera import CameraSpec, CameraStatus
from sightline_model.cameraclass import CameraClassSpec, CameraClassStatus
from sightline_model.reasons import PENDING, ConditionStatus, ConditionType
from sightline_model.rules import SCHEMA_KEY, Rule, named
from sightline_model.schema import Schema, filled, publish, structural
from sightline_model.session import SessionPhase, StreamSessionSpec, StreamSessionStatus
from sightline_model.yamltext import to_yaml

NEVER_CHANGED = "1970-01-01T00:00:00Z"
"""lastTransitionTime of the conditions that stand in the schema: a default can hold no clock."""

_MAX_LABEL = 63


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0
    description: str = ""


def _condition(type_: ConditionType, part: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{part}'


_AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True)
class Kind:
    """What a CRD says beside the schema of its models."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[Model]
    status: type[Model]
    conditions: tuple[ConditionType, ...]
    columns: tuple[Column, ...]
    root_rules: tuple[Rule, ...]
    namespaced: bool = True
    spec_required: bool = True
    selectable: tuple[str, ...] = ()
    status_defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def name(self) -> str:
        return f"{self.plural}.{GROUP}"


CAMERA = Kind(
    kind="Camera",
    plural="cameras",
    short_names=("cam",),
    description="A Camera is a source of pictures, with who may watch it and how.",
    spec=CameraSpec,
    status=CameraStatus,
    conditions=(
        ConditionType.ACCEPTED,
        ConditionType.AGENT_READY,
        ConditionType.NETWORK_READY,
        ConditionType.SOURCE_READY,
        ConditionType.LIVE,
        ConditionType.OUTPUTS_READY,
        ConditionType.READY,
    ),
    columns=(
        Column("Ready", _condition(ConditionType.READY, "status"), description="Could somebody watch now?"),
        Column("Phase", ".status.phase", description="What the camera does, in one word."),
        Column("Codec", ".status.source.videoCodec", description="What the source sends."),
        Column("Viewers", ".status.viewers", "integer", description="Viewers now."),
        Column("Node", ".status.agent.node", priority=1, description="Where the agent runs."),
        Column("Source", _condition(ConditionType.SOURCE_READY, "reason"), priority=1, description="What it does."),
        Column("Reason", _condition(ConditionType.READY, "reason"), priority=1, description="Why (not) ready."),
        _AGE,
    ),
    root_rules=named("camera", MAX_CAMERA_NAME),
    selectable=(".spec.className",),
    status_defaults={"phase": "Pending", "viewers": 0, "live": False},
)

CAMERA_CLASS = Kind(
    kind="CameraClass",
    plural="cameraclasses",
    short_names=("camclass",),
    description="A CameraClass says how the agents of a group of cameras are run.",
    spec=CameraClassSpec,
    status=CameraClassStatus,
    conditions=(ConditionType.ACCEPTED, ConditionType.ROLLED_OUT),
    columns=(
        Column("Accepted", _condition(ConditionType.ACCEPTED, "status"), description="May cameras use it?"),
        Column("Cameras", ".status.cameras", "integer", description="Cameras of this class."),
        Column("RolledOut", _condition(ConditionType.ROLLED_OUT, "status"), description="Do all agents follow it?"),
        Column(
            "Default",
            r".metadata.annotations['sightline\.dev/is-default-class']",
            description="Is it the class of cameras that name none?",
        ),
        Column("Reason", _condition(ConditionType.ACCEPTED, "reason"), priority=1, description="Why (not) accepted."),
        _AGE,
    ),
    root_rules=named("class", _MAX_LABEL),
    namespaced=False,
    spec_required=False,
    status_defaults={"cameras": 0},
)

STREAM_SESSION = Kind(
    kind="StreamSession",
    plural="streamsessions",
    short_names=("stream",),
    description="A StreamSession is one peer's use of one camera.",
    spec=StreamSessionSpec,
    status=StreamSessionStatus,
    conditions=(ConditionType.AUTHORIZED, ConditionType.CONNECTED, ConditionType.ENDED),
    columns=(
        Column("Camera", ".spec.cameraRef.name", description="The camera."),
        Column("User", ".spec.user", description="Who watches or publishes."),
        Column("Phase", ".status.phase", description="Where in its life it is."),
        Column("Reason", ".status.endReason", description="Why it ended."),
        Column("Transport", ".spec.transport", priority=1, description="How media is exchanged."),
        Column("Node", ".status.node", priority=1, description="Where the agent runs."),
        _AGE,
    ),
    root_rules=named("session", _MAX_LABEL),
    selectable=(".spec.cameraRef.name", ".spec.user"),
    status_defaults={"phase": SessionPhase.REQUESTED.value},
)

KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in (CAMERA, CAMERA_CLASS, STREAM_SESSION)}


def defaulted(kind: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `obj` with every default of its kind, status conditions included, as a read from the API shows it."""
    complete: dict[str, Any] = filled(dict(obj), schema_of(kind))
    return complete


def validate(kind: str, obj: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[str]:
    """What the API server would say against `obj` (already defaulted), and against the change from `old`."""
    return validation.problems(dict(obj), schema_of(kind), None if old is None else dict(old))


@cache
def schema_of(kind: str) -> Schema:
    """The whole schema of a kind, with Rule objects in it."""
    entry = KINDS[kind]
    spec = structural(entry.spec)
    if not entry.spec_required:
        spec["default"] = {}
    properties: Schema = {
        "apiVersion": {"type": "string", "description": f"Version of the schema: {API_VERSION}."},
        "kind": {"type": "string", "description": f"{entry.kind}."},
        # What metadata may hold is the API server's business; only the rules below look at the name.
        "metadata": {"type": "object"},
        "spec": spec,
        "status": _status(entry),
    }
    return {
        "type": "object",
        "description": entry.description,
        "properties": properties,
        **({"required": ["spec"]} if entry.spec_required else {}),
        SCHEMA_KEY: list(entry.root_rules),
    }


def _status(entry: Kind) -> Schema:
    schema = structural(entry.status, with_defaults=False)
    properties = schema["properties"]
    for name, value in entry.status_defaults.items():
        properties[name]["default"] = value
    properties["conditions"]["default"] = [
        {
            "type": type_.value,
            "status": ConditionStatus.UNKNOWN.value,
            "reason": PENDING,
            "message": "the operator has not looked at it yet",
            "lastTransitionTime": NEVER_CHANGED,
        }
        for type_ in entry.conditions
    ]
    properties["conditions"]["items"]["required"] = ["lastTransitionTime", "reason", "status", "type"]
    return {**schema, "default": {}}


def definition(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    entry = KINDS[kind]
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_printed(column) for column in entry.columns],
        "schema": {"openAPIV3Schema": publish(schema_of(kind))},
    }
    if entry.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in entry.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": entry.name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if entry.namespaced else "Cluster",
            "names": {
                "kind": entry.kind,
                "listKind": f"{entry.kind}List",
                "plural": entry.plural,
                "singular": entry.singular,
                "shortNames": list(entry.short_names),
                "categories": ["sightline"],
            },
            "versions": [version],
        },
    }


def _printed(column: Column) -> dict[str, Any]:
    printed: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.description:
        printed["description"] = column.description
    if column.priority:
        printed["priority"] = column.priority
    return printed


def files() -> dict[str, str]:
    """File names and contents of all CRDs."""
    head = "# Generated from the models: make crds. Changes by hand are lost.\n"
    return {f"{GROUP}_{KINDS[kind].plural}.yaml": head + to_yaml(definition(kind)) for kind in KINDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the CRDs into folders, or with --check say whether they are what would be written."""
    parser = argparse.ArgumentParser(prog="python -m sightline_model.crd", description=main.__doc__)
    parser.add_argument("--write", metavar="FOLDER", type=Path, nargs="+", default=[])
    parser.add_argument("--check", metavar="FOLDER", type=Path, nargs="+", default=[])
    options = parser.parse_args(arguments)
    for folder in options.write:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text)
    stale = [
        folder / name
        for folder in options.check
        for name, text in files().items()
        if not (folder / name).is_file() or (folder / name).read_text() != text
    ]
    for path in stale:
        sys.stderr.write(f"{path} is not what the models say; run make crds\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
