"""The ring of sent packets: bounded both ways, oldest first."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.transport.ring import PacketRing


def test_the_newest_are_kept() -> None:
    ring = PacketRing(max_packets=4)
    for i in range(6):
        ring.append(bytes((i,)), i * 10, marker=i == 5)
    assert [ring.get(i) is None for i in range(7)] == [True, True, False, False, False, False, True]
    kept = ring.get(5)
    assert kept is not None
    assert (kept.payload, kept.timestamp, kept.marker) == (b"\5", 50, True)
    assert ring.get(-1) is None


@given(
    st.lists(st.integers(0, 50), max_size=200),
    st.integers(1, 16),
    st.integers(1, 300),
)
def test_bounds_hold(sizes: list[int], max_packets: int, max_bytes: int) -> None:
    ring = PacketRing(max_packets, max_bytes)
    for size in sizes:
        ring.append(bytes(size), 0, marker=False)
    assert ring.next_index == len(sizes)
    kept = [len(packet.payload) for i in range(len(sizes)) if (packet := ring.get(i)) is not None]
    assert kept == sizes[len(sizes) - len(kept) :]
    assert len(kept) <= max_packets
    # One packet alone may be larger than all may be.
    assert sum(kept) <= max_bytes or len(kept) == 1
