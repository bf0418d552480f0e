"""The native fan-out on real sockets, by each way to send; and what happens where it is not there."""

import importlib.util
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from struct import unpack
from types import ModuleType

import pytest
import structlog
from pylibsrtp import Policy, Session

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.transport.fanout import Address, SendKeys, Viewer
from sightline_agent.transport.fanout_choice import choose_fanout
from sightline_agent.transport.fanout_native import INTERFACE, Limits, NativeFanOut, NativeUnavailableError
from sightline_agent.transport.fanout_python import PythonFanOut
from sightline_agent.transport.srtp import PROFILES, SrtpError

PROFILE_BYTES = {
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}
METHODS = ["gso", "sendmmsg", "sendto"]
GCM = "SRTP_AEAD_AES_128_GCM"
SSRC, RTX_SSRC, PT, RTX_PT = 0xCAFE0001, 0xCAFE0002, 101, 102

native = pytest.mark.skipif(
    importlib.util.find_spec("sightline_fanout") is None, reason="not built: hack/build-fanout.sh"
)


class Loopback:
    """A mux of two families, and a peer for each."""

    def __init__(self) -> None:
        self.sockets = {family: _bound(family) for family in (socket.AF_INET, socket.AF_INET6) if _has(family)}
        self.peers = {family: _bound(family) for family in self.sockets}

    def socket_for(self, address: Address) -> socket.socket:
        return self.sockets[socket.AF_INET6 if ":" in address[0] else socket.AF_INET]

    def address(self, family: int = socket.AF_INET) -> Address:
        host, port = self.peers[socket.AddressFamily(family)].getsockname()[:2]
        return host, port

    def receive(self, count: int, family: int = socket.AF_INET) -> list[bytes]:
        """So many datagrams, for which a busy kernel may take its time, and what has arrived besides."""
        peer = self.peers[socket.AddressFamily(family)]
        received = []
        while True:
            try:
                received.append(peer.recv(2048))
            except BlockingIOError:
                if len(received) >= count or not select.select([peer], [], [], 60)[0]:
                    return received

    def close(self) -> None:
        for each in (*self.sockets.values(), *self.peers.values()):
            each.close()


def _has(family: int) -> bool:
    try:
        _bound(family).close()
    except OSError:
        return False
    return True


