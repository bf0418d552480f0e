"""What every fan-out must do: what leaves it, decrypted by pylibsrtp, is byte for byte what a receiver should get.

One suite for all implementations. The wire is a stand-in that refuses when told to; real sockets and the native one's
ways to send are in `test_fanout_native.py`.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import unpack
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibsrtp import Policy, Session

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.transport import fanout_python
from sightline_agent.transport.fanout import Address, FanOut, Moment, SendKeys, Viewer
from sightline_agent.transport.fanout_native import Limits, NativeFanOut
from sightline_agent.transport.fanout_python import RESEND_BURST, PythonFanOut
from sightline_agent.transport.ring import PacketRing
from sightline_agent.transport.rtcp import CNAME, SenderReport, build_sender_report
from sightline_agent.transport.srtp import PROFILES, WINDOW, SrtpError

LENGTHS = {
    "SRTP_AEAD_AES_128_GCM": (16, 12),
    "SRTP_AES128_CM_SHA1_80": (16, 14),
    "SRTP_AEAD_AES_256_GCM": (32, 12),
}
GCM = "SRTP_AEAD_AES_128_GCM"
HOME: Address = ("192.0.2.1", 1000)
AWAY: Address = ("2001:db8::1", 2000)
SSRC, RTX_SSRC, PT, RTX_PT = 0xCAFE0001, 0xCAFE0002, 101, 102
TIMESTAMP_OFFSET = 77


@dataclass
class Wire:
    """Takes what is sent; refuses when told to."""

    sent: list[tuple[bytes, Address]] = field(default_factory=list)
    full: bool = False
    room: int | None = None

    def sendto(self, data: memoryview, address: Address, /) -> int:
        if self.full or self.room == 0:
            raise BlockingIOError
        if self.room is not None:
            self.room -= 1
        self.sent.append((bytes(data), address))
        return len(data)

    def take(self) -> list[bytes]:
        taken, self.sent = [data for data, _ in self.sent], []
        return taken


@dataclass
class World:
    """The clock, and who wants to be called back."""

    now: float = 5.0
    due: list[Callable[[], None]] = field(default_factory=list)

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def tick(self, seconds: float = 0.001) -> None:
        self.now += seconds
        due, self.due = self.due, []
        for callback in due:
            callback()


class Sockets:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def socket_for(self, address: Address) -> Wire:
        return self.wire


@dataclass(frozen=True)
class Packet:
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


class Receiver:
    """A viewer's SRTP."""

    def __init__(self, keys: SendKeys) -> None:
        policy = Policy(
            key=keys.key + keys.salt, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[keys.profile]
        )
        policy.allow_repeat_tx = True
        policy.window_size = 1024
        self.session = Session(policy)

    def read(self, datagrams: list[bytes]) -> list[Packet]:
        packets = []
        for datagram in datagrams:
            plain = self.session.unprotect(datagram)
            first, second, sequence, timestamp, ssrc = unpack("!BBHII", plain[:12])
            assert first == 0x80
            packets.append(Packet(second & 127, second > 127, sequence, timestamp, ssrc, plain[12:]))
        return packets


def new_keys(profile: str = GCM) -> SendKeys:
    key, salt = LENGTHS[profile]
    return SendKeys(profile, os.urandom(key), os.urandom(salt))


def viewer(keys: SendKeys, *, rtx: bool = True) -> Viewer:
    return Viewer(HOME, keys, SSRC, PT, RTX_SSRC, RTX_PT if rtx else 0)


class Make(Protocol):
    """A fan-out with numbers that are known, at five o'clock; nothing calls back unless the world ticks."""

    def __call__(
        self,
        sockets: fanout_python.Sockets,
        random: Callable[[int], int],
        max_packets: int = 4096,
        world: World | None = None,
    ) -> FanOut: ...


def make_python(
    sockets: fanout_python.Sockets,
    random: Callable[[int], int],
    max_packets: int = 4096,
    world: World | None = None,
) -> FanOut:
    world = world or World()
    ring = PacketRing(max_packets)
    return PythonFanOut(sockets, ring=ring, random=random, clock=lambda: world.now, later=world.later)


