"""Viewers who are behind the stream: those who join in the middle of it, who cannot decode, whose socket is full.

One suite for all implementations, on the stand-ins of the contract suite.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_agent.media.frames import CLOCK_RATE, MAX_PAYLOAD, Chunk
from sightline_agent.transport.fanout import FanOut
from sightline_agent.transport.fanout_python import RESEND_BURST
from sightline_agent.transport.pacing import Pace
from tests.agents.transport.test_fanout_contract import (
    AWAY,
    IMPLEMENTATIONS,
    RTX_PT,
    TIMESTAMP_OFFSET,
    Make,
    Packet,
    Receiver,
    Wire,
    World,
    frame,
    make_fanout,
    new_keys,
    viewer,
)

pytestmark = IMPLEMENTATIONS

PACE = Pace()
FRAME = CLOCK_RATE // 30


class Stage:
    """A fan-out, its wire and its world; one viewer's view of it."""

    def __init__(self, make: Make, *, rtx: bool = True, max_packets: int = 4096, start: int = 100) -> None:
        self.world, self.wire = World(), Wire()
        self.fanout: FanOut = make_fanout(make, self.wire, start, max_packets, self.world)
        self.viewer = viewer(keys := new_keys(), rtx=rtx)
        self.receiver = Receiver(keys)
        self.sent = 0
        """Packets of the stream."""
        self.started = 0
        self.handle = 0

    def send(self, packets: int = 1, *, key: bool = False, last: bool = True, at: int | None = None) -> None:
        """A chunk whose payloads are their own indices."""
        payloads = tuple((self.sent + i).to_bytes(4, "big") for i in range(packets))
        timestamp = self.sent * 10 if at is None else at
        self.sent += packets
        self.fanout.send(Chunk(payloads, timestamp, last, key))

    def join(self) -> int:
        def on_start() -> None:
            self.started += 1

        self.handle = self.fanout.add(self.viewer, on_start)
        return self.handle

    def take(self) -> list[Packet]:
        return self.receiver.read(self.wire.take())

    def indices(self) -> list[int]:
        return [int.from_bytes(packet.payload, "big") for packet in self.take()]

    def catch_up(self, seconds: float = 0.001) -> list[Packet]:
        """Tick until nobody wants to be called back."""
        for _ in range(10_000):
            if not self.world.due:
                break
            self.world.tick(seconds)
        assert not self.world.due
        return self.take()

    def dropped(self) -> int:
        return self.fanout.totals().dropped


def test_a_joining_viewer_gets_the_group_under_way_and_then_live(make: Make) -> None:
    stage = Stage(make)
    stage.send(5)
    stage.send(3, key=True, at=9000)
    for i in range(1, 60):
        stage.send(2, at=9000 + i * FRAME)
    stage.join()
    assert not stage.wire.sent  # never within the call
    packets = stage.catch_up()
    assert stage.started == 1
    stage.send(2, at=9000 + 60 * FRAME)
    packets += stage.take()
    assert [int.from_bytes(p.payload, "big") for p in packets] == list(range(5, stage.sent))
    assert [p.sequence for p in packets] == list(range(100, 100 + stage.sent - 5))
    stamps = [9000] * 3 + [9000 + i * FRAME for i in range(1, 61) for _ in range(2)]
    assert [p.timestamp for p in packets] == [stamp + TIMESTAMP_OFFSET for stamp in stamps]
    assert [p.marker for p in packets] == [False, False, True] + [False, True] * 60
    totals = stage.fanout.totals()
    assert (totals.bursts, totals.packets, totals.dropped, totals.skipped) == (1, len(packets), 0, 0)


def test_a_burst_is_paced(make: Make) -> None:
    stage = Stage(make)
    stage.send(300, key=True)
    stage.join()
    stage.world.tick(0)
    assert len(stage.take()) == PACE.slice_least
    stage.world.tick(0.001)
    assert len(stage.take()) == 20
    stage.world.tick(0.002)
    assert len(stage.take()) == 40
    stage.world.tick(1)  # the loop was late: that is not made good at once
    assert len(stage.take()) == PACE.slice_most


