"""STUN binding requests as ICE uses them (RFC 8489, RFC 8445 section 7.3): parse, verify, answer.

Pure functions over untrusted bytes; the only error is StunError. An ICE-lite agent needs little more of STUN: it sends
no connectivity checks, and a request only to ask whether a peer is at the address that it wants to be reached at.
Attributes behind MESSAGE-INTEGRITY are not authenticated and therefore not read, FINGERPRINT excepted.
"""

import hmac
import os
import zlib
from dataclasses import dataclass
from ipaddress import ip_address
from struct import Struct

from sightline_agent.transport.fanout import Address

MAGIC = 0x2112A442
HEADER_BYTES = 20
MAX_REQUEST_BYTES = 1024
"""Browsers send some 120 bytes; a longer one is not worth a hash."""

BINDING_REQUEST = 0x0001
_BINDING_INDICATION = 0x0011
BINDING_RESPONSE = 0x0101
_BINDING_ERROR = 0x0111
ROLE_CONFLICT = 487

_USERNAME = 0x0006
_MESSAGE_INTEGRITY = 0x0008
_ERROR_CODE = 0x0009
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_ICE_CONTROLLED = 0x8029
_INTEGRITY_BYTES = 20
_FINGERPRINT_XOR = 0x5354554E
_PROBE_PRIORITY = (110 << 24 | 0xFFFFFF).to_bytes(4, "big")
"""As of a peer-reflexive candidate (RFC 8445 section 7.1.1); it orders nothing here."""

_HEADER = Struct("!HHI12s")
_ATTRIBUTE = Struct("!HH")


class StunError(Exception):
    """Bytes that are neither a binding request worth an answer nor a signed response."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A well-formed message; not believed before `verify`."""

    transaction: bytes
    covered: bytes
    """What MESSAGE-INTEGRITY covers, its length field already adjusted."""
    integrity: bytes

    def verify(self, password: bytes) -> bool:
        """True if the sender knows the password."""
        return hmac.compare_digest(self.integrity, _hmac(password, self.covered))


@dataclass(frozen=True, slots=True)
class BindingRequest(Signed):
    """A connectivity check, signed with the password of `local_ufrag`."""

    local_ufrag: str
    """The first half of USERNAME: who is meant."""
    nominate: bool
    """USE-CANDIDATE: the controlling peer chose this pair."""
    controlled: bool
    """The peer believes that it is the controlled side, as we always are."""
    size: int
    """Bytes of the whole message: nothing that is sent because of it may be longer."""


def parse_request(data: bytes) -> BindingRequest:
    """Read a binding request with USERNAME and MESSAGE-INTEGRITY; StunError for all else."""
    signed, attributes = _parse(data, BINDING_REQUEST)
    username = attributes.get(_USERNAME)
    if username is None:
        raise StunError("no credentials")
    return BindingRequest(
        transaction=signed.transaction,
        covered=signed.covered,
        integrity=signed.integrity,
        local_ufrag=username.partition(b":")[0].decode("latin-1"),
        nominate=_USE_CANDIDATE in attributes,
        controlled=_ICE_CONTROLLED in attributes,
        size=len(data),
    )


@dataclass(frozen=True, slots=True)
class Ping:
    """A binding request without credentials: somebody asks whether this address leads here."""

    transaction: bytes
    size: int


def parse_ping(data: bytes) -> Ping:
    """Read a binding request that has a FINGERPRINT and no credentials; StunError for all else."""
    transaction = _header(data, BINDING_REQUEST)
    attributes, _ = _attributes(data)
    if not {_USERNAME, _MESSAGE_INTEGRITY}.isdisjoint(attributes) or _FINGERPRINT not in attributes:
        raise StunError("no ping")
    return Ping(transaction, len(data))


def build_pong(ping: Ping, address: Address) -> bytes:
    """The answer to a ping: the address that it came from."""
    head = _HEADER.pack(BINDING_RESPONSE, 0, MAGIC, ping.transaction)
    head += _attribute(_XOR_MAPPED_ADDRESS, _xored(address, ping.transaction))
    head = _with_length(head, len(head) - HEADER_BYTES + 8)
    return head + _attribute(_FINGERPRINT, _crc(head))


def is_indication(data: bytes) -> bool:
    """A peer keeps the way through its NAT open (RFC 8445 section 11); nothing is to be done."""
    return data[:2] == _BINDING_INDICATION.to_bytes(2, "big")


def is_response(data: bytes) -> bool:
    """Bytes that say of themselves that they answer a request of ours."""
    return data[:2] == BINDING_RESPONSE.to_bytes(2, "big")


def parse_response(data: bytes) -> Signed:
    """Read a success response with MESSAGE-INTEGRITY; StunError for all else."""
    return _parse(data, BINDING_RESPONSE)[0]