def make_native(
    sockets: fanout_python.Sockets,
    random: Callable[[int], int],
    max_packets: int = 4096,
    world: World | None = None,
) -> FanOut:
    world = world or World()
    limits = Limits(ring_packets=max_packets)
    return NativeFanOut(sockets, limits=limits, random=random, clock=lambda: world.now, later=world.later)


installed = importlib.util.find_spec("sightline_fanout") is not None
IMPLEMENTATIONS = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_python, id="python"),
        pytest.param(
            make_native, id="native", marks=pytest.mark.skipif(not installed, reason="not built: hack/build-fanout.sh")
        ),
    ],
)
pytestmark = IMPLEMENTATIONS


def make_fanout(
    make: Make, wire: Wire, start: int = 100, max_packets: int = 4096, world: World | None = None
) -> FanOut:
    return make(Sockets(wire), lambda bits: start if bits == 15 else TIMESTAMP_OFFSET, max_packets, world)


def frame(*payloads: bytes, at: int = 0, key: bool = False, last: bool = True) -> Chunk:
    return Chunk(payloads, at, last, key)


@pytest.mark.parametrize("profile", sorted(LENGTHS))
def test_packets_arrive_byte_for_byte_across_a_rollover(make: Make, profile: str) -> None:
    keys, wire = new_keys(profile), Wire()
    fanout, receiver = make_fanout(make, wire, start=65500), Receiver(keys)
    handle = fanout.add(viewer(keys))
    sequence = 65500
    octets = 0
    for number in range(20):
        payloads = [os.urandom(size) for size in (MAX_PAYLOAD, 1, 700)]
        fanout.send(frame(*payloads, at=number * 3000, key=number == 0))
        for i, packet in enumerate(receiver.read(wire.take())):
            timestamp = number * 3000 + TIMESTAMP_OFFSET
            assert packet == Packet(PT, i == 2, sequence & 0xFFFF, timestamp, SSRC, payloads[i])
            sequence += 1
        octets += sum(map(len, payloads))
    assert sequence > 65536
    stats = fanout.stats(handle)
    assert stats is not None
    assert (stats.packets, stats.octets, stats.resent, stats.dropped) == (60, octets, 0, 0)
    assert (stats.last_timestamp, stats.last_sent) == (19 * 3000 + TIMESTAMP_OFFSET, 5.0)


@pytest.mark.parametrize("profile", sorted(LENGTHS))
def test_nacked_packets_come_by_rtx_across_its_own_rollover(make: Make, profile: str) -> None:
    keys, wire = new_keys(profile), Wire()
    fanout, receiver = make_fanout(make, wire, start=65530), Receiver(keys)
    handle = fanout.add(viewer(keys))
    payloads = [os.urandom(100 + i) for i in range(20)]
    fanout.send(frame(*payloads, at=9000, key=True))
    receiver.read(wire.take())
    wanted = [(65530 + i) & 0xFFFF for i in range(20)]
    fanout.resend(handle, wanted)
    for i, packet in enumerate(receiver.read(wire.take())):
        body = wanted[i].to_bytes(2, "big") + payloads[i]
        assert packet == Packet(RTX_PT, i == 19, (65530 + i) & 0xFFFF, 9000 + TIMESTAMP_OFFSET, RTX_SSRC, body)
    stats = fanout.stats(handle)
    assert stats is not None
    assert (stats.packets, stats.resent) == (20, 20)
    assert fanout.totals().packets == 40


@pytest.mark.parametrize("profile", sorted(LENGTHS))
def test_without_rtx_the_very_same_packet_is_sent_again(make: Make, profile: str) -> None:
    keys, wire = new_keys(profile), Wire()
    fanout = make_fanout(make, wire, start=65530)
    handle = fanout.add(viewer(keys, rtx=False))
    fanout.send(frame(*(os.urandom(50) for _ in range(20)), key=True))
    first = wire.take()
    fanout.resend(handle, [65530, 65535, 0, 13])
    assert wire.take() == [first[0], first[5], first[6], first[19]]