def test_all_who_join_at_once_share_what_a_tick_may_do(make: Make) -> None:
    stage = Stage(make)
    stage.send(100, key=True)
    handles = [stage.join() for _ in range(200)]
    most = 0
    while stage.world.due:
        stage.world.tick()
        most = max(most, len(stage.wire.take()))
    assert most < 1200
    counters = [stage.fanout.stats(handle) for handle in handles]
    assert {c.packets for c in counters if c is not None} == {100}
    assert stage.started == 200


def test_live_chunks_meanwhile_wait_their_turn(make: Make) -> None:
    stage = Stage(make)
    stage.send(100, key=True)
    stage.join()
    indices = []
    for _ in range(5):
        stage.world.tick()
        stage.send(3)
        indices += stage.indices()
    assert len(indices) == 5 * 20
    indices += [int.from_bytes(p.payload, "big") for p in stage.catch_up()]
    stage.send(1)
    assert indices + stage.indices() == list(range(stage.sent))


def test_a_frame_under_way_is_finished_under_its_own_timestamp(make: Make) -> None:
    stage = Stage(make)
    stage.send(3, key=True, last=False, at=500)
    stage.join()
    stage.send(2, last=False, at=500)
    packets = stage.catch_up()
    stage.send(1, last=True, at=500)
    packets += stage.take()
    assert [p.sequence for p in packets] == list(range(100, 106))
    assert {p.timestamp for p in packets} == {500 + TIMESTAMP_OFFSET}
    assert [p.marker for p in packets] == [False] * 5 + [True]


def test_who_is_there_already_notices_nothing(make: Make) -> None:
    stage, other = Stage(make), new_keys()
    stage.join()
    stage.send(50, key=True)
    assert len(stage.take()) == 50
    stage.fanout.add(viewer(other))
    stage.send(2)
    assert len(stage.take()) == 2  # the other one's are still to come
    assert len(Receiver(other).read([data for data, _ in _drain(stage)])) == 52


def _drain(stage: Stage) -> list[tuple[bytes, tuple[str, int]]]:
    while stage.world.due:
        stage.world.tick()
    sent, stage.wire.sent = stage.wire.sent, []
    return sent


def test_the_burst_is_repaired_by_nack(make: Make) -> None:
    stage = Stage(make, max_packets=8192)
    stage.send(3000, key=True)
    stage.send(1000)
    stage.join()
    assert len(stage.catch_up()) == 4000
    wanted = [100, 1500, 4099]
    stage.fanout.resend(stage.handle, wanted)
    packets = stage.take()
    assert [(p.payload_type, p.payload) for p in packets] == [
        (RTX_PT, number.to_bytes(2, "big") + (number - 100).to_bytes(4, "big")) for number in wanted
    ]
    # And a good part of it may be asked for: each packet sent has earned something.
    stage.fanout.resend(stage.handle, [100 + i for i in range(RESEND_BURST)])
    assert len(stage.take()) > RESEND_BURST - 5


def test_a_burst_across_a_rollover(make: Make) -> None:
    stage = Stage(make, start=65_500)
    stage.send(200, key=True)
    stage.join()
    stage.wire.room = 33
    stage.world.tick(0)
    for _ in range(5):
        stage.world.tick()
    stage.wire.room = None
    packets = stage.catch_up()
    assert [int.from_bytes(p.payload, "big") for p in packets] == list(range(200))
    assert [p.sequence for p in packets] == [(65_500 + i) & 0xFFFF for i in range(200)]
    stage.fanout.resend(stage.handle, [65_535, 0, 163])
    assert [p.payload[2:] for p in stage.take()] == [i.to_bytes(4, "big") for i in (35, 36, 199)]


def test_what_was_not_sent_yet_is_not_sent_again(make: Make) -> None:
    stage = Stage(make)
    stage.send(200, key=True)
    stage.join()
    stage.world.tick(0)
    assert len(stage.take()) == 20
    stage.fanout.resend(stage.handle, [119, 120, 150])
    assert [p.payload[:2] for p in stage.take()] == [(119).to_bytes(2, "big")]
    assert stage.fanout.totals().refused == 2