def _parse(data: bytes, wanted: int) -> tuple[Signed, dict[int, bytes]]:
    transaction = _header(data, wanted)
    attributes, covered = _attributes(data)
    integrity = attributes.get(_MESSAGE_INTEGRITY, b"")
    if len(integrity) != _INTEGRITY_BYTES:
        raise StunError("no credentials")
    return Signed(transaction, covered, integrity), attributes


def _header(data: bytes, wanted: int) -> bytes:
    """The transaction of a message whose header is sound."""
    if not HEADER_BYTES <= len(data) <= MAX_REQUEST_BYTES:
        raise StunError("length")
    kind, length, magic, transaction = _HEADER.unpack_from(data)
    if magic != MAGIC or length % 4 or length + HEADER_BYTES != len(data):
        raise StunError("header")
    if kind != wanted:
        raise StunError("another kind of message")
    return bytes(transaction)


def _attributes(data: bytes) -> tuple[dict[int, bytes], bytes]:
    """The attributes that count (the first of each type), and the bytes that MESSAGE-INTEGRITY covers."""
    found: dict[int, bytes] = {}
    covered = b""
    position = HEADER_BYTES
    while position < len(data):
        if position + 4 > len(data):
            raise StunError("attribute header")
        kind, length = _ATTRIBUTE.unpack_from(data, position)
        end = position + 4 + length
        if end > len(data):
            raise StunError("attribute length")
        value = data[position + 4 : end]
        if kind == _FINGERPRINT:
            if value != _fingerprint(data[:position]):
                raise StunError("fingerprint")
            found.setdefault(kind, value)
        elif not covered:
            found.setdefault(kind, value)
            if kind == _MESSAGE_INTEGRITY:
                covered = _with_length(data[:position], position - HEADER_BYTES + 4 + _INTEGRITY_BYTES)
        position = end + -length % 4
    return found, covered


def build_response(request: BindingRequest, password: bytes, address: Address) -> bytes:
    """Success: tells the peer its address as we see it. No longer than what a check must hold (RFC 8445 7.1)."""
    value = _xored(address, request.transaction)
    return _message(BINDING_RESPONSE, request.transaction, _XOR_MAPPED_ADDRESS, value, password)


def _xored(address: Address, transaction: bytes) -> bytes:
    ip = ip_address(address[0])
    key = MAGIC.to_bytes(4, "big") + transaction
    port = address[1] ^ (MAGIC >> 16)
    packed = bytes(a ^ b for a, b in zip(ip.packed, key, strict=False))
    return bytes((0, 1 if ip.version == 4 else 2)) + port.to_bytes(2, "big") + packed


def build_role_conflict(request: BindingRequest, password: bytes) -> bytes:
    """487: the peer must become the controlling side (RFC 8445 section 7.3.1.1; a lite agent never does)."""
    value = bytes((0, 0, ROLE_CONFLICT // 100, ROLE_CONFLICT % 100)) + b"Role Conflict"
    return _message(_BINDING_ERROR, request.transaction, _ERROR_CODE, value, password)


def build_request(transaction: bytes, attributes: list[tuple[int, bytes]], password: bytes) -> bytes:
    """A signed binding request."""
    body = b"".join(_attribute(kind, value) for kind, value in attributes)
    return _sign(BINDING_REQUEST, transaction, body, password)


def build_probe(transaction: bytes, username: str, password: bytes) -> bytes:
    """Ask a peer whether it is where it says. It holds what a check must hold, so that every peer answers it."""
    attributes = [(_USERNAME, username.encode()), (_PRIORITY, _PROBE_PRIORITY), (_ICE_CONTROLLED, os.urandom(8))]
    return build_request(transaction, attributes, password)


def _message(kind: int, transaction: bytes, attribute: int, value: bytes, password: bytes) -> bytes:
    return _sign(kind, transaction, _attribute(attribute, value), password)


def _sign(kind: int, transaction: bytes, body: bytes, password: bytes) -> bytes:
    """Header and body with MESSAGE-INTEGRITY and FINGERPRINT behind them; each counts itself in the length field."""
    head = _HEADER.pack(kind, len(body) + 24, MAGIC, transaction) + body
    head += _attribute(_MESSAGE_INTEGRITY, _hmac(password, head))
    head = _with_length(head, len(head) - HEADER_BYTES + 8)
    return head + _attribute(_FINGERPRINT, _crc(head))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _with_length(data: bytes, length: int) -> bytes:
    return data[:2] + length.to_bytes(2, "big") + data[4:]


def _fingerprint(before: bytes) -> bytes:
    return _crc(_with_length(before, len(before) - HEADER_BYTES + 8))


def _crc(data: bytes) -> bytes:
    return (zlib.crc32(data) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _hmac(password: bytes, data: bytes) -> bytes:
    return hmac.digest(password, data, "sha1")
