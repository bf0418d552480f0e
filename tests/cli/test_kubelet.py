"""The process kubelet's files, without processes."""

import asyncio
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sightline_cli.dev.kubelet import PodProcess
from sightline_kube.memory import MemoryCluster

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "gate", "namespace": "default"},
    "data": {"password": b64encode(b"hunter2").decode()},
}
AGENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "camera-gate-abc", "namespace": "default"},
    "spec": {
        "volumes": [{"name": "credentials", "secret": {"secretName": "gate"}}],
        "containers": [
            {
                "name": "agent",
                "image": "agent:1",
                "volumeMounts": [{"name": "credentials", "mountPath": "/etc/credentials"}],
            }
        ],
    },
}


async def test_secrets_are_there_for_the_process_and_go_with_the_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster, started = MemoryCluster(), asyncio.Event()

    async def process(_: PodProcess) -> int:
        started.set()
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(PodProcess, "_run_once", process)
    await cluster.create(SECRET)
    pod = await cluster.create(AGENT)
    async with aiohttp.ClientSession() as session:
        running = asyncio.create_task(PodProcess(cluster, session, pod, "127.77.0.2", tmp_path, lambda: NOW).run())
        await started.wait()
        file = tmp_path / "pods/camera-gate-abc/etc/credentials/password"
        assert file.read_text() == "hunter2"
        assert file.parent.stat().st_mode & 0o077 == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
