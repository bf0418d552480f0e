"""The transcoder's pure parts: records, access units, what waits, and the rate of pictures."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import h264
from sightline_agent.media.frames import Chunk
from sightline_agent.media.grammar import GRAMMARS, H264, H265
from sightline_agent.transcode import backlog
from sightline_agent.transcode.backlog import Backlog
from sightline_agent.transcode.conversion import MAX_HEIGHT, MAX_WIDTH, fitting
from sightline_agent.transcode.rate import FrameRate
from sightline_agent.transcode.records import MAX_BODY, Kind, Record, RecordError, Splitter, Tally, pack
from sightline_agent.transcode.units import Units

RECORDS = st.builds(
    Record,
    st.sampled_from(Kind),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=50),
)


@given(st.lists(RECORDS, max_size=6), st.lists(st.integers(1, 40), min_size=1))
def test_records_come_out_of_any_pieces(records: list[Record], sizes: list[int]) -> None:
    data, splitter, found = b"".join(map(pack, records)), Splitter(), list[Record]()
    for size in itertools.cycle(sizes):
        if not data:
            break
        found += splitter.feed(data[:size])
        data = data[size:]
    assert found == records


@pytest.mark.parametrize(
    "data", [b"\xff" * 21, pack(Record(Kind.UNIT))[:-4] + (MAX_BODY + 1).to_bytes(4, "big")], ids=["kind", "size"]
)
def test_what_is_no_record_is_told(data: bytes) -> None:
    with pytest.raises(RecordError):
        list(Splitter().feed(data))


def test_a_tally_travels() -> None:
    assert Tally.unpack(Tally(1, 2, 3).pack()) == Tally(1, 2, 3)
    with pytest.raises(RecordError):
        Tally.unpack(b"123")


def chunk(nal: bytes, timestamp: int, last: bool = True, key: bool = False) -> Chunk:
    return Chunk(tuple(h264.fragment(nal, 50)), timestamp % (1 << 32), last, key)


IDR, SLICE = b"\x65" + bytes(range(1, 90)), b"\x41" + bytes(range(1, 70))


def test_units_are_whole_and_begin_at_a_key_frame() -> None:
    units = Units(GRAMMARS[H264])
    assert units.add(chunk(SLICE, 0)) == []
    assert units.add(chunk(IDR, 3000, last=False, key=True)) == []
    assert units.add(chunk(SLICE, 3000)) == [(3000, b"\0\0\0\1" + IDR + b"\0\0\0\1" + SLICE, True)]
    assert units.add(chunk(SLICE, 6000)) == [(6000, b"\0\0\0\1" + SLICE, False)]


def test_a_unit_whose_end_was_lost_ends_with_the_next() -> None:
    units = Units(GRAMMARS[H264])
    assert units.add(chunk(IDR, 0, last=False, key=True)) == []
    assert [(ticks, key) for ticks, _, key in units.add(chunk(SLICE, 3000))] == [(0, True), (3000, False)]


@given(st.lists(st.integers(-90_000, 900_000), max_size=30), st.integers(0, (1 << 32) - 1))
def test_times_do_not_wrap(steps: list[int], begin: int) -> None:
    units = Units(GRAMMARS[H264])
    expected, line = [begin], begin
    found = [ticks for ticks, _, _ in units.add(chunk(IDR, begin, key=True))]
    for step in steps:
        line += step
        expected.append(line)
        found += [ticks for ticks, _, _ in units.add(chunk(SLICE, line))]
    assert found == expected


def test_a_unit_without_end_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline_agent.transcode.units.MAX_BODY", 400)
    units = Units(GRAMMARS[H264])
    for _ in range(9):
        assert units.add(chunk(IDR, 0, last=False, key=True)) == []
    assert units.add(chunk(SLICE, 0)) == []
    assert units.oversized == 1
    assert units.add(chunk(SLICE, 3000)) == []  # others refer to what was left out
    assert len(units.add(chunk(IDR, 6000, key=True))) == 1


def test_units_of_h265() -> None:
    grammar = GRAMMARS[H265]
    nal = b"\x28\x01" + bytes(3000)
    made = Chunk(tuple(grammar.fragment(nal)), 5, last=True, key=True)
    assert Units(grammar).add(made) == [(5, b"\0\0\0\1" + nal, True)]


def unit(number: int, size: int = 10) -> Record:
    return Record(Kind.UNIT, number, 0.0, bytes(size))


def begun() -> Backlog:
    waiting = Backlog("h264")
    assert waiting.take() == Record(Kind.CODEC, body=b"h264")
    return waiting


def drain(waiting: Backlog) -> list[int]:
    taken = []
    while (record := waiting.take()) is not None:
        taken.append(record.ticks if record.kind is Kind.UNIT else -1)
    return taken


def test_what_waits_keeps_its_order() -> None:
    waiting = begun()
    for number in range(5):
        waiting.put(unit(number), key=number == 0)
    waiting.want_key_frame()
    waiting.want_key_frame()
    assert drain(waiting) == [-1, 0, 1, 2, 3, 4]
    assert waiting.dropped == 0


def test_what_others_refer_to_goes_first() -> None:
    waiting = begun()
    waiting.put(unit(7), key=False)
    waiting.precede([unit(5), unit(6)])
    assert [waiting.take(), waiting.take()] == [
        unit(5)._replace(kind=Kind.PRELUDE),
        unit(6)._replace(kind=Kind.PRELUDE),
    ]
    assert drain(waiting) == [7]


def test_another_codec_begins_anew() -> None:
    waiting = begun()
    waiting.precede([unit(0)])
    waiting.put(unit(1), key=True)
    waiting.restart("hevc")
    waiting.put(unit(2), key=False)
    assert waiting.take() == Record(Kind.CODEC, body=b"hevc")
    assert drain(waiting) == [2]
    assert waiting.dropped == 1


def test_too_many_are_dropped_up_to_the_next_key_frame() -> None:
    waiting = begun()
    for number in range(backlog.MAX_UNITS + 20):
        waiting.put(unit(number), key=number == 0)
    assert drain(waiting) == []
    assert waiting.dropped == backlog.MAX_UNITS + 20
    waiting.put(unit(1000), key=True)
    waiting.put(unit(1001), key=False)
    assert drain(waiting) == [1000, 1001]


def test_a_key_frame_that_finds_no_room_makes_it() -> None:
    waiting = begun()
    for number in range(backlog.MAX_UNITS):
        waiting.put(unit(number), key=number == 0)
    waiting.put(unit(500), key=True)
    assert drain(waiting) == [500]
    assert waiting.dropped == backlog.MAX_UNITS


@given(st.lists(st.tuples(st.integers(0, backlog.MAX_BYTES // 3), st.booleans()), max_size=40))
def test_the_bytes_that_wait_are_bounded(units: list[tuple[int, bool]]) -> None:
    waiting, sizes = begun(), list[int]()
    for number, (size, key) in enumerate(units):
        waiting.put(Record(Kind.UNIT, number, 0.0, memoryview(_ZEROS)[:size]), key)  # type: ignore[arg-type]
    while (record := waiting.take()) is not None:
        sizes.append(len(record.body))
    assert sum(sizes) <= backlog.MAX_BYTES
    assert len(sizes) + waiting.dropped == len(units)


_ZEROS = bytes(backlog.MAX_BYTES)


@given(st.sampled_from([5, 10, 15, 25, 30, 50, 60]), st.integers(0, 7))
def test_the_rate_is_the_usual_step(fps: int, late: int) -> None:
    rate = FrameRate()
    assert rate.fps is None
    for number in range(20):
        rate.add(number * 90_000 // fps + (400 if number == late else 0))
    assert rate.fps == fps


def test_a_pause_is_no_rate() -> None:
    rate = FrameRate()
    for number in range(30):
        rate.add(number * 900_000)
    assert rate.fps is None


@given(st.integers(16, 16384), st.integers(16, 16384))
def test_pictures_fit(width: int, height: int) -> None:
    made = fitting(width, height)
    assert all(side % 2 == 0 and side >= 2 for side in made)
    assert max(made) <= MAX_WIDTH
    assert min(made) <= MAX_HEIGHT
    if max(width, height) <= MAX_WIDTH and min(width, height) <= MAX_HEIGHT:
        assert made == (width // 2 * 2, height // 2 * 2)
