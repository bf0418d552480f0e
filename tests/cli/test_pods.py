"""What the process kubelet reads from a pod and says of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sightline_cli.dev import pods

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POD: dict[str, Any] = {
    "metadata": {"name": "camera-gate-abc", "namespace": "default", "uid": "1"},
    "spec": {
        "volumes": [
            {"name": "config", "secret": {"secretName": "camera-gate"}},
            {"name": "credentials", "secret": {"secretName": "gate", "optional": True}},
            {"name": "tmp", "emptyDir": {}},
        ],
        "containers": [
            {
                "name": "agent",
                "image": "agent:1",
                "env": [
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "LEVEL", "value": "info"},
                ],
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/sightline/config"},
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "credentials", "mountPath": "/etc/sightline/credentials/main/gate"},
                ],
            }
        ],
    },
}


def test_mounts_are_the_secrets() -> None:
    assert pods.mounts(POD) == [
        pods.Mount("camera-gate", "/etc/sightline/config", False),
        pods.Mount("gate", "/etc/sightline/credentials/main/gate", True),
    ]


def test_environment_names_the_pods_address() -> None:
    assert pods.environment(POD, "127.77.0.2") == {"POD_IP": "127.77.0.2", "LEVEL": "info"}


def test_arguments_point_below_the_root() -> None:
    assert pods.arguments(Path("/r"))[1] == "/r/etc/sightline/config"


@pytest.mark.parametrize(
    ("attempt", "phase", "ready", "state"),
    [
        (pods.Attempt(), "Pending", False, "waiting"),
        (pods.Attempt(running=True, started_at=NOW), "Running", False, "running"),
        (pods.Attempt(running=True, ready=True, started_at=NOW), "Running", True, "running"),
        (pods.Attempt(restarts=2, waiting="CrashLoopBackOff"), "Running", False, "waiting"),
    ],
)
def test_status(attempt: pods.Attempt, phase: str, ready: bool, state: str) -> None:
    status = pods.status(POD, attempt, "127.77.0.2", NOW)
    assert status["phase"] == phase
    assert status["podIP"] == "127.77.0.2"
    assert status["conditions"][1]["status"] == str(ready)
    assert list(status["containerStatuses"][0]["state"]) == [state]


def test_the_first_restart_is_at_once_and_later_ones_wait_longer() -> None:
    delays = [pods.restart_delay(restarts) for restarts in range(12)]
    assert delays[:2] == [0.0, 0.0]
    assert delays == sorted(delays)
    assert delays[-1] == pods.RESTART_LIMIT_SECONDS
