"""STUN against RFC 5769's vectors, against aioice, and against arbitrary bytes."""

import pytest
from aioice import stun as aioice_stun
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.transport.stun import (
    ROLE_CONFLICT,
    StunError,
    build_pong,
    build_request,
    build_response,
    build_role_conflict,
    parse_ping,
    parse_request,
)

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
# RFC 5769 section 2.1.
SAMPLE = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
# USERNAME, PRIORITY.
ATTRIBUTES = [(0x0006, b"local:remote"), (0x0024, bytes(4))]
TRANSACTION = bytes(range(12))


def test_the_sample_of_the_rfc_is_verified() -> None:
    request = parse_request(SAMPLE)
    assert request.local_ufrag == "evtj"
    assert request.verify(PASSWORD)
    assert not request.verify(b"another")
    # The sample is sent by the controlled side, with padding that is not zero.
    assert request.controlled
    assert not request.nominate


def test_a_changed_sample_is_not() -> None:
    for at in range(len(SAMPLE)):
        changed = bytearray(SAMPLE)
        changed[at] ^= 1
        try:
            request = parse_request(bytes(changed))
        except StunError:
            continue
        # Only the attribute type of FINGERPRINT itself is protected by nothing: it may be left out.
        assert not request.verify(PASSWORD) or len(SAMPLE) - 8 <= at < len(SAMPLE) - 6


@pytest.mark.parametrize("nominate", [True, False])
@pytest.mark.parametrize("role", ["ICE-CONTROLLING", "ICE-CONTROLLED"])
def test_requests_of_aioice_are_read(role: str, nominate: bool) -> None:
    message = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
    message.attributes["USERNAME"] = "abcd:efgh"
    message.attributes["PRIORITY"] = 17
    message.attributes[role] = 99
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(PASSWORD)
    request = parse_request(bytes(message))
    assert request.verify(PASSWORD)
    assert (request.local_ufrag, request.nominate) == ("abcd", nominate)
    assert request.controlled is (role == "ICE-CONTROLLED")


@pytest.mark.parametrize("address", [("192.0.2.1", 32853), ("2001:db8:1234:5678:11:2233:4455:6677", 32853)])
def test_aioice_understands_responses(address: tuple[str, int]) -> None:
    request = parse_request(build_request(TRANSACTION, ATTRIBUTES, PASSWORD))
    message = aioice_stun.parse_message(build_response(request, PASSWORD, address))
    assert message.message_class is aioice_stun.Class.RESPONSE
    assert message.transaction_id == TRANSACTION
    assert message.attributes["XOR-MAPPED-ADDRESS"] == address
    assert "FINGERPRINT" in message.attributes
    assert message.check_message_integrity(PASSWORD)


def test_aioice_understands_a_role_conflict() -> None:
    request = parse_request(build_request(TRANSACTION, ATTRIBUTES, PASSWORD))
    message = aioice_stun.parse_message(build_role_conflict(request, PASSWORD))
    assert message.message_class is aioice_stun.Class.ERROR
    assert message.error_code == ROLE_CONFLICT
    assert message.check_message_integrity(PASSWORD)


def test_answers_are_shorter_than_real_requests() -> None:
    # What a browser sends at least: USERNAME, PRIORITY, ICE-CONTROLLING, with credentials as short as RFC 8839 allows.
    real = [(0x0006, b"12345678:abcd"), (0x0024, bytes(4)), (0x802A, bytes(8))]
    wire = build_request(TRANSACTION, real, PASSWORD)
    request = parse_request(wire)
    assert len(build_response(request, PASSWORD, ("::1", 1))) <= len(wire)
    assert len(build_response(request, PASSWORD, ("10.0.0.1", 1))) < len(wire)
    assert len(build_role_conflict(request, PASSWORD)) < len(wire)


def test_attributes_behind_the_integrity_do_not_count() -> None:
    wire = bytearray(build_request(TRANSACTION, ATTRIBUTES, PASSWORD)[:-8])
    wire += bytes.fromhex("00250000")
    wire[2:4] = (len(wire) - 20).to_bytes(2, "big")
    request = parse_request(bytes(wire))
    assert request.verify(PASSWORD)
    assert not request.nominate


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SAMPLE[:19],
        SAMPLE[:-1],
        SAMPLE + b"\0\0\0\0",
        b"\0\2" + SAMPLE[2:],
        b"\1\1" + SAMPLE[2:],
        SAMPLE[:4] + bytes(4) + SAMPLE[8:],
        bytes.fromhex("000100002112a442") + bytes(12),
        bytes.fromhex("000100042112a442") + bytes(12) + bytes.fromhex("0006ffff"),
        bytes(1028),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(StunError):
        parse_request(data)


@given(st.binary(max_size=1100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        parse_request(data)
    except StunError:
        return


@given(st.binary(max_size=200), st.binary(min_size=12, max_size=12))
def test_any_attributes_are_read_or_refused(body: bytes, transaction: bytes) -> None:
    body += bytes(-len(body) % 4)
    header = bytes.fromhex("0001") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442") + transaction
    try:
        request = parse_request(header + body)
    except StunError:
        return
    assert not request.verify(PASSWORD)


def ping(software: str = "x" * 32) -> bytes:
    message = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
    message.attributes["SOFTWARE"] = software
    message.add_fingerprint()
    return bytes(message)


@pytest.mark.parametrize("address", [("192.0.2.1", 32853), ("2001:db8:1234:5678:11:2233:4455:6677", 32853)])
def test_a_ping_is_answered_so_that_aioice_understands(address: tuple[str, int]) -> None:
    read = parse_ping(ping())
    pong = build_pong(read, address)
    assert len(pong) <= read.size
    message = aioice_stun.parse_message(pong)
    assert message.message_class is aioice_stun.Class.RESPONSE
    assert (message.transaction_id, message.attributes["XOR-MAPPED-ADDRESS"]) == (read.transaction, address)


def test_what_has_credentials_or_no_fingerprint_is_no_ping() -> None:
    plain = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST)
    for data in (SAMPLE, build_request(TRANSACTION, ATTRIBUTES, PASSWORD), bytes(plain), ping()[:-1], b""):
        with pytest.raises(StunError):
            parse_ping(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_ping_or_a_stun_error(data: bytes) -> None:
    try:
        parse_ping(data)
    except StunError:
        return
    assert len(data) >= 28
