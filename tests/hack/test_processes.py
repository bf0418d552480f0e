"""A process is found again by number, start time and boot, and nobody else's is ended in its place."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.cluster.processes import BOOT_ID, Supervisor, process_start


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    for name in made.names():
        made.stop(name)


def test_started_process_is_known_to_another_supervisor_and_ends(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start("sleeper", ["sleep", "1000"])

    assert Supervisor(tmp_path).is_running("sleeper")
    supervisor.stop("sleeper")
    assert not supervisor.is_running("sleeper")
    assert supervisor.names() == []


def test_second_start_leaves_the_running_process_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start("sleeper", ["sleep", "1000"])
    first = (tmp_path / "run" / "sleeper.json").read_text()

    supervisor.start("sleeper", ["sleep", "1000"])

    assert (tmp_path / "run" / "sleeper.json").read_text() == first


@pytest.mark.parametrize("changed", ["started", "boot"])
def test_process_with_a_reused_number_is_not_touched(supervisor: Supervisor, tmp_path: Path, changed: str) -> None:
    record = {"pid": os.getpid(), "started": process_start(os.getpid()), "boot": BOOT_ID.read_text().strip()}
    record[changed] = "another" if changed == "boot" else 1
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "other.json").write_text(json.dumps(record))

    assert not supervisor.is_running("other")
    supervisor.stop("other")  # would end this test run

    assert supervisor.names() == []


def test_process_that_dies_early_is_reported_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start("broken", ["sh", "-c", "echo no such disk; exit 3"])

    with pytest.raises(ClusterError, match=r"broken ended.*(?s:.*)no such disk"):
        supervisor.require("broken", lambda: False, timeout=30)


def test_process_that_ignores_the_polite_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    supervisor.start("stubborn", ["sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 1; done"])
    supervisor.require("stubborn", ready.exists, timeout=30)

    supervisor.stop("stubborn", grace=0.1)

    assert not supervisor.is_running("stubborn")
