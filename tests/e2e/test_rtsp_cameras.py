"""RTSP cameras that we did not write (GStreamer's server): every way of sending, and pictures in real Chromium."""

from pathlib import Path

import pytest

from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_model.camera import RtspSource, RtspTransport
from sightline_model.reasons import SourceReason
from tests.helpers.browser import Player, new_page
from tests.helpers.certificates import write_certificate
from tests.helpers.dev import TOKEN, running
from tests.helpers.rtsp_camera import rtsp_camera
from tests.helpers.rtsp_watch import record

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

HOST = "127.0.0.1"
PASSWORD = "hunter2hunter2"
AUTO, TCP, UDP = RtspTransport.AUTO, RtspTransport.TCP, RtspTransport.UDP
HIGH = ("--profile", "high")
SMALL = ("--size", "640x360", "--fps", "15")


@pytest.mark.parametrize(
    ("options", "transport", "profile"),
    [
        ((), TCP, "42c0"),
        ((), UDP, "42c0"),
        (("--udp-only",), AUTO, "42c0"),
        (("--out-of-band", "--profile", "main"), TCP, "4d40"),
        (("--out-of-band", *HIGH), UDP, "6400"),
    ],
    ids=["TCP", "UDP", "UDP only", "Main, sets in the SDP", "High over UDP, sets in the SDP"],
)
async def test_pictures_arrive(options: tuple[str, ...], transport: RtspTransport, profile: str) -> None:
    async with rtsp_camera(HOST, *options) as camera:
        recorder = await record(RtspSource(url=camera.url, transport=transport), enough=60)
        await camera.wait_connected(0)
    (told,) = recorder.formats
    assert told.profile_level_id.startswith(profile)
    assert (told.width, told.height) == (1280, 720)
    key = next(chunk for chunk in recorder.chunks if chunk.key)
    assert [nal[0] & 31 for nal in reassemble(key.payloads)][:2] == [7, 8]


@pytest.mark.parametrize(
    ("options", "transport", "b_frames", "interlaced"),
    [
        ((*HIGH, "--b-frames"), TCP, True, False),
        (("--profile", "main", "--b-frames"), UDP, True, False),
        ((*HIGH, "--interlaced"), TCP, False, True),
        (("--codec", "h265"), UDP, False, False),
    ],
    ids=["B-frames", "B-frames over UDP", "interlaced", "H.265 over UDP"],
)
async def test_what_browsers_cannot_play_is_known(
    options: tuple[str, ...], transport: RtspTransport, b_frames: bool, interlaced: bool
) -> None:
    async with rtsp_camera(HOST, *options) as camera:
        recorder = await record(RtspSource(url=camera.url, transport=transport), enough=60)
    (told,) = recorder.formats
    assert (told.b_frames, told.interlaced) == (b_frames, interlaced)
    assert (told.codec, told.width) == ("H265" if "h265" in options else "H264", 1280)


async def test_pictures_arrive_over_ipv6() -> None:
    async with rtsp_camera("::1") as camera:
        assert (await record(RtspSource(url=camera.url, transport=UDP))).chunks


@pytest.mark.parametrize(
    ("options", "transport", "reason", "words"),
    [
        (("--udp-only",), TCP, SourceReason.PROTOCOL_ERROR, "RTP over TCP"),
        (("--tcp-only",), UDP, SourceReason.PROTOCOL_ERROR, "RTP over UDP"),
    ],
    ids=["UDP only", "TCP only"],
)
async def test_why_not(options: tuple[str, ...], transport: RtspTransport, reason: SourceReason, words: str) -> None:
    async with rtsp_camera(HOST, *options) as camera:
        with pytest.raises(SourceError, match=words) as caught:
            await record(RtspSource(url=camera.url, transport=transport), enough=300)
    assert caught.value.reason is reason


async def test_encrypted_cameras_are_known_by_their_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "camera.pem"
    fingerprint = write_certificate(file)
    login = ("--user", "viewer", "--password", PASSWORD, "--digest")
    async with rtsp_camera(HOST, "--certificate", str(file), *login) as camera:
        known = RtspSource(url=camera.url, fingerprint=fingerprint)
        assert (await record(known, Credentials("viewer", PASSWORD))).chunks
        for unknown in (RtspSource(url=camera.url), RtspSource(url=camera.url, fingerprint="00" * 32)):
            with pytest.raises(SourceError, match="certificate") as caught:
                await record(unknown, Credentials("viewer", PASSWORD))
            assert caught.value.reason is SourceReason.UNREACHABLE


async def test_chromium_shows_them(tmp_path: Path) -> None:
    async with (
        rtsp_camera(HOST, "--out-of-band", *HIGH, *SMALL) as high,
        rtsp_camera(HOST, "--udp-only", "--profile", "main", *SMALL) as udp,
    ):
        cameras = {"high": high, "udp": udp}
        options = [word for name, camera in cameras.items() for word in ("--camera", f"{name}={camera.url}")]
        async with running(tmp_path, *options) as dev, new_page() as page:
            player = Player(page)
            for name in ("high", "udp"):
                await player.open(dev.url, TOKEN, f"default/{name}")
                await player.wait_for("playing")
                await player.wait_for_frames(30, 3.0)
                picture = await player.picture()
                assert (picture.width, picture.height) == (640, 360)
                await page.goto("about:blank")
