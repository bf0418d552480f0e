"""Times that count samples, and payloads that fit."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.sound import OPUS, PCMA, SampleLine, chunk, opus_samples, pieces


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=50))
def test_jitter_of_the_times_told_is_not_heard(jitter: list[int]) -> None:
    line = SampleLine(8000)
    placed = [line.place(number * 160 + 8 * shift, 160) or 0 for number, shift in enumerate(jitter)]
    assert [after - placed[0] for after in placed] == [number * 160 for number in range(len(jitter))]
    assert line.jumps == 0


def test_what_is_missing_is_left_out() -> None:
    line = SampleLine(8000)
    assert [line.place(told, 160) for told in (51000, 51160, 59000, 59160, 100)] == [51000, 51160, 59000, 59160, 100]
    assert line.jumps == 2


def test_what_overlaps_is_left_out() -> None:
    line = SampleLine(8000)
    told = (0, 8000, 4000, 7000, 8160)
    assert [line.place(at, 160) for at in told] == [0, 8000, None, None, 8160]


@given(st.binary(max_size=5000))
def test_long_payloads_are_cut_where_they_can_be(data: bytes) -> None:
    found = pieces(PCMA, data)
    assert b"".join(piece for piece, _ in found) == data
    assert all(0 < len(piece) <= MAX_PAYLOAD for piece, _ in found)
    assert [at for _, at in found] == [sum(len(piece) for piece, _ in found[:number]) for number in range(len(found))]
    assert pieces(OPUS, data) == ([(data, 0)] if 0 < len(data) <= MAX_PAYLOAD else [])


def test_a_chunk_of_sound_is_something_to_begin_with() -> None:
    made = chunk(b"x", (1 << 32) + 5, marker=True)
    assert (made.payloads, made.timestamp, made.last, made.key) == ((b"x",), 5, True, True)


def test_how_long_opus_plays() -> None:
    assert opus_samples(b"") == 0
    assert opus_samples(bytes([15 << 3])) == 960  # hybrid, 20 ms
    assert opus_samples(bytes([31 << 3 | 1])) == 1920  # CELT, twice 20 ms
    assert opus_samples(bytes([3 << 3 | 3, 2])) == 5760  # SILK, twice 60 ms
    assert opus_samples(bytes([3 << 3 | 3, 3])) == 0  # longer than any packet may be
    assert opus_samples(bytes([16 << 3 | 3])) == 0  # cut


@given(st.binary(max_size=4))
def test_any_packet_has_a_bearable_length(data: bytes) -> None:
    assert 0 <= opus_samples(data) <= 5760
