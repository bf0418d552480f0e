"""Viewers who cannot play what a camera sends: they share one transcoder, which runs as long as one of them watches."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sightline_agent.attachment import Attachment, Wanted
from sightline_agent.hub import Hub, Tracks
from sightline_agent.media.frames import AudioFormat, Chunk, MediaFormat
from sightline_agent.media.grammar import GRAMMARS, H264
from sightline_agent.media.h264 import reassemble
from sightline_agent.renditions import Renditions
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.access_units import AccessUnits
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.transcode import process
from sightline_agent.transcode.source import Transcode
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.mux import UdpMux
from sightline_model.agent import AgentConfig, AgentLifecycle, CameraIdentity
from sightline_model.camera import Source, TestPatternSource, TranscodeMode
from sightline_model.reasons import SourceReason
from tests.helpers.coded import B_FRAMES, FPS, PLAIN, Coded, Seen, coded, seen
from tests.helpers.coded import H265 as H265_PICTURES

pytestmark = pytest.mark.stacks

STEP = 90_000 // FPS
ONLY_H264, WITH_H265 = frozenset({"H264"}), frozenset({"H264", "H265"})
SOUND = AudioFormat("PCMU", 8000)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transcoder yields to everything else, so on a busy machine its start takes as long as it takes."""
    monkeypatch.setattr(process, "STALL_SECONDS", 120.0)


