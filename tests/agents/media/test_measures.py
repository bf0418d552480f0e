"""The common line of timestamps, and the rates."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import Chunk
from sightline_agent.media.meter import Meter
from sightline_agent.media.timeline import Timeline

MODULUS = 1 << 32


def chunk(timestamp: int, size: int = 100, key: bool = False) -> Chunk:
    return Chunk((b"x" * size,), timestamp % MODULUS, True, key)


def test_one_run_keeps_its_timestamps() -> None:
    timeline = Timeline()
    first = chunk(500)
    assert timeline.place(first, 0.0) is first
    assert timeline.place(chunk(3500), 0.033).timestamp == 3500


@given(st.integers(0, MODULUS - 1), st.integers(0, MODULUS - 1), st.floats(0, 3600))
def test_the_next_run_goes_on_where_the_last_ended(first: int, second: int, pause: float) -> None:
    timeline = Timeline()
    timeline.place(chunk(first), 10.0)
    timeline.restart()
    one = timeline.place(chunk(second), 10.0 + pause).timestamp
    two = timeline.place(chunk(second + 3000), 10.0 + pause + 1 / 30).timestamp
    assert 0 < (one - first) % MODULUS <= round(pause * 90_000) + 1
    assert (two - one) % MODULUS == 3000


def test_rates_of_a_steady_stream() -> None:
    meter = Meter()
    for number in range(250):
        now = 100.3 + number / 25
        assert meter.add(chunk(number * 3600, 500, key=number % 50 == 0), now)
        assert not meter.add(chunk(number * 3600, 500), now)  # another part of the same frame
    fps, bitrate = meter.rates(110.2)
    assert 24.0 <= fps <= 26.0
    assert 24 * 8000 <= bitrate <= 26 * 8000
    assert meter.keyframe_interval == 2.0


def test_rates_soon_after_the_start_and_after_the_end() -> None:
    meter = Meter()
    assert meter.rates(5.0) == (0.0, 0)
    for number in range(25):
        meter.add(chunk(number * 3600), 5.2 + number / 25)
        assert meter.rates(5.2 + number / 25) == (0.0, 0)  # one frame, or a burst, says nothing
    fps, _ = meter.rates(6.2)
    assert 23.0 <= fps <= 26.0
    assert meter.rates(60.0) == (0.0, 0)
    meter.restart()
    assert meter.rates(60.0) == (0.0, 0)
