"""DTLS-SRTP (RFC 5764) over an endpoint: aiortc's transport, and the keys that it agreed on.

aiortc does the handshake, its retransmissions and close_notify; the fan-out encrypts the media itself, so it is given
the keys of our direction. We answer `setup:passive` where the peer allows it, because the DTLS server chooses the SRTP
profile and Chromium as a server chooses the slow one. The private names used are held by a contract test, and aiortc
is pinned.

RTP and RTCP have separate indices, so aiortc's context may encrypt RTCP while the fan-out encrypts RTP under the same
master key; no RTP ever goes through aiortc's.
"""

import asyncio
from typing import Any, cast

import pylibsrtp
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
)
from OpenSSL import SSL

from sightline_agent.transport.endpoint import Endpoint
from sightline_agent.transport.fanout import SendKeys

PROFILES = [SRTP_AEAD_AES_128_GCM, SRTP_AES128_CM_SHA1_80, SRTP_AEAD_AES_256_GCM]
"""The first that the peer has too is taken: the fastest, then what everybody has."""
_EXPORT_LABEL = b"EXTRACTOR-dtls_srtp"


class DtlsError(Exception):
    """The handshake failed."""


def new_certificate() -> RTCCertificate:
    """A self-signed certificate; peers know it by the fingerprint in the answer. One per process is enough."""
    return RTCCertificate.generateCertificate()


def fingerprint_of(certificate: RTCCertificate) -> str:
    """SHA-256 as SDP writes it."""
    return next(f.value for f in certificate.getFingerprints() if f.algorithm == "sha-256")


class _KeyedTransport(RTCDtlsTransport):
    """Keeps the keys of our direction when aiortc derives them."""

    send_keys: SendKeys | None = None

    def _setup_srtp(self) -> None:
        super()._setup_srtp()
        connection = cast("SSL.Connection", self._ssl)
        name = connection.get_selected_srtp_profile()
        profile = next((p for p in self._srtp_profiles if p.openssl_profile == name), None)
        if profile is None:
            return
        material = connection.export_keying_material(_EXPORT_LABEL, 2 * (profile.key_length + profile.salt_length))
        both = profile.get_key_and_salt(material, 1 if self._role == "server" else 0)
        self.send_keys = SendKeys(name.decode(), both[: profile.key_length], both[profile.key_length :])


class DtlsSession:
    """One peer's DTLS association."""

    def __init__(self, endpoint: Endpoint, certificate: RTCCertificate, *, passive: bool) -> None:
        # The endpoint has the three names that aiortc uses of an RTCIceTransport.
        self._transport = _KeyedTransport(cast("Any", endpoint), [certificate])
        self._transport._srtp_profiles = PROFILES
        self._transport._set_role("server" if passive else "client")

    async def handshake(self, fingerprints: list[tuple[str, str]]) -> SendKeys:
        """Agree on keys with a peer whose certificate has one of these fingerprints (algorithm, value)."""
        remote = RTCDtlsParameters([RTCDtlsFingerprint(algorithm, value) for algorithm, value in fingerprints])
        try:
            await self._transport.start(remote)
        except (ConnectionError, SSL.Error) as error:
            raise DtlsError("the DTLS handshake broke") from error
        keys = self._transport.send_keys
        if self._transport.state != "connected" or keys is None:
            raise DtlsError("the DTLS handshake failed: no common profile, or not the certificate of the offer")
        return keys

    def decrypt_rtcp(self, data: bytes) -> bytes | None:
        """A peer's SRTCP packet in clear; None when it is not authentic."""
        session = self._transport._rx_srtp
        if session is None:
            return None
        try:
            return session.unprotect_rtcp(data)
        except (pylibsrtp.Error, ValueError):
            return None

    async def send_rtcp(self, data: bytes) -> None:
        """Encrypt and send; nothing when the association is over."""
        if self._transport.state == "connected":
            try:
                await self._transport._send_rtp(data)
            except ConnectionError:
                return

    async def closed(self) -> None:
        """Wait until the peer says goodbye (close_notify) or the endpoint is closed."""
        task = self._transport._task
        if task is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        """Say goodbye; idempotent."""
        task = self._transport._task
        await self._transport.stop()
        if task is not None:
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()
