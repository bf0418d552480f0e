"""The native receiver: what it takes, what it hands on, and that no rule of the mux is got around."""

import asyncio
import contextlib
import gc
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from pylibsrtp import Policy, Session

from sightline_agent.transport.endpoint import ADDRESS_HELD_SECONDS, Endpoint, IceCredentials
from sightline_agent.transport.fanout import Address, SendKeys
from sightline_agent.transport.mux import MuxCount, UdpMux
from sightline_agent.transport.receiver import Association, NativeReceiver, choose_receiver
from sightline_agent.transport.rtcp import SenderReport, build_sender_report
from sightline_agent.transport.srtp import PROFILES
from sightline_agent.transport.stun import build_request, build_response, parse_request
from tests.helpers.receivers import NATIVE

pytestmark = NATIVE

HOME: Address = ("192.0.2.1", 1000)
AWAY: Address = ("2001:db8::1", 2000)
LENGTHS = {
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}
SSRC, VIEWER = 0xCAFE, 7
WALL = 1_700_000_000.0


class Mux(UdpMux):
    """Nothing reaches a wire, and the clocks stand still."""

    def __init__(self) -> None:
        self.time = 100.0
        self.sent: list[tuple[bytes, Address]] = []
        super().__init__("127.0.0.1", 0, clock=lambda: self.time, receiver=NativeReceiver(lambda: WALL))

    def send(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))


class Viewer:
    """A session whose peer is at HOME and has finished its handshake."""

    def __init__(self, mux: Mux, profile: str = "SRTP_AEAD_AES_128_GCM") -> None:
        self.mux, self.endpoint = mux, mux.open_endpoint()
        self.endpoint.remote = IceCredentials("peer", "p" * 24)
        key, salt = (bytes(range(length)) for length in LENGTHS[profile])
        self.association.unlock(SendKeys(profile, key, salt))
        policy = Policy(key=key + salt, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile])
        self.session = Session(policy)
        self.media: list[bytes] = []
        self.rtcp: list[bytes] = []
        self.endpoint.on_media = self.take
        self.endpoint.on_rtcp = self.rtcp.append
        mux.datagram(self.check(), HOME)
        mux.sent.clear()
        mux.counters.clear()

    @property
    def association(self) -> Association:
        assert self.endpoint.association is not None
        return self.endpoint.association

    def take(self, data: bytes) -> bool:
        self.media.append(data)
        return self.association.unprotect(data) is not None

    def check(self, nominate: bool = False) -> bytes:
        return check(self.endpoint, nominate)

    def sealed(self, plain: bytes) -> bytes:
        return self.session.protect_rtcp(plain)


def check(endpoint: Endpoint, nominate: bool = False) -> bytes:
    credentials = endpoint.credentials
    attributes = [(0x0006, f"{credentials.ufrag}:peer".encode()), (0x0024, bytes(4)), (0x802A, bytes(8))]
    if nominate:
        attributes.append((0x0025, b""))
    return build_request(bytes(12), attributes, credentials.password.encode())


def report(lost: int = 0, ssrc: int = SSRC) -> bytes:
    return struct.pack("!BBHIIIIIII", 0x81, 201, 7, VIEWER, ssrc, lost, 40, 90, 5, 6)


NACK = struct.pack("!BBHIIHH", 0x81, 205, 3, VIEWER, SSRC, 17, 0)
PLI = struct.pack("!BBHII", 0x81, 206, 2, VIEWER, SSRC)
BYE = struct.pack("!BBHI", 0x81, 203, 1, VIEWER)


@pytest.fixture
async def mux() -> Mux:
    return Mux()


async def test_checks_are_answered_as_the_mux_does_it(mux: Mux) -> None:
    viewer = Viewer(mux)
    mux.time += 1
    for nominate in (False, True):
        request = viewer.check(nominate)
        mux.datagram(request, HOME)
        parsed = parse_request(request)
        assert mux.sent.pop() == (build_response(parsed, viewer.endpoint.credentials.password.encode(), HOME), HOME)
    assert mux.counters == {MuxCount.STUN: 2}
    assert viewer.endpoint.times()[0] == viewer.endpoint.last_seen(HOME) == mux.time


@pytest.mark.parametrize("profile", PROFILES)
async def test_reports_are_noted_and_told_once(mux: Mux, profile: str) -> None:
    viewer = Viewer(mux, profile)
    mux.time += 1
    for lost in (1, 2, 0x80FFFFFF):
        mux.datagram(viewer.sealed(report(lost)), HOME)
    assert not viewer.media
    assert not viewer.rtcp
    assert viewer.endpoint.times()[1] == mux.time
    [heard] = viewer.endpoint.heard()
    assert (heard.count, heard.at) == (3, WALL)
    told = heard.report
    assert (told.ssrc, told.fraction_lost, told.packets_lost) == (SSRC, 0.5, -1)
    assert (told.highest_sequence, told.jitter, told.last_sender_report, told.delay) == (40, 90, 5, 6)
    assert viewer.endpoint.heard() == []
    assert mux.counters == {MuxCount.MEDIA: 3}


