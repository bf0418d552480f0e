"""What fuzzing and reading for it found, each as a test of its own."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from OpenSSL import SSL

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.hls import playlist
from sightline_agent.sources.rtsp import auth, messages, sdp, wire
from sightline_agent.sources.rtsp.client import Connection
from sightline_agent.sources.rtsp.inbox import Inbox
from sightline_agent.sources.rtsp.wire import MAX_HEAD, Item, Message, Packet, Splitter
from sightline_model.tokens import TokenError, TokenReason, verify
from tests.fuzz.transport import Association

CAMERA = "rtsp://192.0.2.1/cam"


@pytest.mark.parametrize("control", ["rtsp://[", "rtsp://[::", "rtsp://\N{ACCOUNT OF}/"])
def test_an_address_that_is_none_is_no_crash(control: str) -> None:
    """`urlsplit` raises for some texts; a camera's SDP and header fields may hold them."""
    assert messages.clean_url(messages.join(CAMERA, control)) != control


@pytest.mark.timeout(120)
def test_a_long_word_in_a_playlist_takes_no_time() -> None:
    """It took hours, in the event loop."""
    word = "A" * 1_000_000
    found = playlist.parse(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-SERVER-CONTROL:{word}\n", "http://h/")
    assert isinstance(found, playlist.Media)


@pytest.mark.parametrize(
    "address", ["rtsp://viewer@:554/cam", "rtsp://:554/cam", "rtsp://h:0/cam", "rtsp://h:99999/cam"]
)
def test_an_address_without_a_host_or_a_port_leads_nowhere(address: str) -> None:
    """There is something behind `//`, and still nobody to ask."""
    assert messages.clean_url(address) is None


def test_a_quote_in_an_address_does_not_leave_its_field() -> None:
    """The address stands between quotes in the answer to a Digest challenge."""
    assert messages.clean_url('rtsp://camera/x", response="y') is None
    assert messages.clean_url('rtsp://camera/x"y') is None


@pytest.mark.parametrize("noise", ["\n", "\0", "\x1b[2J", "\u2028"])
def test_a_session_id_is_one_printable_line(noise: str) -> None:
    """It is sent back in each request."""
    assert messages.session(f"1234{noise}X-Evil: 1;timeout=30").id == ""


def test_a_payload_type_of_thousands_of_digits() -> None:
    """`int` refuses more than 4300 digits."""
    assert sdp.parse("m=video 0 RTP/AVP 0000" + "9" * 5000).videos == ()
    assert sdp.parse("m=video 0 RTP/AVP 00009999 96").videos[0].payload_type == 96


def test_a_challenge_costs_time_in_proportion() -> None:
    """A word of 16,000 letters without a value took 3 s, for it was tried again from each letter; now 1 ms.

    So a hundred of them end within the patience that tests have, or not at all.
    """
    word = "a" * (MAX_HEAD - 100)
    for _ in range(100):
        challenge = auth.parse(f'Digest {word}, nonce="x"')
        assert challenge is not None
        assert challenge.nonce == "x"


def test_a_long_message_is_not_read_anew_with_each_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its head was parsed, and its body copied, once per read."""
    heads, parse = 0, wire._head

    def counted(data: bytes) -> tuple[str, tuple[tuple[str, str], ...]]:
        nonlocal heads
        heads += 1
        return parse(data)

    monkeypatch.setattr(wire, "_head", counted)
    splitter = Splitter()
    assert splitter.feed(b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * 1000 + b"Content-Length: 1000\r\n\r\n") == []
    found = [item for _ in range(1000) for item in splitter.feed(b"x")]
    assert len(found) == 1
    assert isinstance(found[0], Message)
    assert len(found[0].body) == 1000
    assert heads <= 2


def test_a_token_that_is_no_text() -> None:
    """A lone surrogate cannot be encoded."""
    with pytest.raises(TokenError) as caught:
        verify("\udc97.e30.e30", [], "a/b/c", datetime(2026, 5, 4, tzinfo=UTC))
    assert caught.value.reason is TokenReason.MALFORMED


def test_records_that_nobody_reads_do_not_pile_up() -> None:
    """One read takes one record; the others of a datagram stayed in OpenSSL, 1 KiB more with each datagram."""
    association = Association()
    try:
        records = b"".join(association.record(b"x") for _ in range(20))
        association.deliver(records)
        ssl: Any = association.session._ssl
        with pytest.raises(SSL.WantReadError):
            ssl.recv(1500)
        assert association.session.connected
    finally:
        association.close()


def test_a_goodbye_behind_other_records_is_heard() -> None:
    association = Association()
    try:
        association.deliver(association.record(b"x") + association.record(b"x") + association.goodbye())
        assert not association.session.connected
    finally:
        association.close()


class Deaf(asyncio.Transport):
    """A camera that reads nothing of what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)

    def get_write_buffer_size(self) -> int:
        return self.written

    def is_closing(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


def arrive(inbox: Inbox, data: bytes) -> None:
    """As the event loop reads it."""
    while data:
        room = inbox.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size], data = data[:size], data[size:]
        inbox.buffer_updated(size)


async def test_a_camera_that_asks_without_end_and_reads_nothing() -> None:
    """The answers to its requests were written to a buffer that nobody emptied."""
    transport, inbox = Deaf(), Inbox()
    inbox.connection_made(transport)
    connection = Connection(inbox, None)
    arrive(inbox, b"SET_PARAMETER x RTSP/1.0\r\nCSeq: 1\r\n\r\n" * 20_000)
    with pytest.raises(SourceError):
        await connection.call("OPTIONS", CAMERA)
    assert transport.written < 100_000


async def test_what_overtakes_an_answer_is_bounded_in_bytes() -> None:
    """4,096 packets of 64 KiB were 256 MiB."""
    inbox = Inbox()
    inbox.connection_made(Deaf())
    connection = Connection(inbox, None)
    for _ in range(400):
        arrive(inbox, b"$\0\xff\xff" + bytes(0xFFFF))
    arrive(inbox, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
    await connection.call("PLAY", CAMERA)
    early: list[Item] = []
    inbox.connection_lost(None)
    with pytest.raises(SourceError):
        await connection.follow(early.extend)
    assert 0 < sum(len(item.data) for item in early if isinstance(item, Packet)) <= 9 << 20
