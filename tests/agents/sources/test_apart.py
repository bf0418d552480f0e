"""A camera's bytes taken apart: the extension gives what Python gives, whatever the bytes are."""

import importlib.util
from collections.abc import Callable
from functools import lru_cache, reduce
from itertools import product
from operator import or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import rtp
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.grammar import GRAMMARS, H264, H265
from sightline_agent.media.runs import END, SLICE, START, Run, part
from sightline_agent.media.runs import runs as reference
from sightline_agent.sources.rtsp import wire
from sightline_agent.sources.rtsp.apart import Apart, choose_apart, native
from sightline_agent.transport.fanout_choice import VARIABLE

built = importlib.util.find_spec("sightline_fanout") is not None


def _native() -> Apart:
    return native()


IMPLEMENTATIONS = [
    pytest.param(Apart, id="python"),
    pytest.param(
        lru_cache(_native), id="native", marks=pytest.mark.skipif(not built, reason="not built: hack/build-fanout.sh")
    ),
]
each = pytest.mark.parametrize("make", IMPLEMENTATIONS)
Make = Callable[[], Apart]


def packet(sequence: int, payload: bytes = b"x", *, kind: int = 96, first: int = 0x80, timestamp: int = 5) -> bytes:
    head = bytes((first, kind)) + (sequence % 65536).to_bytes(2, "big")
    return head + timestamp.to_bytes(4, "big") + b"\0\0\0\7" + payload


BEGINNINGS = [
    *(
        b"\x7c\x81\xa8",
        b"\x7c\x81\xe0",
        b"\x7c\x01",
        b"\x7c\x01",
        b"\x7c\x41",
        b"\x5c\x01",
        b"\x7c\x85",
        b"\x7c\x87",
        b"\x7c",
    ),
    *(b"\x41\xe0", b"\x41\xa8", b"\x41", b"\x65\x88", b"\x67\x42", b"\x78\0\2\x41\xa8", b"", b"\x41\0\0\3\x80\0\x20"),
    *(b"\x62\1\x81x", b"\x62\1\1x", b"\x62\1\1x", b"\x62\1\x41x", b"\x62\1\x41", b"\x62\1\x93x", b"\x62\1\xa0x"),
    *(b"\2\1", b"\x26\1x", b"\x40\1", b"\x60\1\0\2\2\1"),
]
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.builds(bytes.__add__, st.sampled_from(BEGINNINGS), st.binary(max_size=12)),
    st.builds(
        lambda begin, size: begin + bytes(size),
        st.sampled_from(BEGINNINGS),
        st.sampled_from([MAX_PAYLOAD - 4, MAX_PAYLOAD, 3 * MAX_PAYLOAD]),
    ),
)
PACKETS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        packet,
        st.sampled_from([65_534, 65_535, 0, 1, 2, 3]),
        PAYLOADS,
        kind=st.sampled_from([96, 96, 96, 224, 97]),
        first=st.sampled_from([0x80, 0x80, 0x80, 0x81, 0x90, 0xA0, 0xB3, 0x40]),
        timestamp=st.sampled_from([5, 5, 9]),
    ),
)


FRAGMENTS = [
    *(
        b"\x7c\x81\xe0",
        b"\x7c\1a",
        b"\x7c\1",
        b"\x7c\x41c",
        b"\x7c\xc1d",
        b"\x7c\5e",
        b"\x5c\1f",
        b"\x41\xe0",
        b"\x09\x10",
    ),
    *(b"\x62\1\x81a", b"\x62\1\1b", b"\x62\1\1", b"\x62\1\x41d", b"\x62\1\xc1d", b"\x62\2\1e", b"\x62\1\5f", b"\2\1"),
]
BEGIN, INSIDE = b"\x7c\x81\xe0", b"\x7c\1a"


@each
def test_frames_are_cut_off(make: Make) -> None:
    cut = make().cut
    data = b"$\x01\x00\x03abc$\x02\x00\x00RTSP/1.0"
    assert cut(data, 0) == ([(1, b"abc"), (2, b"")], 11, 0)
    assert cut(data, 7) == ([(2, b"")], 11, 0)
    assert cut(data, 11) == ([], 11, 0)
    assert cut(data, len(data)) == ([], len(data), 0)
    assert cut(data[:9], 0) == ([(1, b"abc")], 7, 4)
    assert cut(data[:6], 0) == ([], 0, 7)
    assert cut(b"", 0) == ([], 0, 0)


@each
def test_packets_are_taken_apart_in_runs(make: Make) -> None:
    start, inside, end = b"\x7c\x81\xe0a", b"\x7c\x01b", b"\x7c\x41c"
    packets = [packet(65_535, start), packet(0, inside), packet(1, end, kind=224), b"?", packet(9, b"\x67s")]
    runs, malformed = make().runs(packets, H264)
    assert malformed == 1
    payloads = (start, inside, end)
    assert runs == [
        Run(96, True, 65_535, 5, 7, payloads, payloads, SLICE | START | END),
        Run(96, False, 9, 5, 7, (b"\x67s",), (), 0),
    ]
    assert make().runs([], H264) == ([], 0)


