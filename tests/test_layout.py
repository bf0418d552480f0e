"""Rules of the repository that no other tool enforces."""

from tests.helpers.apiserver import ROOT
from tests.helpers.documents import tracked

MAX_LINES = 600
REGISTRIES = [
    ".".join([*labels, "org"])
    for labels in (["registry", "npmjs"], ["files", "pythonhosted"], ["pypi"], ["proxy", "golang"])
]
"""Put together here, because this file may not name them either."""


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def test_no_init_outside_src() -> None:
    """A folder named `operator` with an `__init__.py` on the path would shadow the standard library's module."""
    assert [path for path in PYTHON if path.name == "__init__.py" and "src" not in path.parts] == []


def test_no_file_is_too_long() -> None:
    sources = [path for path in FILES if path.suffix in {".py", ".ts", ".go", ".rs", ".sh"}]
    assert [path for path in sources if len(path.read_text().splitlines()) > MAX_LINES] == []


def test_modules_say_what_they_are_for() -> None:
    """Each begins with a docstring: role, callers, reason for the shape."""
    assert [path for path in PYTHON if not path.read_text().startswith('"""')] == []


def test_scripts_end_with_their_first_error() -> None:
    scripts = [path for path in FILES if path.read_bytes().startswith(b"#!/usr/bin/env bash")]
    assert scripts
    assert [path for path in scripts if "\nset -euo pipefail\n" not in path.read_text()] == []


def test_no_file_names_a_registry() -> None:
    """Lock files above all: whoever builds here may have packages from elsewhere."""
    hosts = [host.encode() for host in REGISTRIES]
    assert [path for path in FILES if any(host in path.read_bytes() for host in hosts)] == []


def test_every_member_is_typed() -> None:
    packages = [path for path in ROOT.glob("*/src/sightline_*") if path.is_dir()]
    assert packages
    assert [path for path in packages if not (path / "py.typed").exists()] == []
