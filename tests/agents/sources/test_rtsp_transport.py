"""RTP over UDP, the choice between the ways, and RTCP in both: on virtual time, against a camera with bad habits."""

import asyncio
import socket

import pytest

from sightline_agent.media.frames import Chunk
from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.rtsp.source import RtspSource
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from sightline_model.reasons import SourceReason
from tests.helpers.rtsp_server import PPS, SPS, Habits, RtspServer
from tests.helpers.rtsp_watch import Recorder, on_camera, watch

pytestmark = pytest.mark.stacks

UDP, TCP = RtspTransport.UDP, RtspTransport.TCP
HOSTS = ["127.0.0.1", "::1"]


def asked(camera: RtspServer) -> list[str]:
    """The transports of all SETUP requests."""
    wanted = [request.headers["transport"] for request in camera.requests if request.method == "SETUP"]
    return ["TCP" if text.startswith("RTP/AVP/TCP;") else "UDP" for text in wanted]


def numbers(recorder: Recorder) -> list[int]:
    """The frames' numbers by their timestamps, in the order in which they went on."""
    return [(chunk.timestamp - 1000) * 25 // 90_000 for chunk in recorder.chunks]


@pytest.mark.parametrize("transport", [TCP, UDP])
def test_a_sink_that_fails_ends_the_source(transport: RtspTransport) -> None:
    class Broken(Recorder):
        def write(self, chunk: Chunk) -> None:
            super().write(chunk)
            raise ZeroDivisionError

    async def scenario(camera: RtspServer) -> None:
        recorder = Broken()
        with pytest.raises(ZeroDivisionError):
            await RtspSource(RtspSpec(url=camera.url, transport=transport), None).run(recorder)
        assert len(recorder.chunks) == 1

    on_camera(Habits(), scenario)


@pytest.mark.parametrize("host", HOSTS)
def test_pictures_arrive_over_udp(host: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=60, transport=UDP)
        assert asked(camera) == ["UDP"]
        assert reassemble(recorder.chunks[0].payloads)[:2] == [SPS, PPS]
        assert numbers(recorder) == list(range(60))
        assert all(chunk.last for chunk in recorder.chunks)
        assert camera.punched == 1
        while camera.open:
            await asyncio.sleep(0.01)
        assert camera.methods()[-1] == "TEARDOWN"

    on_camera(Habits(), scenario, host)


@pytest.mark.parametrize("host", HOSTS)
def test_pictures_arrive_over_tcp(host: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, enough=30)
        assert asked(camera) == ["TCP"]

    on_camera(Habits(), scenario, host)


def test_our_ports_are_neighbours_and_given_back() -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, transport=UDP)
        (wanted,) = (request.headers["transport"] for request in camera.requests if request.method == "SETUP")
        first, second = map(int, wanted.partition("client_port=")[2].split("-"))
        assert (first % 2, second) == (0, first + 1)
        for port in (first, second):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                again.bind(("127.0.0.1", port))

    on_camera(Habits(), scenario)


def test_a_camera_that_refuses_tcp_is_asked_for_udp_at_once() -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera)
        assert asked(camera) == ["TCP", "UDP"]
        assert camera.connections == 1

    on_camera(Habits(transports=("UDP",)), scenario)


def test_a_camera_that_plays_over_tcp_but_sends_nothing_is_asked_for_udp() -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera)
        assert asked(camera) == ["TCP", "UDP"]
        assert camera.connections == 2

    on_camera(Habits(mute_transports=("TCP",)), scenario)


@pytest.mark.parametrize(
    ("habits", "transport", "reason", "words"),
    [
        (Habits(transports=("UDP",)), TCP, SourceReason.PROTOCOL_ERROR, "does not serve RTP over TCP"),
        (Habits(transports=("TCP",)), UDP, SourceReason.PROTOCOL_ERROR, "does not serve RTP over UDP"),
        (Habits(transports=()), RtspTransport.AUTO, SourceReason.PROTOCOL_ERROR, "not serve RTP over TCP or UDP"),
        (Habits(mute_transports=("UDP",)), UDP, SourceReason.NO_FRAMES, "over UDP; a firewall"),
        (Habits(mute_transports=("TCP",)), TCP, SourceReason.NO_FRAMES, "over TCP"),
        (Habits(silent=True), RtspTransport.AUTO, SourceReason.NO_FRAMES, "over TCP"),
        (Habits(silent=True, transports=("TCP",)), RtspTransport.AUTO, SourceReason.NO_FRAMES, "over TCP"),
        (Habits(silent=True, transports=("UDP",)), RtspTransport.AUTO, SourceReason.NO_FRAMES, "over UDP"),
        (Habits(stall_after=5), UDP, SourceReason.STALLED, "nothing for 4 s"),
        (Habits(drop_after=5), UDP, SourceReason.UNREACHABLE, "closed the connection"),
    ],
)
def test_failures(habits: Habits, transport: RtspTransport, reason: SourceReason, words: str) -> None:
    async def scenario(camera: RtspServer) -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError, match=words) as caught:
            await watch(camera, enough=1000, transport=transport)
        assert caught.value.reason is reason
        assert asyncio.get_running_loop().time() - begun < 10.0

    on_camera(habits, scenario)


