"""What cameras do besides the standard: redirections, early pictures, odd headers, expired nonces, new resolutions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import Chunk
from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp.target import Target, redirected
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.reasons import SourceReason
from tests.helpers import virtual_time
from tests.helpers.rtsp_server import PPS, SPS, Habits, RtspServer, serve
from tests.helpers.rtsp_watch import Recorder, on_camera, record_with, watch

pytestmark = pytest.mark.stacks

ADMIN = Credentials("admin", "Tr0ub4dor")
FINGERPRINT = "ab" * 32
# x264: High profile with B-frames declared; High profile, interlaced; constrained baseline at 1280x720.
HIGH_SPS = bytes.fromhex("67640028acd940780227e5c044000003000400000300f03c60c658")
INTERLACED_SPS = bytes.fromhex("67640020ace401402efcb80b50101014000003000400000300ca7c58b920")
LARGER_SPS = bytes.fromhex("6742c01fda014016e840000003004000000f23c60ca8")
IDR, P_SLICE, B_SLICE = b"\x65\x88" + b"i" * 50, b"\x41\x9a" + b"p" * 50, b"\x01\x9e" + b"b" * 50


def test_redirections_are_followed() -> None:
    async def scenario() -> None:
        async with serve() as there:
            habits = Habits(status={"DESCRIBE": "302 Moved Temporarily"}, location=f"{there.url}?stream=2")
            async with serve(habits) as here:
                await watch(here)
                assert here.methods() == ["OPTIONS", "DESCRIBE"]
            assert there.requests[0].url == f"{there.url}?stream=2"

    virtual_time.run(scenario())


@pytest.mark.parametrize("method", ["OPTIONS", "SETUP", "PLAY"])
def test_redirections_may_come_late(method: str) -> None:
    async def scenario() -> None:
        async with serve() as there, serve(Habits(status={method: "301 Moved"}, location=there.url)) as here:
            await watch(here)

    virtual_time.run(scenario())


def test_another_host_gets_no_password() -> None:
    async def scenario() -> None:
        asks = Habits(username="admin", password="Tr0ub4dor", scheme="Basic")
        async with serve(asks, "127.0.0.2") as there:
            async with serve(Habits(status={"DESCRIBE": "302 Moved"}, location=there.url)) as here:
                with pytest.raises(SourceError, match="another host") as caught:
                    await watch(here, ADMIN)
            assert caught.value.reason is SourceReason.AUTHENTICATION_FAILED
            assert not any("authorization" in request.headers for request in there.requests)

    virtual_time.run(scenario())


def test_redirections_end() -> None:
    async def scenario(camera: RtspServer) -> None:
        camera.habits = replace(camera.habits, location=camera.url)
        with pytest.raises(SourceError, match="without end"):
            await watch(camera)
        assert camera.connections == 4

    on_camera(Habits(status={"OPTIONS": "302 Moved"}), scenario)


def test_what_belongs_to_one_host_stays_there() -> None:
    begin = Target("rtsps://camera/1", ADMIN, FINGERPRINT)
    same = redirected(begin, "rtsps://eve@CAMERA:8322/2")
    assert (same.url, same.credentials, same.fingerprint) == ("rtsps://CAMERA:8322/2", ADMIN, FINGERPRINT)
    other = redirected(begin, "rtsps://camera.example/2")
    assert (other.credentials, other.fingerprint, other.estranged) == (None, None, True)
    assert redirected(other, "rtsps://camera/1").credentials is None


@pytest.mark.parametrize("location", ["rtsp://camera/1", "/2", "http://camera/", "rtsps://camera/a b"])
def test_where_we_do_not_follow(location: str) -> None:
    with pytest.raises(SourceError) as caught:
        redirected(Target("rtsps://camera/1", ADMIN), location)
    assert caught.value.reason is SourceReason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "habits",
    [
        Habits(content_base=""),
        Habits(lower_case=True),
        Habits(early=True),
        Habits(early=True, transports=("UDP",)),
        Habits(session_timeout=1),
    ],
    ids=["no Content-Base", "lower-case headers", "early over TCP", "early over UDP", "short timeout"],
)
def test_odd_cameras_play(habits: Habits) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=30)
        assert recorder.chunks[0].key
        assert recorder.chunks[0].timestamp == 1000

    on_camera(habits, scenario)


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_nonces_that_expire_are_replaced(uses: int) -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, ADMIN, enough=25 * 60)

    habits = Habits(username="admin", password="Tr0ub4dor", scheme="Digest-qop", nonce_uses=uses, session_timeout=20)
    on_camera(habits, scenario)


def frames(*units: list[bytes]) -> tuple[tuple[bytes, ...], ...]:
    return tuple(tuple(unit) for unit in units)


def test_another_resolution_in_the_middle_is_told() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=8)
        assert [(told.width, told.height) for told in recorder.formats[:2]] == [(640, 360), (1280, 720)]
        keys = [reassemble(chunk.payloads)[0] for chunk in recorder.chunks if chunk.key]
        assert keys[:2] == [SPS, LARGER_SPS]

    units = frames([SPS, PPS, IDR], [P_SLICE], [LARGER_SPS, PPS, IDR], [P_SLICE])
    on_camera(Habits(access_units=units), scenario)


def test_the_sets_of_the_stream_count_more_than_those_of_the_description() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera)
        assert recorder.formats[-1].width == 640

    on_camera(Habits(sdp_sets=(INTERLACED_SPS, PPS)), scenario)


B_FRAMES = frames([HIGH_SPS, PPS, IDR], [P_SLICE], [B_SLICE], [P_SLICE])
BACK_AND_FORTH = frames([SPS, PPS, IDR], *[[P_SLICE]] * 29)
CODED_AS_FIELDS = frames([INTERLACED_SPS, PPS, IDR], [P_SLICE])


def swapped(number: int) -> int:
    """Every third frame is shown before the one that was sent before it."""
    return number + (1, 1, -2)[number % 3]


@pytest.mark.parametrize(
    ("habits", "b_frames", "interlaced"),
    [
        (Habits(access_units=B_FRAMES, sets_in_sdp=False), True, False),
        (Habits(access_units=BACK_AND_FORTH, clock=swapped), True, False),
        (Habits(access_units=CODED_AS_FIELDS), False, True),
    ],
    ids=["B slices", "timestamps go back", "fields"],
)
def test_what_browsers_cannot_show_is_told(habits: Habits, b_frames: bool, interlaced: bool) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=40)
        told = recorder.formats[-1]
        assert (told.b_frames, told.interlaced) == (b_frames, interlaced)

    on_camera(habits, scenario)


def test_nothing_is_shown_before_it_is_known() -> None:
    async def scenario(camera: RtspServer) -> None:
        seen: list[bool] = []

        class Watching(Recorder):
            def write(self, chunk: Chunk) -> None:
                seen.append(self.formats[-1].b_frames)
                super().write(chunk)

        recorder = Watching(enough=10)
        await record_with(recorder, RtspSpec(url=camera.url))
        assert set(seen) == {True}
        assert recorder.chunks[0].key
        assert [chunk.timestamp for chunk in recorder.chunks][:2] == [1000, 4600]

    on_camera(Habits(access_units=B_FRAMES), scenario)


def test_b_frames_that_are_only_declared_do_no_harm() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=60)
        assert recorder.formats[0].profile_level_id == "640028"

    on_camera(Habits(access_units=frames([HIGH_SPS, PPS, IDR], *[[P_SLICE]] * 9)), scenario)


@given(st.one_of(st.text(max_size=60), st.text("rtsp:/[]@%.ab01 \r\n", max_size=40).map("rtsp://".__add__)))
def test_any_location_is_followed_or_refused(location: str) -> None:
    try:
        found = redirected(Target("rtsp://camera/1", ADMIN), location)
    except SourceError:
        return
    assert found.url.startswith(("rtsp://", "rtsps://"))
    assert "@" not in found.url.split("/")[2]
