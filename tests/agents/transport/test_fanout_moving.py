"""A viewer goes from one fan-out to another: for its receiver it is one stream, whatever fan-outs do it."""

import os
from collections.abc import Callable
from itertools import pairwise
from struct import unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_agent.media.frames import Chunk
from sightline_agent.transport.fanout import Address, FanOut
from sightline_agent.transport.fanout_python import PythonFanOut
from tests.agents.transport.test_fanout_contract import (
    AWAY,
    IMPLEMENTATIONS,
    LENGTHS,
    RTX_PT,
    RTX_SSRC,
    SSRC,
    Make,
    Receiver,
    Wire,
    World,
    frame,
    installed,
    make_fanout,
    make_native,
    make_python,
    new_keys,
    viewer,
)

pytestmark = IMPLEMENTATIONS


def carry(handle: int, here: FanOut, there: FanOut, clock_rate: int = 90_000, *, at_once: bool = True) -> int:
    carried = here.release(handle)
    assert carried is not None
    return there.adopt(carried, clock_rate, at_once=at_once)


@pytest.mark.parametrize("profile", sorted(LENGTHS))
def test_it_is_one_stream_for_the_receiver_across_a_rollover(make: Make, profile: str) -> None:
    keys, wire, world = new_keys(profile), Wire(), World()
    here = make_fanout(make, wire, start=65_532, world=world)
    there = make_fanout(make, wire, start=7, world=world)
    handle = here.add(viewer(keys))
    there.send(frame(b"earlier", at=500_000, key=True))
    here.send(frame(b"a", b"b", at=1000, key=True))
    world.now += 0.5
    there.send(frame(b"one", b"two", b"three", at=545_000, key=True))
    moved = carry(handle, here, there)
    here.send(frame(b"nobody sees this", at=46_000, key=True))
    world.tick()
    world.now += 0.04
    there.send(frame(b"four", at=548_600))
    packets = Receiver(keys).read(wire.take())
    assert [p.payload for p in packets] == [b"a", b"b", b"one", b"two", b"three", b"four"]
    assert [p.sequence for p in packets] == [65_532, 65_533, 65_534, 65_535, 0, 1]
    assert {p.ssrc for p in packets} == {SSRC}
    # Half a second passed, and a group that is sent at once begins a thirtieth of a second ahead.
    assert packets[2].timestamp - packets[0].timestamp == 45_000 + 3000
    assert packets[5].timestamp - packets[2].timestamp == 3600
    stats = there.stats(moved)
    assert stats is not None
    assert stats.packets == 6
    assert here.stats(handle) is None


def test_back_and_forth(make: Make) -> None:
    keys, wire, world = new_keys(), Wire(), World()
    ends = [make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)]
    handle = ends[0].add(viewer(keys))
    here, there = ends
    for number in range(10):
        here.send(frame(b"key", at=number * 3000, key=True))
        there.send(frame(b"other", at=77 + number * 3000, key=True))
        handle = carry(handle, here, there)
        world.tick(1 / 30)
        here, there = there, here
    packets = Receiver(keys).read(wire.take())
    assert [p.payload for p in packets] == [b"key", b"other"] * 10
    assert [p.sequence for p in packets] == list(range(100, 120))
    steps = [after.timestamp - before.timestamp for before, after in pairwise(packets)]
    assert min(steps) > 0
    assert 9 * 3000 < sum(steps) <= 9 * 3000 + 10 * 3000


def test_nothing_is_repeated_from_before_the_move_and_all_since(make: Make) -> None:
    keys, wire, world = new_keys(), Wire(), World()
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    handle = here.add(viewer(keys))
    here.send(frame(b"a", b"b", key=True))
    here.resend(handle, [101])
    # As many packets as would be under the old numbers, were they mistaken for indices of this ring.
    there.send(frame(*(bytes([i]) for i in range(120)), key=True))
    there.cut()
    moved = carry(handle, here, there)
    receiver = Receiver(keys)
    receiver.read(wire.take())
    there.resend(moved, [100, 101, 102])
    assert not wire.sent
    there.send(frame(b"c", b"d", at=9000, key=True))
    receiver.read(wire.take())
    there.resend(moved, [101, 102, 103])
    again = receiver.read(wire.take())
    assert [(p.ssrc, p.payload_type, p.sequence, p.payload[2:]) for p in again] == [
        (RTX_SSRC, RTX_PT, 101, b"c"),  # RTX has numbers of its own: 100 was the one before the move
        (RTX_SSRC, RTX_PT, 102, b"d"),
    ]


def test_without_a_group_under_way_it_waits_for_a_key_frame(make: Make) -> None:
    keys, wire, world = new_keys(), Wire(), World()
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    started: list[bool] = []
    carried = here.release(here.add(viewer(keys), lambda: started.append(True)))
    assert carried is not None
    handle = there.adopt(carried)
    there.send(frame(b"delta"))
    assert not wire.sent
    assert not started
    there.send(frame(b"key", key=True))
    assert [p.payload for p in Receiver(keys).read(wire.take())] == [b"key"]
    assert started == [True]
    assert there.settled(handle)


def test_sound_goes_on_with_the_next_packet(make: Make) -> None:
    keys, wire, world = new_keys(), Wire(), World()
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    handle = here.add(viewer(keys, rtx=False))
    here.send(frame(b"a", at=1000, key=True))
    there.send(frame(b"nobody hears this", at=90_000, key=True))
    carry(handle, here, there, 48_000, at_once=False)
    world.now += 0.02
    there.send(frame(b"b", at=90_960, key=True))
    packets = Receiver(keys).read(wire.take())
    assert [p.payload for p in packets] == [b"a", b"b"]
    assert packets[1].timestamp - packets[0].timestamp == 960


