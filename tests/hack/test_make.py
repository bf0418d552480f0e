"""What `make` finds on machines of other people."""

import shutil
import subprocess
from pathlib import Path

import pytest

from hack.cluster.paths import ROOT

PYTHON = """#!/bin/sh
# A pip that may not write beside Python: it puts programs into the user's own folder.
case "$*" in
    "-m site --user-base") echo "$HOME/.local" ;;
    "-m pip install"*) mkdir -p "$HOME/.local/bin" && printf '#!/bin/sh\\necho "uv is $0"\\n' > "$HOME/.local/bin/uv"
        chmod 755 "$HOME/.local/bin/uv" ;;
esac
"""


def put(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """All that is on the PATH: a system without uv, Node.js and what else a Python or an editor brought along."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "awk", "find", "make", "mkdir", "printf", "chmod"):
        where = next(place for place in ("/usr/bin", "/bin") if Path(place, name).exists())
        (folder / name).symlink_to(Path(where, name))
    put(folder / "python3", PYTHON)
    return folder


def make(programs: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Make something in a tree of its own, which has no more than the rules need."""
    tree = programs.parent
    (tree / "Makefile").write_text(f"include {ROOT}/Makefile\nprobe: uv\n\t@uv\n")
    (tree / "web").mkdir()
    for name in ("web/package.json", "web/package-lock.json"):
        (tree / name).write_text("{}")
    environment = {"PATH": str(programs), "HOME": str(tree)}
    return subprocess.run(["make", target], cwd=tree, env=environment, capture_output=True, text=True, check=False)


def test_uv_is_found_where_pip_puts_it(programs: Path) -> None:
    done = make(programs, "probe")
    assert done.stdout.splitlines()[-1:] == [f"uv is {programs.parent}/.local/bin/uv"], done.stderr


NPM = "#!/bin/sh\necho npm was run\nexit 1\n"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_page_without_node_is_refused_in_words(programs: Path, is_there: bool) -> None:
    if is_there:
        put(programs / "npm", NPM)
        put(programs / "node", "#!/bin/sh\nexit 1\n")  # what the question for the version ends with, of an old one
    done = make(programs, "web/node_modules/.package-lock.json")
    assert done.returncode == 2
    assert "needs Node.js 20" in done.stderr
    assert "npm was run" not in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")
def test_a_page_with_node_is_begun(programs: Path) -> None:
    put(programs / "npm", NPM)
    put(programs / "node", f'#!/bin/sh\nexec {shutil.which("node")} "$@"\n')
    done = make(programs, "web/node_modules/.package-lock.json")
    assert "npm was run" in done.stdout, done.stderr