def test_udp_that_brings_nothing_is_noticed_within_three_seconds() -> None:
    async def scenario(camera: RtspServer) -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError):
            await watch(camera, transport=UDP)
        assert asyncio.get_running_loop().time() - begun < 3.2

    on_camera(Habits(silent=True), scenario)


def test_rtsps_never_sends_pictures_in_the_clear() -> None:
    async def scenario(camera: RtspServer) -> None:
        with pytest.raises(SourceError, match="not be encrypted"):
            await watch(camera, transport=UDP)
        assert camera.methods() == ["OPTIONS"]

    on_camera(Habits(status={"OPTIONS": "302 Moved"}, location="rtsps://127.0.0.1:1/cam"), scenario)


def test_packets_in_another_order_are_put_right() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=60, transport=UDP)
        payloads = [payload for chunk in recorder.chunks for payload in chunk.payloads]
        pictures = [nal for nal in reassemble(payloads) if nal[0] & 31 == 5]
        assert len(pictures) == 2
        assert {len(nal) for nal in pictures} == {1 + 32 * 200}
        assert numbers(recorder) == sorted(numbers(recorder))

    on_camera(Habits(shuffle=True, gop=50), scenario)


@pytest.mark.parametrize("transport", [UDP, TCP])
def test_a_lost_packet_is_waited_for_briefly_and_the_rest_goes_on(transport: RtspTransport) -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=50, transport=transport)
        seen = numbers(recorder)
        assert seen == sorted(seen)
        assert set(range(seen[-1] + 1)) - set(seen) == {3}

    # The first frame has seven packets, two sets and a picture in five fragments; each that follows is one.
    on_camera(Habits(lose=lambda number: number == 9, gop=1000), scenario)


def test_a_frame_whose_end_is_lost_is_ended_all_the_same() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = await watch(camera, enough=10, transport=UDP)
        first = [chunk for chunk in recorder.chunks if chunk.timestamp == 1000]
        assert [chunk.last for chunk in first] == [False] * (len(first) - 1) + [True]
        assert first[-1].payloads == (b"\x0c\x80",)

    on_camera(Habits(lose=lambda number: number == 6), scenario)


def test_datagrams_from_elsewhere_are_not_taken() -> None:
    async def scenario(camera: RtspServer) -> None:
        recorder = Recorder(20)
        running = asyncio.create_task(RtspSource(RtspSpec(url=camera.url, transport=UDP), None).run(recorder))
        while not camera.punched:
            await asyncio.sleep(0.01)
        (wanted,) = (request.headers["transport"] for request in camera.requests if request.method == "SETUP")
        port = int(wanted.partition("client_port=")[2].split("-")[0])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))
            for sequence in range(65_400, 65_500):
                header = bytes([0x80, 0xE0]) + sequence.to_bytes(2, "big") + bytes(8)
                stranger.sendto(header + b"\x41stranger", ("127.0.0.1", port))
        await recorder.full.wait()
        running.cancel()
        await asyncio.wait({running})
        assert not any(b"stranger" in payload for chunk in recorder.chunks for payload in chunk.payloads)

    on_camera(Habits(), scenario)


@pytest.mark.parametrize("transport", [UDP, TCP])
def test_receiver_reports_tell_that_we_are_there(transport: RtspTransport) -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, enough=25 * 16, transport=transport)
        reports = camera.reports[1:] if transport is UDP else camera.reports  # the first one opens the way
        assert len(reports) == 3
        assert all(report[:2] == b"\x81\xc9" and report[8:12] == b"\x11\x22\x33\x44" for report in reports)

    on_camera(Habits(), scenario)


@pytest.mark.parametrize("transport", [UDP, TCP])
def test_a_goodbye_ends_the_stream_soon(transport: RtspTransport) -> None:
    async def scenario(camera: RtspServer) -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError, match="has ended the stream") as caught:
            await watch(camera, enough=1000, transport=transport)
        assert caught.value.reason is SourceReason.UNREACHABLE
        assert asyncio.get_running_loop().time() - begun < 2.5

    on_camera(Habits(bye_after=25), scenario)


def test_the_session_is_kept_alive_although_all_is_quiet_on_tcp() -> None:
    async def scenario(camera: RtspServer) -> None:
        await watch(camera, enough=5 * 61, transport=UDP)
        assert camera.methods().count("GET_PARAMETER") == 6

    on_camera(Habits(session_timeout=20, fps=5), scenario)
