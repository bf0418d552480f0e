"""Sessions on virtual time, with scripted peers: opened once, ended once, always cleaned up."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from sightline_agent.attachment import Attachment, Wanted
from sightline_agent.errors import ProblemError
from sightline_agent.media.frames import MediaFormat, VideoFormat
from sightline_agent.observer import Observer
from sightline_agent.registry import SessionRegistry
from sightline_agent.signaling.sessions import Opened, OpenRequest
from sightline_agent.sources.base import SourceError
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.mux import UdpMux
from sightline_model.agent import (
    AgentConfig,
    AgentLifecycle,
    CameraIdentity,
    PlayerReport,
    SessionReport,
    SessionStats,
    SourceReport,
)
from sightline_model.camera import Source, TestPatternSource
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase, SessionRole, Transport
from tests.helpers.virtual_time import VirtualLoop, run, settle

FORMAT = MediaFormat(VideoFormat("H264", "42c01e", 640, 360))


class FakeRenditions:
    def __init__(self) -> None:
        self.attached = 0
        self.ever = 0
        self.delay = 0.0
        self.error: SourceError | None = None
        self.keys_wanted = 0
        self.names = ["main"]
        self.formats: dict[str, MediaFormat] = {}
        self.key_frame_in = 0.0
        self.suitable = True

    async def attach(self, wanted: Wanted) -> Attachment:
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        self.attached += 1
        self.ever += 1
        fanout = PythonFanOut(UdpMux("127.0.0.1", 0))
        format_ = self.formats.get(wanted.profile, FORMAT)
        return Attachment(
            wanted.profile, format_, fanout, fanout, self._want_key_frame, self._leave, key_frame=self._key_frame
        )

    def suits(self, place: Attachment, codecs: frozenset[str]) -> bool:
        return self.suitable

    def report(self) -> SourceReport:
        return SourceReport(reason=SourceReason.STREAMING, video_codec="H264", width=640, height=360, bitrate=1000)

    def reports(self) -> list[SourceReport]:
        return [SourceReport(profile=name) for name in self.names[1:]]

    async def _key_frame(self, patience: float) -> None:
        await asyncio.sleep(self.key_frame_in)

    def _leave(self) -> None:
        self.attached -= 1

    def _want_key_frame(self) -> None:
        self.keys_wanted += 1


class FakePeer:
    """Connects after 0.1 s and sends media after 0.2 s, unless told otherwise."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.etag = "ufrag"
        self.problem: Problem | None = None
        self.connects = True
        self.hangs = False
        self.fragments: list[str] = []
        self.closed_with: list[EndReason] = []
        self.running = False
        self.reports = 0
        self.loss = 0.0
        self.places: list[str] = []
        self.media_id: str | None = "0"
        self._end = asyncio.Event()

    def answer(self, offer: str) -> str:
        if self.problem is not None:
            raise ProblemError(self.problem)
        return f"answer to {offer}"

    def trickle(self, fragment: str) -> str | None:
        self.fragments.append(fragment)
        return None

    def stats(self) -> SessionStats | None:
        if not self.running:
            return None
        since = datetime(2026, 1, 1, tzinfo=UTC)
        return SessionStats(since=since, address_family="IPv6", reports=self.reports, fraction_lost=self.loss)

    async def switch(self, place: Attachment) -> None:
        self.places.append(place.profile)

    async def run(self) -> None:
        self.running = True
        try:
            if self.connects:
                await asyncio.sleep(0.1)
                self.observer.connected()
                await asyncio.sleep(0.1)
                self.observer.media()
            await self._end.wait()
            if self.hangs:
                await asyncio.Event().wait()
        finally:
            self.running = False

    def close(self, reason: EndReason) -> None:
        self.closed_with.append(reason)
        self._end.set()