@pytest.mark.parametrize("wish", [NACK, PLI, BYE])
async def test_what_wants_something_comes_in_clear_and_whole(mux: Mux, wish: bytes) -> None:
    viewer = Viewer(mux)
    mux.datagram(viewer.sealed(report() + wish), HOME)
    assert viewer.rtcp == [report() + wish]
    assert viewer.endpoint.heard() == []
    assert mux.counters == {MuxCount.MEDIA: 1}


async def test_nothing_is_believed_twice_wherever_it_comes_from(mux: Mux) -> None:
    viewer = Viewer(mux)
    mux.datagram(viewer.check(), AWAY)
    first, second = (viewer.sealed(report()) for _ in range(2))
    for data, source in ((first, HOME), (first, HOME), (first, AWAY), (second, AWAY), (second, HOME)):
        mux.datagram(data, source)
    assert viewer.endpoint.heard()[0].count == 1
    # The other address is not the one that was placed: the mux has it opened, once.
    assert viewer.media == [first, second]
    assert viewer.association.unprotect(second) is None


async def test_forged_and_damaged_reports_are_no_sign_of_life(mux: Mux) -> None:
    viewer = Viewer(mux)
    mux.time += 5
    whole = viewer.sealed(report())
    for at in range(len(whole)):
        mux.datagram(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :], HOME)
    assert viewer.endpoint.times()[1] == float("-inf")
    assert viewer.endpoint.last_seen(HOME) == 100.0
    mux.datagram(whole, HOME)
    assert viewer.endpoint.last_seen(HOME) == mux.time


async def test_reports_keep_an_address_from_others(mux: Mux) -> None:
    viewer, thief = Viewer(mux), mux.open_endpoint()
    for _ in range(5):
        mux.time += ADDRESS_HELD_SECONDS / 2
        mux.datagram(viewer.sealed(report()), HOME)
    mux.datagram(check(thief), HOME)
    assert mux.counters[MuxCount.ADDRESS_TAKEN] == 1
    assert thief.address is None
    mux.time += ADDRESS_HELD_SECONDS
    mux.datagram(check(thief), HOME)
    assert thief.address == HOME
    assert viewer.endpoint.heard()[0].count == 5
    # What was placed there is placed no more: its reports are not heard under another's address.
    mux.datagram(viewer.sealed(report()), HOME)
    assert viewer.endpoint.heard() == []


async def test_a_move_is_seen_and_followed(mux: Mux) -> None:
    viewer = Viewer(mux)
    mux.datagram(viewer.check(nominate=True), AWAY)
    [answer, probe] = mux.sent
    assert viewer.endpoint._placed is None  # everything is looked at until the probe is answered
    mux.datagram(viewer.sealed(report()), HOME)
    assert len(viewer.media) == 1
    asked = parse_request(probe[0])
    mux.datagram(build_response(asked, b"p" * 24, AWAY), AWAY)
    assert viewer.endpoint.address == AWAY
    mux.datagram(viewer.sealed(report()), AWAY)
    assert viewer.endpoint.heard()[0].count == 1
    assert answer[1] == AWAY


async def test_a_restart_is_seen_and_followed(mux: Mux) -> None:
    viewer = Viewer(mux)
    old = viewer.check()
    viewer.endpoint.restart()
    assert viewer.endpoint._placed is None
    mux.datagram(old, HOME)
    mux.datagram(viewer.check(), HOME)
    assert mux.counters == {MuxCount.STUN: 2}
    assert viewer.endpoint._placed == (HOME, viewer.endpoint.credentials.ufrag)
    mux.datagram(old, HOME)
    assert mux.counters[MuxCount.UNKNOWN_UFRAG] == 1


async def test_nothing_stays_of_who_left(mux: Mux) -> None:
    viewer = Viewer(mux)
    data = viewer.sealed(report())
    viewer.endpoint.close()
    mux.datagram(data, HOME)
    assert mux.counters == {MuxCount.UNKNOWN_ADDRESS: 1}
    assert viewer.association.unprotect(data) is None
    assert viewer.endpoint.heard() == []


async def test_sender_reports_of_viewers_count_as_well(mux: Mux) -> None:
    viewer = Viewer(mux)
    mux.datagram(viewer.sealed(build_sender_report(SenderReport(VIEWER, 2, 3, 4, 5, "x"))), HOME)
    assert viewer.endpoint.times()[1] == mux.time
    assert not viewer.rtcp


