"""Where a viewer may begin: the newest group of pictures, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import CLOCK_RATE, Chunk
from sightline_agent.media.gop import GopBounds, GopCache, GopDrop


def chunk(packets: int = 1, at: float = 0.0, *, key: bool = False, size: int = 100) -> Chunk:
    return Chunk((bytes(size),) * packets, round(at * CLOCK_RATE) % (1 << 32), True, key)


def state(cache: GopCache) -> tuple[int | None, float]:
    return cache.start, cache.seconds


def test_nothing_to_begin_with_before_a_key_frame() -> None:
    cache = GopCache()
    cache.add(chunk(3))
    assert state(cache) == (None, 0)
    cache.add(chunk(2, at=1, key=True))
    assert state(cache) == (3, 0)
    cache.add(chunk(1, at=1.5))
    assert state(cache) == (3, 0.5)


def test_the_newest_group_counts() -> None:
    cache = GopCache()
    cache.add(chunk(5, key=True))
    cache.add(chunk(1, at=1))
    cache.add(chunk(5, at=2, key=True))
    assert state(cache) == (6, 0)


def test_one_that_is_too_long_is_dropped_whole_and_the_next_one_is_kept() -> None:
    cache = GopCache(GopBounds(seconds=2))
    cache.add(chunk(key=True))
    cache.add(chunk(at=2))
    assert cache.start == 0
    cache.add(chunk(at=2.1))
    cache.add(chunk(at=2.2))
    assert cache.start is None
    assert cache.dropped == {GopDrop.TOO_LONG: 1}
    cache.add(chunk(at=3, key=True))
    assert state(cache) == (4, 0)


def test_one_that_is_too_large_is_dropped_whole() -> None:
    by_bytes = GopCache(GopBounds(octets=500))
    by_bytes.add(chunk(3, key=True))
    by_bytes.add(chunk(3))
    by_packets = GopCache(GopBounds(packets=2))
    by_packets.add(chunk(3, key=True))
    for cache in (by_bytes, by_packets):
        assert cache.start is None
        assert cache.dropped == {GopDrop.TOO_LARGE: 1}


def test_what_came_before_the_source_was_stopped_is_no_beginning() -> None:
    cache = GopCache()
    cache.add(chunk(2, key=True))
    cache.clear()
    cache.add(chunk(2))
    assert state(cache) == (None, 0)
    cache.add(chunk(1, key=True))
    assert cache.start == 4
    assert not cache.dropped


def test_timestamps_may_wrap_and_go_back_a_little() -> None:
    cache = GopCache()
    near_the_end = (1 << 32) / CLOCK_RATE - 0.5
    cache.add(chunk(at=near_the_end, key=True))
    cache.add(chunk(at=near_the_end - 0.2))
    assert state(cache) == (0, 0)
    cache.add(chunk(at=near_the_end + 1))
    assert (cache.start, round(cache.seconds, 3)) == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans()), max_size=60))
def test_a_start_is_always_the_newest_key_frame_within_the_bounds(steps: list[tuple[int, int, bool]]) -> None:
    bounds = GopBounds(seconds=20, octets=3000, packets=20)
    cache = GopCache(bounds)
    keys: list[int] = []
    packets, at = 0, 0
    for count, later, key in steps:
        at += later
        cache.add(chunk(count, at, key=key))
        if key:
            keys.append(packets)
        packets += count
        assert cache.start is None or cache.start == keys[-1]
        if cache.start is not None:
            assert packets - cache.start <= bounds.packets
            assert cache.seconds <= bounds.seconds
