"""What is made of a hub's pictures: renditions that tap it, and what may not be made."""

import asyncio

import pytest

from sightline_agent.media.frames import Chunk, MediaFormat, VideoFormat
from sightline_agent.sources.base import SourceError
from sightline_model.camera import TranscodeMode
from sightline_model.reasons import SourceReason
from tests.agents.test_hub import World, config, story


class Tap:
    """A rendition that is made of the hub's."""

    def __init__(self) -> None:
        self.formats: list[MediaFormat] = []
        self.chunks: list[Chunk] = []
        self.sounds: list[tuple[Chunk, int | None]] = []

    def start(self, format_: MediaFormat) -> None:
        self.formats.append(format_)

    def write(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        self.sounds.append((chunk, picture))


def test_a_tap_gets_what_viewers_get_and_what_it_needs_to_begin() -> None:
    async def scenario(world: World) -> None:
        world.camera.format = MediaFormat(VideoFormat("H264", "640028", 640, 360, b_frames=True))
        await world.hub.attach()
        await asyncio.sleep(5)
        tap = Tap()
        group, untap = world.hub.tap(tap)
        assert group[0].key
        assert group == tuple(world.fanout.chunks[-len(group) :])
        await asyncio.sleep(1)
        assert tap.chunks == world.fanout.chunks[-len(tap.chunks) :]
        assert "B-frames" in world.hub.report().message
        world.camera.break_now()
        await asyncio.sleep(5)
        times = [chunk.timestamp for chunk in tap.chunks]
        assert times == sorted(times)
        assert tap.formats == [world.camera.format]
        untap()
        count = len(tap.chunks)
        await asyncio.sleep(1)
        assert len(tap.chunks) == count

    story(scenario)


def test_a_group_is_kept_only_where_some_cannot_play_it() -> None:
    async def scenario(world: World) -> None:
        await world.hub.attach()
        await asyncio.sleep(5)
        assert world.hub.tap(Tap())[0] == ()

    story(scenario)


def test_what_may_not_be_transcoded_is_refused_before_a_picture_goes_on() -> None:
    async def scenario(world: World) -> None:
        never = config().model_copy(update={"transcode": TranscodeMode.NEVER})
        world.camera.format = MediaFormat(VideoFormat("H265", "1.0.93", 640, 360))
        world.hub.reconfigure(never)
        with pytest.raises(SourceError, match="H265") as caught:
            await world.hub.attach()
        assert caught.value.reason is SourceReason.CODEC_UNSUPPORTED
        assert world.fanout.chunks == []
        assert world.hub.report().reason is SourceReason.CODEC_UNSUPPORTED
        world.hub.reconfigure(config())
        assert (await world.hub.attach()).video.codec == "H265"

    story(scenario)
