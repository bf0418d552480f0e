"""The WHEP source against our own agent in this process, and against servers that refuse."""

import asyncio
import itertools
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver

from sightline_agent.media.frames import Chunk, MediaFormat
from sightline_agent.media.h264 import fragment
from sightline_agent.media.lipsync import signed
from sightline_agent.media.rtp import RtpPacket
from sightline_agent.media.sound import OPUS, PCMA, PCMU, opus_samples
from sightline_agent.runtime import Runtime, prepare
from sightline_agent.settings import parse
from sightline_agent.sources.base import KeyFrameSource
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.whep import reception as whep_reception
from sightline_agent.sources.whep import session as whep_session
from sightline_agent.sources.whep import source as whep_source
from sightline_agent.sources.whep.reception import Reception
from sightline_agent.sources.whep.sound import formats_of
from sightline_agent.sources.whep.source import WhepSource
from sightline_agent.standalone import parse_source
from sightline_model.agent import AgentConfig, CameraIdentity
from sightline_model.camera import WhepSource as WhepSpec
from sightline_model.reasons import SourceReason
from sightline_model.tokens import Signer, TokenRole, generate_private_key_pem
from tests.helpers.http_server import Answer, Asked, Reply, serve
from tests.helpers.recording import Recorder, decode, failing, failing_with, record
from tests.helpers.rtsp_server import PPS, SPS
from tests.helpers.sounds import onsets

pytestmark = pytest.mark.stacks

PATTERN = "testpattern://?width=320&height=240&fps=30"


@asynccontextmanager
async def agent(arguments: list[str]) -> AsyncIterator[Runtime]:
    runtime = Runtime(prepare(parse(arguments)))
    running = asyncio.create_task(runtime.run())
    while not runtime.control_port and not running.done():
        await asyncio.sleep(0)
    try:
        yield runtime
    finally:
        runtime.stop.set()
        await running


def standalone() -> list[str]:
    return ["--standalone", "--source", PATTERN, "--port", "0", "--udp-port", "0"]


def source(url: str, token: str = "") -> WhepSource:
    return WhepSource(WhepSpec(url=url), Credentials("", "", token) if token else None)


def whep(runtime: Runtime) -> str:
    return f"http://127.0.0.1:{runtime.control_port}/whep"


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "decoder" in thread.name]


async def test_our_own_agent_is_watched_and_left() -> None:
    recorder = Recorder(40)
    async with agent(standalone()) as runtime:
        await record(source(whep(runtime)), recorder)
        while runtime.registry.viewers:
            await asyncio.sleep(0.01)
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (320, 240)
    assert any(chunk.key and chunk.timestamp == recorder.stamps[0] for chunk in recorder.chunks)
    assert {step % 3000 for step in recorder.steps} == {0}  # a busy machine skips frames
    assert decode(recorder.chunks) == [(320, 240)] * len({chunk.timestamp for chunk in recorder.chunks if chunk.last})
    assert decoders() == []


async def test_sound_goes_with_the_pictures() -> None:
    recorder = Recorder(40)
    recorder.enough_sounds = 60
    async with agent(standalone()) as runtime:
        await record(source(whep(runtime)), recorder)
    assert recorder.audio == OPUS
    assert {opus_samples(chunk.payloads[0]) for chunk in recorder.sounds} == {960}
    times = [chunk.timestamp for chunk in recorder.sounds]
    # A busy machine skips packets.
    assert {(after - before) % (1 << 32) % 960 for before, after in itertools.pairwise(times)} == {0}
    beats = onsets("libopus", 48_000, [(chunk.payloads[0], signed(chunk.timestamp)) for chunk in recorder.sounds])
    assert beats


async def test_sound_that_nobody_wants_is_not_asked_for() -> None:
    recorder = Recorder(10)
    async with agent(standalone()) as runtime:
        spec = WhepSpec(url=whep(runtime))
        await record(WhepSource(spec, None, sound=False), recorder)
    assert (recorder.audio, recorder.sounds) == (None, [])


def test_what_an_answer_promises() -> None:
    head = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0 8\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:8 PCMA/8000\r\n"
    assert formats_of(head + "a=sendonly\r\n") == {111: OPUS, 0: PCMU, 8: PCMA}
    assert formats_of(head + "a=inactive\r\n") == {}
    assert formats_of(head.replace("audio 9", "audio 0") + "a=sendonly\r\n") == {}
    assert formats_of("noise") == {}


async def test_a_key_frame_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []
    made: list[WhepSource] = []
    recorder = Recorder(60)

    def on_chunk(number: int) -> None:
        if number == 5:
            wanted.clear()
            made[0].want_key_frame()

    recorder.on_chunk = on_chunk
    async with agent(standalone()) as runtime:
        monkeypatch.setattr(runtime.renditions._hubs["main"], "want_key_frame", lambda: wanted.append(1))
        made.append(source(whep(runtime)))
        assert isinstance(made[0], KeyFrameSource)
        await record(made[0], recorder)
    assert wanted


