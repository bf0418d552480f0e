"""The pages of the repository, and what is code in them, for tests that hold them against everything else."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.apiserver import ROOT

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def tracked(pattern: str = "") -> list[Path]:
    """Every file of that kind that is, or could be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *([pattern] if pattern else [])]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


DOCUMENTS = tracked("*.md")
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def code(document: Path) -> Iterator[str]:
    """Each piece of code of a page: blocks, and what is between backticks."""
    yield from _CODE.findall(document.read_text())