def test_without_rtx_packets_older_than_the_window_are_refused(make: Make) -> None:
    wire = Wire()
    fanout = make_fanout(make, wire)
    handle = fanout.add(viewer(new_keys(), rtx=False))
    fanout.send(frame(*(b"x" for _ in range(WINDOW + 1)), key=True))
    first = wire.take()
    fanout.resend(handle, [100, 101])
    assert wire.take() == [first[1]]
    assert fanout.totals().refused == 1


def test_a_viewer_starts_at_a_key_frame_and_says_so_once(make: Make) -> None:
    keys, wire, started = new_keys(), Wire(), []
    fanout = make_fanout(make, wire)
    fanout.send(frame(b"key", key=True))
    fanout.cut()
    fanout.add(viewer(keys), lambda: started.append(True))
    fanout.send(frame(b"delta"))
    assert not wire.sent
    assert not started
    fanout.send(frame(b"first half", key=True, last=False))
    fanout.send(frame(b"second half"))
    packets = Receiver(keys).read(wire.take())
    assert [(p.payload, p.sequence, p.marker) for p in packets] == [
        (b"first half", 100, False),
        (b"second half", 101, True),
    ]
    assert len(started) == 1


def test_a_callback_may_remove_its_viewer(make: Make) -> None:
    wire = Wire()
    fanout = make_fanout(make, wire)
    handles: list[int] = []
    handles.append(fanout.add(viewer(new_keys()), lambda: fanout.remove(handles[0])))
    fanout.add(viewer(new_keys()))
    fanout.send(frame(b"key", key=True))
    assert len(wire.take()) == 2
    fanout.send(frame(b"delta"))
    assert len(wire.take()) == 1


def test_unknown_handles_are_ignored(make: Make) -> None:
    fanout = make_fanout(make, Wire())
    fanout.remove(5)
    fanout.move(5, AWAY)
    fanout.resend(5, [1])
    assert fanout.stats(5) is None
    assert fanout.report(5, Moment(5.0, 1)) is None
    assert fanout.totals().refused == 0


def test_a_viewer_that_roams_keeps_its_numbers(make: Make) -> None:
    keys, wire = new_keys(), Wire()
    fanout = make_fanout(make, wire)
    handle = fanout.add(viewer(keys))
    fanout.send(frame(b"key", key=True))
    fanout.move(handle, AWAY)
    fanout.send(frame(b"delta"))
    assert [address for _, address in wire.sent] == [HOME, AWAY]
    assert [p.sequence for p in Receiver(keys).read(wire.take())] == [100, 101]


def test_one_full_viewer_does_not_disturb_another(make: Make) -> None:
    keys, wires = [new_keys(), new_keys()], [Wire(), Wire()]

    class TwoSockets:
        def socket_for(self, address: Address) -> Wire:
            return wires[address[1]]

    fanout = make(TwoSockets(), lambda bits: 7)
    for i in (0, 1):
        fanout.add(Viewer(("192.0.2.1", i), keys[i], SSRC, PT, RTX_SSRC, RTX_PT))
    wires[0].full = True
    fanout.send(frame(b"key", key=True))
    fanout.send(frame(b"delta"))
    assert not wires[0].sent
    assert [p.payload for p in Receiver(keys[1]).read(wires[1].take())] == [b"key", b"delta"]


@pytest.mark.parametrize("error", [OSError(1, "not permitted"), OSError(101, "unreachable"), OSError(9, "closed")])
def test_no_error_of_the_socket_comes_through(make: Make, error: OSError) -> None:
    class Broken(Wire):
        def sendto(self, data: memoryview, address: Address, /) -> int:
            raise error

    broken = Broken()
    fanout = make_fanout(make, broken)
    handle = fanout.add(viewer(new_keys()))
    fanout.send(frame(b"key", key=True))
    fanout.resend(handle, [100])
    assert fanout.totals().dropped == 1
    assert fanout.totals().packets == 0


