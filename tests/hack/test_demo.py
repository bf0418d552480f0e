"""What `make demo` applies to the cluster that it has set up."""

from pathlib import Path

import pytest

from hack import demo
from hack.cluster.paths import ROOT


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of examples that kubectl gets."""
    folders: list[str] = []

    def kubectl(_target: demo.Target, *arguments: str | Path, given: str | None = None) -> str:
        folders.extend(
            str(argument.relative_to(ROOT / "examples")) for argument in arguments if isinstance(argument, Path)
        )
        return ""

    monkeypatch.setattr(demo.Target, "kubectl", kubectl)
    return folders


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["01-*"], ["01-test-pattern"]),
        (["03-*", "01-*"], ["01-test-pattern", "03-access"]),
        ([], []),
        (["nothing-*"], []),
    ],
)
def test_examples_are_applied_by_their_patterns(applied: list[str], patterns: list[str], expected: list[str]) -> None:
    demo._apply_examples(demo.Target(None, "registry.example", "tag", reachable=False), patterns)
    assert applied == expected


def test_all_of_them_are_folders(applied: list[str]) -> None:
    demo._apply_examples(demo.Target(None, "registry.example", "tag", reachable=False), ["*"])
    assert len(applied) > 5
    assert [name for name in applied if not (ROOT / "examples" / name).is_dir()] == []
