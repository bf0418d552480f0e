"""The CPU budget out of made-up control groups, and the clock of this process."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sightline_agent.cpu import cpu_budget, process_seconds

V2 = "0::/\n"
V2_OUTSIDE = "0::/system.slice/agent.service\n"
V1 = "9:name=systemd:/\n4:cpu,cpuacct:/kubepods/pod1/c1\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "cores", "budget"),
    [
        pytest.param(V2, {}, 4, 4.0, id="no limit anywhere"),
        pytest.param(V2, {"cpu.max": "max 100000"}, 4, 4.0, id="max"),
        pytest.param(V2, {"cpu.max": "50000 100000"}, 4, 0.5, id="half a core"),
        pytest.param(V2, {"cpu.max": "800000 100000"}, 4, 4.0, id="more than there are"),
        pytest.param(V2_OUTSIDE, {"system.slice/agent.service/cpu.max": "150000 100000"}, 4, 1.5, id="outside"),
        pytest.param(
            V2_OUTSIDE,
            {"system.slice/cpu.max": "100000 100000", "system.slice/agent.service/cpu.max": "max 100000"},
            4,
            1.0,
            id="the group above limits",
        ),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "25000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            4,
            0.25,
            id="version 1, in a container",
        ),
        pytest.param(
            V1,
            {"cpu/kubepods/pod1/c1/cpu.cfs_quota_us": "-1", "cpu/kubepods/pod1/c1/cpu.cfs_period_us": "100000"},
            4,
            4.0,
            id="version 1, no limit",
        ),
        pytest.param(V2, {"cpu.max": "nonsense"}, 4, 4.0, id="nonsense"),
        pytest.param(V2, {"cpu.max": "100000 0"}, 4, 4.0, id="a period of nothing"),
        pytest.param("", {"cpu.max": "50000 100000"}, 2, 2.0, id="no control group"),
        pytest.param("0::/../../x\nrubbish\n", {"x/cpu.max": "50000 100000"}, 2, 0.5, id="above the mount"),
    ],
)
def test_the_budget(tmp_path: Path, cgroup: str, files: dict[str, str], cores: int, budget: float) -> None:
    (tmp_path / "self").write_text(cgroup)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cpu_budget(tmp_path / "mount", tmp_path / "self", cores) == budget


def test_this_machine_gives_something() -> None:
    assert cpu_budget() > 0


def test_the_clock_counts_this_process_and_its_children() -> None:
    before = process_seconds()
    until = time.process_time() + 0.02
    while time.process_time() < until:
        sum(range(1000))
    assert process_seconds() - before >= 0.02
    with subprocess.Popen(
        [sys.executable, "-c", "sum(range(10_000_000)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone = time.process_time()
        assert process_seconds() > alone + 0.05
        child.kill()