def before_a_full_socket(make: Make) -> tuple[FanOut, int]:
    """A viewer who got something."""
    wire = Wire()
    fanout = make_fanout(make, wire)
    handle = fanout.add(viewer(new_keys()))
    fanout.send(frame(b"key", key=True))
    wire.full = True
    return fanout, handle


def test_resending_that_the_socket_refuses_is_counted(make: Make) -> None:
    fanout, handle = before_a_full_socket(make)
    fanout.resend(handle, [100])
    assert fanout.totals().dropped == 1


def test_nacks_have_a_budget_that_sending_refills(make: Make) -> None:
    wire = Wire()
    fanout = make_fanout(make, wire)
    handle = fanout.add(viewer(new_keys()))
    fanout.send(frame(b"key", key=True))
    wire.take()
    fanout.resend(handle, [100] * (RESEND_BURST + 10))
    assert len(wire.take()) == RESEND_BURST
    assert fanout.totals().refused == 10
    for _ in range(10):
        fanout.send(frame(b"delta"))
    wire.take()
    fanout.resend(handle, [100] * 10)
    assert len(wire.take()) == 5


def test_numbers_that_were_never_sent_or_are_gone_are_refused(make: Make) -> None:
    wire = Wire()
    fanout = make_fanout(make, wire, max_packets=4)
    handle = fanout.add(viewer(new_keys()))
    fanout.resend(handle, [100])
    fanout.send(frame(*(bytes((i,)) for i in range(10)), key=True))
    wire.take()
    fanout.resend(handle, [99, 100, 105, 110, 111, 40000, 65535])
    assert not wire.sent
    fanout.resend(handle, [106])
    assert len(wire.take()) == 1


def test_a_payload_that_fits_no_packet_is_a_defect_of_the_source(make: Make) -> None:
    fanout = make_fanout(make, Wire())
    with pytest.raises(ValueError, match="longer"):
        fanout.send(frame(bytes(MAX_PAYLOAD + 1), key=True))


def test_an_empty_chunk_is_nothing(make: Make) -> None:
    fanout = make_fanout(make, Wire())
    fanout.add(viewer(new_keys()))
    fanout.send(frame(key=True))


@pytest.mark.parametrize("profile", sorted(LENGTHS))
def test_reports_tell_what_a_streams_clock_shows(make: Make, profile: str) -> None:
    wire, world, keys = Wire(), World(), new_keys(profile)
    fanout = make_fanout(make, wire, world=world)
    handle = fanout.add(viewer(keys))
    assert fanout.report(handle, Moment(5.0, 9 << 32)) is None  # there is nothing to tell
    fanout.send(frame(b"a" * 10, b"b", at=1_000, key=True))
    wire.take()
    now = 1_000 + TIMESTAMP_OFFSET
    for seconds, clock_rate, correction, shown in (
        (5.0, 90_000, 0, now),
        (5.5, 90_000, 0, now + 45_000),
        (5.5, 48_000, -30_000, now + 24_000 - 30_000),
        (4.9, 90_000, 0, now),  # the packet was sent after the clock was read
    ):
        assert fanout.report(handle, Moment(seconds, 9 << 32), clock_rate, correction) == 11
        [sealed] = wire.take()
        told = Receiver(keys).session.unprotect_rtcp(sealed)
        assert told == build_sender_report(SenderReport(SSRC, 9 << 32, shown, 2, 11, CNAME))
    assert fanout.totals().packets == 2


def test_no_report_is_sealed_like_another(make: Make) -> None:
    """Not even where the viewer goes on in another fan-out."""
    wire, keys = Wire(), new_keys()
    first, second = (make_fanout(make, wire) for _ in range(2))
    handle = first.add(viewer(keys))
    first.send(frame(b"a", key=True))
    wire.take()
    receiver = Receiver(keys)
    for fanout in (first, first, second, second):
        if fanout is second and (carried := first.release(handle)) is not None:
            handle = second.adopt(carried)
        assert fanout.report(handle, Moment(5.0, 1)) == 1
        receiver.session.unprotect_rtcp(wire.take()[0])  # refuses an index that was there before


