"""Sound and pictures of one viewer, an unmodified aiortc client: both play, and sender reports put them in step."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiortc import RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtp import RtcpSrPacket

from sightline_agent.attachment import Attachment
from sightline_agent.listener import Listener
from sightline_agent.media.frames import CLOCK_RATE, AudioFormat, Chunk
from sightline_agent.media.lipsync import signed
from sightline_agent.media.sound import OPUS, OPUS_RATE, chunk
from sightline_agent.peers import Peer
from sightline_agent.signaling.answer import choose
from sightline_agent.signaling.sdp import parse_offer
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.sound.encoder import PACKET_SAMPLES, ToOpus
from sightline_agent.sources.sound.wire import Coding
from sightline_agent.transport.fanout import SendKeys, Viewer
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.rtcp import ReceptionReport
from sightline_model.agent import SessionStats
from tests.agents.signaling.test_whep import OFFER
from tests.helpers.peer_stage import FORMAT, PATIENCE, Client, Observer, Stage, encode_clip, open_client, open_stage
from tests.helpers.sounds import aac

pytestmark = pytest.mark.stacks

RATE = 30
LATE = 0.4
"""Seconds that the sound comes after its picture."""


class Play:
    """Pictures and sound on one clock, the sound late; both as a hub hands them on."""

    def __init__(self, stage: Stage, sound: Soundtrack) -> None:
        configuration, units = aac(16_000, 1, 20)
        encoder = ToOpus(Coding("aac", 16_000, 1, configuration))
        self._packets = [packet for data, at in units for packet, _ in encoder.feed(data, at * 3)]
        self._clip = encode_clip(RATE)
        self._stage, self._sound = stage, sound
        self._loop = asyncio.get_running_loop()
        self._began = self._last = self._loop.time()
        self._pictures = self._sounds = 0
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        # Where the process stood still, so did the camera: all that at once would not fit into the client's socket.
        self._began += max(now - self._last - 0.1, 0.0)
        self._last, elapsed = now, now - self._began
        while self._pictures < elapsed * RATE:
            turn, at = divmod(self._pictures, len(self._clip))
            picture = self._clip[at]
            timestamp = picture.timestamp + turn * len(self._clip) * CLOCK_RATE // RATE
            self._sound.picture(timestamp, now)
            self._stage.fanout.send(Chunk(picture.payloads, timestamp, picture.last, picture.key))
            self._pictures += 1
        while self._sounds * PACKET_SAMPLES < (elapsed - LATE) * OPUS_RATE:
            at = self._sounds * PACKET_SAMPLES
            payload = self._packets[self._sounds % len(self._packets)]
            self._sound.write(chunk(payload, at), now, at * CLOCK_RATE // OPUS_RATE)
            self._sounds += 1
        self._handle = self._loop.call_later(0.005, self._tick)

    def stop(self) -> None:
        self._handle.cancel()


class Reports:
    """Sender reports as the client gets them."""

    def __init__(self) -> None:
        self.last: dict[int, tuple[float, int]] = {}
        """By SSRC: seconds of the sender's clock, and the timestamp."""
        self.count = 0

    def note(self, packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            info = packet.sender_info
            self.last[packet.ssrc] = (info.ntp_timestamp / (1 << 32), info.rtp_timestamp)
            self.count += 1


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    found = Reports()
    handle: Callable[[RTCRtpReceiver, Any], Awaitable[None]] = RTCRtpReceiver._handle_rtcp_packet

    async def noting(receiver: RTCRtpReceiver, packet: Any) -> None:
        found.note(packet)
        await handle(receiver, packet)

    monkeypatch.setattr(RTCRtpReceiver, "_handle_rtcp_packet", noting)
    return found


async def watch(client: Client, stage: Stage, place: Attachment) -> tuple[Peer, dict[str, MediaStreamTrack]]:
    tracks: dict[str, MediaStreamTrack] = {}
    client.connection.on("track", lambda track: tracks.update({track.kind: track}))
    client.connection.addTransceiver("audio", direction="recvonly")
    peer = stage.factory.make("s-1", place, Observer())
    await client.connection.setLocalDescription(await client.connection.createOffer())
    answer = peer.answer(client.connection.localDescription.sdp)
    stage.run(peer)
    await client.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return peer, tracks


async def ten_pictures(
    client: Client, stage: Stage, place: Attachment, play: Play
) -> tuple[dict[str, MediaStreamTrack], SessionStats | None]:
    """Watch so many, and end the play; the tracks, and what was counted by then."""
    try:
        peer, tracks = await watch(client, stage, place)
        async with asyncio.timeout(PATIENCE):
            for _ in range(10):
                await tracks["video"].recv()
        return tracks, peer.stats()
    finally:
        play.stop()


def told(peer: Peer) -> bool:
    """Has the viewer said how it receives either?"""
    stats = peer.stats()
    return stats is not None and stats.sound is not None and min(stats.reports, stats.sound.reports) > 0


async def test_sound_and_pictures_are_in_step(reports: Reports) -> None:
    async with open_stage() as stage, open_client() as client:
        sound = Soundtrack(lambda: stage.sound)
        sound.start(OPUS)
        format_ = replace(FORMAT, audio=OPUS)
        nothing = lambda: None  # noqa: E731
        place = Attachment(
            "main", format_, stage.fanout, stage.sound, nothing, nothing, sound_correction=sound.correction
        )
        play = Play(stage, sound)
        try:
            peer, tracks = await watch(client, stage, place)
            async with asyncio.timeout(PATIENCE):
                frames = [await tracks["audio"].recv() for _ in range(50)]
                while len(reports.last) < 2 or reports.count < 8 or not told(peer):
                    await tracks["video"].recv()
            stats = peer.stats()
        finally:
            play.stop()
        assert stats is not None
        assert stats.sound is not None
        assert (stats.sound.packets_sent >= 50, stats.sound.packets_lost, stats.sound.bitrate > 0) == (True, 0, True)
        assert stats.packets_sent > stats.sound.packets_sent
        assert {frame.sample_rate for frame in frames} == {OPUS_RATE}  # type: ignore[union-attr]
        ((_, pictures),) = stage.fanout._streams.items()
        ((_, sounds),) = stage.sound._streams.items()
        picture_at, picture = reports.last[pictures.viewer.ssrc]
        sound_at, heard = reports.last[sounds.viewer.ssrc]
        shown = signed(picture - pictures.timestamp_offset) / CLOCK_RATE - picture_at
        played = signed(heard - sounds.timestamp_offset) / OPUS_RATE - sound_at
        # Both tracks begin at 0 of their clocks, so one moment of the sender is the same moment of both.
        # As near as the CPU was not taken away in the middle of a tick; by arrival they would be LATE apart.
        assert played - shown == pytest.approx(0.0, abs=LATE / 3)


async def test_sound_lets_the_pictures_begin() -> None:
    async with open_stage() as stage, open_client() as client:
        stage.factory.timings = replace(stage.factory.timings, sound=3600.0)
        sound = Soundtrack(lambda: stage.sound)
        sound.start(OPUS)
        place = Attachment("main", replace(FORMAT, audio=OPUS), stage.fanout, stage.sound, lambda: None, lambda: None)
        play = Play(stage, sound)
        tracks, stats = await ten_pictures(client, stage, place, play)
        assert sorted(tracks) == ["audio", "video"]
        assert stats is not None
        assert (stats.packets_sent > 0, stats.sound, stage.sound._streams) == (True, None, {})


def listening(fanout: PythonFanOut) -> Listener:
    choice = choose(parse_offer(OFFER), FORMAT.video, OPUS).sound
    assert choice is not None
    listener = Listener(fanout, choice, 7, lambda now: 0)
    keys = SendKeys("SRTP_AEAD_AES_128_GCM", bytes(16), bytes(12))
    listener.begin(Viewer(("127.0.0.1", 9), keys, 5, 96, 6, 97))
    return listener


async def test_sound_begins_with_the_next_block() -> None:
    async with open_stage() as stage:
        fanout = PythonFanOut(stage.sockets)
        fanout.send(chunk(b"old", 0))
        listener = listening(fanout)
        (stream,) = fanout._streams.values()
        assert (stream.waiting, stream.behind) == (True, False)
        fanout.send(chunk(b"new", 960))
        stats = listener.stats()
        assert stats is not None
        assert (stats.packets_sent, stats.bytes_sent) == (1, len(b"new"))


async def test_sound_goes_on_in_another_quality_of_the_same_format_and_rests_in_others() -> None:
    async with open_stage() as stage:
        here, there = PythonFanOut(stage.sockets), PythonFanOut(stage.sockets)
        nothing = lambda: None  # noqa: E731
        with_sound = Attachment("main", replace(FORMAT, audio=OPUS), stage.fanout, here, nothing, nothing)
        other = replace(with_sound, sound=there)
        mute = replace(with_sound, sound=None, format=FORMAT)
        another = replace(with_sound, format=replace(FORMAT, audio=AudioFormat("PCMU", 8000)), sound=there)
        listener = listening(here)
        for place, sends in ((other, [there]), (mute, []), (another, []), (with_sound, [here]), (other, [there])):
            listener.switch(place)
            assert [one for one in (here, there) if one._streams] == sends
            for one in (here, there):
                one.send(chunk(b"sound", 0))
        (stream,) = there._streams.values()
        assert (stream.viewer.ssrc, stream.packets) == (7, 3)
        for of in (7, 8):  # its own, and another track's
            listener.note(ReceptionReport(of, 0.5, 2, 100, OPUS_RATE // 100, 0, 0), 1)
        stats = listener.stats()
        assert stats is not None
        assert (stats.packets_sent, stats.reports, stats.packets_lost, stats.jitter_ms) == (3, 1, 2, 10.0)
        listener.switch(mute)
        assert listener.stats() is None
        listener.end()
        assert not there._streams


async def test_a_viewer_without_the_codec_gets_pictures_alone() -> None:
    async with open_stage() as stage, open_client() as client:
        place = Attachment("main", FORMAT, stage.fanout, None, lambda: None, lambda: None)
        sound = Soundtrack(lambda: stage.sound)
        play = Play(stage, sound)
        tracks, stats = await ten_pictures(client, stage, place, play)
        assert stats is not None
        assert stats.sound is None
        assert (list(tracks), stage.sound._streams) == (["video"], {})
