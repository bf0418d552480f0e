"""The RTSP byte stream, whatever way it is cut and whatever is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources.rtsp import messages
from sightline_agent.sources.rtsp.messages import Transport
from sightline_agent.sources.rtsp.wire import MAX_HEAD, Item, Message, Packet, Splitter, WireError

ANSWER = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 5\r\nX-Two: a\r\nX-Two: b\r\n\r\nhello"
FRAME = b"$\x01\x00\x03abc"
REQUEST = b"GET_PARAMETER rtsp://camera/ RTSP/1.0\r\nCSeq: 7\r\n\r\n"


@given(st.lists(st.integers(1, 20), max_size=40))
def test_any_cut_gives_the_same(cuts: list[int]) -> None:
    stream = FRAME + ANSWER + FRAME + FRAME + REQUEST + b"\r\n" + FRAME
    splitter, found, position = Splitter(), list[Item](), 0
    for size in cuts:
        found += splitter.feed(stream[position : position + size])
        position += size
    found += splitter.feed(stream[position:])
    assert [type(item) for item in found] == [Packet, Message, Packet, Packet, Message, Packet]
    answer = found[1]
    assert isinstance(answer, Message)
    assert (answer.body, answer.header("cseq"), answer.all("x-two")) == (b"hello", "2", ["a", "b"])
    assert found[0] == Packet(1, b"abc")


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x01\x02",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail ready\r\n",
        b"RTSP/1.0 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD,
        b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_nonsense_is_refused(stream: bytes) -> None:
    with pytest.raises(WireError):
        Splitter().feed(stream)


@given(st.binary(max_size=300))
def test_noise_is_refused_or_waited_for(data: bytes) -> None:
    try:
        Splitter().feed(data)
    except WireError:
        return


def message(start: str) -> Message:
    return Message(start, (), b"")


def test_status_lines() -> None:
    assert messages.status(message("RTSP/1.0 200 OK")) == messages.Status(200, "OK")
    assert messages.status(message("RTSP/1.0 454 Session\x07 Not Found")) == messages.Status(454, "Session  Not Found")
    assert messages.status(message("RTSP/2.0 404")) == messages.Status(404, "")
    assert messages.status(message("OPTIONS * RTSP/1.0")) is None


def test_session_header() -> None:
    assert messages.session("123 ; timeout=30") == messages.SessionHeader("123", 30.0)
    assert messages.session("123") == messages.SessionHeader("123", 60.0)
    assert messages.session("123;timeout=0;x").timeout == 2.0
    assert messages.session("123;timeout=x").timeout == 60.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=4-5;ssrc=1", Transport(True, (4, 5))),
        ("RTP/AVP/TCP;unicast;interleaved=4", Transport(True, (4, 5))),
        ("RTP/AVP/TCP; unicast", Transport(True)),
        ("RTP/AVP;unicast;client_port=1-2", Transport(False)),
        ("RTP/AVP/UDP;unicast;client_port=1-2;server_port=6970-6971;ssrc=1", Transport(False, (6970, 6971))),
        ("rtp/avp;unicast;server_port=99999-3", Transport(False)),
        ("RTP/AVP/TCP;interleaved=999", None),
        ("RTP/AVP;multicast;destination=239.0.0.1;port=1-2", None),
        ("RTP/SAVP;unicast", None),
        ("", None),
    ],
)
def test_transport_header(value: str, expected: Transport | None) -> None:
    assert messages.transport(value) == expected


@pytest.mark.parametrize(
    ("base", "control", "expected"),
    [
        ("rtsp://c/cam/", "trackID=1", "rtsp://c/cam/trackID=1"),
        ("rtsp://c/cam", "trackID=1", "rtsp://c/cam/trackID=1"),
        ("rtsp://c/cam?channel=1", "trackID=1", "rtsp://c/cam?channel=1/trackID=1"),
        ("rtsp://c/cam/", "*", "rtsp://c/cam/"),
        ("rtsp://c/cam/", "", "rtsp://c/cam/"),
        ("rtsp://c/cam/", "rtsp://other/track", "rtsp://other/track"),
        ("rtsp://c/cam/", "/track", "rtsp://c/cam/track"),
    ],
)
def test_control_urls(base: str, control: str, expected: str) -> None:
    assert messages.join(base, control) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://user:secret@camera/x", "rtsp://camera/x"),
        ("rtsp://camera/x\r\nCSeq: 1", None),
        ("rtsp://camera/a b", None),
        ("http://camera/", None),
        ("/relative", None),
    ],
)
def test_urls_of_the_camera_are_cleaned(url: str, expected: str | None) -> None:
    assert messages.clean_url(url) == expected


@given(st.one_of(st.text(max_size=60), st.text("RTP/AVTC;=-,interleavdspo0159 ", max_size=60)))
def test_noise_is_a_transport_or_none(value: str) -> None:
    found = messages.transport(value)
    assert found is None or found.numbers is None or max(found.numbers) <= 0xFFFF