class World:
    def __init__(self, max_viewers: int = 3) -> None:
        self.renditions = FakeRenditions()
        self.peers: list[FakePeer] = []
        self.prepare: Callable[[FakePeer], None] = lambda peer: None
        self.registry = SessionRegistry(config(max_viewers), self.renditions, self.make)
        self.told: list[SessionReport] = []
        self.registry.subscribe(self.told.append)

    def make(self, sid: str, place: Attachment, observer: Observer) -> FakePeer:
        assert place.format == FORMAT
        peer = FakePeer(observer)
        self.prepare(peer)
        self.peers.append(peer)
        return peer

    async def open(self, sid: str = "s-1", role: SessionRole = SessionRole.VIEW) -> Opened:
        return await self.registry.open(OpenRequest(sid, "alice", role, Transport.WHEP, "offer"))

    def phases(self, sid: str = "s-1") -> list[SessionPhase]:
        found: list[SessionPhase] = []
        for report in self.told:
            if report.id == sid and (not found or found[-1] is not report.phase):
                found.append(report.phase)
        return found

    def end(self, sid: str = "s-1") -> SessionReport:
        (last,) = [report for report in self.told if report.id == sid and report.phase is SessionPhase.ENDED]
        return last


def config(max_viewers: int = 3) -> AgentConfig:
    return AgentConfig(
        camera=CameraIdentity(namespace="default", name="door", uid="1"),
        source=Source(test_pattern=TestPatternSource()),
        lifecycle=AgentLifecycle(start_timeout=10, connect_timeout=20),
        max_viewers=max_viewers,
    )