def test_reports_show_the_clock_of_the_stream_during_a_burst(make: Make) -> None:
    stage = Stage(make)
    stage.send(100, key=True, at=1000)
    stage.world.now = 7.5
    stage.send(1, at=90_000)
    stage.world.now = 8.0
    stage.join()
    stage.world.tick(0)
    stats = stage.fanout.stats(stage.handle)
    assert stats is not None
    assert (stats.packets, stats.last_timestamp, stats.last_sent) == (20, 90_000 + TIMESTAMP_OFFSET, 7.5)


def test_after_a_cut_who_joins_waits_for_the_next_key_frame(make: Make) -> None:
    stage = Stage(make)
    stage.send(10, key=True)
    assert stage.fanout.gop_seconds() == 0
    stage.fanout.cut()
    assert stage.fanout.gop_seconds() is None
    stage.join()
    stage.send(2)
    assert not stage.catch_up()
    stage.send(1, key=True)
    assert [p.sequence for p in stage.take()] == [100]
    assert stage.fanout.totals().bursts == 0


def test_a_group_over_the_bounds_is_not_sent(make: Make) -> None:
    stage = Stage(make)
    stage.send(10, key=True, at=0)
    stage.send(1, at=13 * CLOCK_RATE)
    assert stage.fanout.gop_seconds() is None
    stage.join()
    assert not stage.catch_up()
    assert stage.fanout.totals().gops_dropped == 1


def test_a_group_that_the_ring_has_not_any_more_is_not_sent(make: Make) -> None:
    stage = Stage(make, max_packets=8)
    stage.send(5, key=True)
    stage.send(5)
    stage.join()
    assert not stage.catch_up()
    stage.send(2, key=True)
    assert stage.indices() == [10, 11]


def test_with_much_ahead_of_a_newer_key_frame_a_viewer_goes_on_there(make: Make) -> None:
    stage = Stage(make)
    stage.send(30, key=True)
    for _ in range(30):
        stage.send(20)
    stage.join()
    stage.world.tick(0)
    stage.world.tick()
    assert stage.indices() == list(range(40))  # half of a frame
    stage.send(25, key=True)
    packets = stage.catch_up()
    indices = [int.from_bytes(p.payload, "big") for p in packets]
    # The frame that was begun is finished first, and numbers go on without a gap.
    assert indices == [*range(40, 50), *range(630, 655)]
    assert [p.sequence for p in packets] == list(range(140, 140 + len(indices)))
    assert stage.fanout.totals().skipped == 580
    assert stage.dropped() == 0


def test_with_little_ahead_of_it_everything_is_sent(make: Make) -> None:
    stage = Stage(make)
    stage.send(60, key=True)
    stage.send(60)
    stage.join()
    stage.world.tick(0)
    stage.send(10, key=True)
    assert [int.from_bytes(p.payload, "big") for p in stage.catch_up()] == list(range(130))


def test_a_viewer_who_cannot_decode_gets_the_group_again(make: Make) -> None:
    stage = Stage(make)
    stage.join()
    stage.send(3, key=True, at=1000)
    stage.send(2, at=4000)
    stage.take()
    stage.world.now += 10
    assert stage.fanout.refresh(stage.handle)
    packets = stage.catch_up()
    assert [int.from_bytes(p.payload, "big") for p in packets] == [0, 1, 2, 3, 4]
    assert [p.sequence for p in packets] == list(range(105, 110))
    # The newest timestamp was 4000. Time goes on from there, as it does for what comes after.
    assert [p.timestamp - TIMESTAMP_OFFSET for p in packets] == [7000] * 3 + [10_000] * 2
    stats = stage.fanout.stats(stage.handle)
    assert stats is not None
    assert stats.last_timestamp == 10_000 + TIMESTAMP_OFFSET
    # Under the old numbers nothing is to be had any more; under the new ones it is.
    stage.fanout.resend(stage.handle, [100, 104, 105])
    assert [p.payload[:2] for p in stage.take()] == [(105).to_bytes(2, "big")]
    stage.send(1, at=7000)
    assert [(p.sequence, p.timestamp - TIMESTAMP_OFFSET) for p in stage.take()] == [(110, 13_000)]


