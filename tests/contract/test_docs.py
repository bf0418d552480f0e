"""What the documentation names is there: files behind links, targets behind `make`."""

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from sightline_model.agent import (
    AgentReport,
    AgentStats,
    CapacityReport,
    PlayerReport,
    SessionReport,
    SessionStats,
    SourceReport,
)

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")


def documents() -> list[Path]:
    """Every Markdown file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


DOCUMENTS = documents()
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_commands_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for code in re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL)
        for target in TARGET.findall(code)
    }
    assert named - targets == set()


def aliases(model: type[BaseModel]) -> set[str]:
    """The names of the model's fields in JSON."""
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    "model",
    [AgentReport, SourceReport, SessionReport, SessionStats, PlayerReport, AgentStats, CapacityReport],
)
def test_every_field_of_an_agents_status_is_described(model: type[BaseModel]) -> None:
    page = (ROOT / "docs/reference/agent-status.md").read_text()
    described = {name.rpartition(".")[2] for name in re.findall(r"`([A-Za-z.]+)`", page)}
    assert aliases(model) - described == set()


FOLDERS = "docs|model|kube|operator|agents|api|cli|web|charts|crds|hack|tests|examples"
PLACE = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")


def exists(place: str) -> bool:
    """`operator/handlers.py` is short for the module in the package; `docs/design/0005` for the page of that number."""
    folder, _, rest = place.partition("/")
    return (ROOT / place).exists() or any(ROOT.glob(f"{folder}/src/*/{rest}")) or any(ROOT.glob(f"{place}-*.md"))


def test_files_that_the_documentation_speaks_of_exist() -> None:
    named = {(document.name, place) for document in DOCUMENTS for place in PLACE.findall(document.read_text())}
    assert {(document, place) for document, place in named if not exists(place)} == set()