def story(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def tell() -> None:
        world = World()
        await scenario(world)
        await world.registry.shutdown(EndReason.AGENT_LOST, "the test is over")
        assert world.renditions.attached == 0
        assert all(not peer.running and len(peer.closed_with) == 1 for peer in world.peers)
        assert world.registry.viewers == 0

    run(tell())


REQUESTED, CONNECTING = SessionPhase.REQUESTED, SessionPhase.CONNECTING
STREAMING, ENDED = SessionPhase.STREAMING, SessionPhase.ENDED


def test_a_session_from_the_offer_to_the_hangup() -> None:
    async def scenario(world: World) -> None:
        opened = await world.open()
        assert (opened.sid, opened.answer, opened.etag) == ("s-1", "answer to offer", "ufrag")
        assert world.registry.etag("s-1") == "ufrag"
        await asyncio.sleep(1)
        assert (world.registry.viewers, world.registry.peer_connections) == (1, 1)
        assert world.renditions.keys_wanted == 1
        world.registry.trickle("s-1", "candidate")
        assert world.peers[0].fragments == ["candidate"]
        assert await world.registry.close("s-1", EndReason.HANGUP)
        assert world.phases() == [REQUESTED, CONNECTING, STREAMING, ENDED]
        end = world.end()
        assert end.end_reason is EndReason.HANGUP
        times = [end.requested_at, end.answered_at, end.connected_at, end.first_media_at, end.ended_at]
        assert None not in times
        assert not await world.registry.close("s-1", EndReason.HANGUP)
        assert world.registry.etag("s-1") is None
        assert world.registry.ended_by_reason[EndReason.HANGUP] == 1

    story(scenario)


def test_an_id_opens_once() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await refused(world.open(), ProblemCode.CONFLICT)
        await world.registry.close("s-1", EndReason.HANGUP)
        await asyncio.sleep(100)
        await refused(world.open(), ProblemCode.CONFLICT)

    story(scenario)


def test_an_id_in_use_for_hours_still_opens_once() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(0.5)
        for _ in range(100):
            world.peers[0].observer.alive()
            await asyncio.sleep(10)
        await refused(world.open(), ProblemCode.CONFLICT)
        assert world.registry.viewers == 1

    story(scenario)


async def refused(opening: Coroutine[Any, Any, Opened], code: ProblemCode) -> Problem:
    with pytest.raises(ProblemError) as caught:
        await opening
    assert caught.value.problem.code is code
    return caught.value.problem


def test_no_more_viewers_than_may_be() -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            await world.open(f"s-{number}")
        problem = await refused(world.open("s-x"), ProblemCode.TOO_MANY_VIEWERS)
        assert problem.status == 503
        assert problem.retry_after_seconds
        await world.registry.close("s-0", EndReason.HANGUP)
        await world.open("s-x")  # a refused id was not used up

    story(scenario)


def test_the_gate_is_asked_and_its_refusal_counted() -> None:
    class Gate:
        def admit(self, viewers: int) -> Problem | None:
            return Problem(code=ProblemCode.AGENT_OVERLOADED, retry_after_seconds=9) if viewers == 2 else None

    async def scenario(world: World) -> None:
        world.registry = SessionRegistry(config(), world.renditions, world.make, gate=Gate())
        await world.open("s-0")
        await world.open("s-1")
        problem = await refused(world.open("s-x"), ProblemCode.AGENT_OVERLOADED)
        assert (problem.status, problem.retry_after_seconds) == (503, 9)
        await world.registry.close("s-0", EndReason.HANGUP)
        await world.open("s-x")  # a refused id was not used up
        assert world.registry.refused == {ProblemCode.AGENT_OVERLOADED: 1}

    story(scenario)


def test_how_a_viewer_receives_is_told_to_those_who_ask_for_details() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        (detailed,) = world.registry.reports(details=True)
        assert detailed.stats is not None
        assert detailed.stats.address_family == "IPv6"
        assert [report.stats for report in (*world.registry.reports(), *world.told)] == [None] * (1 + len(world.told))

    story(scenario)


def test_what_players_say_is_shown_while_they_are_there() -> None:
    async def scenario(world: World) -> None:
        report = PlayerReport(freezes=2, decoder="FFmpeg")
        await world.open()
        await asyncio.sleep(1)
        assert world.registry.note_player("s-1", report)
        assert not world.registry.note_player("s-2", report)
        (detailed,) = world.registry.reports(details=True)
        assert detailed.stats is not None
        assert detailed.stats.player == report
        await world.registry.close("s-1", EndReason.HANGUP)
        assert not world.registry.note_player("s-1", report)
        assert world.registry.players.of("s-1") is None
        assert world.registry.players.freezes == 2

    story(scenario)


def test_publishing_is_for_later() -> None:
    story(lambda world: then_refused(world.open(role=SessionRole.PUBLISH), ProblemCode.NOT_SUPPORTED_YET))


async def then_refused(opening: Coroutine[Any, Any, Opened], code: ProblemCode) -> None:
    await refused(opening, code)


def test_a_failed_source_is_the_answer_and_the_end() -> None:
    async def scenario(world: World) -> None:
        world.renditions.error = SourceError(SourceReason.AUTHENTICATION_FAILED, "the camera refuses the password")
        problem = await refused(world.open(), ProblemCode.SOURCE_AUTHENTICATION_FAILED)
        assert problem.reason is SourceReason.AUTHENTICATION_FAILED
        assert problem.retry_after_seconds
        await settle()
        end = world.end()
        assert (end.end_reason, end.message) == (EndReason.SOURCE_LOST, "the camera refuses the password")
        assert world.phases() == [REQUESTED, ENDED]

    story(scenario)


def test_an_offer_that_cannot_be_answered_is_rejected() -> None:
    async def scenario(world: World) -> None:
        def prepare(peer: FakePeer) -> None:
            peer.problem = Problem(code=ProblemCode.CODEC_NOT_OFFERED)

        world.prepare = prepare
        await refused(world.open(), ProblemCode.CODEC_NOT_OFFERED)
        await settle()
        assert world.end().end_reason is EndReason.REJECTED
        assert world.renditions.ever == 1

    story(scenario)


def test_a_client_that_hangs_up_while_parked_leaves_nothing() -> None:
    async def scenario(world: World) -> None:
        world.renditions.delay = 5.0
        opening = asyncio.create_task(world.open())
        await asyncio.sleep(1)
        opening.cancel()
        await asyncio.wait({opening})
        await settle()
        assert world.end().end_reason is EndReason.HANGUP
        assert (world.renditions.ever, world.registry.viewers) == (0, 0)

    story(scenario)


def test_a_peer_that_never_connects_is_given_up() -> None:
    async def scenario(world: World) -> None:
        world.prepare = lambda peer: setattr(peer, "connects", False)
        await world.open()
        await asyncio.sleep(19.9)
        assert world.registry.viewers == 1
        await asyncio.sleep(0.2)
        assert world.end().end_reason is EndReason.CONNECT_TIMEOUT

    story(scenario)


def test_a_silent_peer_is_given_up_and_a_living_one_is_not() -> None:
    async def scenario(world: World) -> None:
        await world.open("s-dead")
        await world.open("s-live")
        for _ in range(60):
            await asyncio.sleep(1)
            world.peers[1].observer.alive()
        assert world.end("s-dead").end_reason is EndReason.ACK_TIMEOUT
        assert world.registry.viewers == 1

    story(scenario)


@pytest.mark.parametrize("heard_after", [0.0, 1.5])
def test_a_process_that_stood_still_gives_up_nobody_who_is_heard_soon(heard_after: float) -> None:
    async def scenario(world: World) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await world.open("s-dead")
        await world.open("s-live")
        await asyncio.sleep(1)
        # What lies in the sockets is read before any timer is looked at, or a little later where there is much of it.
        loop.stand_still(60)
        loop.call_later(heard_after, world.peers[1].observer.alive)
        await asyncio.sleep(3)
        assert world.end("s-dead").end_reason is EndReason.ACK_TIMEOUT
        assert world.registry.viewers == 1

    story(scenario)


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_is_told_as_it_is(reason: EndReason) -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        assert await world.registry.close("s-1", reason, "because")
        end = world.end()
        assert (end.end_reason, end.message) == (reason, "because")
        assert world.peers[0].closed_with == [reason]

    story(scenario)


def test_a_peer_that_ends_by_itself_ends_the_session() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        world.peers[0].observer.closed(EndReason.SOCKET_LOST, "no ICE check arrived")
        await settle()
        end = world.end()
        assert (end.end_reason, end.message) == (EndReason.SOCKET_LOST, "no ICE check arrived")

    story(scenario)


def test_a_peer_that_does_not_close_is_cut_off() -> None:
    async def scenario(world: World) -> None:
        world.prepare = lambda peer: setattr(peer, "hangs", True)
        await world.open()
        await asyncio.sleep(1)
        begun = asyncio.get_running_loop().time()
        assert await world.registry.close("s-1", EndReason.REVOKED)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(2.0)

    story(scenario)


def test_a_bug_in_a_peer_ends_the_session_and_tells_nothing() -> None:
    async def scenario(world: World) -> None:
        def prepare(peer: FakePeer) -> None:
            raise RuntimeError("secret")

        world.prepare = prepare
        problem = await refused(world.open(), ProblemCode.INTERNAL)
        assert "secret" not in problem.model_dump_json()

    story(scenario)


def test_ended_sessions_are_told_for_a_minute() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await world.registry.close("s-1", EndReason.HANGUP)
        await asyncio.sleep(59)
        assert [report.id for report in world.registry.reports()] == ["s-1"]
        await asyncio.sleep(2)
        assert world.registry.reports() == []

    story(scenario)


def test_a_stream_that_has_ended_ends_its_sessions() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        world.registry.source_ended("main")
        await settle()
        assert world.end().end_reason is EndReason.SOURCE_LOST

    story(scenario)


def test_after_the_shutdown_nobody_comes_in() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await world.registry.shutdown(EndReason.AGENT_LOST, "bye")
        assert world.end().end_reason is EndReason.AGENT_LOST
        await refused(world.open("s-2"), ProblemCode.AGENT_UNAVAILABLE)

    story(scenario)


def test_an_end_is_heard_through_a_full_inbox() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        for _ in range(1000):
            world.peers[0].observer.media()
        assert world.registry.inbox_dropped > 900
        assert await world.registry.close("s-1", EndReason.REVOKED)
        assert world.end().end_reason is EndReason.REVOKED

    story(scenario)


def test_trickle_to_nobody() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ProblemError):
            world.registry.trickle("s-1", "x")

    story(scenario)


def test_who_cannot_show_the_camera_any_more_gets_another_rendition() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        world.registry.refit("main")
        await settle()
        assert world.peers[0].places == []
        world.renditions.suitable = False
        world.registry.refit("sd")
        await settle()
        assert world.peers[0].places == []
        world.registry.refit("main")
        await settle()
        assert world.peers[0].places == ["main"]
        assert world.renditions.attached == 1

    story(scenario)


def test_who_cannot_be_served_otherwise_is_told_to_ask_anew() -> None:
    async def scenario(world: World) -> None:
        await world.open()
        await asyncio.sleep(1)
        world.renditions.suitable = False
        world.renditions.error = SourceError(SourceReason.STALLED, "the transcoder ended unexpectedly")
        world.registry.refit("main")
        await asyncio.sleep(1)
        assert world.end().end_reason is EndReason.SOURCE_LOST
        assert "transcoder" in world.end().message

    story(scenario)
