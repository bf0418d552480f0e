"""The sound of clips: beeps at each full second stay beside their pictures, over the seams too."""

from pathlib import Path

import av
import pytest

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.media.lipsync import signed
from sightline_agent.media.sound import OPUS, PCMA
from sightline_agent.sources.file import ClipFile
from sightline_model.camera import FileSource
from tests.helpers.recording import FPS, Recorder, add_video, pictures, record
from tests.helpers.sounds import add_sound, mux_beeps, onsets

pytestmark = pytest.mark.stacks

SECONDS = 2.5
FFMPEG = {"OPUS": "libopus", "PCMA": "pcm_alaw"}


def clip(path: Path, codec: str, rate: int, sound_first: bool = False) -> Path:
    """Pictures and beeps, one track wholly before the other where the container lets them be."""
    with av.open(str(path), "w") as container:
        video, sound = add_video(container), add_sound(container, codec, rate)
        for turn in (sound_first, not sound_first):
            if turn:
                mux_beeps(container, sound, SECONDS)
                continue
            for frame in pictures(round(SECONDS * FPS)):
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
    return path


async def play(path: Path, seconds: float, loop: bool = False, sound: bool = True) -> Recorder:
    """As fast as it goes: the clock jumps as far as somebody waits."""
    recorder = Recorder(enough=round(seconds * FPS) - 1)
    await record(ClipFile(FileSource(path=str(path), loop=loop), Hurried().clock, sound=sound), recorder)
    return recorder


class Hurried:
    """A clock by which everything is late, but never so late that it would be skipped."""

    def __init__(self) -> None:
        self._now = 0.0

    def clock(self) -> float:
        self._now += 0.05
        return self._now


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.mp4", "aac", 44_100), ("a.mkv", "libopus", 48_000), ("a.ts", "aac", 48_000)]
)
@pytest.mark.parametrize("sound_first", [False, True])
async def test_beeps_stay_beside_their_pictures(
    tmp_path: Path, name: str, codec: str, rate: int, sound_first: bool
) -> None:
    heard = await play(clip(tmp_path / name, codec, rate, sound_first), SECONDS)
    assert (heard.audio, heard.audio_problem) == (OPUS, "")
    assert all(picture is not None for picture in heard.relations)
    begin = heard.chunks[0].timestamp
    packets = [
        (chunk.payloads[0], round(signed((picture or 0) - begin) * 48_000 / CLOCK_RATE))
        for chunk, picture in zip(heard.sounds, heard.relations, strict=True)
    ]
    assert onsets("libopus", 48_000, packets)[-2:] == pytest.approx([1.0, 2.0], abs=0.03)


async def test_g711_is_passed_on(tmp_path: Path) -> None:
    heard = await play(clip(tmp_path / "a.mov", "pcm_alaw", 8000), SECONDS)
    assert heard.audio == PCMA
    packets = [(chunk.payloads[0], chunk.timestamp) for chunk in heard.sounds if chunk.timestamp < 1 << 31]
    assert onsets("pcm_alaw", 8000, packets)[-2:] == pytest.approx([1.0, 2.0], abs=0.03)


async def test_times_only_grow_over_the_seam(tmp_path: Path) -> None:
    heard = await play(clip(tmp_path / "a.mp4", "aac", 48_000), 3 * SECONDS, loop=True)
    times = [signed(chunk.timestamp) for chunk in heard.sounds]
    assert times == sorted(set(times))
    assert times[-1] > 2 * SECONDS * 48_000
    beats = onsets("libopus", 48_000, [(chunk.payloads[0], signed(chunk.timestamp)) for chunk in heard.sounds])
    assert [beat % SECONDS for beat in beats][-2:] == pytest.approx([1.0, 2.0], abs=0.05)


async def test_sound_that_nobody_wants_is_left_out(tmp_path: Path) -> None:
    heard = await play(clip(tmp_path / "a.mp4", "aac", 48_000), SECONDS, sound=False)
    assert (heard.audio, heard.sounds) == (None, [])