async def test_the_token_lets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer.from_pem(generate_private_key_pem())
    identity = CameraIdentity(namespace="default", name="door", uid="1")
    config = AgentConfig(camera=identity, source=parse_source(PATTERN)[0], token_keys=[signer.public_jwk()])
    (tmp_path / "agent.json").write_text(json.dumps(config.to_wire()))
    monkeypatch.setenv("POD_IP", "127.0.0.1")
    monkeypatch.setenv("SIGHTLINE_AGENT_CONTROL_PORT", "0")
    monkeypatch.setenv("SIGHTLINE_AGENT_MEDIA_PORT", "0")
    role: TokenRole = "View"
    token = signer.sign(identity.audience, "alice", role, "s-one", datetime.now(UTC))
    async with agent(["--config", str(tmp_path)]) as runtime:
        for wrong in ("", "wrong-token"):
            error = await failing(source(whep(runtime), wrong))
            assert error.reason is SourceReason.AUTHENTICATION_FAILED
            assert "wrong-token" not in str(error)
        recorder = Recorder(5)
        await record(source(whep(runtime), token), recorder)
    assert len(recorder.chunks) >= 5


def problem(status: int, **members: str) -> Answer:
    body = json.dumps(members).encode()
    return lambda asked: Reply(status, body, {"Content-Type": "application/problem+json"})


def answers(text: str) -> Answer:
    return lambda asked: Reply(201, text.replace("\n", "\r\n").encode(), {"Content-Type": "application/sdp"})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda asked: Reply(401), SourceReason.AUTHENTICATION_FAILED),
        (lambda asked: Reply(403), SourceReason.AUTHENTICATION_FAILED),
        (lambda asked: Reply(404), SourceReason.NOT_FOUND),
        (lambda asked: Reply(406), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(409), SourceReason.NO_FRAMES),
        (lambda asked: Reply(415), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(503), SourceReason.UNREACHABLE),
        (problem(422, code="codec-not-offered"), SourceReason.CODEC_UNSUPPORTED),
        (problem(409, code="source-codec-unsupported", reason="CodecUnsupported"), SourceReason.CODEC_UNSUPPORTED),
        (problem(502, code="source-unreachable", reason="Unreachable"), SourceReason.NO_FRAMES),
        (problem(400), SourceReason.PROTOCOL_ERROR),
        (
            lambda asked: Reply(500, b"[[", {"Content-Type": "application/problem+json"}),
            SourceReason.UNREACHABLE,
        ),
        (answers("hello"), SourceReason.PROTOCOL_ERROR),
        (answers("v=0\nm=video 0 UDP/TLS/RTP/SAVPF 99\na=rtpmap:99 H264/90000\n"), SourceReason.CODEC_UNSUPPORTED),
        (answers("v=0\nm=video 9 UDP/TLS/RTP/SAVPF 97\na=rtpmap:97 VP8/90000\n"), SourceReason.CODEC_UNSUPPORTED),
        (answers("v=0\nm=video 9 UDP/TLS/RTP/SAVPF 99\na=rtpmap:99 H264/90000\n"), SourceReason.PROTOCOL_ERROR),
        (lambda asked: Reply(201, b"v=0" * 30_000), SourceReason.PROTOCOL_ERROR),
    ],
)
async def test_what_is_told_when_it_fails(answer: Answer, reason: SourceReason) -> None:
    async with serve(answer) as server:
        error = await failing(source(server.url("/whep/secret-path"), "secret-token"))
    assert error.reason is reason, str(error)
    assert "secret" not in str(error)
    assert server.asked[0].headers["authorization"] == "Bearer secret-token"
    assert decoders() == []


async def test_nobody_there_and_a_token_that_cannot_be_sent() -> None:
    assert (await failing(source("http://127.0.0.1:1/whep"))).reason is SourceReason.UNREACHABLE
    error = await failing(source("http://127.0.0.1:1/whep", "two\nlines"))
    assert (error.reason, "two" in str(error)) == (SourceReason.AUTHENTICATION_FAILED, False)


