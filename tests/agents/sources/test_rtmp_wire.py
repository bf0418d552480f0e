"""RTMP's values, chunks and video messages: nothing that arrives may do more than fail."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.rtmp import amf, chunks, video
from sightline_agent.sources.rtmp.chunks import ChunkError, ChunkReader, Message
from sightline_model.reasons import SourceReason

values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4),
    max_leaves=8,
)
messages = st.builds(
    Message,
    type=st.sampled_from([chunks.AUDIO, chunks.VIDEO, chunks.DATA, chunks.COMMAND]),
    timestamp=st.integers(0, (1 << 32) - 1),
    stream=st.integers(0, 1000),
    data=st.binary(max_size=700),
)


@given(st.lists(values, max_size=5))
def test_values_survive_the_wire(given_: list[amf.Value]) -> None:
    assert amf.decode(amf.encode(*given_)) == given_


def test_values_that_are_only_read() -> None:
    assert amf.decode(bytes.fromhex("0a00000002 06 0500")[:7]) == [[None, None]]
    assert amf.decode(bytes.fromhex("08 00000001 000161 0101 000009")) == [{"a": True}]
    assert amf.decode(b"\x0c\0\0\0\3abc") == ["abc"]
    assert amf.decode(amf.encode("x" * 70_000)) == ["x" * 70_000]


@pytest.mark.parametrize("data", [b"\0", b"\2\0\5abc", b"\x11", b"\x0a\xff\xff\xff\xff", b"\3\0\1a" * 20])
def test_what_is_no_value(data: bytes) -> None:
    with pytest.raises(amf.AmfError):
        amf.decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_values_or_none(data: bytes) -> None:
    with contextlib.suppress(amf.AmfError):
        amf.decode(data)


@given(st.lists(messages, max_size=5), st.integers(1, 300), st.integers(1, 400))
def test_messages_survive_the_wire(sent: list[Message], chunk: int, piece: int) -> None:
    size = Message(chunks.SET_CHUNK_SIZE, 0, 0, chunk.to_bytes(4, "big"))
    data = chunks.write(size, 2) + b"".join(
        chunks.write(message, 3 + index, chunk) for index, message in enumerate(sent)
    )
    reader = ChunkReader()
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    assert list(itertools.chain.from_iterable(map(reader.feed, pieces))) == [size, *sent]


@given(st.binary(max_size=600))
def test_any_bytes_are_chunks_or_none(data: bytes) -> None:
    with contextlib.suppress(ChunkError):
        ChunkReader().feed(data)


def test_headers_that_repeat_less_and_less() -> None:
    reader = ChunkReader()
    first = chunks.write(Message(chunks.VIDEO, 1000, 1, b"abc"), 4)
    second = bytes([0x44]) + (40).to_bytes(3, "big") + (2).to_bytes(3, "big") + bytes([chunks.AUDIO]) + b"de"
    third = bytes([0x84]) + (20).to_bytes(3, "big") + b"fg"
    fourth = bytes([0xC4]) + b"hi"
    assert reader.feed(first + second + third + fourth) == [
        Message(chunks.VIDEO, 1000, 1, b"abc"),
        Message(chunks.AUDIO, 1040, 1, b"de"),
        Message(chunks.AUDIO, 1060, 1, b"fg"),
        Message(chunks.AUDIO, 1080, 1, b"hi"),
    ]


def test_messages_on_two_chunk_streams_mix_and_wide_numbers_work() -> None:
    whole = Message(chunks.VIDEO, 5, 1, bytes(200))
    data = chunks.write(whole, 4)
    between = b"\0\6" + chunks.write(Message(chunks.AUDIO, 6, 1, b"x"), 5)[1:]
    wide = b"\1\6\1" + chunks.write(Message(chunks.AUDIO, 7, 1, b"y"), 5)[1:]
    found = ChunkReader().feed(data[:140] + between + wide + data[140:])
    assert found == [Message(chunks.AUDIO, 6, 1, b"x"), Message(chunks.AUDIO, 7, 1, b"y"), whole]


def test_an_aborted_message_is_forgotten() -> None:
    reader = ChunkReader()
    reader.feed(chunks.write(Message(chunks.VIDEO, 5, 1, bytes(200)), 4)[:140])
    reader.feed(chunks.write(Message(chunks.ABORT, 0, 0, (4).to_bytes(4, "big")), 2))
    assert reader.feed(chunks.write(Message(chunks.VIDEO, 6, 1, b"z"), 4)) == [Message(chunks.VIDEO, 6, 1, b"z")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xc4",  # nothing to repeat
        bytes([4]) + bytes(3) + b"\xff\xff\xff\x09" + bytes(4),  # 16 MB
        chunks.write(Message(chunks.VIDEO, 5, 1, bytes(200)), 4)[:140] + b"\x44" + bytes(7),
        b"".join(bytes([0, number]) + bytes(3) + b"\0\0\0\x09" + bytes(4) for number in range(70)),
    ],
)
def test_what_is_no_rtmp(data: bytes) -> None:
    with pytest.raises(ChunkError):
        ChunkReader().feed(data)


def tag(kind: int, time: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(3, "big") + time.to_bytes(4, "big")[1:] + bytes(4) + data + bytes(4)


def test_an_aggregate_is_taken_apart() -> None:
    whole = Message(chunks.AGGREGATE, 1000, 1, tag(9, 50, b"abc") + tag(8, 60, b"d") + b"cut")
    assert chunks.parts(whole) == [Message(9, 1000, 1, b"abc"), Message(8, 1010, 1, b"d")]
    assert chunks.parts(Message(9, 1, 1, b"")) == [Message(9, 1, 1, b"")]


SETS = b"\1\x42\0\x1e\xff\xe1\0\2\x67\x42\1\0\1\x68"


def test_video_messages_old_and_new() -> None:
    expected = video.Configuration((b"\x67\x42", b"\x68"), 4)
    assert video.parse(b"\x17\0\0\0\0" + SETS) == expected
    assert video.parse(b"\x90avc1" + SETS) == expected
    assert video.parse(b"\x27\1\0\0\x28data") == video.Coded(b"data", 40)
    assert video.parse(b"\x27\1\xff\xff\xd8data") == video.Coded(b"data", -40)
    assert video.parse(b"\x91avc1\0\0\x28data") == video.Coded(b"data", 40)
    assert video.parse(b"\x93avc1data") == video.Coded(b"data", 0)
    assert [video.parse(data) for data in (b"", b"\x57\0", b"\x17\2\0\0\0", b"\xd0avc1")] == [None] * 4
    assert video.nals(b"\0\0\0\1a\0\0\0\0\0\0\0\2bc", 4) == [b"a", b"bc"]


H265_SETS = b"\1" + bytes(20) + b"\3\2" + b"\xa0\0\1\0\2\x40\1" + b"\xa1\0\1\0\3\x42\1\1"


def test_h265_old_and_new() -> None:
    expected = video.Configuration((b"\x40\1", b"\x42\1\1"), 4, "H265")
    assert video.parse(b"\x1c\0\0\0\0" + H265_SETS) == expected
    assert video.parse(b"\x90hvc1" + H265_SETS) == expected
    assert video.parse(b"\x91hvc1\0\0\x28data") == video.Coded(b"data", 40)
    for cut in (H265_SETS[:20], H265_SETS[:-1]):
        with pytest.raises(video.VideoError):
            video.parse(b"\x90hvc1" + cut)


@pytest.mark.parametrize(("data", "name"), [(b"\x1d\0\0\0\0", "AV1"), (b"\x90vp09", "VP9"), (b"\x12", "H263")])
def test_other_codecs_are_named(data: bytes, name: str) -> None:
    with pytest.raises(SourceError, match=name) as caught:
        video.parse(data)
    assert caught.value.reason is SourceReason.CODEC_UNSUPPORTED


@given(st.binary(max_size=60), st.integers(1, 4))
def test_any_bytes_are_video_or_none(data: bytes, width: int) -> None:
    with contextlib.suppress(video.VideoError, SourceError):
        video.parse(data)
    with contextlib.suppress(video.VideoError):
        video.nals(data, width)