@each
@pytest.mark.parametrize("codec", [H264, H265])
def test_any_three_fragments_in_a_row(make: Make, codec: str) -> None:
    runs = make().runs
    for payloads in product(FRAGMENTS, repeat=3):
        packets = [packet(65_534 + at, payload) for at, payload in enumerate(payloads)]
        found, _ = runs(packets, codec)
        assert (found, 0) == reference(packets, codec)
        for run in found:
            # What the shape says of all, by what it says of each.
            shapes = [part(GRAMMARS[codec], payload) for payload in run.payloads]
            assert run.shape == reduce(or_, shapes)
            assert not any(shape & START or not shape for shape in shapes[1:])
            assert not any(shape & END or not shape for shape in shapes[:-1])


@each
@pytest.mark.parametrize(
    "other",
    [
        packet(3, INSIDE),
        packet(5, INSIDE),
        packet(4, INSIDE, kind=97),
        packet(4, INSIDE, timestamp=6),
        packet(4, INSIDE)[:11] + b"\x08" + INSIDE,
        packet(4, b"\x5c\1a"),
        packet(4, b"\x7c\5a"),
        packet(4, b"\x7c\1"),
        packet(4, BEGIN),
        packet(4, b""),
    ],
)
def test_what_differs_begins_another_run(make: Make, other: bytes) -> None:
    runs = make().runs
    for before in ([packet(2, BEGIN), packet(3, INSIDE)], [packet(3, BEGIN)]):
        assert [len(run.payloads) for run in runs([*before, packet(4, INSIDE)], H264)[0]] == [len(before) + 1]
        assert [len(run.payloads) for run in runs([*before, other], H264)[0]] == [len(before), 1]
        marked = [*before[:-1], packet(3, before[-1][12:], kind=224)]
        assert [run.marker for run in runs([*marked, packet(4, INSIDE)], H264)[0]] == [True, False]


@each
@pytest.mark.parametrize("codec", [H264, H265])
@given(packets=st.lists(PACKETS, max_size=12))
def test_runs_are_the_packets(make: Make, codec: str, packets: list[bytes]) -> None:
    expected, flaws = [], 0
    for data in packets:
        try:
            expected.append(rtp.parse(data))
        except rtp.RtpError:
            flaws += 1
    runs, malformed = make().runs(packets, codec)
    assert ([one for run in runs for one in run.packets()], malformed) == (expected, flaws)
    assert (runs, malformed) == reference(packets, codec)


@each
@pytest.mark.parametrize("codec", [H264, H265])
@given(frames=st.lists(st.tuples(st.sampled_from([2, 2, 2, 3]), PACKETS), max_size=8), cut=st.integers(0, 60))
def test_what_is_read_is_what_is_cut_and_taken_apart(
    make: Make, codec: str, frames: list[tuple[int, bytes]], cut: int
) -> None:
    data = b"xx" + b"".join(b"$" + bytes((on,)) + len(part).to_bytes(2, "big") + part for on, part in frames)
    data = data[: max(len(data) - cut, 2)]
    batch, end, wanted = make().reader(2, codec)(data, 2)
    found = wire.cut(data, 2)
    assert (end, wanted) == found[1:]
    assert batch.others == [frame for frame in found[0] if frame[0] != 2]
    assert (batch.runs, batch.malformed) == reference([part for on, part in found[0] if on == 2], codec)


@each
@given(data=st.lists(st.sampled_from([b"$", b"\0", b"\1", b"\3", b"R", b"\r\n", b"abc"]), max_size=40).map(b"".join))
def test_frames_are_those_of_the_reference(make: Make, data: bytes) -> None:
    for start in range(len(data) + 1):
        assert make().cut(data, start) == wire.cut(data, start)


@each
@given(cuts=st.lists(st.integers(1, 60), max_size=30))
def test_a_stream_that_comes_in_any_pieces_is_the_same(make: Make, cuts: list[int]) -> None:
    """A frame, sound in the middle of it, an answer of the camera, a frame of two slices."""
    packets = [
        packet(65_534, BEGIN + bytes(40)),
        packet(65_535, INSIDE + bytes(40)),
        packet(0, b"\x7c\x41d", kind=224),
        packet(1, b"\x41\xe0", timestamp=9),
        packet(2, b"\x41\x60", kind=224, timestamp=9),
    ]
    frames = [b"$\0" + len(data).to_bytes(2, "big") + data for data in packets]
    frames.insert(2, b"$\2\0\5sound")
    frames.insert(4, b"RTSP/1.0 200 OK\r\nCSeq: 2\r\n\r\n")
    data, position = b"".join(frames), 0
    splitter = wire.Splitter(make().cut)
    splitter.read = make().reader(0, H264)
    items: list[wire.Item] = []
    for size in [*cuts, len(data)]:
        items += splitter.feed(data[position : position + size])
        position += size
    batches = [item for item in items if isinstance(item, wire.Batch)]
    assert [one for batch in batches for run in batch.runs for one in run.packets()] == [*map(rtp.parse, packets)]
    assert [other for batch in batches for other in batch.others] == [(2, b"sound")]
    assert [item.start for item in items if isinstance(item, wire.Message)] == ["RTSP/1.0 200 OK"]
    if not cuts:
        assert [[len(run.payloads) for run in batch.runs] for batch in batches] == [[3], [1, 1]]


@pytest.mark.skipif(not built, reason="not built: hack/build-fanout.sh")
def test_the_extension_is_used_unless_it_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert choose_apart().cut is not wire.cut
    monkeypatch.setenv(VARIABLE, "python")
    assert choose_apart() == Apart()
