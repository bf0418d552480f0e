"""The sound of RTMP streams: what is carried, and what is said of the rest."""

from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.lipsync import signed
from sightline_agent.media.sound import OPUS, PCMA, PCMU
from sightline_agent.sources.rtmp import chunks
from sightline_agent.sources.rtmp.chunks import Message
from sightline_agent.sources.rtmp.sound import Coded, Configuration, Foreign, parse
from sightline_agent.sources.rtmp.source import RtmpSource
from sightline_model.camera import RtmpSource as RtmpSpec
from tests.helpers.recording import FPS, Recorder, add_video, pictures, record
from tests.helpers.rtmp_server import Habits, from_flv, serve
from tests.helpers.sounds import add_sound, mux_beeps, onsets

pytestmark = pytest.mark.stacks

SECONDS = 1.5


def tags(path: Path, codec: str, rate: int) -> tuple[Message, ...]:
    with av.open(str(path), "w") as container:
        video, sound = add_video(container), add_sound(container, codec, rate)
        for frame in pictures(round(SECONDS * FPS)):
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        mux_beeps(container, sound, SECONDS)
    return from_flv(path.read_bytes())


async def hear(messages: tuple[Message, ...], sounds: int, sound: bool = True) -> Recorder:
    recorder = Recorder(12)
    recorder.enough_sounds = sounds
    async with serve(Habits(messages, again=round(SECONDS * 1000))) as server:
        await record(RtmpSource(RtmpSpec(url=server.url()), None, sound), recorder)
    return recorder


def beats(heard: Recorder, codec: str, rate: int) -> list[float]:
    """When beeps begin, in seconds after the first picture, modulo the clip."""
    begin = heard.chunks[0].timestamp
    at = [round(signed((picture or 0) - begin) * rate / 90_000) for picture in heard.relations]
    packets = [(chunk.payloads[0], start) for chunk, start in zip(heard.sounds, at, strict=True)]
    return [round(beat % SECONDS, 3) for beat in onsets(codec, rate, packets)]


async def test_aac_becomes_opus(tmp_path: Path) -> None:
    heard = await hear(tags(tmp_path / "a.flv", "aac", 44_100), 100)
    assert (heard.audio, heard.audio_problem) == (OPUS, "")
    found = beats(heard, "libopus", 48_000)
    assert any(beat == pytest.approx(1.0, abs=0.03) for beat in found)
    times = [signed(chunk.timestamp) for chunk in heard.sounds]
    assert times == sorted(set(times))


@pytest.mark.parametrize(("codec", "format_"), [("pcm_alaw", PCMA), ("pcm_mulaw", PCMU)])
async def test_g711_is_passed_on(tmp_path: Path, codec: str, format_: object) -> None:
    heard = await hear(tags(tmp_path / "a.flv", codec, 8000), 60)
    assert heard.audio is format_
    assert any(beat == pytest.approx(1.0, abs=0.03) for beat in beats(heard, codec, 8000))


async def test_sound_that_is_not_carried_is_named(tmp_path: Path) -> None:
    law = tags(tmp_path / "a.flv", "pcm_alaw", 8000)
    speex = tuple(replace(tag, data=b"\xb0noise") if tag.type == chunks.AUDIO else tag for tag in law)
    heard = await hear(speex, 0)
    assert heard.audio is None
    assert heard.audio_problem == "the sound of the RTMP stream is SPEEX, which is not carried"


async def test_sound_that_nobody_wants_is_left_out(tmp_path: Path) -> None:
    heard = await hear(tags(tmp_path / "a.flv", "pcm_alaw", 8000), 0, sound=False)
    assert (heard.audio, heard.sounds) == (None, [])


def test_messages() -> None:
    assert parse(b"\xaf\0\x12\x10") == Configuration(b"\x12\x10")
    assert parse(b"\xaf\1raw") == Coded("AAC", b"raw")
    assert parse(b"\x72law") == Coded("PCMA", b"law")
    assert parse(b"\x82law") == Coded("PCMU", b"law")
    assert parse(b"\x90mp4a\x12\x10") == Configuration(b"\x12\x10")
    assert parse(b"\x91Opuspacket") == Coded("OPUS", b"packet")
    assert parse(b"\x90OpusOpusHead") is None
    assert parse(b"\x91ac-3x") == Foreign("an unknown codec")
    assert parse(b"\x2fmp3") == Foreign("MP3")
    assert parse(b"\xaf") is None


@given(st.binary(max_size=40))
def test_noise_breaks_nothing(data: bytes) -> None:
    parse(data)
