"""Sound of RTSP cameras: what is carried, what is said of the rest, and that pictures never suffer."""

import asyncio
from dataclasses import replace

import pytest

from sightline_agent.media.frames import CLOCK_RATE, AudioFormat
from sightline_agent.media.lipsync import Unwrapper, picture_at
from sightline_agent.media.sound import OPUS, OPUS_RATE, PCMA, PCMU, opus_samples
from sightline_agent.sources.rtsp import sdp
from sightline_agent.sources.rtsp.sound import plan
from sightline_agent.sources.rtsp.source import RtspSource
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from tests.helpers.recording import Recorder, record
from tests.helpers.rtsp_server import Habits, RtspServer, Sound, serve
from tests.helpers.sounds import aac, onsets

pytestmark = pytest.mark.stacks

FPS, BEGIN, SOUND_BEGIN = 25, 1000, 70_000
A_LAW = Sound(
    sdp=("m=audio 0 RTP/AVP 8", "a=control:trackID=0"),
    payload_type=8,
    payload=lambda number: bytes([number % 256]) * 320,
    ticks=320,
)
OPUS_SDP = ("m=audio 0 RTP/AVP 97", "a=rtpmap:97 OPUS/48000/2", "a=control:trackID=0")
AAC_SDP = (
    "m=audio 0 RTP/AVP 98",
    "a=rtpmap:98 MPEG4-GENERIC/16000/1",
    "a=fmtp:98 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={}",
    "a=control:trackID=0",
)


async def hear(camera: RtspServer, transport: str = "TCP", sound: bool = True, enough: int = 5) -> Recorder:
    recorder = Recorder(enough=10)
    recorder.enough_sounds = enough
    spec = RtspSpec(url=camera.url, transport=RtspTransport(transport))
    await record(RtspSource(spec, None, sound=sound), recorder)
    return recorder


@pytest.mark.parametrize("transport", ["TCP", "UDP"])
async def test_g711_goes_on_as_it_comes(transport: str) -> None:
    async with serve(Habits(sound=A_LAW)) as camera:
        heard = await hear(camera, transport)
    assert heard.audio == PCMA
    first = heard.sounds[0].payloads[0][0]
    assert [chunk.payloads[0] for chunk in heard.sounds[:3]] == [bytes([first + number]) * 320 for number in range(3)]
    assert {(chunk.key, chunk.last, len(chunk.payloads)) for chunk in heard.sounds} == {(True, False, 1)}
    times = [chunk.timestamp for chunk in heard.sounds]
    assert times == list(range(times[0], times[0] + 320 * len(times), 320))
    assert set(heard.relations) == {None}


async def test_sound_is_asked_for_in_the_same_session() -> None:
    async with serve(Habits(sound=A_LAW)) as camera:
        await hear(camera)
        setups = [request for request in camera.requests if request.method == "SETUP"]
        assert [request.url.rpartition("/")[2] for request in setups] == ["trackID=1", "trackID=0"]
        assert setups[1].headers["session"] == "12345678"
        assert camera.methods().count("PLAY") == 1