def test_keys_that_fit_no_profile_are_refused() -> None:
    association = NativeReceiver().associate()
    for profile, key in (("SRTP_NULL", bytes(16)), ("SRTP_AEAD_AES_128_GCM", bytes(15))):
        with pytest.raises(ValueError, match="fit no profile"):
            association.unlock(SendKeys(profile, key, bytes(12)))


@contextlib.asynccontextmanager
async def listening(inbox: int = 4096) -> AsyncIterator[tuple[UdpMux, socket.socket]]:
    """A port that is read by its thread, and a peer's socket."""
    mux = UdpMux("127.0.0.1", 0, receiver=NativeReceiver(inbox=inbox))
    await mux.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.connect(("127.0.0.1", mux.port))
        try:
            yield mux, peer
        finally:
            mux.close()


def counted(mux: UdpMux, kind: MuxCount, number: int) -> None:
    """Wait for the thread, while the event loop stands still."""
    while mux.counters[kind] < number:
        os.sched_yield()


async def test_what_changes_nothing_needs_no_event_loop() -> None:
    async with listening() as (mux, peer):
        endpoint = mux.open_endpoint()
        loop = asyncio.get_running_loop()
        peer.setblocking(False)
        peer.send(check(endpoint))
        first = await asyncio.wait_for(loop.sock_recv(peer, 2048), 10)
        assert endpoint._placed is not None
        peer.setblocking(True)
        before = endpoint.times()[0]
        peer.send(check(endpoint))
        assert peer.recv(2048) == first
        counted(mux, MuxCount.STUN, 2)
        assert before < endpoint.times()[0] <= mux.now()
        key, salt = bytes(range(16)), bytes(range(12))
        profile = "SRTP_AEAD_AES_128_GCM"
        assert endpoint.association is not None
        endpoint.association.unlock(SendKeys(profile, key, salt))
        policy = Policy(key=key + salt, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile])
        session, wishes = Session(policy), list[bytes]()
        endpoint.on_rtcp = wishes.append
        for plain in (report(1), report(2), NACK):
            peer.send(session.protect_rtcp(plain))
        counted(mux, MuxCount.MEDIA, 3)
        [heard] = endpoint.heard()
        assert heard.count == 2
        assert not wishes  # for that the loop is needed
        while not wishes:
            await asyncio.sleep(0)
        assert wishes == [NACK]


async def test_what_the_loop_does_not_fetch_is_dropped_and_counted() -> None:
    async with listening(inbox=4) as (mux, peer):
        for number in range(10):
            peer.send(bytes((255, number)))
        counted(mux, MuxCount.INBOX_FULL, 6)
        while mux.counters[MuxCount.UNKNOWN_ADDRESS] < 4:
            await asyncio.sleep(0)
        assert mux.counters == {MuxCount.INBOX_FULL: 6, MuxCount.UNKNOWN_ADDRESS: 4}


async def test_lifted_means_that_everything_comes_here() -> None:
    async with listening() as (mux, peer):
        endpoint = mux.open_endpoint()
        asked: list[bytes] = []

        def ask(data: bytes) -> bool:
            asked.append(data)
            return False

        endpoint.on_media = ask
        peer.send(check(endpoint))
        await asyncio.wait_for(endpoint.reached.wait(), 10)
        assert endpoint.association is not None
        endpoint.association.unlock(SendKeys("SRTP_AEAD_AES_128_GCM", bytes(16), bytes(12)))  # else nothing is taken
        for number in range(100):
            endpoint.restart()  # lifts it; the next check places it again
            peer.send(bytes((0x80, 201, 0, 1)) + bytes(3) + bytes((number,)))
            peer.send(check(endpoint))
            while endpoint._placed is None:
                await asyncio.sleep(0)
        assert [data[-1] for data in asked] == list(range(100))
        assert mux.counters[MuxCount.STUN] == 101


async def test_the_thread_ends_with_the_mux() -> None:
    async with listening() as (mux, _):
        port = mux.port
        assert mux._receiver is not None
        with pytest.raises(RuntimeError, match="listens already"):
            mux._receiver.listen([])
        mux.close()
        mux.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(("127.0.0.1", port))


async def test_a_receiver_that_is_forgotten_takes_its_thread_along() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        receiver = NativeReceiver()
        receiver.listen([sock])
        del receiver
        gc.collect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)


def test_it_can_be_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_receiver(), NativeReceiver)
    monkeypatch.setenv("SIGHTLINE_FANOUT", "python")
    assert choose_receiver() is None