async def test_an_answer_without_a_way_for_media(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep_source, "PATIENCE_SECONDS", 3.0)  # for both attempts together
    deaf = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    deaf.addTransceiver("video", direction="recvonly")
    await deaf.setLocalDescription(await deaf.createOffer())
    sdp = deaf.localDescription.sdp.replace("a=setup:actpass", "a=setup:passive").replace("recvonly", "sendonly")
    await deaf.close()

    def answer(asked: Asked) -> Reply:
        return Reply(201, sdp.encode(), {"Location": "/whep/session"})

    async with serve(answer) as server:
        error = await failing(source(server.url("/whep")))
        assert error.reason is SourceReason.UNREACHABLE
        assert [(asked.method, asked.path) for asked in server.asked] == [
            ("POST", "/whep"),
            ("DELETE", "/whep/session"),
        ] * 2  # it answers for the pictures alone, so that is what it is asked for the second time
    assert decoders() == []


async def test_a_server_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep_session, "POST_SECONDS", 0.1)
    async with serve(lambda asked: Reply(hangs=True)) as server:
        assert (await failing(source(server.url("/whep")))).reason is SourceReason.UNREACHABLE


async def test_a_server_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep_source, "STALL_SECONDS", 1.0)
    recorder = Recorder(10_000)
    async with agent(standalone()) as runtime:
        hub = runtime.renditions._hubs["main"]
        mute = lambda number: monkeypatch.setattr(hub, "_on_chunk", lambda run, chunk: None)  # noqa: E731
        recorder.on_chunk = mute
        error = await failing_with(source(whep(runtime)), recorder)
    assert error.reason is SourceReason.STALLED


async def test_a_server_that_ends_the_session() -> None:
    recorder = Recorder(10_000)
    async with agent(standalone()) as runtime:
        recorder.on_chunk = lambda number: runtime.stop.set()
        error = await failing_with(source(whep(runtime)), recorder)
    assert (error.reason, "ended the session" in str(error)) == (SourceReason.UNREACHABLE, True)


async def test_a_cancelled_source_leaves_nothing_behind() -> None:
    async with serve(lambda asked: Reply(hangs=True)) as server:
        running = asyncio.create_task(source(server.url("/whep")).run(Recorder(1)))
        await server.came.wait()
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
    assert decoders() == []


class Packets:
    """RTP packets of frames of one NAL unit each, behind parameter sets."""

    def __init__(self) -> None:
        self.started: list[MediaFormat] = []
        self.written: list[Chunk] = []
        self.woken = 0
        self.reception = Reception(self, self._wake)
        self._sequence = 65_530

    def start(self, format_: MediaFormat) -> None:
        self.started.append(format_)

    def write(self, chunk: Chunk) -> None:
        self.written.append(chunk)

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        self.woken += 1

    def frame(self, number: int, key: bool = False) -> list[RtpPacket]:
        nal = bytes([0x65 if key else 0x41, 0x88 if key else 0xE0]) + bytes([number + 1]) * 3000
        payloads = [*([SPS, PPS] if key else []), *fragment(nal)]
        packets = []
        for index, payload in enumerate(payloads):
            self._sequence = (self._sequence + 1) % 65_536
            marker = index == len(payloads) - 1
            packets.append(RtpPacket(99, marker, self._sequence, number * 3000, 7, payload))
        return packets

    def push(self, packets: list[RtpPacket]) -> bool:
        wants = [self.reception.packet(packet) for packet in packets]
        return any(wants)


async def test_packets_are_put_in_order_and_losses_repaired() -> None:
    packets = Packets()
    first, second = packets.frame(0, key=True), packets.frame(1)
    assert packets.push(first[:1])  # no key frame yet
    assert not packets.push(first[1:])
    assert packets.started[0].video.width == 640
    before = len(packets.written)
    assert not packets.push([second[0], second[2]])
    assert len(packets.written) == before + 1  # what is behind the gap waits
    packets.push([second[1]])
    assert [chunk.timestamp for chunk in packets.written][-2:] == [3000, 3000]
    assert packets.written[-1].last
    packets.reception.close()


async def test_a_loss_that_is_not_repaired_asks_for_a_key_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep_reception, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(whep_reception, "_ASK_AGAIN_SECONDS", 0.0)
    packets = Packets()
    packets.push(packets.frame(0, key=True))
    packets.push(packets.frame(1)[1:])
    await asyncio.sleep(0.001)
    assert packets.push(packets.frame(2))
    assert not packets.push(packets.frame(3, key=True)[-1:])
    packets.reception.close()
    count = len(packets.written)
    packets.push(packets.frame(4))
    assert len(packets.written) == count


async def test_b_frames_are_told() -> None:
    packets = Packets()
    packets.push(packets.frame(0, key=True))
    for number in (2, 1, 4, 3, 6, 5, 8, 7):
        packets.push(packets.frame(number))
    assert packets.started[-1].video.b_frames


def test_aiortc_is_where_we_expect_it() -> None:
    assert hasattr(RTCRtpReceiver, "_send_rtcp_pli")
    assert hasattr(RTCRtpReceiver, "_handle_rtp_packet")