def test_not_too_often(make: Make) -> None:
    stage = Stage(make)
    stage.send(100, key=True, at=0)
    stage.send(1, at=5 * CLOCK_RATE)
    stage.join()
    assert not stage.fanout.refresh(stage.handle)  # it is being sent
    stage.catch_up()
    stage.world.now += 4.8
    assert not stage.fanout.refresh(stage.handle)  # five seconds of pictures, not five seconds ago
    stage.world.now += 0.3
    assert stage.fanout.refresh(stage.handle)
    assert not stage.fanout.refresh(stage.handle)
    assert not stage.fanout.refresh(77)
    assert stage.fanout.totals().bursts == 2


def test_nothing_to_refresh_with(make: Make) -> None:
    stage = Stage(make)
    stage.join()
    assert not stage.fanout.refresh(stage.handle)
    stage.send(1, key=True)
    stage.fanout.cut()
    assert not stage.fanout.refresh(stage.handle)


def test_a_full_socket_delays_and_nothing_is_lost(make: Make) -> None:
    stage = Stage(make)
    stage.join()
    stage.wire.room = 2
    stage.send(5, key=True)
    stage.send(3)
    assert stage.indices() == [0, 1]
    stage.world.tick()
    assert not stage.wire.sent
    stage.wire.room = 1
    stage.world.tick()
    stage.wire.room = None
    packets = stage.catch_up()
    assert [p.sequence for p in packets] == list(range(102, 108))
    assert [p.payload for p in packets] == [i.to_bytes(4, "big") for i in range(2, 8)]
    stage.send(1)
    assert stage.indices() == [8]
    totals = stage.fanout.totals()
    assert (totals.delayed, totals.dropped, totals.packets) == (1, 0, 9)


@pytest.mark.parametrize("error", [BlockingIOError(), BlockingIOError(11, "full"), OSError(105, "no buffers")])
def test_what_full_means(make: Make, error: OSError) -> None:
    stage = Stage(make)
    working, refusals = stage.wire.sendto, iter([error, error])

    def sendto(data: memoryview, address: tuple[str, int], /) -> int:
        for refusal in refusals:
            raise refusal
        return working(data, address)

    stage.wire.sendto = sendto  # type: ignore[method-assign]
    stage.join()
    stage.send(5, key=True)
    assert not stage.wire.sent
    assert [p.sequence for p in stage.catch_up()] == list(range(100, 105))
    assert (stage.dropped(), stage.started) == (0, 1)


def test_a_socket_that_stays_full_pauses_until_the_next_key_frame(make: Make) -> None:
    stage = Stage(make)
    stage.join()
    stage.send(1, key=True)
    stage.wire.room = 1
    stage.send(3)
    assert stage.indices() == [0, 1]
    for _ in range(30):
        stage.world.tick(0.01)
    assert not stage.world.due
    assert stage.dropped() == 2
    stage.wire.room = None
    stage.send(1)
    assert stage.dropped() == 3
    stage.send(1, key=True)
    packets = stage.take()
    assert [p.payload for p in packets] == [(5).to_bytes(4, "big")]
    # 102 was encrypted for the refused packet and is never used again: the receiver sees that something is missing.
    # Whether the one not tried had a number already is the implementation's choice.
    assert [p.sequence for p in packets] in ([103], [104])
    # What is asked for from before the pause is no longer worth sending.
    stage.fanout.resend(stage.handle, [102, 101, 100])
    assert not stage.wire.sent
    assert stage.fanout.totals().refused == 3


def test_a_full_socket_keeps_no_more_than_a_bounded_backlog(make: Make) -> None:
    stage = Stage(make)
    stage.join()
    stage.send(1, key=True)
    stage.wire.room = 0
    for _ in range(8):
        stage.send(200)
    stage.take()
    stage.wire.room = None
    assert not stage.catch_up()
    assert stage.dropped() == 1600
    stage.send(1, key=True)
    assert stage.indices() == [1601]


