"""DTLS-SRTP (RFC 5764) over an endpoint: OpenSSL's handshake, and the keys that it agrees on.

OpenSSL gets datagrams and gives datagrams; here is what lies between it and the endpoint: retransmission timers, the
check of the peer's fingerprint, the goodbye. The fan-out encrypts the media, so it is given the keys of our direction.
We answer `setup:passive` where the peer allows it, because the DTLS server chooses the SRTP profile and Chromium as a
server chooses the slow one.

One context serves all sessions of a certificate; it keeps no sessions to resume.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL, crypto

from sightline_agent.transport import srtp
from sightline_agent.transport.endpoint import Endpoint
from sightline_agent.transport.fanout import SendKeys

MTU = 1200
"""Of our handshake datagrams; as for media, it fits every path."""
_EXPORT_LABEL = b"EXTRACTOR-dtls_srtp"
_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256",
    b"ECDHE-ECDSA-AES256-GCM-SHA384",
    b"ECDHE-ECDSA-CHACHA20-POLY1305",
    b"ECDHE-ECDSA-AES128-SHA",
    b"ECDHE-ECDSA-AES256-SHA",
)
_HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
_READ_BYTES = 16 * 1024
_VALID = timedelta(days=365)
"""Nobody looks at it; a process that runs longer should not depend on that."""


class DtlsError(Exception):
    """The handshake failed."""


@dataclass(frozen=True, slots=True)
class Profile:
    """An SRTP protection profile, with the lengths that RFC 5764 and RFC 7714 give it."""

    name: str
    key_bytes: int
    salt_bytes: int

    def split(self, material: bytes, index: int) -> tuple[bytes, bytes]:
        """Key and salt of the client (0) or the server (1) (RFC 5764 section 4.2)."""
        key, salt = index * self.key_bytes, 2 * self.key_bytes + index * self.salt_bytes
        return material[key : key + self.key_bytes], material[salt : salt + self.salt_bytes]


PROFILES = (
    Profile("SRTP_AEAD_AES_128_GCM", 16, 12),
    Profile("SRTP_AES128_CM_SHA1_80", 16, 14),
    Profile("SRTP_AEAD_AES_256_GCM", 32, 12),
)
"""The first that the peer has too is taken: the fastest, then what everybody has."""


class Certificate:
    """A self-signed certificate, and the context of all sessions that use it. One per process is enough."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sightline")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + _VALID)
            .sign(key, SHA256())
        )
        self.fingerprint = _colons(certificate.fingerprint(SHA256()))
        """SHA-256 as SDP writes it."""
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Any certificate will do here: the fingerprint in the offer tells whether it is the right one.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_cipher_list(b":".join(_CIPHERS))
        context.set_tlsext_use_srtp(b":".join(profile.name.encode() for profile in PROFILES))
        self.context = context


def new_certificate() -> Certificate:
    """Peers know it by the fingerprint in the answer."""
    return Certificate()


def fingerprint_of(certificate: Certificate) -> str:
    """SHA-256 as SDP writes it."""
    return certificate.fingerprint


