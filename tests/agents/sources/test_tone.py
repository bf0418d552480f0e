"""The test pattern's beep, and that it is where the white square is."""

from datetime import UTC, datetime

import av
import pytest

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.media.h264 import reassemble
from sightline_agent.media.lipsync import signed
from sightline_agent.media.sound import OPUS, OPUS_RATE
from sightline_agent.sources.test_pattern import TestPattern
from sightline_agent.sources.tone import Tone, beeping
from sightline_model.camera import TestPatternSource as TestPatternSpec
from tests.helpers.recording import Recorder, Waited, record
from tests.helpers.sounds import onsets

pytestmark = pytest.mark.stacks

WIDTH, HEIGHT, FPS = 320, 240, 30
HALF_PAST = datetime(2030, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)


def test_beeps_are_at_full_seconds() -> None:
    tone = Tone(HALF_PAST)
    packets = [packet for _ in range(140) for packet in tone.packets()]
    assert tone.due == pytest.approx(2.8)
    assert onsets("libopus", OPUS_RATE, packets) == pytest.approx([0.5, 1.5, 2.5], abs=0.005)


def test_what_was_missed_is_left_out() -> None:
    tone = Tone(HALF_PAST)
    packets = [packet for _ in range(10) for packet in tone.packets()]
    tone.skip_to(10.0)
    packets += [packet for _ in range(50) for packet in tone.packets()]
    assert onsets("libopus", OPUS_RATE, packets)[-1] == pytest.approx(10.5, abs=0.03)


def test_when_there_is_a_beep() -> None:
    assert beeping(HALF_PAST.replace(microsecond=0))
    assert beeping(HALF_PAST.replace(microsecond=99_999))
    assert not beeping(HALF_PAST.replace(microsecond=100_000))


def flashes(recorder: Recorder) -> list[int]:
    """Timestamps of the pictures in which the square becomes white."""
    decoder = av.CodecContext.create("h264", "r")
    found, white = [], True
    for stamp in recorder.stamps:
        nals = reassemble(p for chunk in recorder.chunks if chunk.timestamp == stamp for p in chunk.payloads)
        for frame in decoder.decode(av.Packet(b"".join(b"\0\0\0\1" + nal for nal in nals))):
            assert isinstance(frame, av.VideoFrame)
            corner = bytes(frame.planes[0])[8 * frame.planes[0].line_size + WIDTH - 8]
            if corner > 128 and not white:
                found.append(stamp)
            white = corner > 128
    return found


async def test_the_beep_is_where_the_square_is(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TestPatternSpec(width=WIDTH, height=HEIGHT, fps=FPS)
    recorder = Recorder(enough=2 * FPS)
    await record(TestPattern(spec, Waited(monkeypatch), lambda: HALF_PAST), recorder)
    assert recorder.audio == OPUS
    begin = recorder.chunks[0].timestamp
    pairs = zip(recorder.sounds, recorder.relations, strict=True)
    packets = [(c.payloads[0], round(signed((at or 0) - begin) * OPUS_RATE / CLOCK_RATE)) for c, at in pairs]
    # More comes until the source has ended.
    heard = onsets("libopus", OPUS_RATE, packets)[:2]
    seen = [signed(stamp - begin) / CLOCK_RATE for stamp in flashes(recorder)][:2]
    assert heard == pytest.approx([0.5, 1.5], abs=0.01)
    assert seen == pytest.approx(heard, abs=1 / FPS)


async def test_without_sound_there_is_none() -> None:
    recorder = Recorder(enough=5)
    await record(TestPattern(TestPatternSpec(width=WIDTH, height=HEIGHT, fps=FPS), sound=False), recorder)
    assert (recorder.audio, recorder.sounds) == (None, [])
