"""A camera's bytes taken apart: the extension gives what Python gives, whatever the bytes are."""

import importlib.util
from collections.abc import Callable
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import rtp
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


PACKETS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        packet,
        st.sampled_from([65_534, 65_535, 0, 1, 2, 3]),
        st.binary(max_size=20),
        kind=st.sampled_from([96, 96, 96, 224, 97]),
        first=st.sampled_from([0x80, 0x80, 0x80, 0x81, 0x90, 0xA0, 0xB3, 0x40]),
        timestamp=st.sampled_from([5, 5, 9]),
    ),
)


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
    packets = [packet(65_535, b"a"), packet(0, b"b"), packet(1, b"c"), packet(2, b"d", kind=224), b"?", packet(9, b"e")]
    runs, malformed = make().runs(packets)
    assert malformed == 1
    assert runs[0] == rtp.Run(rtp.RtpPacket(96, False, 65_535, 5, 7, b"a"), [b"b", b"c"])
    assert runs[1] == rtp.Run(rtp.RtpPacket(96, True, 2, 5, 7, b"d"), [])
    assert [run.first.payload for run in runs[2:]] == [b"e"]
    assert make().runs([]) == ([], 0)


@each
@given(packets=st.lists(PACKETS, max_size=12))
def test_runs_are_the_packets(make: Make, packets: list[bytes]) -> None:
    expected, flaws = [], 0
    for data in packets:
        try:
            expected.append(rtp.parse(data))
        except rtp.RtpError:
            flaws += 1
    runs, malformed = make().runs(packets)
    assert ([one for run in runs for one in run.packets()], malformed) == (expected, flaws)


@each
@given(data=st.lists(st.sampled_from([b"$", b"\0", b"\1", b"\3", b"R", b"\r\n", b"abc"]), max_size=40).map(b"".join))
def test_frames_are_those_of_the_reference(make: Make, data: bytes) -> None:
    for start in range(len(data) + 1):
        assert make().cut(data, start) == wire.cut(data, start)


@pytest.mark.skipif(not built, reason="not built: hack/build-fanout.sh")
def test_the_extension_is_used_unless_it_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert choose_apart().cut is not wire.cut
    monkeypatch.setenv(VARIABLE, "python")
    assert choose_apart() == Apart()
