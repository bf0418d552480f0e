"""The RTSP source against a camera with every bad habit, on virtual time: what it tells, and within ten seconds."""

import asyncio
import ssl

import pytest

from sightline_agent.media.frames import MAX_PAYLOAD, VideoFormat
from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp.source import RtspSource
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.reasons import SourceReason
from tests.helpers import virtual_time
from tests.helpers.certificates import write_certificate
from tests.helpers.rtsp_server import PPS, SPS, Habits, RtspServer, serve
from tests.helpers.rtsp_watch import Recorder, on_camera, watch

pytestmark = pytest.mark.stacks

PASSWORD = "Tr0ub4dor"
ADMIN = Credentials("admin", PASSWORD)


def test_pictures_arrive_and_the_session_is_ended() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera)
        assert recorder.format == VideoFormat("H264", "42c01e", 640, 360)
        assert recorder.chunks[0].key
        assert reassemble(recorder.chunks[0].payloads)[:2] == [SPS, PPS]
        assert all(len(payload) <= MAX_PAYLOAD for chunk in recorder.chunks for payload in chunk.payloads)
        while camera.open:
            await asyncio.sleep(0.01)
        assert camera.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
        assert [request.url.removeprefix(camera.url) for request in camera.requests] == ["", "", "/trackID=1", "/", "/"]
        assert camera.connections == 1

    on_camera(Habits(), scenario)


@pytest.mark.parametrize(("in_sdp", "in_band"), [(True, False), (False, True), (True, True)])
def test_parameter_sets_lead_wherever_the_camera_puts_them(in_sdp: bool, in_band: bool) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=40)
        keys = [chunk for chunk in recorder.chunks if chunk.key]
        assert len(keys) == 2
        assert all(reassemble(chunk.payloads)[:2] == [SPS, PPS] for chunk in keys)

    on_camera(Habits(sets_in_sdp=in_sdp, sets_in_band=in_band), scenario)


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Digest-qop", "Digest-SHA-256", "several", "several in one"])
def test_passwords(scheme: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, ADMIN)
        assert recorder.chunks
        assert camera.methods()[:3] == ["OPTIONS", "DESCRIBE", "DESCRIBE"]

    on_camera(Habits(username="admin", password=PASSWORD, scheme=scheme), scenario)


