"""Rules of the repository that no other tool enforces."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600
REGISTRIES = ("registry.npmjs" + ".org", "files.pythonhosted" + ".org", "pypi" + ".org", "proxy.golang" + ".org")


def tracked() -> list[Path]:
    """Files that are, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def test_no_init_outside_src() -> None:
    """A folder named `operator` with an `__init__.py` on the path would shadow the standard library's module."""
    assert [path for path in PYTHON if path.name == "__init__.py" and "src" not in path.parts] == []


def test_no_file_is_too_long() -> None:
    sources = [path for path in FILES if path.suffix in {".py", ".ts", ".go", ".rs", ".sh"}]
    assert [path for path in sources if len(path.read_text().splitlines()) > MAX_LINES] == []


@pytest.mark.parametrize("path", [path for path in PYTHON if "src" in path.parts], ids=str)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert path.read_text().startswith('"""'), "begin with a docstring: role, callers, reason for the shape"


def test_lock_files_name_no_registry() -> None:
    locks = [
        path for path in FILES if path.name in {"package-lock.json", "uv.lock"} or path.parent.name == "requirements"
    ]
    assert [path for path in locks if any(host in path.read_text() for host in REGISTRIES)] == []


def test_every_member_is_typed() -> None:
    packages = [path for path in ROOT.glob("*/src/sightline_*") if path.is_dir()]
    assert packages
    assert [path for path in packages if not (path / "py.typed").exists()] == []
