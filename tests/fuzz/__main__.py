"""`make fuzz`: the long run. `python -m tests.fuzz --inputs 1000000`, or `--seconds 600`; `--target` for one of them.

Crashes are written to `.build/fuzz`, each with its trace; the exit code tells whether there were any. To make one a
test: put the file into the target's folder of the corpus.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.runner import Budget, Report, run
from tests.fuzz.targets import TARGETS

FOLDER = Path(".build/fuzz")


def main() -> int:
    """1 when something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="over all targets")
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chosen = [target for target in TARGETS if options.target in (None, target.name)]
    shares = sum(target.share for target in chosen)
    print(f"seed {options.seed}")
    print("| target | inputs | per second | slowest ms | resident +KiB | traced +KiB | crashes |")
    print("|---|---|---|---|---|---|---|", flush=True)
    reports = []
    for target in chosen:
        inputs = round(options.inputs * target.share / shares)
        report = run(target, options.seed, Budget(inputs, options.seconds / len(chosen), measure=True), FOLDER)
        reports.append(report)
        print(row(report), flush=True)
    print(f"\n{sum(report.inputs for report in reports)} inputs, {sum(report.seconds for report in reports):.0f} s")
    broken = [(report.target, where) for report in reports for where in report.crashes]
    for name, where in broken:
        print(f"{name}: {where.partition('|')[2]}")
    return 1 if broken else 0


def row(report: Report) -> str:
    """A line of the table."""
    rate = report.inputs / report.seconds if report.seconds else 0
    cells = [report.target, report.inputs, f"{rate:.0f}", f"{report.slowest * 1000:.1f}"]
    cells += [report.resident_growth // 1024, report.traced_growth // 1024, len(report.crashes)]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.exit(main())
