"""The mux: who is answered, whose packets go where, and what rubbish does (nothing)."""

import asyncio
import itertools
import socket

import pytest
from aioice import stun as aioice_stun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline_agent.transport.endpoint import (
    ADDRESS_HELD_SECONDS,
    DTLS_QUEUE_LENGTH,
    MAX_ADDRESSES,
    PROBE_SECONDS,
    Endpoint,
    IceCredentials,
    new_credentials,
)
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.mux import BATCH, PING_BURST, PINGS_PER_SECOND, MuxCount, UdpMux
from sightline_agent.transport.receiver import NativeReceiver
from sightline_agent.transport.stun import build_request, build_response, parse_request
from tests.helpers.receivers import MAKE_RECEIVER

THEIRS = IceCredentials("peer", "p" * 24)
HOME: Address = ("192.0.2.1", 1000)
AWAY: Address = ("198.51.100.7", 2000)
DTLS = bytes((22, 1, 2, 3))
RTCP = bytes((0x81, 201, 0, 1)) + bytes(8)


class Mux(UdpMux):
    """Nothing reaches a wire, and the clock stands still."""

    def __init__(self, receiver: NativeReceiver | None = None) -> None:
        self.time = 100.0
        self.sent: list[tuple[bytes, Address]] = []
        super().__init__("127.0.0.1", 0, clock=lambda: self.time, receiver=receiver)

    def send(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))


@pytest.fixture(params=MAKE_RECEIVER)
def receiver(request: pytest.FixtureRequest) -> NativeReceiver | None:
    made: NativeReceiver | None = request.param()
    return made


@pytest.fixture
async def mux(receiver: NativeReceiver | None) -> Mux:
    return Mux(receiver)


def check(
    endpoint: Endpoint, nominate: bool = False, *, password: str = "", ufrag: str = "", controlled: bool = False
) -> bytes:
    """What a browser would send to the endpoint."""
    credentials = endpoint.credentials
    attributes = [(0x0006, f"{ufrag or credentials.ufrag}:{THEIRS.ufrag}".encode()), (0x0024, bytes(4))]
    attributes.append((0x8029 if controlled else 0x802A, bytes(8)))
    if nominate:
        attributes.append((0x0025, b""))
    return build_request(bytes(12), attributes, (password or credentials.password).encode())


def answer(probe: tuple[bytes, Address], password: str = THEIRS.password) -> bytes:
    """What the peer answers to a probe that reached it."""
    request = parse_request(probe[0])
    assert request.local_ufrag == THEIRS.ufrag
    assert request.verify(THEIRS.password.encode())
    return build_response(request, password.encode(), HOME)


def probes(mux: Mux) -> list[tuple[bytes, Address]]:
    return [(data, address) for data, address in mux.sent if data[:2] == b"\0\1"]


def opened(mux: Mux) -> Endpoint:
    """An endpoint whose peer is known, as after the answer."""
    endpoint = mux.open_endpoint()
    endpoint.remote = THEIRS
    return endpoint


