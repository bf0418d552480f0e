"""The group of pictures that a transcoder begins with."""

from sightline_agent.media.frames import Chunk
from sightline_agent.media.gop import GopBounds
from sightline_agent.media.kept import KeptGroup


def chunk(number: int, key: bool = False, size: int = 10) -> Chunk:
    return Chunk((bytes(size),), number * 3000, True, key)


def test_it_begins_at_the_newest_key_frame() -> None:
    kept = KeptGroup()
    kept.add(chunk(0))
    assert list(kept.chunks) == []
    for number in range(1, 6):
        kept.add(chunk(number, key=number in (1, 3)))
    assert [one.timestamp // 3000 for one in kept.chunks] == [3, 4, 5]
    kept.clear()
    assert list(kept.chunks) == []


def test_what_is_too_large_is_dropped_as_a_whole() -> None:
    for bounds in (GopBounds(octets=45), GopBounds(packets=4)):
        kept = KeptGroup(bounds)
        for number in range(5):
            kept.add(chunk(number, key=number == 0))
        assert list(kept.chunks) == []
        kept.add(chunk(5))
        assert list(kept.chunks) == []
        kept.add(chunk(6, key=True))
        assert len(kept.chunks) == 1
