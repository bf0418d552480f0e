"""What the pages name is there: files, targets behind `make`, options, variables, values of the chart; and what they
show is so."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sightline_agent.settings import Settings as AgentSettings
from sightline_api import schemas
from sightline_api.settings import Settings as ApiSettings
from sightline_model import crd, support
from sightline_operator.settings import OperatorSettings
from tests.helpers.apiserver import ROOT
from tests.helpers.documents import DOCUMENTS, IDS, code, tracked

TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")
FOLDERS = "docs|model|kube|operator|agents|api|cli|web|charts|crds|hack|tests|examples"
PLACE = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")
MODULE = re.compile(r"`((?:\w+/)*\w+\.(?:py|rs|ts|sh|go))`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
VARIABLE = re.compile(r"SIGHTLINE_[A-Z_]+")
VALUE = re.compile(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:\[\].*|=.*)?`")
SET = re.compile(r"--set(?:-string)? '?([a-zA-Z.]+)=")
TRACKED = tracked()


def exists(place: str) -> bool:
    """`operator/handlers.py` is short for the module in the package; `docs/design/0005` for the page of that number."""
    folder, _, rest = place.partition("/")
    return (ROOT / place).exists() or any(ROOT.glob(f"{folder}/src/*/{rest}")) or any(ROOT.glob(f"{place}-*.md"))


def is_somewhere(module: str) -> bool:
    """`transport/mux.py` and `mux.py` are short for the module in the package that the page is about."""
    return any(path.parts[-len(Path(module).parts) :] == Path(module).parts for path in TRACKED)


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_files_exist(document: Path) -> None:
    text = document.read_text()
    assert [place for place in PLACE.findall(text) if not exists(place)] == []
    assert [module for module in MODULE.findall(text) if not exists(module) and not is_somewhere(module)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {target for piece in code(document) for target in TARGET.findall(piece)} - targets == set()


PROGRAMS = {
    "sightline dev": "cli/src",
    "sightline-agent": "agents/src/sightline_agent/settings.py",
    "-m hack.cluster": "hack/cluster/cli.py",
    "-m hack.demo": "hack/demo.py",
    "-m tests.bench": "tests/bench",
}
"""Our programs, and where their options are declared."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_exist(program: str) -> None:
    declared = "".join(path.read_text() for path in TRACKED if path.is_relative_to(ROOT / PROGRAMS[program]))
    lines = [line for document in DOCUMENTS for piece in code(document) for line in piece.splitlines()]
    calls = [line.split(program, 1)[1] for line in lines if program in line]
    assert calls
    options = {option for call in calls for option in OPTION.findall(call)}
    # Typer makes an option of a parameter's name.
    parameters = {option: option.removeprefix("--").replace("-", "_") for option in options}
    assert {o for o in options if o not in declared and f" {parameters[o]}: " not in declared} == set()


def test_variables_of_the_environment_exist() -> None:
    settings = (AgentSettings, ApiSettings, OperatorSettings)
    known = {f"{each.model_config.get('env_prefix')}{name.upper()}" for each in settings for name in each.model_fields}
    programs = [path for path in TRACKED if path.suffix in {".py", ".sh"} and "tests" not in path.parts]
    known |= {name for path in [*programs, ROOT / "Makefile"] for name in VARIABLE.findall(path.read_text())}
    named = {(document.name, name) for document in DOCUMENTS for name in VARIABLE.findall(document.read_text())}
    assert {(document, name) for document, name in named if name not in known} == set()


VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts/sightline/values.yaml").read_text())


def is_value(name: str) -> bool:
    """Whether the chart has a value of that name."""
    here: Any = VALUES
    for part in name.split("."):
        if not isinstance(here, dict) or part not in here:
            return False
        here = here[part]
    return True


def test_values_of_the_chart_exist() -> None:
    named = {
        (document.name, name)
        for document in DOCUMENTS
        for name in [*VALUE.findall(document.read_text()), *SET.findall(document.read_text())]
        if name.partition(".")[0] in VALUES and not name.endswith((".md", ".py", ".ts", ".yaml"))
    }
    assert len(named) > 20
    assert {(document, name) for document, name in named if not is_value(name)} == set()


SHOWN = [
    (document.name, shown)
    for document in DOCUMENTS
    for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)
    for shown in yaml.safe_load_all(block)
    if "kind" in shown
]
"""Whole objects, of our kinds, that pages show."""


@pytest.mark.parametrize(("document", "shown"), SHOWN)
def test_manifests_are_valid(document: str, shown: dict[str, Any]) -> None:
    assert crd.validate(shown["kind"], crd.defaulted(shown["kind"], shown)) == [], document


def test_the_columns_that_the_readme_shows_are_those_of_kubectl() -> None:
    (header,) = re.findall(r"^\$ kubectl get cameras\n(.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    (version,) = crd.definition("Camera")["spec"]["versions"]
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert header.split() == ["NAME", *map(str.upper, columns)]


def test_what_is_refused_is_on_the_page_of_limits() -> None:
    fields = set(re.findall(r'"spec\.(?:\w+\.)*(\w+): ', inspect.getsource(support))) | set(support._SOURCES_TO_COME)
    page = (ROOT / "docs/limits.md").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert {field for field in fields if not re.search(rf"`[^`]*\b{field}\b", rows)} == set()


SENT = [
    (document.name, json.loads(body))
    for document in DOCUMENTS
    for body in re.findall(r"-d '(\{.*?\})'", document.read_text(), re.DOTALL)
]
"""Bodies that pages have curl send to the front door."""


@pytest.mark.parametrize(("document", "body"), SENT)
def test_bodies_are_what_the_front_door_takes(document: str, body: dict[str, Any]) -> None:
    match body:
        case {"spec": _}:
            schemas.CameraCreate.model_validate(body)
        case {"camera": _}:
            schemas.SessionRequest.model_validate(body)
        case {"labels": dict()}:
            assert body.keys() <= schemas.CameraReplace.model_fields.keys(), document
        case _:
            assert body.keys() <= {field.alias for field in schemas.LayerSelection.model_fields.values()}, document
