"""What the benchmark computes, without running it."""

import random

import pytest

from tests.bench import camera, figures, latency, plot
from tests.bench.latency import Arrival, Departure

FRAME_NS = 33_333_333
OVERHEAD = 18


def departures(count: int) -> list[Departure]:
    sizes = random.Random(1)
    return [Departure(number * FRAME_NS, sizes.randrange(15_000, 18_000)) for number in range(count)]


def arrivals(sent: list[Departure], first: int, count: int, delay_ns: int) -> list[Arrival]:
    start = 4_294_900_000  # wraps within the window
    return [
        Arrival(frame.ns + delay_ns, start + index * latency.TICKS_PER_FRAME & 0xFFFFFFFF, frame.size + 14 * OVERHEAD)
        for index, frame in enumerate(sent[first : first + count])
    ]


@pytest.mark.parametrize("delay_ms", [0.4, 33.0, 1500.0])
def test_frames_are_found_by_their_sizes(delay_ms: float) -> None:
    sent = departures(600)
    found = latency.latencies(sent, arrivals(sent, 200, 120, round(delay_ms * 1e6)))
    assert found == pytest.approx([delay_ms] * 120)


def test_frames_that_were_lost_do_not_shift_the_others() -> None:
    sent = departures(300)
    got = arrivals(sent, 100, 120, 2_000_000)
    del got[30:35], got[70]
    assert latency.latencies(sent, got) == pytest.approx([2.0] * 114)


def test_frames_of_one_size_have_no_latency() -> None:
    sent = [Departure(number * FRAME_NS, 1000) for number in range(300)]
    assert latency.latencies(sent, arrivals(sent, 100, 120, 2_000_000)) is None


def test_foreign_frames_have_no_latency() -> None:
    sent = departures(600)
    other = [Departure(frame.ns, frame.size ^ 0x5A5) for frame in reversed(departures(600))]
    shuffled = [Departure(frame.ns, other[index].size) for index, frame in enumerate(sent)]
    assert latency.latencies(sent, arrivals(shuffled, 200, 120, 2_000_000)) is None


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [latency.percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert latency.percentile([7.0], 0.01) == 7.0


def test_the_camera_cuts_and_keeps_every_byte() -> None:
    units = [b"\x67sps", b"\x68pps", b"\x65" + bytes(range(1, 256)) * 20, b"\x41" + b"p" * 100]
    stream = b"".join(b"\0\0\0\1" + unit for unit in units)
    assert camera.access_units(stream) == [units[:3], units[3:]]
    cut = list(camera.payloads([units[2]]))
    assert all(len(payload) <= camera.MTU for payload in cut)
    assert bytes([cut[0][0] & 0xE0 | cut[0][1] & 31]) + b"".join(payload[2:] for payload in cut) == units[2]
    assert [payload[1] >> 6 for payload in cut] == [2, *[0] * (len(cut) - 2), 1]


def step(viewers: int, cost: float, memory: float) -> figures.Result:
    times = {"p50": 1.0, "p95": 1.5, "p99": 3.0}
    return {
        "wanted": viewers,
        "viewers": viewers,
        "ms_per_viewer_second": cost,
        "memory_mb": memory,
        "latency": times,
        "fps": [29.9, 30.0],
    }


def test_targets_compare_medians_of_the_rounds() -> None:
    costs = {"sightline": (1.0, 9.0, 1.1), "mediamtx": (6.0, 6.6, 6.6), "janus-loop": (2.2, 2.2, 2.2)}
    runs = [
        {"server": name, "round": number, "idle_mb": 60.0, "steps": [step(1, 12.0, 61.0), step(96, value, 70.5)]}
        for name, values in costs.items()
        for number, value in enumerate(values)
    ]
    found = {target.what: target for target in figures.targets({"servers": runs})}
    against = found["CPU per viewer at 96 viewers against MediaMTX"]
    assert (against.reached, against.measured) == (True, "6.0 times less (1.10 against 6.60 ms)")
    assert found["CPU per viewer at 96 viewers against Janus with an event loop"].reached is False
    assert found["CPU per viewer at 96 viewers against go2rtc"].reached is None
    assert found["memory per viewer, MB"].measured == "0.1"
    assert found["900 viewers on one core"].reached is None


def test_a_plot_names_its_lines_once() -> None:
    lines = {"one & two": [(1.0, 12.0), (96.0, 1.0)], "other": [(1.0, 3.0)]}
    picture = plot.render([plot.Panel("a", "viewers", lines), plot.Panel("b", "viewers", {})])
    assert picture.count("one &amp; two") == 1
    assert "not measured" in picture
    assert "nan" not in picture
