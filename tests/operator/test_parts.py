"""The smaller parts: status writes, reaper, sweep, classes, clock, settings, health, metrics' documentation."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from prometheus_client import generate_latest
from pydantic import ValidationError

from sightline_kube.cache import Cache, FeedStats
from sightline_kube.errors import ConflictError, UnavailableError
from sightline_kube.kinds import CAMERA, NODE, POD, STREAM_SESSION, Kind
from sightline_kube.memory import MemoryCluster
from sightline_model import names
from sightline_model.base import API_VERSION
from sightline_model.camera import CameraStatus, SourceStatus
from sightline_model.session import SessionPhase, SessionTimestamps, StreamSessionStatus
from sightline_operator import classes, clock, health, metrics
from sightline_operator.clock import after
from sightline_operator.core import KINDS
from sightline_operator.facts import ClassFacts
from sightline_operator.reaper import AT_A_TIME, CALMLY, LATE_SECONDS, Reaper
from sightline_operator.settings import OperatorSettings
from sightline_operator.status import StatusWriter, plan
from sightline_operator.sweep import WHOLE_EACH, Sweeper
from tests.operator.samples import NOW, ago, camera_class
from tests.operator.virtualtime import now, run, running, until
from tests.operator.world import Recording, world


def numbers(fps: int = 30, reconnects: int = 0) -> CameraStatus:
    return CameraStatus(source=SourceStatus(fps=fps, bitrate=fps * 1000, reconnects=reconnects))


@pytest.mark.parametrize(
    ("stored", "wanted", "written_ago", "write", "wait"),
    [
        (numbers(30), numbers(30), None, False, None),
        (numbers(30), numbers(30), 0.1, False, None),
        (numbers(30), numbers(25), None, True, None),
        (numbers(30), numbers(25), 4, False, 6),
        (numbers(30), numbers(25), 10, True, None),
        (numbers(30), numbers(30, 1), 0.25, False, 0.75),
        (numbers(30), numbers(30, 1), 1, True, None),
        (CameraStatus(), numbers(30), 2, True, None),
        (CameraStatus(viewers=1), CameraStatus(viewers=2), 1.5, False, 8.5),
    ],
)
def test_when_a_status_is_due(
    stored: CameraStatus, wanted: CameraStatus, written_ago: float | None, write: bool, wait: float | None
) -> None:
    due = plan(stored, wanted, None if written_ago is None else ago(written_ago), NOW)
    assert due.write is write
    assert due.wait == (None if wait is None else pytest.approx(wait))


def test_a_conflict_refreshes_the_cache() -> None:
    async def main() -> None:
        cluster, cache = MemoryCluster(clock=now), Cache(KINDS)
        spec: dict[str, Any] = {"source": {"testPattern": {}}}
        metadata = {"name": "gate", "namespace": "default"}
        made = await cluster.create({"apiVersion": API_VERSION, "kind": "Camera", "metadata": metadata, "spec": spec})
        cache.observe(CAMERA, None, made)
        newer = await cluster.merge_patch(CAMERA, "default", "gate", {"metadata": {"labels": {"a": "b"}}})
        writer = StatusWriter(cluster, cache)
        with pytest.raises(ConflictError):
            await writer.write(made, CameraStatus(viewers=1).to_wire())
        assert cache.get(CAMERA, "default", "gate") == newer
        assert await writer.write(newer, CameraStatus(viewers=1).to_wire())
        written = cache.get(CAMERA, "default", "gate")
        assert written
        assert written["status"]["viewers"] == 1
        await cluster.delete(CAMERA, "default", "gate")
        assert not await writer.write(written, CameraStatus(viewers=2).to_wire())
        assert cache.get(CAMERA, "default", "gate") is None

    run(main)


async def _sessions(cluster: MemoryCluster, count: int) -> list[str]:
    uids = []
    for number in range(count):
        made = await cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "StreamSession",
                "metadata": {"name": f"s-{number}", "namespace": "default"},
                "spec": {"cameraRef": {"name": "gate"}, "user": "alice"},
            }
        )
        uids.append(made["metadata"]["uid"])
    return uids


def test_the_reaper_deletes_when_it_is_time_and_only_what_it_saw() -> None:
    async def main() -> None:
        recording = Recording(MemoryCluster(clock=now))
        uids = await _sessions(recording._inner, 30)
        reaper = Reaper(recording, now)
        for number, uid in enumerate(uids):
            reaper.schedule(("default", f"s-{number}"), uid, now() + timedelta(seconds=10 + number))
        reaper.schedule(("default", "s-0"), uids[0], now() + timedelta(seconds=60))
        reaper.schedule(("default", "s-1"), "another uid", now() + timedelta(seconds=1))
        reaper.schedule(("default", "gone"), "x", now() + timedelta(seconds=1))
        reaper.forget(("default", "s-2"))
        async with running(reaper.run()):
            await asyncio.sleep(50)
            left = (await recording.list(STREAM_SESSION, "default")).items
            assert [obj["metadata"]["name"] for obj in left] == ["s-0", "s-1", "s-2"]
            await asyncio.sleep(20)
            assert reaper.deleted == 28
            assert len(reaper) == 0

    run(main)


def test_the_reaper_tries_again_after_a_failure() -> None:
    async def main() -> None:
        recording = Recording(MemoryCluster(clock=now))
        (uid,) = await _sessions(recording._inner, 1)
        failures = [UnavailableError("later")] * 2
        recording.fail = lambda verb, kind, name: failures.pop() if failures else None
        reaper = Reaper(recording, now)
        reaper.schedule(("default", "s-0"), uid, now())
        async with running(reaper.run()):
            await until(lambda: reaper.deleted == 1, 30)

    run(main)


def test_the_reaper_deletes_once_however_late_the_watch_is() -> None:
    async def main() -> None:
        recording = Recording(MemoryCluster(clock=now))
        (uid,) = await _sessions(recording._inner, 1)
        reaper = Reaper(recording, now)
        ended = now()
        async with running(reaper.run()):
            for _ in range(3):  # looks at a session whose deletion has not been seen yet
                reaper.schedule(("default", "s-0"), uid, ended)
                await asyncio.sleep(1)
            assert recording.count("delete", "StreamSession") == 1
            reaper.forget(("default", "s-0"))
            assert len(reaper) == 0

    run(main)


def test_a_deletion_that_takes_long_holds_no_other_one_up() -> None:
    async def main() -> None:
        recording = Recording(MemoryCluster(clock=now))
        count = 50 * AT_A_TIME
        uids = await _sessions(recording._inner, count)
        answer = asyncio.Event()
        under_way, most = 0, 0

        class Slow(MemoryCluster):
            async def delete(self, kind: Kind, namespace: str | None, name: str, **options: Any) -> None:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await (answer.wait() if name == "s-0" else asyncio.sleep(1))
                await recording.delete(kind, namespace, name, **options)
                under_way -= 1

        reaper = Reaper(Slow(), now)
        for number, uid in enumerate(uids):
            reaper.schedule(("default", f"s-{number}"), uid, now())
        async with running(reaper.run()):
            await asyncio.sleep(LATE_SECONDS - 0.5)
            assert most == CALMLY
            await asyncio.sleep(LATE_SECONDS)
            assert most == CALMLY + 1
            await until(lambda: reaper.deleted == count - 1, 120)
            assert most == AT_A_TIME
            answer.set()
            await until(lambda: reaper.deleted == count, 30)

    run(main)


def test_a_session_whose_deletion_was_refused_is_left_to_its_next_look() -> None:
    async def main() -> None:
        recording = Recording(MemoryCluster(clock=now))
        (uid,) = await _sessions(recording._inner, 1)
        refusals = [ConflictError("changed meanwhile")]
        recording.fail = lambda verb, kind, name: refusals.pop() if refusals else None
        reaper = Reaper(recording, now)
        ended = now()
        async with running(reaper.run()):
            reaper.schedule(("default", "s-0"), uid, ended)
            await asyncio.sleep(1)
            assert reaper.deleted == 0
            reaper.schedule(("default", "s-0"), uid, ended)
            await asyncio.sleep(1)
            assert reaper.deleted == 1

    run(main)


def test_the_sweep_finds_what_no_event_told() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            cache = Cache(KINDS)
            sweeper = Sweeper(here.cluster, cache, interval=60.0, rng=lambda: 0.5)
            async with running(sweeper.run()):
                await until(cache.synced)
                assert len(cache.list(POD)) == 1
                # At once, so that kopf's own first LIST would not have had it either.
                await here.cluster.delete(CAMERA, "default", "gate")
                await asyncio.sleep(3)
                assert cache.get(CAMERA, "default", "gate") is None
                assert sweeper.ghosts == 1
                await here.add_camera("yard")
                await asyncio.sleep(60 * WHOLE_EACH + 10)
                assert cache.list(POD, labels={names.CAMERA_LABEL: "gate"}) == []
                assert sweeper.ghosts == 3
                assert cache.get(CAMERA, "default", "yard")

    run(main)


def test_a_sweep_that_fails_comes_again() -> None:
    async def main() -> None:
        class Failing(MemoryCluster):
            failures = 3

            async def list(self, kind: Kind, *args: Any, **kwargs: Any) -> Any:
                if self.failures:
                    self.failures -= 1
                    raise UnavailableError("later", retry_after=2.0)
                return await super().list(kind, *args, **kwargs)

        cache = Cache(KINDS)
        sweeper = Sweeper(Failing(clock=now), cache, ["default", "kube-system"], 60.0, lambda: 0.5)
        cache_of_two = Cache(KINDS, ["default", "kube-system"])
        sweeper._cache = cache_of_two
        async with running(sweeper.run()):
            await until(cache_of_two.synced, 30)
            assert sweeper.failures == 3

    run(main)


def test_a_kind_that_is_not_answered_is_tried_each_time_and_is_no_heartbeat() -> None:
    async def main() -> None:
        class Failing(MemoryCluster):
            refused = False

            async def list(self, kind: Kind, *args: Any, **kwargs: Any) -> Any:
                if self.refused and kind == POD:
                    raise UnavailableError("later")
                return await super().list(kind, *args, **kwargs)

        cluster, cache = Failing(clock=now), Cache(KINDS)
        sweeper = Sweeper(cluster, cache, interval=60.0, rng=lambda: 0.5)
        async with running(sweeper.run()):
            await until(cache.synced)
            await asyncio.sleep(60 * WHOLE_EACH)
            cluster.refused = True
            await asyncio.sleep(100)
            assert sweeper.age() > 60
            assert sweeper.failures == 2
            cluster.refused = False
            await asyncio.sleep(60)
            assert sweeper.failures == 2
            assert sweeper.age() < 60

    run(main)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [({}, ("True", "Accepted")), ({"podTemplate": {}}, ("False", "NotSupportedYet")), ({"x": 1}, ("False", "Invalid"))],
)
def test_the_status_of_a_class(spec: dict[str, Any], expected: tuple[str, str]) -> None:
    status = classes.status_of(ClassFacts(camera_class(spec), 7), NOW)
    assert (status.conditions[0].status.value, status.conditions[0].reason) == expected
    assert status.cameras == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T12:00:00Z", NOW),
        ("2026-11-21T12:00:00.5+00:00", NOW + timedelta(milliseconds=500)),
        ("2026-11-21T12:00:00", NOW),
        ("yesterday", None),
        (None, None),
        (5, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    assert clock.parse_time(text) == expected


def test_the_wall_clock_knows_its_zone() -> None:
    assert clock.utc_now().tzinfo is UTC


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_AGENT_IMAGE", "agent:1")
    monkeypatch.setenv("SIGHTLINE_NAMESPACES", "a, b,")
    monkeypatch.setenv("SIGHTLINE_WORKERS", "4")
    settings = OperatorSettings()
    assert (settings.agent_image, settings.namespace_list, settings.workers) == ("agent:1", ("a", "b"), 4)
    assert settings.log_format == "json"
    monkeypatch.setenv("SIGHTLINE_WORKERS", "0")
    monkeypatch.setenv("SIGHTLINE_PUBLIC_URL", "nonsense")
    with pytest.raises(ValidationError) as caught:
        OperatorSettings()
    assert {str(problem["loc"][0]) for problem in caught.value.errors()} == {"workers", "public_url"}


async def test_health_tells_what_it_is_asked() -> None:
    state = {"ready": False, "longest": 0.0}
    registry = metrics.Metrics().registry
    async with (
        health.serving("127.0.0.1", 0, registry, lambda: bool(state["ready"]), lambda: float(state["longest"])) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def get(path: str) -> int:
            async with http.get(path) as response:
                return response.status

        assert [await get(path) for path in ("/healthz", "/readyz", "/metrics")] == [200, 503, 200]
        state.update(ready=True, longest=301.0)
        assert [await get(path) for path in ("/healthz", "/readyz")] == [500, 200]


def test_what_became_of_watches_is_counted_by_kind() -> None:
    told = metrics.Metrics()
    pods = FeedStats(lists=2, watches=5, events=40, gone=1, errors=3, ghosts=7)
    told.feed({POD: pods, NODE: FeedStats()})
    pods.watches += 1
    page = generate_latest(told.registry).decode()
    counted = dict(re.findall(r'^sightline_(\w+)_total\{kind="Pod"\} ([0-9.]+)$', page, re.MULTILINE))
    assert counted == {
        "watches": "6.0",
        "watch_events": "40.0",
        "watch_lists": "2.0",
        "watch_gone": "1.0",
        "watch_errors": "3.0",
        "watch_ghosts": "7.0",
    }
    assert 'sightline_watches_total{kind="Node"} 0.0' in page


@pytest.mark.parametrize(("skew", "counted"), [(0, 1), (0.9, 1), (3600, 0), (-3600, 0)])
def test_the_clock_of_an_agent_that_is_wrong_is_not_measured(skew: float, counted: int) -> None:
    told = metrics.Metrics()
    answered = ago(-skew)
    times = SessionTimestamps(
        requested=ago(0.5), answered=answered, connected=after(answered, 0.2), first_media=after(answered, 0.3)
    )
    told.session(StreamSessionStatus(phase=SessionPhase.STREAMING, timestamps=times), NOW)
    page = generate_latest(told.registry).decode()
    counts = dict(re.findall(r'sightline_session_phase_seconds_count\{phase="([a-z ]+)"\} (\d)', page))
    assert counts == {"connected": "1", "first media": "1"} | ({"answered": "1"} if counted else {})


def test_every_metric_is_documented_and_there() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            here.operator.metrics.request("get", "200", 0.01)
            page = generate_latest(here.operator.metrics.registry).decode()
            exposed = {
                re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split(" ")[0])
                for line in page.splitlines()
                if line and not line.startswith("#")
            }
            told = set(re.findall(r"[a-z_]+", metrics.__doc__ or ""))
            exposed = {name for name in exposed if not name.endswith("_created")}
            assert exposed <= told
            assert 'sightline_cameras{phase="Idle"} 1.0' in page
            assert 'sightline_agent_links{state="connected"} 1.0' in page

    run(main)
