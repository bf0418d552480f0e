"""`make bench`: measures what `docs/benchmarks.md` tells, and prints it as the table that stands there.

Each figure comes from the real thing on this machine: processes, sockets and Chromium. Nothing is asserted here.
"""

import asyncio
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import embedded

ROUNDS = 5


def main() -> None:
    """Run all series."""
    if not shutil.which("chromium"):
        sys.exit("make bench needs Chromium (apt-get install chromium)")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    print(f"machine: {machine}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        series = asyncio.run(embedded.measure(Path(folder), ROUNDS))
    print("\n| what | minimum | median | maximum |\n|---|---|---|---|")
    for name, values in series.items():
        print(f"| {name} | {row(values)} |")


def row(values: Sequence[float]) -> str:
    """Minimum, median and maximum, in a table's cells."""
    return " | ".join(f"{value:.2f}" for value in (min(values), statistics.median(values), max(values)))


main()