async def test_the_cameras_clock_tells_which_picture_belongs_to_the_sound() -> None:
    async with serve(Habits(sound=replace(A_LAW, reports=True))) as camera:
        heard = await hear(camera)
    pairs = zip(heard.sounds, heard.relations, strict=True)
    told = [(chunk.timestamp, picture) for chunk, picture in pairs if picture is not None]
    assert told
    # The sound of each frame is of the moment of a picture five frames before it.
    for timestamp, picture in told:
        frame = (timestamp - SOUND_BEGIN) // A_LAW.ticks - 5
        assert picture == (BEGIN + frame * CLOCK_RATE // FPS) % (1 << 32)


async def test_opus_goes_on_as_it_comes() -> None:
    packet = bytes([15 << 3]) + b"opus"
    async with serve(Habits(sound=Sound(OPUS_SDP, 97, lambda number: packet, ticks=1920))) as camera:
        heard = await hear(camera)
    assert heard.audio == OPUS
    assert heard.sounds[0].payloads == (packet,)


async def test_aac_becomes_opus(monkeypatch: pytest.MonkeyPatch) -> None:
    # The sound comes six times faster than anybody hears it, and the process yields to everything else.
    monkeypatch.setattr("sightline_agent.sources.sound.process._MAX_UNSENT_BYTES", 1 << 24)
    configuration, units = aac(16_000, 1, 30)
    lines = tuple(line.format(configuration.hex()) for line in AAC_SDP)

    def payload(number: int) -> bytes:
        unit = units[number % len(units)][0]
        return b"\0\x10" + (len(unit) << 3).to_bytes(2, "big") + unit

    async with serve(Habits(sound=Sound(lines, 98, payload, ticks=1024), fps=100)) as camera:
        heard = await hear(camera, enough=250)
    assert heard.audio == OPUS
    packets = [chunk.payloads[0] for chunk in heard.sounds]
    assert {opus_samples(packet) for packet in packets} == {960}
    unwrapper = Unwrapper()
    times = [unwrapper.unwrap(chunk.timestamp) for chunk in heard.sounds]
    found = onsets("libopus", OPUS_RATE, zip(packets, times, strict=True))[1:]
    # Beeps are at full seconds after the first unit, which is the encoder's own delay.
    begin = (SOUND_BEGIN + 1024) / 16_000
    assert [(seconds - begin) % 1 for seconds in found] == pytest.approx([0.0] * len(found), abs=0.01)
    assert len(found) >= 3


@pytest.mark.parametrize("status", ["404 Not Found", "500 Server Error", "403 Forbidden"])
async def test_a_camera_that_refuses_its_sound_plays_without(status: str) -> None:
    async with serve(Habits(sound=replace(A_LAW, status=status))) as camera:
        heard = await hear(camera, enough=0)
        assert camera.connections == 1
    assert (heard.audio, len(heard.sounds)) == (None, 0)
    assert heard.audio_problem.startswith("the camera refuses to send it (")


@pytest.mark.parametrize("sound", [replace(A_LAW, status=""), replace(A_LAW, refuses_to_play=True)])
async def test_a_camera_that_breaks_down_over_its_sound_plays_without(sound: Sound) -> None:
    async with serve(Habits(sound=sound)) as camera:
        heard = await hear(camera, enough=0)
        assert camera.connections == 2
    assert (heard.audio, len(heard.chunks) >= 10) == (None, True)


async def test_sound_that_nobody_wants_is_not_asked_for() -> None:
    async with serve(Habits(sound=A_LAW)) as camera:
        heard = await hear(camera, sound=False, enough=0)
        assert camera.methods().count("SETUP") == 1
    assert (heard.audio, heard.audio_problem) == (None, "")


async def test_a_codec_that_is_not_carried_is_named() -> None:
    async with serve() as camera:
        heard = await hear(camera, enough=0)
    assert (heard.audio, heard.audio_problem) == (None, "the camera's sound is GSM/8000, which is not carried")


async def test_noise_for_sound_leaves_the_pictures_alone() -> None:
    noise = replace(A_LAW, payload=lambda number: b"\xff" * (number * 37 % 1400))
    configuration, _ = aac(16_000, 1, 0.1)
    lines = tuple(line.format(configuration.hex()) for line in AAC_SDP)
    async with serve(Habits(sound=replace(noise, sdp=lines, payload_type=98), fps=200)) as camera:
        heard = await asyncio.wait_for(hear(camera, enough=0), 120)
    assert heard.audio == OPUS
    assert len(heard.steps) == 1


def planned(*lines: str) -> AudioFormat | None:
    found, _ = plan(sdp.parse("\n".join(["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", *lines])))
    return found.format if found is not None else None


def test_what_is_carried() -> None:
    aac_lines = tuple(line.format("1408") for line in AAC_SDP)
    assert planned("m=audio 0 RTP/AVP 0") == PCMU
    assert planned("m=audio 0 RTP/AVP 97", "a=rtpmap:97 pcma/8000/1") == PCMA
    assert planned(*OPUS_SDP) == OPUS
    assert planned(*aac_lines) == OPUS
    assert planned("m=audio 0 RTP/AVP 3", *aac_lines) == OPUS
    assert planned("m=audio 0 RTP/AVP 97", "a=rtpmap:97 PCMU/16000") is None
    assert planned("m=audio 0 RTP/AVP 97", "a=rtpmap:97 PCMA/8000/2") is None
    assert planned("m=audio 0 RTP/AVP 97", "a=rtpmap:97 G726-32/8000") is None
    assert planned(*(line.format("14") for line in AAC_SDP)) is None
    assert planned(*(line.format("no hex") for line in AAC_SDP)) is None
    assert planned(*(line.format("1408").replace("indexlength=3", "indexlength=77") for line in AAC_SDP)) is None
    assert planned() is None


def test_the_relation_of_two_clocks() -> None:
    assert picture_at(8000, 8000, (100.0, 0), (100.0, 90_000)) == 180_000
    assert picture_at(8000, 8000, (100.0, 0), (101.5, 90_000)) == 45_000
    assert picture_at(0, 8000, (100.0, 8000), (100.0, 0)) == (1 << 32) - 90_000
    assert picture_at(4000, 8000, (100.0, (1 << 32) - 4000), (100.0, 0)) == 90_000