class FanOut(PythonFanOut):
    """Keeps what it is to send, and says when that changes."""

    def __init__(self) -> None:
        super().__init__(UdpMux("127.0.0.1", 0))
        self.chunks: list[Chunk] = []
        self.changed = asyncio.Event()

    def send(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.changed.set()
        super().send(chunk)

    async def wait_for(self, number: int) -> list[Chunk]:
        while len(self.chunks) < number:
            self.changed.clear()
            await self.changed.wait()
        return self.chunks


class Camera:
    """A live source: it shows its clip over and over, twice as fast as it was made unless its `pause` is changed."""

    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.clip: list[Coded] = []
        self.pause = 1 / (2 * FPS)
        self.audio: AudioFormat | None = None

    async def run(self, sink: Sink) -> None:
        made = AccessUnits(codec=self.codec)
        line = 0
        while True:
            clip = self.clip
            for unit in clip:
                await asyncio.sleep(self.pause)
                chunks = made.chunks(unit.data, line + unit.ticks)
                format_ = made.news()
                if format_ is not None:
                    sink.start(MediaFormat(format_, self.audio))
                for chunk in chunks if made.started else ():
                    sink.write(chunk)
                if self.audio is not None and made.started:
                    sink.write_audio(Chunk((b"sound",), unit.ticks, True, True), line + unit.ticks)
            line += len(clip) * STEP


class World:
    """A camera and its renditions."""

    def __init__(self, clip: list[Coded], codec: str, mode: TranscodeMode) -> None:
        self.camera = Camera(codec)
        self.camera.clip = clip
        self.transcodes: list[Transcode] = []
        self.hubs: list[Hub] = []
        config = AgentConfig(
            camera=CameraIdentity(namespace="default", name="door", uid="1"),
            source=Source(test_pattern=TestPatternSource()),
            lifecycle=AgentLifecycle(idle_timeout=0.0, start_timeout=120.0),
            transcode=mode,
        )
        self.renditions = Renditions(config, self._make_hub, self._make_transcoded)

    def _tracks(self) -> Tracks:
        return Tracks(FanOut(), Soundtrack(FanOut))

    def _make_hub(self, name: str, config: AgentConfig) -> Hub:
        self.hubs.append(Hub(config, lambda _: self.camera, self._tracks(), name=name))
        return self.hubs[-1]

    def _make_transcoded(self, feed: Hub, config: AgentConfig) -> Hub:
        def make(_: Source) -> Transcode:
            self.transcodes.append(Transcode(feed, self.renditions.transcoding))
            return self.transcodes[-1]

        self.hubs.append(Hub(config, make, self._tracks(), name=f"{feed.name}.h264"))
        return self.hubs[-1]

    async def attach(self, codecs: frozenset[str] = ONLY_H264) -> Attachment:
        return await self.renditions.attach(Wanted(codecs=codecs))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Turn by turn of the loop; the test's own time limit is the limit."""
        while not condition():
            await asyncio.sleep(0)

    @property
    def pid(self) -> int:
        transcoder = self.transcodes[-1]._transcoder
        return transcoder.pid or 0 if transcoder is not None else 0


@asynccontextmanager
async def world(
    kind: tuple[str, dict[str, str]], mode: TranscodeMode = TranscodeMode.AUTO, gop: int = 15
) -> AsyncIterator[World]:
    codec = "H265" if kind[0] == "libx265" else "H264"
    made = World(coded(kind, max(60, gop), gop=gop), codec, mode)
    running = asyncio.create_task(made.renditions.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait({running})


def sent(place: Attachment) -> FanOut:
    assert isinstance(place.pictures, FanOut)
    return place.pictures


def pictures(chunks: list[Chunk]) -> list[Seen]:
    """What a browser shows of it: in the order in which it comes."""
    found: list[tuple[int, bytes]] = []
    for chunk in chunks:
        data = b"".join(b"\0\0\0\1" + nal for nal in reassemble(chunk.payloads))
        if found and found[-1][0] == chunk.timestamp:
            found[-1] = chunk.timestamp, found[-1][1] + data
        else:
            found.append((chunk.timestamp, data))
    return seen(found)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def right(shown: list[Seen], first: int) -> bool:
    """Every picture is at its own time, `first` being the time of a picture with the digit 0."""
    return all((picture.ticks - first) // STEP % 10 == picture.digit for picture in shown)


async def test_plain_pictures_are_passed_on_as_they_are() -> None:
    async with world(PLAIN) as here:
        place = await here.attach()
        assert place.pictures is here.hubs[0].tracks.pictures
        assert here.renditions.suits(place, ONLY_H264)
        assert len(here.hubs) == 1
        place.leave()


async def test_two_viewers_share_one_transcoder_and_it_ends_with_the_last() -> None:
    async with world(B_FRAMES) as here:
        first, second = await asyncio.gather(here.attach(), here.attach())
        assert first.pictures is second.pictures
        assert first.profile == "main"
        video = first.format.video
        assert (video.codec, video.b_frames, video.profile_level_id[:4]) == ("H264", False, "42c0")
        shown = pictures(await sent(first).wait_for(70))
        assert right(shown, shown[0].ticks - shown[0].digit * STEP)
        assert [picture.ticks for picture in shown] == sorted({picture.ticks for picture in shown})
        assert (here.renditions.transcoding.running, here.renditions.transcoding.starts) == (1, 1)
        pid = here.pid
        first.leave()
        await sent(second).wait_for(90)
        assert here.pid == pid
        second.leave()
        await here.until(lambda: here.renditions.transcoding.running == 0)
        await here.until(lambda: gone(pid))


async def test_h265_goes_as_it_is_to_who_offers_it_and_transcoded_to_others() -> None:
    async with world(H265_PICTURES) as here:
        able, other = await asyncio.gather(here.attach(WITH_H265), here.attach(ONLY_H264))
        assert (able.format.video.codec, other.format.video.codec) == ("H265", "H264")
        shown = pictures(await sent(other).wait_for(30))
        assert right(shown, shown[0].ticks - shown[0].digit * STEP)
        (key, *_) = sent(able).chunks
        assert [nal[0] >> 1 for nal in GRAMMARS["H265"].reassemble(key.payloads)][:3] == [32, 33, 34]
        report = here.renditions.report()
        assert (report.reason, report.video_codec) == (SourceReason.STREAMING, "H265")
        assert "transcoded" in report.message
        able.leave()
        other.leave()


async def test_who_decodes_nothing_but_h265_wakes_no_transcoder() -> None:
    async with world(PLAIN) as here:
        place = await here.attach(frozenset({"H265"}))
        assert place.format.video.codec == H264  # the answer to the offer refuses it
        assert here.renditions.transcoding.starts == 0
        place.leave()


@pytest.mark.parametrize(("kind", "words"), [(B_FRAMES, "B-frames"), (H265_PICTURES, "H265")])
async def test_never_refuses_with_the_reason(kind: Any, words: str) -> None:
    async with world(kind, TranscodeMode.NEVER) as here:
        with pytest.raises(SourceError, match=words) as caught:
            await here.attach(WITH_H265)
        assert caught.value.reason is SourceReason.CODEC_UNSUPPORTED
        report = here.renditions.report()
        assert (report.reason, words in report.message) == (SourceReason.CODEC_UNSUPPORTED, True)
        fanout = here.hubs[0].tracks.pictures
        assert isinstance(fanout, FanOut)
        assert fanout.chunks == []


async def test_a_transcoder_that_dies_is_started_again() -> None:
    async with world(B_FRAMES) as here:
        place = await here.attach()
        await sent(place).wait_for(20)
        os.kill(here.pid, signal.SIGKILL)
        await here.until(lambda: here.renditions.transcoding.starts == 2)
        before = len(sent(place).chunks)
        chunks = await sent(place).wait_for(before + 15)
        assert chunks[before].key
        times = [chunk.timestamp for chunk in chunks]
        assert times == sorted(times)
        place.leave()


async def test_who_comes_in_the_middle_of_a_group_waits_for_no_key_frame() -> None:
    async with world(B_FRAMES, gop=250) as here:
        watching = await here.attach(frozenset())  # keeps the camera running, and decodes nothing of it
        await sent(watching).wait_for(20)
        here.camera.pause = 0.2  # 46 s to the next key frame: no process takes that long to start
        place = await here.attach()
        begun = sent(watching).chunks
        assert len([chunk for chunk in begun if chunk.key]) == 1
        (first, *_) = pictures(await sent(place).wait_for(1))
        assert first.key
        watching.leave()
        place.leave()


async def test_sound_goes_along_beside_the_pictures() -> None:
    async with world(B_FRAMES) as here:
        here.camera.audio = SOUND
        place = await here.attach()
        assert place.format.audio == SOUND
        assert isinstance(place.sound, FanOut)
        (chunk, *_) = await place.sound.wait_for(1)
        assert chunk.payloads == (b"sound",)
        place.leave()


async def test_a_camera_that_begins_to_send_b_frames_suits_no_more() -> None:
    async with world(PLAIN) as here:
        place = await here.attach()
        assert here.renditions.suits(place, ONLY_H264)
        here.camera.clip = coded(B_FRAMES, 60, gop=15)
        await here.until(lambda: not here.renditions.suits(place, ONLY_H264))
        other = await here.attach()
        assert other.pictures is not place.pictures
        assert here.renditions.suits(other, ONLY_H264)
        place.leave()
        other.leave()
