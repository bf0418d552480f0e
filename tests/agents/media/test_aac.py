"""AAC in RTP payloads, whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.aac import SAMPLES, AccessUnits, Config, Layout, layout_of, parse_config

HBR = Layout()
UNITS = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8)


def payload(units: list[bytes]) -> bytes:
    headers = b"".join((len(unit) << 3).to_bytes(2, "big") for unit in units)
    return (len(units) * 16).to_bytes(2, "big") + headers + b"".join(units)


def fragments(unit: bytes, size: int) -> list[bytes]:
    head = (16).to_bytes(2, "big") + (len(unit) << 3).to_bytes(2, "big")
    return [head + unit[at : at + size] for at in range(0, len(unit), size)]


@given(UNITS)
def test_units_come_out_as_they_went_in(units: list[bytes]) -> None:
    found = AccessUnits(HBR).push(payload(units), 1000)
    assert found == [(unit, number * SAMPLES) for number, unit in enumerate(units)]


@given(st.binary(min_size=2, max_size=3000), st.integers(1, 1400))
def test_a_unit_in_parts_is_put_together(unit: bytes, size: int) -> None:
    reader = AccessUnits(HBR)
    found = [one for part in fragments(unit, size) for one in reader.push(part, 7)]
    assert found == [(unit, 0)]
    assert reader.dropped == 0


def test_a_unit_whose_part_is_lost_is_dropped_and_the_next_one_is_not() -> None:
    reader = AccessUnits(HBR)
    first, second, third = fragments(bytes(range(250)), 100)
    assert reader.push(first, 7) == []
    assert reader.push(third, 7, gap=True) == []
    assert reader.dropped == 1
    assert reader.push(payload([b"next"]), 8) == [(b"next", 0)]
    assert reader.push(second, 9) == []


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 3), st.booleans()), max_size=30))
def test_noise_is_dropped(noise: list[tuple[bytes, int, bool]]) -> None:
    reader = AccessUnits(HBR)
    for data, timestamp, gap in noise:
        for unit, distance in reader.push(data, timestamp, gap):
            assert unit
            assert distance % SAMPLES == 0


def test_a_part_of_something_huge_fills_no_memory() -> None:
    reader = AccessUnits(Layout(16, 0, 0))
    for number in range(100):
        assert reader.push(b"\0\x10\xff\xff" + bytes(1000), 7, gap=not number) == []
    assert reader.dropped == 100


def test_interleaved_units_are_not_read() -> None:
    reader = AccessUnits(HBR)
    assert reader.push(b"\0\x10" + (4 << 3 | 1).to_bytes(2, "big") + b"abcd", 7) == []
    assert reader.dropped == 1


def test_configurations() -> None:
    assert parse_config(bytes.fromhex("1190")) == Config(48_000, 2)
    assert parse_config(bytes.fromhex("1408")) == Config(16_000, 1)
    assert parse_config(bytes.fromhex("1788")) is None  # index 15 and cut
    assert parse_config(bytes.fromhex("0780000ac4408000")[0:1]) is None
    assert parse_config(bytes([0x17, 0x80, 0x56, 0x22, 0x08])) == Config(44_100, 1)  # the rate in full
    assert parse_config(b"\x16\x88") is None  # a rate that there is not


@given(st.binary(max_size=80))
def test_any_configuration_is_bounded(data: bytes) -> None:
    found = parse_config(data)
    assert found is None or (7350 <= found.rate <= 96_000 and found.channels <= 8)


def test_layouts() -> None:
    assert layout_of({"sizelength": "13", "indexlength": "3", "indexdeltalength": "3"}) == HBR
    assert layout_of({}) is None
    assert layout_of({"sizelength": "13", "ctsdeltalength": "4"}) is None
    assert layout_of({"sizelength": "many"}) is None
    assert layout_of({"sizelength": "13"}) == Layout(13, 0, 0)
