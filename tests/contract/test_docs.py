"""The pages are whole: links lead to pages and paragraphs, lists leave nothing out, and what is described is there."""

import re
import tomllib
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
from tests.helpers.apiserver import ROOT
from tests.helpers.documents import DOCUMENTS, IDS, tracked

LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)")
DECISIONS = [path for path in DOCUMENTS if path.parent.name == "design"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def paragraphs(document: Path) -> set[str]:
    """What links may name after the `#`: headings, as Git hosts write them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_links_lead_to_paragraphs(document: Path) -> None:
    links = ANCHOR.findall(document.read_text())
    targets = [(document.parent / page if page else document, anchor) for page, anchor in links]
    assert [anchor for page, anchor in targets if anchor not in paragraphs(page)] == []


def test_the_list_of_pages_is_whole() -> None:
    index = ROOT / "docs/README.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}
    pages = {path for path in DOCUMENTS if path.is_relative_to(index.parent)} - set(DECISIONS)
    assert pages - listed == {index}


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_a_number_of_its_own_and_its_parts(page: Path) -> None:
    number, text = page.name[:4], page.read_text()
    assert [path for path in DECISIONS if path.name.startswith(number)] == [page]
    assert text.startswith(f"# {number}: ")
    assert "**Context.**" in text
    assert "**Decision.**" in text


def test_every_folder_is_explained() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}
    assert {folder for folder in folders if not folder.startswith(".") and f"`{folder}/" not in page} == set()


def test_every_command_for_people_is_listed() -> None:
    page = (ROOT / "hack/README.md").read_text()
    scripts = {path.name for path in tracked("hack/*") if path.parent.name == "hack" and path.name != "README.md"}
    assert {name for name in scripts if f"hack/{name}" not in page and f"hack.{Path(name).stem}`" not in page} == set()


def test_every_example_is_listed() -> None:
    page = (ROOT / "examples/README.md").read_text()
    folders = {path.parent.name for path in tracked("examples/*/*.yaml")}
    assert {folder for folder in folders if f"]({folder}/README.md)" not in page} == set()


def test_every_mark_of_tests_is_explained() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    marks = {line.partition(":")[0] for line in settings["markers"]}
    assert {mark for mark in marks if f"| `{mark}` |" not in page} == set()


def test_every_module_of_the_page_is_described() -> None:
    described = set(re.findall(r"`(\w+\.ts)`", (ROOT / "web/README.md").read_text()))
    assert {path.name for path in (ROOT / "web/src").glob("*.ts")} - {"assets.d.ts"} - described == set()


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
