"""The event stream: snapshot first, bounded, kept alive, silent when nothing changes."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from sightline_agent.control import events
from sightline_agent.control.events import EventHub, TooManySubscribersError
from sightline_model.agent import AgentReport, AgentStats, CameraIdentity, SessionReport, SourceReport
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from tests.helpers.virtual_time import run

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Snapshots:
    def __init__(self) -> None:
        self.stats = AgentStats()

    def __call__(self) -> AgentReport:
        camera = CameraIdentity(namespace="default", name="door", uid="1")
        return AgentReport(
            camera=camera,
            version="1",
            instance="i",
            revision="r",
            started_at=NOW,
            source=SourceReport(),
            stats=self.stats,
        )


def parse(data: bytes) -> tuple[str, dict[str, object]]:
    event, body, *rest = data.decode().split("\n")
    assert rest == ["", ""]
    return event.removeprefix("event: "), json.loads(body.removeprefix("data: "))


def test_a_snapshot_then_what_happens() -> None:
    async def scenario() -> None:
        hub = EventHub(Snapshots())
        stream = hub.subscribe().stream()
        hub.source(SourceReport(reason=SourceReason.STREAMING))
        hub.session(SessionReport(id="s-1", user="alice", phase=SessionPhase.REQUESTED, requested_at=NOW))
        found = [parse(await anext(stream)) for _ in range(3)]
        assert [name for name, _ in found] == ["snapshot", "source", "session"]
        assert found[0][1]["report"]
        assert found[1][1]["source"] == SourceReport(reason=SourceReason.STREAMING).to_wire()
        hub.close()
        assert [part async for part in stream] == []
        assert hub.subscribers == 0

    run(scenario())


def test_a_comment_every_five_seconds() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        hub = EventHub(Snapshots())
        stream = hub.subscribe().stream()
        await anext(stream)
        assert [await anext(stream), await anext(stream)] == [b": keep-alive\n\n"] * 2
        assert loop.time() == pytest.approx(10.0)
        hub.close()
        await stream.aclose()  # type: ignore[attr-defined]

    run(scenario())


def test_who_does_not_read_is_cut_off_and_counted() -> None:
    async def scenario() -> None:
        hub = EventHub(Snapshots())
        slow, quick = hub.subscribe(), hub.subscribe()
        reading = quick.stream()
        await anext(reading)
        for _ in range(300):
            hub.source(SourceReport())
            await anext(reading)
        assert hub.overflows == 1
        assert hub.subscribers == 1
        received = [part async for part in slow.stream()]
        assert len(received) == 256
        assert parse(received[0])[0] == "snapshot"
        await reading.aclose()  # type: ignore[attr-defined]

    run(scenario())


def test_numbers_are_told_every_ten_seconds_if_they_changed() -> None:
    async def scenario() -> None:
        snapshots = Snapshots()
        hub = EventHub(snapshots)
        task = asyncio.create_task(hub.run())
        stream = hub.subscribe().stream()
        got: list[tuple[float, str]] = []
        clock = asyncio.get_running_loop().time

        async def read() -> None:
            got.extend([(clock(), parse(part)[0]) async for part in stream if not part.startswith(b":")])

        reader = asyncio.create_task(read())
        await asyncio.sleep(35)
        snapshots.stats = AgentStats(cpu_seconds=5.0)
        await asyncio.sleep(10)
        snapshots.stats = AgentStats(viewers=1)
        await asyncio.sleep(20)
        hub.close()
        task.cancel()
        await asyncio.wait({task, reader})
        assert got == [(0.0, "snapshot"), (10.0, "stats"), (50.0, "stats")]

    run(scenario())


def test_streams_are_not_opened_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_SUBSCRIBERS", 2)

    async def scenario() -> None:
        hub = EventHub(Snapshots())
        first, _ = hub.subscribe(), hub.subscribe()
        with pytest.raises(TooManySubscribersError):
            hub.subscribe()
        first.close()
        hub.subscribe()

    run(scenario())