class DtlsSession:
    """One peer's DTLS association."""

    def __init__(self, endpoint: Endpoint, certificate: Certificate, *, passive: bool) -> None:
        self._endpoint = endpoint
        self._passive = passive
        self._ssl = SSL.Connection(certificate.context)
        self._ssl.set_ciphertext_mtu(MTU)
        self._inbound: pylibsrtp.Session | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """From the end of the handshake to the goodbye of either side."""
        return self._pump is not None and not self._pump.done()

    async def handshake(self, fingerprints: Sequence[tuple[str, str]]) -> SendKeys:
        """Agree on keys with a peer whose certificate has these fingerprints (algorithm, value)."""
        if self._passive:
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()
        try:
            await self._shake_hands()
        except (ConnectionError, SSL.Error) as error:
            raise DtlsError("the DTLS handshake broke") from error
        if not self._is(fingerprints):
            raise DtlsError("the peer's certificate is not that of the offer")
        keys = self._derive()
        self._pump = asyncio.create_task(self._listen(), name="dtls")
        return keys

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except SSL.WantReadError:
                self._flush()
                await self._receive()
            except SSL.Error:
                self._flush()  # the alert
                raise
            else:
                self._flush()
                return

    def _is(self, fingerprints: Sequence[tuple[str, str]]) -> bool:
        """For each hash function that the peer named, one value must be right (RFC 8122 section 5)."""
        certificate = self._ssl.get_peer_certificate()
        if certificate is None:
            return False
        encoded = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        named: dict[str, set[str]] = {}
        for algorithm, value in fingerprints:
            named.setdefault(algorithm.lower(), set()).add(value.upper())
        known = {algorithm: values for algorithm, values in named.items() if algorithm in _HASHES}
        right = (_colons(_HASHES[name](encoded).digest()) in values for name, values in known.items())
        return bool(known) and all(right)

    def _derive(self) -> SendKeys:
        name = self._ssl.get_selected_srtp_profile().decode()
        profile = next((p for p in PROFILES if p.name == name), None)
        if profile is None:
            raise DtlsError("the peer has no SRTP profile in common with us")
        material = self._ssl.export_keying_material(_EXPORT_LABEL, 2 * (profile.key_bytes + profile.salt_bytes))
        ours = profile.split(material, 1 if self._passive else 0)
        theirs = profile.split(material, 0 if self._passive else 1)
        association = self._endpoint.association
        try:
            if association is not None:
                association.unlock(SendKeys(profile.name, *theirs))
            else:
                self._inbound = _inbound(profile, theirs)
        except (pylibsrtp.Error, ValueError) as error:
            raise DtlsError(f"no SRTP context for {name}") from error
        return SendKeys(profile.name, *ours)

    async def _receive(self) -> None:
        """A datagram for OpenSSL, or its timer."""
        delay = self._ssl.DTLSv1_get_timeout()
        try:
            async with asyncio.timeout(delay):
                data = await self._endpoint.receive()
        except TimeoutError:
            self._ssl.DTLSv1_handle_timeout()
            self._flush()
        else:
            self._ssl.bio_write(data)

    def _flush(self) -> None:
        """Send what OpenSSL wrote, in as few datagrams as whole records fit in."""
        data = b""
        with contextlib.suppress(SSL.WantReadError):
            while True:
                data += self._ssl.bio_read(_READ_BYTES)
        for datagram in datagrams(data):
            self._endpoint.send(datagram)

    async def _listen(self) -> None:
        """Answer repeated flights and wait for the goodbye."""
        try:
            while not self._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
                await self._receive()
                self._discard()
                self._flush()
        except (ConnectionError, SSL.Error):
            return  # the endpoint is closed, or OpenSSL gave up repeating itself

    def _discard(self) -> None:
        """Nobody wants application data, but it must not pile up: a datagram may hold many records."""
        try:
            while self._ssl.recv(_READ_BYTES):
                continue
        except SSL.Error:
            return  # all read, or a goodbye

    def decrypt_rtcp(self, data: bytes) -> bytes | None:
        """A peer's SRTCP packet in clear; None when it is not authentic."""
        if self._endpoint.association is not None:  # the replay window is there
            return self._endpoint.association.unprotect(data)
        if self._inbound is None:
            return None
        try:
            return self._inbound.unprotect_rtcp(data)
        except (pylibsrtp.Error, ValueError):
            return None

    async def closed(self) -> None:
        """Wait until the peer says goodbye (close_notify) or the endpoint is closed."""
        if self._pump is not None:
            await asyncio.wait({self._pump})

    async def close(self) -> None:
        """Say goodbye; idempotent."""
        if self._pump is None:
            return
        if not self._pump.done():
            self._pump.cancel()
            with contextlib.suppress(ConnectionError, SSL.Error):
                self._ssl.shutdown()
                self._flush()
        await asyncio.wait({self._pump})


def datagrams(data: bytes) -> list[bytes]:
    """Records packed into datagrams of at most MTU bytes; a record is never cut."""
    found: list[bytes] = []
    begin = position = 0
    while position < len(data):
        end = position + _record_bytes(data, position)
        if end - begin > MTU and position > begin:
            found.append(data[begin:position])
            begin = position
        position = end
    if begin < len(data):
        found.append(data[begin:])
    return found


def _record_bytes(data: bytes, position: int) -> int:
    """Of the record that begins here: RFC 6347 section 4.1, or RFC 9147 section 4 with its short headers."""
    first = data[position]
    if first & 0xE0 != 0x20:
        return 13 + int.from_bytes(data[position + 11 : position + 13], "big")
    header = 3 if first & 0x08 else 2
    if not first & 0x04:
        return len(data) - position
    return header + 2 + int.from_bytes(data[position + header : position + header + 2], "big")


def _inbound(profile: Profile, keys: tuple[bytes, bytes]) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=b"".join(keys),
        ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
        srtp_profile=srtp.PROFILES[profile.name],
    )
    policy.window_size = srtp.WINDOW
    return pylibsrtp.Session(policy)


def _colons(digest: bytes) -> str:
    return digest.hex(":").upper()