def _bound(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    except OSError:
        sock.close()
        raise
    return sock


@pytest.fixture
def net() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


def new_keys(profile: str = GCM) -> SendKeys:
    key, salt = PROFILE_BYTES[profile]
    return SendKeys(profile, os.urandom(key), os.urandom(salt))


def viewer(address: Address, keys: SendKeys) -> Viewer:
    return Viewer(address, keys, SSRC, PT, RTX_SSRC, RTX_PT)


def receiver(keys: SendKeys) -> Session:
    policy = Policy(key=keys.key + keys.salt, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[keys.profile])
    policy.window_size = 1024
    return Session(policy)


@native
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("profile", sorted(PROFILE_BYTES))
def test_every_way_to_send_gives_the_same_packets(net: Loopback, profile: str, method: str) -> None:
    """Runs of equal size and what ends them: a shorter packet, a longer one, more than a datagram may hold."""
    keys = new_keys(profile)
    fanout = NativeFanOut(net, method=method, random=lambda bits: 65400 if bits == 15 else 7)
    handle = fanout.add(viewer(net.address(), keys))
    session = receiver(keys)
    number = 65400
    for sizes in ([MAX_PAYLOAD] * 40, [40, 1200, 1200, 1200, 5], [900, 1200, 300, 300, 300, 10, 10], [1], [0, 7, 7]):
        payloads = tuple(os.urandom(size) for size in sizes)
        fanout.send(Chunk(payloads, 3000, last=True, key=True))
        datagrams = net.receive(len(payloads))
        assert len(datagrams) == len(payloads)
        for i, datagram in enumerate(datagrams):
            plain = session.unprotect(datagram)
            header = (0x80, PT | (0x80 if i == len(payloads) - 1 else 0), number & 0xFFFF, 3007, SSRC)
            assert unpack("!BBHII", plain[:12]) == header
            assert plain[12:] == payloads[i]
            number += 1
    fanout.resend(handle, [(number - 1) & 0xFFFF, (number - 2) & 0xFFFF])
    repeated = [session.unprotect(datagram) for datagram in net.receive(2)]
    assert [plain[12:14] for plain in repeated] == [(number - i & 0xFFFF).to_bytes(2, "big") for i in (1, 2)]
    assert fanout.method == method
    totals = fanout.totals()
    assert (totals.packets, totals.resent, totals.dropped) == (58, 2, 0)


@native
@pytest.mark.parametrize("segments", [1, 2, 8, 64, 1000])
def test_segments_are_a_matter_of_cost_only(net: Loopback, segments: int) -> None:
    keys = new_keys()
    fanout = NativeFanOut(net, method="gso", limits=Limits(segments=segments))
    fanout.add(viewer(net.address(), keys))
    fanout.send(Chunk((bytes(MAX_PAYLOAD),) * 100, 0, last=True, key=True))
    session = receiver(keys)
    assert len([session.unprotect(datagram) for datagram in net.receive(100)]) == 100
    assert fanout.totals().dropped == 0


@native
def test_more_viewers_than_one_batch_over_both_families(net: Loopback) -> None:
    fanout = NativeFanOut(net)
    families = list(net.sockets) * 40
    keys = [new_keys() for _ in families]
    for family, each in zip(families, keys, strict=True):
        fanout.add(viewer(net.address(family), each))
    fanout.send(Chunk((b"first", b"second"), 0, last=True, key=True))
    for family in net.sockets:
        mine = [each for each, its in zip(keys, families, strict=True) if its == family]
        datagrams = net.receive(80, family)
        assert len(datagrams) == 80
        for i, each in enumerate(mine):
            session = receiver(each)
            assert [session.unprotect(d)[12:] for d in datagrams[2 * i : 2 * i + 2]] == [b"first", b"second"]


@native
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_viewers(net: Loopback, threads: int) -> None:
    fanout = NativeFanOut(net, limits=Limits(threads=threads, shard_least=8))
    keys = [new_keys() for _ in range(40)]
    started: list[int] = []
    for i, each in enumerate(keys):
        fanout.add(replace(viewer(net.address(), each), ssrc=i), lambda i=i: started.append(i))  # type: ignore[misc]
    for number in range(3):
        fanout.send(Chunk((b"first", b"second"), number, last=True, key=not number))
    assert started == list(range(40))
    sessions = [receiver(each) for each in keys]
    received: list[list[bytes]] = [[] for _ in keys]
    for datagram in net.receive(240):
        (ssrc,) = unpack("!I", datagram[8:12])
        received[ssrc].append(sessions[ssrc].unprotect(datagram)[12:])
    assert received == [[b"first", b"second"] * 3] * 40
    assert fanout.totals().packets == 240


@native
def test_a_viewer_may_change_its_family(net: Loopback) -> None:
    if socket.AF_INET6 not in net.sockets:
        pytest.skip("no IPv6 on loopback")
    keys = new_keys()
    fanout = NativeFanOut(net)
    handle = fanout.add(viewer(net.address(), keys))
    fanout.send(Chunk((b"key",), 0, last=True, key=True))
    fanout.move(handle, net.address(socket.AF_INET6))
    fanout.send(Chunk((b"delta",), 0, last=True, key=False))
    session = receiver(keys)
    received = [*net.receive(1), *net.receive(1, socket.AF_INET6)]
    assert [session.unprotect(datagram)[12:] for datagram in received] == [b"key", b"delta"]


@native
@pytest.mark.parametrize("method", METHODS)
def test_a_closed_socket_drops_and_counts(net: Loopback, method: str) -> None:
    fanout = NativeFanOut(net, method=method)
    handle = fanout.add(viewer(net.address(), new_keys()))
    fanout.send(Chunk((b"key",), 0, last=True, key=True))
    net.close()
    fanout.send(Chunk((b"a", b"b"), 0, last=True, key=False))
    fanout.resend(handle, [1])
    stats = fanout.stats(handle)
    assert stats is not None
    assert (stats.packets, stats.dropped) == (1, 2)


@native
@pytest.mark.parametrize("method", METHODS)
def test_an_address_that_refuses_pauses_its_viewer_alone(net: Loopback, method: str) -> None:
    """Broadcasts are not allowed on these sockets."""
    keys = new_keys()
    fanout = NativeFanOut(net, method=method)
    good = fanout.add(viewer(net.address(), keys))
    bad = fanout.add(viewer(("255.255.255.255", 9), new_keys()))
    also_good = fanout.add(viewer(net.address(), keys))
    fanout.send(Chunk((b"1", b"2", b"3"), 0, last=True, key=True))
    counters = [fanout.stats(handle) for handle in (good, bad, also_good)]
    assert [(c.packets, c.dropped) for c in counters if c] == [(3, 0), (0, 3), (3, 0)]
    assert len(net.receive(6)) == 6


@native
def test_the_interpreter_is_free_meanwhile(net: Loopback) -> None:
    """Another thread runs while packets are encrypted and sent, and a second call into the same fan-out is refused."""
    fanout = NativeFanOut(net)
    for _ in range(200):
        fanout.add(viewer(net.address(), new_keys()))
    stop = threading.Event()
    refusals = 0

    def look() -> None:
        nonlocal refusals
        while not stop.is_set():
            try:
                fanout.totals()
            except RuntimeError:
                refusals += 1
            # Lets go of the interpreter, which is not taken away by force here.
            select.select([], [], [], 0)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=look)
    sys.setswitchinterval(3600)
    try:
        thread.start()
        for _ in range(1000):
            fanout.send(Chunk((bytes(MAX_PAYLOAD),) * 20, 0, last=True, key=True))
            if refusals:
                break
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert refusals


@native
def test_addresses_are_numbers(net: Loopback) -> None:
    fanout = NativeFanOut(net)
    with pytest.raises(SrtpError):
        fanout.add(viewer(("localhost", 1), new_keys()))


@native
def test_rtx_needs_an_ssrc_of_its_own(net: Loopback) -> None:
    with pytest.raises(SrtpError, match="RTX"):
        NativeFanOut(net).add(Viewer(net.address(), new_keys(), SSRC, PT, SSRC, RTX_PT))


@native
def test_no_such_method(net: Loopback) -> None:
    with pytest.raises(ValueError, match="method"):
        NativeFanOut(net, method="carrier pigeon")


@native
def test_the_native_one_is_chosen_where_it_is(net: Loopback) -> None:
    chosen = choose_fanout(net)()
    assert isinstance(chosen, NativeFanOut)
    assert chosen.method in METHODS


def test_the_python_one_is_chosen_where_the_native_is_not(net: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sightline_fanout", None)
    assert isinstance(choose_fanout(net)(), PythonFanOut)


def test_an_extension_of_another_version_is_not_used(net: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("sightline_fanout")
    other.INTERFACE = INTERFACE + 1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sightline_fanout", other)
    with pytest.raises(NativeUnavailableError, match="build it again"):
        NativeFanOut(net)
    with structlog.testing.capture_logs() as lines:
        assert isinstance(choose_fanout(net)(), PythonFanOut)
    assert [line["log_level"] for line in lines] == ["warning"]  # viewers cost more than twice as much