def test_who_falls_out_of_the_ring_goes_on_at_the_next_key_frame(make: Make) -> None:
    stage = Stage(make, max_packets=64)
    stage.send(30, key=True)
    stage.send(20)
    stage.join()
    stage.world.tick(0)
    assert len(stage.take()) == 20
    stage.send(60)
    assert not stage.catch_up()
    assert stage.dropped() == 90
    stage.send(1, key=True)
    packets = stage.take()
    assert [(int.from_bytes(p.payload, "big"), p.sequence) for p in packets] == [(110, 120)]


def test_a_viewer_may_leave_or_roam_in_the_middle_of_a_burst(make: Make) -> None:
    stage = Stage(make)
    stage.send(60, key=True)
    stage.join()
    stage.world.tick(0)
    stage.fanout.move(stage.handle, AWAY)
    stage.world.tick()
    assert [address for _, address in stage.wire.sent[20:]] == [AWAY] * 20
    stage.take()
    stage.fanout.remove(stage.handle)
    assert not stage.catch_up()


def test_a_callback_may_remove_its_viewer(make: Make) -> None:
    stage = Stage(make)
    stage.send(60, key=True)
    handles: list[int] = []
    handles.append(stage.fanout.add(stage.viewer, lambda: stage.fanout.remove(handles[0])))
    assert len(stage.catch_up()) == 20


def test_large_payloads_come_whole(make: Make) -> None:
    stage = Stage(make)
    payloads = [bytes([i % 256]) * (MAX_PAYLOAD - i % 3) for i in range(100)]
    stage.fanout.send(frame(*payloads, key=True))
    stage.join()
    assert [p.payload for p in stage.catch_up()] == payloads


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 40), st.booleans(), st.booleans()),
        st.tuples(st.just("room"), st.sampled_from([0, 1, 5, 30, None, None])),
        st.tuples(st.just("tick"), st.sampled_from([0.0, 0.001, 0.01, 0.3])),
    ),
    max_size=40,
)


@settings(max_examples=3 * settings().max_examples)
@given(steps, st.integers(0, 40), st.integers(0, 1 << 15), st.sampled_from([50, 400, 8192]))
def test_numbers_only_grow_and_the_stream_stays_in_order(
    make: Make, todo: list[tuple[object, ...]], join_at: int, start: int, ring: int
) -> None:
    """Whenever a viewer joins and whatever its socket does: no duplicate, no reordering, a start at a key frame, and
    either every packet or a new start at a key frame."""
    stage = Stage(make, max_packets=ring, start=start)
    keys: set[int] = set()
    timestamp = 0

    def step(what: tuple[object, ...]) -> None:
        nonlocal timestamp
        match what:
            case ("send", int(n), bool(key), bool(last)):
                if key:
                    timestamp += 10
                    keys.add(stage.sent)
                stage.send(n, key=key, last=last, at=timestamp)
                timestamp += 10 if last else 0
            case ("room", int() | None as room):
                # The first packet always arrives: a receiver that misses everything before the first wrap cannot know
                # the rollover counter, which is why real streams begin below 2**15.
                stage.wire.room = room if stage.fanout.totals().packets else None
            case ("tick", float(seconds)):
                stage.world.tick(seconds)

    play(stage, todo, join_at, step)
    stage.wire.room = None
    while stage.world.due:
        stage.world.tick()
    step(("send", 1, True, True))
    packets = stage.take()
    indices = [int.from_bytes(p.payload, "big") for p in packets]
    assert indices[0] in keys
    assert indices[-1] == stage.sent - 1
    gaps = [b for a, b in pairwise(indices) if b != a + 1]
    assert all(b in keys for b in gaps)
    assert indices == sorted(set(indices))
    numbers = [(p.sequence - start) & 0xFFFF for p in packets]
    assert numbers == sorted(set(numbers))
    assert stage.fanout.totals().packets == len(packets)


def play(
    stage: Stage, todo: list[tuple[object, ...]], join_at: int, step: Callable[[tuple[object, ...]], None]
) -> None:
    joined = False
    for number, what in enumerate(todo):
        if number == join_at:
            stage.join()
            joined = True
        step(what)
    if not joined:
        stage.join()
