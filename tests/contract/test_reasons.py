"""Every reason that a condition may have is given by some program, or is kept for a field that is refused today; every
code of a problem is given, too.

The sources are read, not run: a reason that nobody writes down anywhere cannot be given, and one that is documented and
never given would send people looking for it.
"""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from sightline_model import reasons
from sightline_model.camera import CameraSpec
from sightline_model.lifecycle import END_REASONS, Input
from sightline_model.problems import ProblemCode, source_problem
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import StreamSessionSpec
from sightline_model.support import not_supported_yet

ROOT = Path(__file__).parents[2]
PROGRAMS = ("agents", "api", "operator")
PUBLISHING = StreamSessionSpec.model_validate({"cameraRef": {"name": "gate"}, "user": "ann", "role": "Publish"})
RESERVED: dict[StrEnum, tuple[str, CameraSpec | StreamSessionSpec]] = {
    SourceReason.WAITING_FOR_PUBLISHER: ("push", CameraSpec.model_validate({"source": {"push": {}}})),
    SourceReason.DEVICE_OFFLINE: ("device", CameraSpec.model_validate({"source": {"device": {}}})),
    EndReason.SUPERSEDED: ("Publish", PUBLISHING),
}
"""Reasons that come with what `support` refuses: the word for it, and a spec that asks for nothing else."""
TIMED = {EndReason.ACK_TIMEOUT, EndReason.MAX_DURATION, EndReason.IDLE}
"""Given by the lifecycle machine itself when time is over."""

Names = set[tuple[str, str]]
"""Class and name of members of enums."""


def kinds() -> Iterator[type[StrEnum]]:
    """The closed lists of reasons."""
    for name, value in vars(reasons).items():
        if name.endswith("Reason") and isinstance(value, type) and issubclass(value, StrEnum):
            yield value


def named_in(program: str) -> Names:
    """Every member of an enum that a program's sources name."""
    return {
        (node.value.id, node.attr)
        for path in (ROOT / program / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


@pytest.fixture(scope="module")
def given() -> Names:
    by_program = {program: named_in(program) for program in PROGRAMS}
    # The operator has advice for all reasons of a source; agents alone find them.
    by_program["operator"] -= {(kind, name) for kind, name in by_program["operator"] if kind == SourceReason.__name__}
    found = set[tuple[str, str]]().union(*by_program.values())
    found |= {(EndReason.__name__, reason.name) for reason in TIMED}
    found |= {
        (EndReason.__name__, reason.name)
        for said, reason in END_REASONS.items()
        if (Input.__name__, said.name) in found
    }
    return found


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_each_reason_is_given_or_kept(kind: type[StrEnum], given: Names) -> None:
    never = [member for member in kind if (kind.__name__, member.name) not in given]
    assert never == [member for member in kind if member in RESERVED]


@pytest.mark.parametrize("reason", RESERVED)
def test_what_is_kept_belongs_to_a_field_that_is_refused(reason: StrEnum) -> None:
    word, spec = RESERVED[reason]
    assert len(not_supported_yet(spec)) == 1, "it is supported now, so some program gives the reason"
    page = (ROOT / "docs/reference/conditions.md").read_text()
    (row,) = re.findall(rf"^\| `{reason.value}` \|.*$", page, re.MULTILINE)
    assert f"`{word}`" in row, "say that no program gives it yet"


def test_each_code_of_a_problem_is_given() -> None:
    found = set[tuple[str, str]]().union(*(named_in(program) for program in PROGRAMS))
    by_programs = {code for code in ProblemCode if {("ProblemCode", code.name), ("_C", code.name)} & found}
    by_sources = {source_problem(reason, "", 1).code for reason in SourceReason}
    assert set(ProblemCode) - by_programs - by_sources == set()