@pytest.mark.parametrize(("clock_rate", "at_once"), [(48_000, False), (90_000, True)])
def test_time_goes_on_in_a_fanout_whose_stream_begins_later(make: Make, clock_rate: int, at_once: bool) -> None:
    keys, wire, world = new_keys(), Wire(), World(now=16_000.0)
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    handle = here.add(viewer(keys))
    here.send(frame(b"a", at=1000, key=True))
    world.now += 0.5
    carry(handle, here, there, clock_rate, at_once=at_once)
    world.now += 0.25
    there.send(frame(b"b", at=4_000_000_000, key=True))
    world.now += 0.01
    there.send(frame(b"c", at=4_000_000_000 + clock_rate // 100))
    first, second, third = Receiver(keys).read(wire.take())
    assert (first.payload, second.payload, third.payload) == (b"a", b"b", b"c")
    assert (second.timestamp - first.timestamp) % (1 << 32) == round(0.75 * clock_rate)
    assert third.timestamp - second.timestamp == clock_rate // 100


def test_who_is_behind_or_within_a_frame_is_not_settled(make: Make) -> None:
    wire, world = Wire(), World()
    fanout = make_fanout(make, wire, world=world)
    fanout.send(frame(b"key", key=True))
    handle = fanout.add(viewer(new_keys()))
    assert not fanout.settled(handle)
    world.tick()
    assert fanout.settled(handle)
    fanout.send(frame(b"half", last=False))
    assert not fanout.settled(handle)
    fanout.send(frame(b"whole"))
    assert fanout.settled(handle)


def test_who_was_behind_is_served_by_the_new_one_alone(make: Make) -> None:
    keys, wire, world = new_keys(), Wire(), World()
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    here.send(frame(*(b"here" for _ in range(200)), key=True))
    there.send(frame(*(b"there" for _ in range(30)), key=True))
    handle = here.add(viewer(keys))
    world.tick()
    begun = len(wire.sent)
    assert 0 < begun < 200
    carry(handle, here, there)
    for _ in range(20):
        world.tick()
    packets = Receiver(keys).read(wire.take())
    assert [p.payload for p in packets] == [b"here"] * begun + [b"there"] * 30
    assert [p.sequence for p in packets] == list(range(100, 130 + begun))


def test_it_is_sent_to_where_it_was_last(make: Make) -> None:
    wire, world = Wire(), World()
    here, there = make_fanout(make, wire, world=world), make_fanout(make, wire, world=world)
    handle = here.add(viewer(new_keys()))
    here.move(handle, AWAY)
    carry(handle, here, there)
    there.send(frame(b"key", key=True))
    assert [address for _, address in wire.sent] == [AWAY]


def test_unknown_handles_carry_nothing(make: Make) -> None:
    fanout = make_fanout(make, Wire())
    assert fanout.release(5) is None
    assert fanout.settled(5)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(1, 4), st.booleans(), st.booleans()),
        st.tuples(st.just("room"), st.integers(0, 5)),
        st.tuples(st.just("resend"), st.lists(st.integers(-12, 2), max_size=4)),
        st.tuples(st.just("tick"), st.sampled_from([0.001, 0.1, 0.3, 2.0])),
        st.tuples(st.just("carry"), st.booleans()),
        st.just(("refresh",)),
    ),
    max_size=40,
)


@settings(max_examples=2 * settings().max_examples)
@given(moves, st.booleans(), st.integers(65_520, 65_540).map(lambda n: n & 0xFFFF))
def test_no_index_ever_encrypts_two_packets(make: Make, todo: list[tuple[object, ...]], rtx: bool, start: int) -> None:
    """The same as without moving: one (SSRC, sequence number) stands for one plaintext, and all of it is understood."""
    keys, wire, world = new_keys(), Wire(), World()
    encrypted: list[bytes] = []
    original: Callable[[memoryview, Address], int] = wire.sendto

    def sendto(data: memoryview, address: Address, /) -> int:
        encrypted.append(bytes(data))
        return original(data, address)

    wire.sendto = sendto  # type: ignore[method-assign]
    fanouts = [make_fanout(make, wire, start, world=world), make_fanout(make, wire, start, world=world)]
    at, handle, count = 0, fanouts[0].add(viewer(keys, rtx=rtx)), 0
    for step in todo:
        match step:
            case ("send", int(which), int(n), bool(key), bool(last)):
                payloads = [os.urandom(4) for _ in range(n)]
                count += n
                fanouts[which].send(Chunk(tuple(payloads), count, last, key))
            case ("room", int(n)):
                wire.room = n
            case ("resend", list(ages)):
                fanouts[at].resend(handle, [(start + count + age) & 0xFFFF for age in ages])
            case ("tick", float(seconds)):
                world.tick(seconds)
            case ("carry", bool(at_once)):
                handle = carry(handle, fanouts[at], fanouts[1 - at], at_once=at_once)
                at = 1 - at
            case ("refresh",):
                fanouts[at].refresh(handle)
    meaning: dict[tuple[int, int], bytes] = {}
    for datagram in encrypted:
        _, _, sequence, _, ssrc = unpack("!BBHII", datagram[:12])
        assert meaning.setdefault((ssrc, sequence), datagram) == datagram
    Receiver(keys).read(list(dict.fromkeys(encrypted)))


@pytest.mark.skipif(not installed, reason="not built: hack/build-fanout.sh")
def test_the_two_kinds_do_not_mix(make: Make) -> None:
    other = make_native if make is make_python else make_python
    wire = Wire()
    here = make_fanout(make, wire)
    carried = here.release(here.add(viewer(new_keys())))
    assert carried is not None
    there = make_fanout(other, wire)
    with pytest.raises(TypeError):
        there.adopt(carried)
    assert isinstance(here, PythonFanOut) != isinstance(there, PythonFanOut)