FAILURES = [
    ("wrong password", Habits(username="admin", password="other"), ADMIN, SourceReason.AUTHENTICATION_FAILED),
    (
        "wrong password, in few words",
        Habits(username="admin", password="other", terse=True),
        ADMIN,
        SourceReason.AUTHENTICATION_FAILED,
    ),
    ("no password", Habits(username="admin", password="x"), None, SourceReason.AUTHENTICATION_FAILED),
    ("forbidden", Habits(status={"DESCRIBE": "403 Forbidden"}), ADMIN, SourceReason.AUTHENTICATION_FAILED),
    ("no such path", Habits(status={"DESCRIBE": "404 Not Found"}), None, SourceReason.NOT_FOUND),
    ("busy", Habits(status={"SETUP": "503 Service Unavailable"}), None, SourceReason.UNREACHABLE),
    ("udp only", Habits(status={"SETUP": "461 Unsupported Transport"}), None, SourceReason.PROTOCOL_ERROR),
    ("moved", Habits(status={"DESCRIBE": "302 Moved"}), None, SourceReason.PROTOCOL_ERROR),
    ("vp9", Habits(codec="VP9"), None, SourceReason.CODEC_UNSUPPORTED),
    ("silent", Habits(silent=True), None, SourceReason.NO_FRAMES),
    ("stalls", Habits(stall_after=5), None, SourceReason.STALLED),
    ("hangs up", Habits(drop_after=5), None, SourceReason.UNREACHABLE),
    ("never answers", Habits(mute=frozenset({"OPTIONS"})), None, SourceReason.UNREACHABLE),
    ("never plays", Habits(mute=frozenset({"PLAY"})), None, SourceReason.UNREACHABLE),
    ("a web server", Habits(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n"), None, SourceReason.PROTOCOL_ERROR),
    ("noise", Habits(greeting=b"\x16\x03\x01\x02\x00"), None, SourceReason.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(
    ("habits", "credentials", "reason"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
def test_failures_have_their_reason_within_ten_seconds(
    habits: Habits, credentials: Credentials | None, reason: SourceReason
) -> None:
    async def scenario(camera: RtspServer) -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError) as caught:
            await watch(camera, credentials, enough=1000)
        assert caught.value.reason is reason
        assert asyncio.get_running_loop().time() - begun < 10.0
        shown = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
        assert PASSWORD not in shown
        assert "admin" not in shown

    on_camera(habits, scenario)


@pytest.mark.parametrize("terse", [False, True])
def test_a_wrong_password_is_told_as_such(terse: bool) -> None:
    async def scenario(camera: RtspServer) -> None:
        with pytest.raises(SourceError, match="refuses the user name or the password"):
            await watch(camera, ADMIN)
        assert camera.methods() == ["OPTIONS", "DESCRIBE", "DESCRIBE"]

    on_camera(Habits(username="admin", password="other", terse=terse), scenario)


def test_another_codec_is_named_in_the_message() -> None:
    async def scenario(camera: RtspServer) -> None:
        with pytest.raises(SourceError, match="VP9"):
            await watch(camera)

    on_camera(Habits(codec="VP9"), scenario)


def test_nobody_listens() -> None:
    async def scenario() -> None:
        async with serve() as camera:
            pass
        with pytest.raises(SourceError) as caught:
            await watch(camera)
        assert caught.value.reason is SourceReason.UNREACHABLE

    virtual_time.run(scenario())


def test_a_camera_that_almost_times_out_each_time_is_cut_short() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                number += 1
                await asyncio.sleep(3.9)
                writer.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        source = RtspSource(RtspSpec(url=f"rtsp://127.0.0.1:{port}/cam"), None)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError):
            await source.run(Recorder())
        assert asyncio.get_running_loop().time() - begun < 10.0
        server.close()
        await server.wait_closed()

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("public", "expected"), [("OPTIONS, PLAY, GET_PARAMETER", "GET_PARAMETER"), ("OPTIONS, PLAY", "OPTIONS")]
)
def test_the_session_is_kept_alive_at_half_its_timeout(public: str, expected: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, enough=5 * 61)
        asked = camera.methods()[4:]
        assert asked.count(expected) == 6
        assert all(request.headers.get("session") == "12345678" for request in camera.requests[3:])

    on_camera(Habits(public=public, session_timeout=20, fps=5), scenario)


@pytest.mark.parametrize("refusal", ["401 Unauthorized", "501 Not Implemented", "400 Bad Request"])
def test_a_refused_keep_alive_does_not_end_the_stream(refusal: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, enough=5 * 61)
        assert ("OPTIONS" in camera.methods()[5:]) is refusal.startswith("501")

    on_camera(Habits(status={"GET_PARAMETER": refusal}, session_timeout=20, fps=5), scenario)


def test_the_cameras_own_idea_of_its_address_is_used_without_user_names() -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera)
        assert camera.requests[2].url == "rtsp://10.0.0.9/live/trackID=1"

    on_camera(Habits(content_base="rtsp://who:ever@10.0.0.9/live"), scenario)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A camera's own certificate and its fingerprint."""
    file = tmp_path_factory.mktemp("camera") / "camera.pem"
    fingerprint = write_certificate(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, fingerprint


@pytest.mark.parametrize(("known", "plays"), [("right", True), ("wrong", False), ("none", False)])
def test_rtsps_cameras_are_known_by_their_fingerprint(
    certificate: tuple[ssl.SSLContext, str], known: str, plays: bool
) -> None:
    context, fingerprint = certificate
    given = {"right": fingerprint, "wrong": "00" * 32, "none": None}[known]

    async def scenario() -> None:
        async with serve(tls=context) as camera:
            recorder = Recorder()
            running = asyncio.create_task(RtspSource(RtspSpec(url=camera.url, fingerprint=given), None).run(recorder))
            full = asyncio.create_task(recorder.full.wait())
            await asyncio.wait({running, full}, return_when=asyncio.FIRST_COMPLETED)
            full.cancel()
            if plays:
                assert recorder.chunks
                running.cancel()
                await asyncio.wait({running})
            else:
                with pytest.raises(SourceError) as caught:
                    await running
                assert caught.value.reason is SourceReason.UNREACHABLE

    virtual_time.run(scenario())