async def test_a_check_is_answered_and_binds_the_address(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    assert [address for _, address in mux.sent] == [HOME]
    assert endpoint.address == HOME
    assert endpoint.reached.is_set()
    mux.datagram(DTLS, HOME)
    assert await endpoint.receive() == DTLS
    assert mux.counters == {MuxCount.STUN: 1, MuxCount.DTLS: 1}


async def test_nothing_is_sent_to_who_proved_nothing(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    for data, cause in {
        check(endpoint, password="x" * 24): MuxCount.BAD_INTEGRITY,
        check(endpoint, ufrag="unknown"): MuxCount.UNKNOWN_UFRAG,
        b"\0\1\0\0": MuxCount.BAD_STUN,
        DTLS: MuxCount.UNKNOWN_ADDRESS,
        RTCP: MuxCount.UNKNOWN_ADDRESS,
        bytes(2048): MuxCount.OVERSIZED,
        b"": MuxCount.UNKNOWN_PROTOCOL,
    }.items():
        before = mux.counters[cause]
        mux.datagram(data, HOME)
        assert mux.counters[cause] == before + 1
    assert not mux.sent
    assert endpoint.address is None


async def test_an_ice_keepalive_is_nothing_to_complain_of(mux: Mux) -> None:
    """A binding indication, as libnice sends it to what it has a pair with (RFC 8445 section 11)."""
    endpoint = opened(mux)
    mux.datagram(check(endpoint), HOME)
    indication = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.INDICATION)
    indication.add_fingerprint()
    before = mux.counters.copy()
    mux.datagram(bytes(indication), HOME)
    mux.datagram(bytes(indication), AWAY)
    assert mux.counters - before == {MuxCount.KEEP_ALIVE: 1, MuxCount.BAD_STUN: 1}


def ping(size: int = 32) -> bytes:
    message = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
    message.attributes["SOFTWARE"] = "x" * size
    message.add_fingerprint()
    return bytes(message)


async def test_a_ping_is_answered_and_binds_nothing(mux: Mux) -> None:
    mux.datagram(ping(), HOME)
    [(answer_, address)] = mux.sent
    assert address == HOME
    assert aioice_stun.parse_message(answer_).attributes["XOR-MAPPED-ADDRESS"] == HOME
    mux.datagram(DTLS, HOME)
    assert mux.counters == {MuxCount.PING: 1, MuxCount.UNKNOWN_ADDRESS: 1}


async def test_a_ping_shorter_than_its_answer_gets_none(mux: Mux) -> None:
    mux.datagram(ping(4), HOME)
    assert not mux.sent
    assert mux.counters == {MuxCount.SHORT_CHECK: 1}


async def test_pings_are_answered_a_few_times_per_second(mux: Mux) -> None:
    for _ in range(100):
        mux.datagram(ping(), HOME)
    assert len(mux.sent) == PING_BURST
    mux.time += 1.0
    for _ in range(100):
        mux.datagram(ping(), AWAY)
    assert len(mux.sent) == PING_BURST + PINGS_PER_SECOND
    assert mux.counters[MuxCount.PING_LIMITED] == 200 - PING_BURST - PINGS_PER_SECOND


async def test_unknown_protocols_of_known_addresses_are_dropped(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    for first in (4, 16, 19, 64, 127, 192, 255):
        mux.datagram(bytes((first, 0)), HOME)
    assert mux.counters[MuxCount.UNKNOWN_PROTOCOL] == 7


async def test_a_controlled_peer_is_told_to_change_roles(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint, controlled=True), HOME)
    assert mux.counters[MuxCount.ROLE_CONFLICT] == 1
    assert mux.sent[0][0][:2] == b"\x01\x11"
    assert endpoint.address is None


async def test_the_first_address_holds_until_another_is_nominated(mux: Mux) -> None:
    endpoint = opened(mux)
    moves: list[Address] = []
    endpoint.on_move = moves.append
    mux.datagram(check(endpoint), HOME)
    mux.datagram(check(endpoint), AWAY)
    assert endpoint.address == HOME
    mux.datagram(check(endpoint, nominate=True), AWAY)
    mux.datagram(answer(probes(mux)[0]), AWAY)
    assert endpoint.address == AWAY
    assert moves == [AWAY]
    assert mux.counters[MuxCount.PROBE_ANSWER] == 1
    endpoint.send(b"x")
    assert mux.sent[-1] == (b"x", AWAY)
    # Both addresses are the peer's.
    mux.datagram(DTLS, HOME)
    mux.datagram(DTLS, AWAY)
    assert mux.counters[MuxCount.DTLS] == 2


async def test_a_silent_address_gives_way_without_nomination(mux: Mux) -> None:
    endpoint = opened(mux)
    mux.datagram(check(endpoint), HOME)
    mux.time += ADDRESS_HELD_SECONDS + 1
    mux.datagram(check(endpoint), AWAY)
    mux.datagram(answer(probes(mux)[0]), AWAY)
    assert endpoint.address == AWAY


async def test_authentic_media_keeps_an_address(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    endpoint.on_media = lambda data: data == RTCP
    mux.datagram(check(endpoint), HOME)
    mux.time += ADDRESS_HELD_SECONDS
    mux.datagram(RTCP, HOME)
    mux.time += ADDRESS_HELD_SECONDS
    mux.datagram(check(endpoint), AWAY)
    assert endpoint.address == HOME


async def test_forged_media_does_not(mux: Mux) -> None:
    endpoint = opened(mux)
    endpoint.on_media = lambda data: False
    mux.datagram(check(endpoint), HOME)
    mux.time += ADDRESS_HELD_SECONDS
    mux.datagram(RTCP, HOME)
    mux.time += 1
    mux.datagram(check(endpoint), AWAY)
    assert [address for _, address in probes(mux)] == [AWAY]


async def test_a_forged_source_address_gets_a_probe_and_no_more(mux: Mux) -> None:
    """Who is logged in can write anybody's address into valid checks, but does not see what is sent there."""
    endpoint = opened(mux)
    moves: list[Address] = []
    endpoint.on_move = moves.append
    mux.datagram(check(endpoint), HOME)
    mux.sent.clear()
    received = 0
    for _ in range(100):
        forged = check(endpoint, nominate=True)
        received += len(forged)
        mux.datagram(forged, AWAY)
        mux.time += PROBE_SECONDS / 4
    assert moves == []
    assert endpoint.address == HOME
    assert 20 <= len(probes(mux)) <= 25
    assert all(len(data) <= len(check(endpoint, nominate=True)) for data, _ in mux.sent)
    assert sum(len(data) for data, _ in mux.sent) < received
    endpoint.send(b"x")
    assert mux.sent[-1] == (b"x", HOME)


async def test_only_the_right_answer_from_the_right_place_moves(mux: Mux) -> None:
    endpoint = opened(mux)
    mux.datagram(check(endpoint), HOME)
    mux.datagram(check(endpoint, nominate=True), AWAY)
    probe = probes(mux)[0]
    other: Address = ("203.0.113.9", 9)
    guessed = build_request(bytes(12), [], THEIRS.password.encode()).replace(b"\0\1", b"\1\1", 1)
    for data, source in (
        (answer(probe, password="wrong" * 5), AWAY),
        (answer(probe), HOME),
        (answer(probe), other),
        (guessed, AWAY),
    ):
        mux.datagram(data, source)
    assert mux.counters[MuxCount.STRAY_ANSWER] + mux.counters[MuxCount.BAD_STUN] == 4
    assert endpoint.address == HOME
    mux.datagram(answer(probe), AWAY)
    assert endpoint.address == AWAY
    mux.datagram(answer(probe), AWAY)
    assert mux.counters[MuxCount.STRAY_ANSWER] + mux.counters[MuxCount.BAD_STUN] == 5


async def test_a_slow_round_trip_does_not_lose_the_move(mux: Mux) -> None:
    """The peer checks again before the answer to the first probe is back."""
    endpoint = opened(mux)
    mux.datagram(check(endpoint), HOME)
    for _ in range(4):
        mux.datagram(check(endpoint, nominate=True), AWAY)
        mux.datagram(check(endpoint), HOME)
        mux.time += PROBE_SECONDS
    assert len(probes(mux)) == 4
    mux.datagram(answer(probes(mux)[0]), AWAY)
    assert endpoint.address == AWAY


async def test_going_back_before_the_answer_stays(mux: Mux) -> None:
    endpoint = opened(mux)
    mux.datagram(check(endpoint), HOME)
    mux.datagram(check(endpoint, nominate=True), AWAY)
    mux.datagram(check(endpoint, nominate=True), HOME)
    mux.datagram(answer(probes(mux)[0]), AWAY)
    assert endpoint.address == HOME


async def test_a_check_that_is_shorter_than_its_answer_gets_none(mux: Mux) -> None:
    endpoint = opened(mux)
    short = build_request(
        bytes(12), [(0x0006, endpoint.credentials.ufrag.encode())], endpoint.credentials.password.encode()
    )
    for source in (HOME, ("2001:db8::1", 1)):
        mux.datagram(short, source)
    assert mux.counters == {MuxCount.STUN: 1, MuxCount.SHORT_CHECK: 1}
    assert len(mux.sent) == 1


async def test_nobody_takes_the_address_of_an_active_peer(mux: Mux) -> None:
    victim, thief = mux.open_endpoint(), mux.open_endpoint()
    mux.datagram(check(victim), HOME)
    mux.datagram(check(thief, nominate=True), HOME)
    assert mux.counters[MuxCount.ADDRESS_TAKEN] == 1
    assert len(mux.sent) == 1
    mux.datagram(DTLS, HOME)
    assert await victim.receive() == DTLS
    # The same program with the same port may come back later.
    mux.time += ADDRESS_HELD_SECONDS + 1
    mux.datagram(check(thief, nominate=True), HOME)
    assert thief.address == HOME
    # What is no longer the first one's stays with the second when the first closes.
    victim.close()
    mux.datagram(DTLS, HOME)
    assert await thief.receive() == DTLS


async def test_addresses_of_a_peer_are_bounded(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    for port in range(3 * MAX_ADDRESSES):
        mux.time += 0.01
        mux.datagram(check(endpoint), ("203.0.113.1", port))
    assert len(mux._by_address) == MAX_ADDRESSES
    assert endpoint.address == HOME
    assert HOME in mux._by_address
    endpoint.close()
    assert not mux._by_address
    assert not mux._by_ufrag


async def test_the_handshake_queue_is_bounded(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    for _ in range(DTLS_QUEUE_LENGTH + 5):
        mux.datagram(DTLS, HOME)
    assert mux.counters[MuxCount.DTLS] == DTLS_QUEUE_LENGTH
    assert mux.counters[MuxCount.DTLS_QUEUE_FULL] == 5
    endpoint.close()
    # The end takes the place of a datagram.
    for _ in range(DTLS_QUEUE_LENGTH - 1):
        assert await endpoint.receive() == DTLS
    with pytest.raises(ConnectionError):
        await endpoint.receive()


async def test_media_before_the_handshake_is_counted(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    mux.datagram(RTCP, HOME)
    assert mux.counters[MuxCount.EARLY_MEDIA] == 1


async def test_closing_frees_names_and_wakes_the_reader(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    reader = asyncio.create_task(endpoint.receive())
    endpoint.close()
    endpoint.close()
    with pytest.raises(ConnectionError):
        await reader
    with pytest.raises(ConnectionError):
        endpoint.send(b"x")
    mux.datagram(check(endpoint), HOME)
    mux.datagram(DTLS, HOME)
    assert mux.counters[MuxCount.UNKNOWN_UFRAG] == 1
    assert mux.counters[MuxCount.UNKNOWN_ADDRESS] == 1


async def test_restart_retires_the_old_credentials_once_the_new_ones_are_used(mux: Mux) -> None:
    endpoint = mux.open_endpoint()
    old = endpoint.credentials
    mux.datagram(check(endpoint, nominate=True), HOME)
    new = endpoint.restart()
    assert new.ufrag != old.ufrag
    mux.datagram(check(endpoint, ufrag=old.ufrag, password=old.password), HOME)
    assert mux.counters[MuxCount.STUN] == 2
    mux.datagram(check(endpoint), HOME)
    assert mux.counters[MuxCount.STUN] == 3
    mux.datagram(check(endpoint, ufrag=old.ufrag, password=old.password), HOME)
    assert mux.counters[MuxCount.UNKNOWN_UFRAG] == 1
    # Many restarts that nobody follows do not pile up.
    for _ in range(10):
        endpoint.restart()
    assert len(mux._by_ufrag) == 2
    endpoint.close()
    assert not mux._by_ufrag


async def test_a_defect_is_counted_and_does_not_stop_the_reader(receiver: NativeReceiver | None) -> None:
    mux = UdpMux("127.0.0.1", 0, receiver=receiver)
    await mux.start()
    try:
        endpoint = mux.open_endpoint()

        def broken(data: bytes) -> bool:
            raise RuntimeError("broken")

        endpoint.on_media = broken
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            for data in (check(endpoint), RTCP, DTLS):
                peer.sendto(data, ("127.0.0.1", mux.port))
            assert await asyncio.wait_for(endpoint.receive(), 10) == DTLS
        assert mux.counters[MuxCount.FAILED] == 1
    finally:
        mux.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_a_real_socket(host: str, receiver: NativeReceiver | None) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mux = UdpMux(host, 0, receiver=receiver)
    try:
        await mux.start()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        endpoint = mux.open_endpoint()
        with socket.socket(family, socket.SOCK_DGRAM) as peer:
            peer.bind((host, 0))
            peer.setblocking(False)
            peer.sendto(check(endpoint), (host, mux.port))
            loop = asyncio.get_running_loop()
            answer = await asyncio.wait_for(loop.sock_recv(peer, 2048), 10)
            assert answer[:2] == b"\x01\x01"
            assert endpoint.address == peer.getsockname()[:2]
            endpoint.send(b"hello")
            assert await asyncio.wait_for(loop.sock_recv(peer, 2048), 10) == b"hello"
            peer.sendto(check(endpoint, nominate=True), (host, mux.port))
            assert await asyncio.wait_for(loop.sock_recv(peer, 2048), 10) == answer
            while mux.counters[MuxCount.STUN] < 2:  # a thread counts after it has answered
                await asyncio.sleep(0)
            assert mux.counters == {MuxCount.STUN: 2}
        assert mux.addresses() == [host]
    finally:
        mux.close()


async def test_a_wildcard_serves_both_families_on_one_port() -> None:
    mux = UdpMux("0.0.0.0", 0)
    await mux.start()
    try:
        assert mux.socket_for(("192.0.2.1", 1)).getsockname()[1] == mux.port
        if socket.AF_INET6 in mux._sockets:
            assert mux.socket_for(("2001:db8::1", 1)).getsockname()[1] == mux.port
        loopback = ["127.0.0.1", "::1"] if socket.AF_INET6 in mux._sockets else ["127.0.0.1"]
        assert mux.addresses()[-len(loopback) :] == loopback
        assert "0.0.0.0" not in mux.addresses()
    finally:
        mux.close()


async def test_a_flood_leaves_the_loop_its_turn(receiver: NativeReceiver | None) -> None:
    mux = UdpMux("127.0.0.1", 0, receiver=receiver)
    await mux.start()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(2 * BATCH + 10):
                peer.sendto(b"\xff", ("127.0.0.1", mux.port))
        turns = [0]
        while turns[-1] < 2 * BATCH + 10:
            await asyncio.sleep(0)
            turns.append(mux.counters[MuxCount.UNKNOWN_ADDRESS])
        assert all(after - before <= BATCH for before, after in itertools.pairwise(turns))
    finally:
        mux.close()


async def test_sending_to_a_family_without_a_socket_is_counted() -> None:
    mux = UdpMux("127.0.0.1", 0)
    await mux.start()
    try:
        mux.send(b"x", ("2001:db8::1", 1))
        assert mux.counters[MuxCount.SEND_FAILED] == 1
    finally:
        mux.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100), max_size=20))
async def test_any_datagrams_are_counted_and_answered_by_nothing(mux: Mux, datagrams: list[bytes]) -> None:
    endpoint = mux.open_endpoint()
    mux.datagram(check(endpoint), HOME)
    mux.counters.clear()
    mux.sent.clear()
    for data in datagrams:
        mux.datagram(data, HOME)
        mux.datagram(data, AWAY)
    assert mux.counters.total() == 2 * len(datagrams)
    assert not mux.sent
    assert endpoint.address == HOME
    endpoint.close()
    assert not mux._by_address


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_a_damaged_check_is_never_believed(mux: Mux, data: st.DataObject) -> None:
    endpoint = mux.open_endpoint()
    wire = bytearray(check(endpoint, nominate=True))
    # All but FINGERPRINT, which nothing protects.
    at = data.draw(st.integers(0, len(wire) - 9))
    wire[at] ^= data.draw(st.integers(1, 255))
    mux.sent.clear()
    mux.datagram(bytes(wire), AWAY)
    assert not mux.sent
    assert endpoint.address is None
    endpoint.close()


def test_credentials_are_not_shown() -> None:
    credentials = new_credentials()
    assert credentials.password not in repr(credentials)
