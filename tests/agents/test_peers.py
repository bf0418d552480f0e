"""Peers against an unmodified aiortc client over loopback: pictures, repair, and every way to end."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from sightline_agent.attachment import Attachment
from sightline_agent.errors import ProblemError
from sightline_agent.liveness import Timings, Vigil, liveness
from sightline_agent.media.frames import Chunk
from sightline_agent.peers import Peer
from sightline_agent.signaling.sdp import SdpError
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.mux import MuxCount
from sightline_agent.transport.stun import build_request, build_response, parse_request
from sightline_agent.viewerstats import Family
from sightline_model.problems import ProblemCode
from sightline_model.reasons import EndReason
from tests.helpers.peer_stage import (
    FORMAT,
    GOP,
    HEIGHT,
    PATIENCE,
    RATE,
    WIDTH,
    Client,
    Observer,
    Stage,
    connect,
    encode_clip,
    open_client,
    open_stage,
    playing,
)
from tests.helpers.receivers import MAKE_RECEIVER

pytestmark = pytest.mark.stacks


@pytest.fixture(scope="module")
def clip() -> list[Chunk]:
    return encode_clip(3 * GOP)


@pytest.fixture(params=MAKE_RECEIVER)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with open_stage(request.param()) as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with open_client() as opened:
        yield opened


async def test_an_unmodified_client_plays(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        await connect(client, stage, stage.peer(observer))
        frames = await client.frames(2 * GOP)
        await observer.until("alive")
    assert {(frame.width, frame.height) for frame in frames} == {(WIDTH, HEIGHT)}
    assert observer.heard[:2] == ["connected", "media"]


async def test_losses_are_repaired(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    seen = 0

    def every_tenth(data: bytes) -> bool:
        nonlocal seen
        seen += 1
        return seen % 10 == 0

    with playing(clip, stage.fanout):
        await connect(client, stage, stage.peer(Observer()))
        await client.frames(GOP)
        stage.sockets.lose = every_tenth
        frames = await client.frames(2 * GOP)
    # No frame is missing, so whatever was lost was repaired.
    times = [frame.pts for frame in frames if frame.pts is not None]
    assert {b - a for a, b in pairwise(times)} == {90000 // RATE}
    assert sum(wire.lost for wire in stage.sockets.made) > 0
    assert stage.fanout.totals().resent > 0


async def test_another_quality_is_the_same_stream_to_an_unmodified_client(
    stage: Stage, client: Client, clip: list[Chunk]
) -> None:
    other = PythonFanOut(stage.sockets)
    peer = stage.peer(Observer())
    with playing(clip, stage.fanout), playing(clip, other):
        task = await connect(client, stage, peer)
        frames = await client.frames(GOP)
        before = peer.stats()
        await peer.switch(Attachment("sd", FORMAT, other, None, lambda: None, lambda: None))
        assert not stage.fanout._streams
        frames += await client.frames(2 * GOP)
        after = peer.stats()
    times = [frame.pts for frame in frames if frame.pts is not None]
    assert all(0 < b - a < 90_000 for a, b in pairwise(times))
    assert before is not None
    assert after is not None
    assert after.packets_sent > before.packets_sent
    peer.close(EndReason.REVOKED)
    await asyncio.wait_for(task, PATIENCE)
    assert not other._streams


def assert_nothing_stays(stage: Stage, observer: Observer) -> None:
    assert observer.closings == 1
    assert not stage.mux._by_ufrag
    assert not stage.mux._by_address
    assert not stage.fanout._streams


async def test_the_client_hangs_up(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await client.frames(1)
        await client.connection.close()
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.HANGUP
    assert_nothing_stays(stage, observer)


async def test_the_session_is_closed(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        task = await connect(client, stage, peer)
        await client.frames(1)
        transport = client.connection.getReceivers()[0].transport
        peer.close(EndReason.REVOKED, "by the owner")
        peer.close(EndReason.HANGUP)
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.REVOKED, "by the owner")
    assert_nothing_stays(stage, observer)
    # The viewer was told.
    assert transport._task is not None
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait({transport._task})
    assert transport.state == "closed"


async def test_the_agent_stops(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await observer.until("media")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert observer.end is not None
    assert observer.end[0] is EndReason.AGENT_LOST
    assert_nothing_stays(stage, observer)


def deafen(stage: Stage) -> None:
    """From here on nothing of the viewer reaches us, whoever reads the port."""
    for descriptor in stage.mux._watched:
        asyncio.get_running_loop().remove_reader(descriptor)
    if stage.mux._receiver is not None:
        stage.mux._receiver.stop()


async def test_a_viewer_that_vanishes(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await observer.until("media")
        deafen(stage)
        stage.factory.timings = Timings(silence=0.2, watch=0.05)
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.SOCKET_LOST
    assert_nothing_stays(stage, observer)


async def test_a_dead_viewer_is_gone_within_ten_seconds(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    timings = Timings()
    assert timings.silence + timings.watch <= 10
    assert timings.report_least >= 2
    assert timings.report_most <= 3
    observer = Observer()
    with playing(clip, stage.fanout):
        task = await connect(client, stage, stage.peer(observer))
        await observer.until("media")
        deafen(stage)
        stage.factory.timings = Timings(watch=0.05)
        now = time.monotonic()
        for silent in (2.0, 4.0, 6.0, 7.5):  # the viewer was last heard some time before
            stage.factory.clock = lambda silent=silent: now + silent  # type: ignore[misc]
            await asyncio.sleep(0.2)
            assert not task.done()
        stage.factory.clock = lambda: now + timings.silence + 0.2
        await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.SOCKET_LOST


async def test_a_process_that_stood_still_for_a_minute_keeps_its_viewers(
    stage: Stage, client: Client, clip: list[Chunk]
) -> None:
    observer, shift, looks = Observer(), 0.0, 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic() + shift

    stage.mux._clock = lambda: time.monotonic() + shift
    with playing(clip, stage.fanout):
        peer = stage.peer(observer)
        await connect(client, stage, peer)
        await observer.until("media")
        stage.factory.clock = clock
        shift = 60.0
        await client.frames(GOP)
        assert looks
        assert observer.end is None
        peer.close(EndReason.REVOKED)


async def test_nobody_comes(stage: Stage, client: Client) -> None:
    observer = Observer()
    stage.factory.timings = Timings(connect=0.05)
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    await asyncio.wait_for(peer.run(), PATIENCE)
    assert observer.end == (EndReason.CONNECT_TIMEOUT, "no ICE check arrived within 0.05 s")
    assert_nothing_stays(stage, observer)


async def test_a_handshake_that_never_ends(stage: Stage, client: Client) -> None:
    observer = Observer()
    stage.factory.timings = Timings(connect=0.1)
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    stage.mux.datagram(nominating_check(peer), ("127.0.0.1", 9))
    await asyncio.wait_for(peer.run(), PATIENCE)
    assert observer.end == (EndReason.CONNECT_TIMEOUT, "the DTLS handshake was not finished within 0.1 s")
    assert_nothing_stays(stage, observer)


async def test_closed_during_the_handshake(stage: Stage, client: Client) -> None:
    observer = Observer()
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    peer.answer(connection.localDescription.sdp)
    stage.mux.datagram(nominating_check(peer), ("127.0.0.1", 9))
    task = stage.run(peer)
    asyncio.get_running_loop().call_soon(peer.close, EndReason.REVOKED)
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.REVOKED, "")
    assert_nothing_stays(stage, observer)


async def test_a_defect_ends_the_peer_and_nothing_stays(stage: Stage, client: Client) -> None:
    observer = Observer()

    def broken() -> None:
        raise RuntimeError("a defect")

    observer.connected = broken  # type: ignore[method-assign]
    task = await connect(client, stage, stage.peer(observer))
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end == (EndReason.AGENT_LOST, "an internal error")
    assert_nothing_stays(stage, observer)


async def test_somebody_else_comes(stage: Stage, client: Client) -> None:
    """The certificate is not the one of the offer."""
    observer = Observer()
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(observer)
    digest = "a=fingerprint:sha-256 " + ":".join(["00"] * 32)
    answer = peer.answer(re.sub(r"a=fingerprint:sha-256 \S+", digest, connection.localDescription.sdp))
    task = stage.run(peer)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.wait_for(task, PATIENCE)
    assert observer.end is not None
    assert observer.end[0] is EndReason.REJECTED
    assert "connected" not in observer.heard
    assert_nothing_stays(stage, observer)


async def test_closed_before_it_ran(stage: Stage) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    assert stage.mux._by_ufrag
    peer.close(EndReason.REJECTED, "no")
    peer.close(EndReason.HANGUP)
    assert observer.end == (EndReason.REJECTED, "no")
    assert_nothing_stays(stage, observer)
    await peer.run()
    assert observer.closings == 1


async def test_an_offer_without_an_answer_frees_the_peer_when_it_is_closed(stage: Stage) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with pytest.raises(SdpError):
        peer.answer("v=0\r\n")
    peer.close(EndReason.REJECTED)
    assert_nothing_stays(stage, observer)


async def test_a_passive_client_is_served_too(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    """FFmpeg offers so; here aiortc is made to."""
    connection = client.connection
    await connection.setLocalDescription(await connection.createOffer())
    peer = stage.peer(Observer())
    answer = peer.answer(connection.localDescription.sdp.replace("a=setup:actpass", "a=setup:passive"))
    assert "a=setup:active" in answer
    with playing(clip, stage.fanout):
        stage.run(peer)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await client.frames(2)


async def test_a_key_frame_is_asked_for(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        await client.frames(1)
        await client.connection.getReceivers()[0]._send_rtcp_pli(peer._ssrc)
        await observer.until("key_frame_wanted")


async def test_the_viewers_reports_are_read(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        # Once a sender report has come back in a receiver report, the way is known.
        async with asyncio.timeout(PATIENCE):
            while peer.reception.round_trip is None:
                observer.changed.clear()
                await observer.changed.wait()
        async with asyncio.timeout(PATIENCE):
            while not stage.factory.audience.round_trip.total:
                await asyncio.sleep(0.01)
        stats = peer.stats()
    assert 0 <= peer.reception.round_trip < PATIENCE
    assert peer.reception.packets_lost == 0
    assert stats is not None
    assert (stats.address_family, stats.packets_lost, stats.round_trip_ms is None) == ("IPv4", 0, False)
    assert stats.packets_sent > 0
    assert stats.reports > 0
    assert stats.bitrate > 0
    assert stage.factory.audience.families[Family.IPV4] == 1
    assert stage.factory.audience.loss.buckets()[-1][1] > 0


async def test_complaints_are_counted(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    peer = stage.peer(Observer())
    assert peer.stats() is None
    with playing(clip, stage.fanout):
        task = await connect(client, stage, peer)
        await client.frames(GOP)
        receiver = client.connection.getReceivers()[0]
        await receiver._send_rtcp_pli(peer._ssrc)
        await receiver._send_rtcp_nack(peer._ssrc, [1, 2, 3])
        async with asyncio.timeout(PATIENCE):
            while not (peer.reception.nacks and peer.reception.key_frames_wanted):
                await asyncio.sleep(0.01)
        peer.close(EndReason.HANGUP)
        await asyncio.wait_for(task, PATIENCE)
    audience = stage.factory.audience
    assert (audience.nacks, audience.key_frames_wanted) == (peer.reception.nacks, peer.reception.key_frames_wanted)
    assert audience.families.total() == 0
    assert peer.stats() is None


async def test_a_viewer_roams(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    loop = asyncio.get_running_loop()
    with playing(clip, stage.fanout), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.setblocking(False)
        await connect(client, stage, peer)
        await observer.until("media")
        elsewhere.sendto(nominating_check(peer), ("127.0.0.1", stage.mux.port))
        remote = peer._endpoint.remote
        assert remote is not None
        async with asyncio.timeout(PATIENCE):
            data = b""
            while data[8:12] != peer._ssrc.to_bytes(4, "big"):
                data = await loop.sock_recv(elsewhere, 2048)
                if data[:2] == b"\0\1":  # before anything else comes here, it is asked who is here
                    answer = build_response(parse_request(data), remote.password.encode(), ("127.0.0.1", 1))
                    elsewhere.sendto(answer, ("127.0.0.1", stage.mux.port))


def nominating_check(peer: Peer) -> bytes:
    credentials, remote = peer._endpoint.credentials, peer._endpoint.remote
    assert remote is not None
    username = f"{credentials.ufrag}:{remote.ufrag}".encode()
    attributes = [(0x0006, username), (0x0024, bytes(4)), (0x802A, bytes(8)), (0x0025, b"")]
    return build_request(bytes(12), attributes, credentials.password.encode())


async def test_an_unmodified_client_answers_probes(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        await observer.until("media")
        endpoint = peer._endpoint
        moved: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        endpoint.on_move = moved.set_result
        home = endpoint.address
        assert home is not None
        endpoint._probe(parse_request(nominating_check(peer)), home, stage.mux.now())
        assert await asyncio.wait_for(moved, PATIENCE) == home
    assert stage.mux.counters[MuxCount.PROBE_ANSWER] == 1


async def test_an_ice_restart(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    peer = stage.peer(Observer())
    with playing(clip, stage.fanout):
        await connect(client, stage, peer)
        await client.frames(1)
        before = peer.etag
        old = client.connection.localDescription.sdp.split("a=ice-ufrag:")[1].split()[0]
        assert peer.trickle(f"a=ice-ufrag:{old}\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n") is None
        assert peer.trickle("a=end-of-candidates\r\n") is None
        assert peer.etag == before
        answer = peer.trickle("a=ice-ufrag:fresh\r\na=ice-pwd:0123456789012345678901\r\n")
        assert answer is not None
        assert peer.etag != before
        assert f"a=ice-ufrag:{peer.etag}\r\n" in answer
        # The same name again is the same restart, and frames go on meanwhile.
        assert peer.trickle("a=ice-ufrag:fresh\r\n") is None
        await client.frames(3)


async def test_whose_session_is_over_restarts_nothing(stage: Stage, client: Client, clip: list[Chunk]) -> None:
    observer = Observer()
    peer = stage.peer(observer)
    with playing(clip, stage.fanout):
        task = await connect(client, stage, peer)
        await client.frames(1)
        peer.close(EndReason.REVOKED)
        for _ in range(2):  # on its way out, and gone
            with pytest.raises(ProblemError) as caught:
                peer.trickle("a=ice-ufrag:fresh\r\na=ice-pwd:0123456789012345678901\r\n")
            assert caught.value.problem.code == ProblemCode.SESSION_NOT_FOUND
            await asyncio.wait_for(task, PATIENCE)
    assert_nothing_stays(stage, observer)


async def test_many_viewers_share_one_port(stage: Stage, clip: list[Chunk]) -> None:
    clients = [RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(3)]
    observers = [Observer() for _ in clients]
    try:
        with playing(clip, stage.fanout):
            for i, connection in enumerate(clients):
                connection.addTransceiver("video", direction="recvonly")
                await connect(Client(connection), stage, stage.peer(observers[i], f"s-{i}"))
            for observer in observers:
                await observer.until("alive")
        assert len(set(stage.mux._by_address.values())) == 3
    finally:
        for connection in clients:
            await connection.close()
    for observer in observers:
        await observer.until("closed")


@pytest.mark.parametrize(
    ("check", "rtcp", "gone"),
    [
        (100, 100, False),
        (91, 80, False),
        (71, 91, False),
        (89.9, 89.9, True),
        (69.9, 100, True),
        (60, float("-inf"), True),
    ],
)
def test_liveness(check: float, rtcp: float, gone: bool) -> None:
    outcome = liveness(100, check, rtcp, Timings(silence=10, consent=30))
    assert (outcome is not None) is gone
    assert outcome is None or outcome.reason is EndReason.SOCKET_LOST


MINUTE = Timings(silence=9, consent=30, late=2)


@pytest.mark.parametrize(("standstill", "gone_after"), [(0.0, 10), (1.9, 8), (60.0, 8), (3600.0, 8)])
def test_a_standstill_counts_for_two_seconds_at_most(standstill: float, gone_after: int) -> None:
    vigil = Vigil(100.0, 100.0)
    looks = [vigil.look(100.0 + standstill + second, 100.0, 100.0, MINUTE) for second in range(12)]
    assert [outcome is not None for outcome in looks].index(True) == gone_after


def test_signs_of_life_count_from_when_they_were_given() -> None:
    vigil = Vigil(100.0, 99.0)
    for second in range(1, 61):
        assert vigil.look(100.0 + second, 99.0 + second, 99.5 + second, MINUTE) is None
    # The last one was half a second before the last look, and nobody looked meanwhile.
    assert vigil.look(1000.0, 159.0, 159.5, MINUTE) is None
    looks = [vigil.look(1000.0 + second, 159.0, 159.5, MINUTE) is not None for second in range(1, 9)]
    assert looks.index(True) == 6


def test_reports_do_not_replace_checks() -> None:
    vigil = Vigil(0.0, 0.0)
    looks = [vigil.look(float(second), 0.0, float(second), MINUTE) is not None for second in range(1, 33)]
    assert looks.index(True) == 30
