"""The process: it ends with an error as soon as anything ends that must not, and in order when it is asked to."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from sightline_kube.cache import Cache
from sightline_kube.cluster import Obj, WatchEvent
from sightline_kube.kinds import CAMERA, LEASE, POD, SERVICE, Kind
from sightline_kube.memory import MemoryCluster
from sightline_model import names
from sightline_model.tokens import Signer, generate_private_key_pem
from sightline_operator import __main__ as process
from sightline_operator import handlers
from sightline_operator.core import KINDS
from sightline_operator.errors import LeaseLostError, OperatorError, TaskEndedError
from sightline_operator.lease import Times, given_back, held_by, holder
from sightline_operator.metrics import Metrics
from sightline_operator.settings import OperatorSettings
from tests.operator.samples import camera, camera_class, pod

SIGNER = Signer.from_pem(generate_private_key_pem())


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> OperatorSettings:
    monkeypatch.setenv("SIGHTLINE_AGENT_IMAGE", "agent:1")
    monkeypatch.setenv("SIGHTLINE_HOST", "127.0.0.1")
    monkeypatch.setenv("SIGHTLINE_PORT", "0")
    return OperatorSettings()


def made(settings: OperatorSettings) -> process.Process:
    return process.Process(settings, MemoryCluster(), process.cache_for(settings), [SIGNER], Metrics())


async def test_kopf_that_ends_ends_the_process(settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()

    monkeypatch.setattr(handlers, "watch", watch)
    with pytest.raises(TaskEndedError, match="kopf has ended"):
        await made(settings).run()


async def test_kopf_that_fails_ends_the_process(settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        await asyncio.sleep(0)
        raise RuntimeError("an error event in the watch")

    monkeypatch.setattr(handlers, "watch", watch)
    with pytest.raises(TaskEndedError) as caught:
        await made(settings).run()
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_a_signal_ends_it_in_order(settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        os.kill(os.getpid(), signal.SIGTERM)
        await stopping.wait()
        told.append("kopf was asked to stop")

    monkeypatch.setattr(handlers, "watch", watch)
    async with asyncio.timeout(60):
        await made(settings).run()
    assert told == ["kopf was asked to stop"]


@pytest.fixture
def several(settings: OperatorSettings) -> OperatorSettings:
    return settings.model_copy(update={"lease_name": "operator", "lease_namespace": "default", "lease_seconds": 3})


async def described(cluster: MemoryCluster) -> Obj:
    """A class, and a camera of it, for which nothing was made yet."""
    default = camera_class()
    default["metadata"]["annotations"] = {names.DEFAULT_CLASS_ANNOTATION: "true"}
    await cluster.create(default)
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "site"}})
    return await cluster.create(camera())


async def test_on_standby_it_knows_everything_and_does_nothing(
    several: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        await stopping.wait()

    monkeypatch.setattr(handlers, "watch", watch)
    cluster = MemoryCluster()
    others = held_by(("default", "operator"), None, "another", Times(duration=300), datetime.now(UTC))
    await cluster.create(others)
    await described(cluster)
    metrics = Metrics()
    standby = process.Process(several, cluster, process.cache_for(several), [SIGNER], metrics)
    task = asyncio.create_task(standby.run())
    async with asyncio.timeout(60):
        while not standby._ready() or standby._elector is None or standby._elector._sight is None:
            await asyncio.sleep(0.01)
        assert standby._cache.get(CAMERA, "site", "gate")
        assert not standby._operator.queue.delayed
        assert len(standby._operator.queue) == 0
        assert (await cluster.list(POD)).items == []
        assert "sightline_cameras{" not in generate_latest(metrics.registry).decode()
        await cluster.delete(LEASE, "default", "operator")
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert not standby._ready()
    assert (await cluster.list(POD)).items == []


async def test_who_takes_over_knows_what_the_one_before_did_last(
    several: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod of which no watch has told yet is not made a second time."""
    watching = asyncio.Event()

    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        await stopping.wait()

    class Deaf(MemoryCluster):
        async def watch(self, kind: Kind, *_: Any, **__: Any) -> AsyncGenerator[WatchEvent, None]:
            if kind == POD:
                watching.set()
            await asyncio.Event().wait()
            yield  # type: ignore[misc]

    monkeypatch.setattr(handlers, "watch", watch)
    cluster = Deaf()
    others = held_by(("default", "operator"), None, "another", Times(duration=300), datetime.now(UTC))
    await cluster.create(others)
    made = await described(cluster)
    heir = process.Process(several, cluster, process.cache_for(several), [SIGNER], Metrics())
    task = asyncio.create_task(heir.run())
    async with asyncio.timeout(60):
        while not heir._ready():
            await asyncio.sleep(0.01)
        await watching.wait()
        last = pod("last")
        last["metadata"]["ownerReferences"][0]["uid"] = made["metadata"]["uid"]
        await cluster.create(last)
        current = await cluster.get(LEASE, "default", "operator")
        await cluster.replace(given_back(current))
        while not (await cluster.list(SERVICE)).items or not heir._operator.queue.idle:
            await asyncio.sleep(0.01)
        assert [found["metadata"]["name"] for found in (await cluster.list(POD)).items] == [last["metadata"]["name"]]
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def test_asked_to_end_it_gives_the_lease_back(several: OperatorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    long = several.model_copy(update={"lease_seconds": 300})  # no busy machine misses its renewal
    cluster = MemoryCluster()
    seen: list[str] = []

    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        seen.append(holder(await cluster.get(LEASE, "default", "operator")))
        os.kill(os.getpid(), signal.SIGTERM)
        await stopping.wait()
        seen.append(holder(await cluster.get(LEASE, "default", "operator")))

    monkeypatch.setattr(handlers, "watch", watch)
    metrics = Metrics()
    async with asyncio.timeout(60):
        await process.Process(long, cluster, process.cache_for(long), [SIGNER], metrics).run()
    assert seen[0].startswith(socket.gethostname())
    assert seen[1] == ""
    page = generate_latest(metrics.registry).decode()
    assert 'leader_election_master_status{name="operator"} 0.0' in page
    watched = set(re.findall(r'sightline_watches_total\{kind="(\w+)"', page))
    assert watched == {kind.kind for kind in KINDS} - {"Camera", "CameraClass"}


async def test_without_the_lease_it_ends_with_an_error(
    several: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = MemoryCluster()

    async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
        started.set()
        await cluster.merge_patch(LEASE, "default", "operator", {"spec": {"holderIdentity": "another"}})
        await stopping.wait()

    monkeypatch.setattr(handlers, "watch", watch)
    async with asyncio.timeout(60):
        with pytest.raises(TaskEndedError, match="election has ended") as caught:
            await process.Process(several, cluster, process.cache_for(several), [SIGNER], Metrics()).run()
    assert isinstance(caught.value.__cause__, LeaseLostError)
    assert holder(await cluster.get(LEASE, "default", "operator")) == "another"


def test_keys_are_read_and_refused(settings: OperatorSettings, tmp_path: Path) -> None:
    current, previous = tmp_path / "signing.pem", tmp_path / "previous.pem"
    for path in (current, previous):
        path.write_bytes(generate_private_key_pem())
    both = settings.model_copy(update={"signing_key_file": current, "previous_signing_key_file": previous})
    assert len(process.load_signers(both)) == 2
    current.write_text("nonsense")
    with pytest.raises(OperatorError, match="cannot be read"):
        process.load_signers(both)


def test_settings_that_are_wrong_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("SIGHTLINE_AGENT_IMAGE", raising=False)
    monkeypatch.setenv("SIGHTLINE_PORT", "many")
    with pytest.raises(SystemExit) as caught:
        process.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "SIGHTLINE_AGENT_IMAGE: Field required" in said
    assert "SIGHTLINE_PORT: " in said


def test_kopf_writes_nothing_and_watches_what_people_describe() -> None:
    settings = handlers.settings()
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.persistence.finalizer == "sightline.dev/operator"
    registry = handlers.registry_for(Cache(KINDS))
    assert len(registry._watching.get_all_handlers()) == 2
    assert not registry._changing.get_all_handlers()
