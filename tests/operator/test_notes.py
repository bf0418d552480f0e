"""Events: only changes between well and unwell, aggregated, and never more than a camera's allowance."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from sightline_kube.errors import ClusterError, UnavailableError
from sightline_kube.kinds import EVENT, Kind
from sightline_kube.memory import MemoryCluster
from sightline_model.camera import CameraStatus
from sightline_model.reasons import SourceReason
from sightline_model.session import SessionPhase
from sightline_operator import notes
from sightline_operator.metrics import Metrics
from sightline_operator.notes import Note, Notebook
from tests.operator.looks import reason_is
from tests.operator.samples import NOW, camera, text
from tests.operator.virtualtime import run, until
from tests.operator.world import Recording, World, world

TOLD = Note("Warning", "ImagePullFailed", "no image")


def status(ready: tuple[str, str], **causes: tuple[str, str, str]) -> CameraStatus:
    """A status with Ready, and other conditions as (status, reason, message)."""
    rows = [(type_, *cause) for type_, cause in causes.items()] + [("Ready", *ready, "summary")]
    conditions = [
        {"type": type_, "status": value, "reason": reason, "message": message, "lastTransitionTime": text(NOW)}
        for type_, value, reason, message in rows
    ]
    return CameraStatus.model_validate({"conditions": conditions})


WELL = status(("True", "Ready"), AgentReady=("True", "Ready", ""))
UNKNOWN = status(("Unknown", "SourceNotReady"), AgentReady=("True", "Ready", ""))
STARTING = status(("False", "AgentNotReady"), AgentReady=("False", "Starting", "wait"))
NO_IMAGE = status(("False", "AgentNotReady"), AgentReady=("False", "ImagePullFailed", "no image"))
CRASHING = status(("False", "AgentNotReady"), AgentReady=("False", "CrashLoop", "exit code 3"))
REFUSED = status(("False", "SourceNotReady"), SourceReady=("False", "AuthenticationFailed", "wrong password"))


@pytest.mark.parametrize(
    ("before", "after", "note"),
    [
        (CameraStatus(), STARTING, None),
        (STARTING, UNKNOWN, None),
        (UNKNOWN, WELL, Note("Normal", "Ready", "summary")),
        (STARTING, WELL, Note("Normal", "Ready", "summary")),
        (WELL, WELL, None),
        (STARTING, NO_IMAGE, TOLD),
        (WELL, NO_IMAGE, TOLD),
        (NO_IMAGE, NO_IMAGE, None),
        (NO_IMAGE, CRASHING, Note("Warning", "CrashLoop", "exit code 3")),
        (NO_IMAGE, STARTING, None),
        (NO_IMAGE, WELL, Note("Normal", "Ready", "summary")),
        (WELL, REFUSED, Note("Warning", "AuthenticationFailed", "wrong password")),
        (WELL, status(("False", "Deleting")), None),
    ],
)
def test_what_is_worth_an_event(before: CameraStatus, after: CameraStatus, note: Note | None) -> None:
    assert notes.of(before, after) == note


class Desk:
    """A notebook with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.cluster = MemoryCluster(clock=lambda: self.now)
        self.recording = Recording(self.cluster)
        self.metrics = Metrics()
        self.notebook = Notebook(self.recording, lambda: self.now, self.metrics)

    async def write(self, *several: Note, name: str = "gate") -> None:
        task = asyncio.ensure_future(self.notebook.run())
        for note in several:
            self.notebook.add(camera(name=name, namespace="default", uid=f"u-{name}"), note)
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def events(self) -> list[dict[str, Any]]:
        return (await self.cluster.list(EVENT)).items

    def counted(self, result: str) -> float:
        return self.metrics.registry.get_sample_value("sightline_events_total", {"result": result}) or 0.0


def test_equal_notes_are_one_event_with_a_count() -> None:
    async def main() -> None:
        desk = Desk()
        await desk.write(TOLD, TOLD)
        desk.now += timedelta(minutes=9)
        await desk.write(TOLD)
        (event,) = await desk.events()
        assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (3, text(NOW), text(desk.now))
        assert event["involvedObject"]["kind"] == "Camera"
        assert (event["type"], event["reason"], event["message"]) == ("Warning", "ImagePullFailed", "no image")
        desk.now += timedelta(minutes=11)
        await desk.write(TOLD)
        assert sorted(item["count"] for item in await desk.events()) == [1, 3]

    run(main)


def test_an_event_that_has_expired_is_made_again() -> None:
    async def main() -> None:
        desk = Desk()
        await desk.write(TOLD)
        (event,) = await desk.events()
        await desk.cluster.delete(EVENT, "default", event["metadata"]["name"])
        await desk.write(TOLD)
        (again,) = await desk.events()
        assert again["count"] == 1

    run(main)


def test_a_camera_that_flaps_has_an_allowance_and_others_their_own() -> None:
    async def main() -> None:
        desk = Desk()
        await desk.write(*(Note("Warning", "Stalled", f"message {number}") for number in range(40)))
        assert len(desk.recording.calls) == notes.ALLOWANCE
        assert desk.counted("limited") == 40 - notes.ALLOWANCE
        await desk.write(TOLD, name="yard")
        assert len(desk.recording.calls) == notes.ALLOWANCE + 1
        desk.now += timedelta(minutes=5)
        await desk.write(TOLD, TOLD)
        assert len(desk.recording.calls) == notes.ALLOWANCE + 2

    run(main)


def test_what_cannot_be_written_is_counted_and_hurts_nobody() -> None:
    async def main() -> None:
        desk = Desk()

        def fail(verb: str, kind: Kind, name: str) -> ClusterError | None:
            return UnavailableError("away")

        desk.recording.fail = fail
        await desk.write(TOLD, TOLD)
        assert desk.counted("failed") == 2
        for _ in range(notes.QUEUE_SIZE + 3):
            desk.notebook.add(camera(), TOLD)
        assert desk.counted("dropped") == 3

    run(main)


async def _reasons(here: World) -> list[tuple[str, int]]:
    return [(item["reason"], item["count"]) for item in (await here.cluster.list(EVENT)).items]


def test_a_camera_tells_its_story_and_viewers_tell_none() -> None:
    async def main() -> None:
        async with world() as here:
            await here.start_camera()
            await here.watch("s-1")
            await here.settled()
            here.agent().set_session("s-1", SessionPhase.ENDED)
            await here.settled(100)
            assert await _reasons(here) == [("Ready", 1)]
            for _ in range(3):
                here.agent().set_source(SourceReason.AUTHENTICATION_FAILED, message="wrong password")
                await until(lambda: reason_is(here, "Ready", "SourceNotReady"))
                here.agent().set_source(SourceReason.STREAMING)
                await here.ready()
            await here.settled()
            assert sorted(await _reasons(here)) == [("AuthenticationFailed", 3), ("Ready", 4)]

    run(main)