def test_a_report_that_the_socket_refuses_is_counted(make: Make) -> None:
    fanout, handle = before_a_full_socket(make)
    assert fanout.report(handle, Moment(5.0, 1)) == 3
    assert fanout.totals().dropped == 1


def test_timestamps_wrap(make: Make) -> None:
    keys, wire = new_keys(), Wire()
    fanout = make_fanout(make, wire)
    fanout.add(viewer(keys))
    fanout.send(frame(b"key", at=0xFFFFFFFF, key=True))
    assert Receiver(keys).read(wire.take())[0].timestamp == TIMESTAMP_OFFSET - 1


def test_first_numbers_are_random_and_small(make: Make) -> None:
    asked: list[int] = []

    def random(bits: int) -> int:
        asked.append(bits)
        return 1

    make(Sockets(Wire()), random).add(viewer(new_keys()))
    assert sorted(asked) == [15, 15, 32]


@pytest.mark.parametrize("keys", [SendKeys("SRTP_NULL", b"", b""), SendKeys(GCM, b"short", b"")])
def test_keys_that_fit_nothing(make: Make, keys: SendKeys) -> None:
    with pytest.raises(SrtpError):
        make_fanout(make, Wire()).add(viewer(keys))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4), st.booleans(), st.booleans()),
        st.tuples(st.just("room"), st.integers(0, 5)),
        st.tuples(st.just("resend"), st.lists(st.integers(-12, 2), max_size=4)),
        st.tuples(st.just("tick"), st.sampled_from([0.001, 0.1, 0.3, 2.0])),
        st.just(("refresh",)),
    ),
    max_size=30,
)


@settings(max_examples=2 * settings().max_examples)
@given(steps, st.booleans(), st.integers(65520, 65540).map(lambda n: n & 0xFFFF))
def test_no_index_ever_encrypts_two_packets(make: Make, todo: list[tuple[object, ...]], rtx: bool, start: int) -> None:
    """Whatever the socket and the viewer do: one (SSRC, sequence number) stands for one plaintext only."""
    keys, wire = new_keys(), Wire()
    encrypted: list[bytes] = []
    original: Callable[[memoryview, Address], int] = wire.sendto

    def sendto(data: memoryview, address: Address, /) -> int:
        encrypted.append(bytes(data))
        return original(data, address)

    wire.sendto = sendto  # type: ignore[method-assign]
    world = World()
    fanout = make_fanout(make, wire, start, world=world)
    handle = fanout.add(viewer(keys, rtx=rtx))
    count = 0
    for step in todo:
        match step:
            case ("send", int(n), bool(key), bool(last)):
                payloads = [(count + i).to_bytes(4, "big") for i in range(n)]
                count += n
                fanout.send(Chunk(tuple(payloads), count, last, key))
            case ("room", int(n)):
                wire.room = n
            case ("resend", list(ages)):
                fanout.resend(handle, [(start + count + age) & 0xFFFF for age in ages])
            case ("tick", float(seconds)):
                world.tick(seconds)
            case ("refresh",):
                fanout.refresh(handle)
    meaning: dict[tuple[int, int], bytes] = {}
    for datagram in encrypted:
        _, _, sequence, _, ssrc = unpack("!BBHII", datagram[:12])
        assert meaning.setdefault((ssrc, sequence), datagram) == datagram
    # And a receiver understands all of it, what the socket refused included: a receiver that misses everything before
    # the first wrap cannot know the rollover counter, which is why real streams begin below 2**15. Repeats it would
    # call a replay.
    for packet in Receiver(keys).read(list(dict.fromkeys(encrypted))):
        if packet.ssrc == RTX_SSRC:
            old = int.from_bytes(packet.payload[:2], "big")
            assert (SSRC, old) in meaning
