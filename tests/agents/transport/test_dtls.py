"""DTLS-SRTP between our session and a plain aiortc transport, and the private names that we lean on."""

import asyncio
from collections.abc import AsyncIterator

import pylibsrtp
import pytest
from aiortc import RTCCertificate, rtcdtlstransport
from aiortc.rtcdtlstransport import RTCDtlsParameters, RTCDtlsTransport
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from pylibsrtp import _binding

from sightline_agent.transport.dtls import (
    MTU,
    PROFILES,
    DtlsError,
    DtlsSession,
    Profile,
    datagrams,
    fingerprint_of,
    new_certificate,
)
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.rtcp import SenderReport, build_sender_report
from sightline_agent.transport.srtp import PacketBuffer, SendContext, protect
from tests.helpers.dtls_wire import DtlsWire

pytestmark = pytest.mark.stacks

THEIR_PROFILES = {
    profile.openssl_profile.decode(): profile
    for profile in (
        rtcdtlstransport.SRTP_AEAD_AES_128_GCM,
        rtcdtlstransport.SRTP_AES128_CM_SHA1_80,
        rtcdtlstransport.SRTP_AEAD_AES_256_GCM,
    )
}
HOME: Address = ("192.0.2.1", 1)
REPORT = build_sender_report(SenderReport(1, 2, 3, 4, 5, "x"))


class TestPrivateNames:
    """An upgrade that changes these must fail here, not in the field."""

    def test_pylibsrtp(self) -> None:
        assert callable(_binding.lib.srtp_protect)
        assert isinstance(_binding.ffi.new("int *")[0], int)
        assert "_srtp" in vars(pylibsrtp.Session())


class Pair:
    """Our session and a foreign one."""

    def __init__(self, *, passive: bool) -> None:
        self.wire = DtlsWire(HOME)
        self.ours_certificate, self.theirs_certificate = new_certificate(), RTCCertificate.generateCertificate()
        self.ours = DtlsSession(self.wire.endpoint, self.ours_certificate, passive=passive)
        self.theirs = RTCDtlsTransport(self.wire, [self.theirs_certificate])  # type: ignore[arg-type]
        self.theirs._set_role("client" if passive else "server")

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        return [(f.algorithm, f.value) for f in self.theirs_certificate.getFingerprints()]

    def start_theirs(self) -> asyncio.Task[None]:
        remote = RTCDtlsParameters(
            [rtcdtlstransport.RTCDtlsFingerprint("sha-256", fingerprint_of(self.ours_certificate))]
        )
        return asyncio.create_task(self.theirs.start(remote))

    async def stop(self) -> None:
        await self.ours.close()
        await self.theirs.stop()
        self.wire.endpoint.close()


@pytest.fixture
async def pairs() -> AsyncIterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        await pair.stop()


@pytest.mark.parametrize("passive", [True, False])
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
async def test_both_sides_agree_on_keys(pairs: list[Pair], passive: bool, profile: Profile) -> None:
    pair = Pair(passive=passive)
    pairs.append(pair)
    pair.theirs._srtp_profiles = [THEIR_PROFILES[profile.name]]
    theirs = pair.start_theirs()
    keys = await pair.ours.handshake(pair.fingerprints)
    await theirs
    assert keys.profile == profile.name
    # RTP that the fan-out encrypts is read by the peer.
    context, buffer = SendContext(keys, repeat=False), PacketBuffer()
    packet = bytes.fromhex("80650001000000020000000a") + b"payload"
    buffer.view[: len(packet)] = packet
    buffer.length[0] = len(packet)
    assert protect(context.handle, buffer.data, buffer.length) == 0
    assert pair.theirs._rx_srtp.unprotect(bytes(buffer.view[: buffer.length[0]])) == packet
    # RTCP goes both ways.
    received: list[bytes] = []

    def take(data: bytes) -> bool:
        received.append(data)
        return True

    pair.wire.endpoint.on_media = take
    await pair.theirs._send_rtp(REPORT)
    assert pair.ours.decrypt_rtcp(received[0]) == REPORT
    assert pair.ours.decrypt_rtcp(received[0][:-1] + b"!") is None
    assert pair.ours.decrypt_rtcp(bytes(3000)) is None


@pytest.mark.parametrize(
    ("offered", "expected"),
    [([2, 1, 0], "SRTP_AEAD_AES_128_GCM"), ([2, 1], "SRTP_AES128_CM_SHA1_80"), ([2], "SRTP_AEAD_AES_256_GCM")],
)
async def test_as_the_server_we_choose_the_fastest_profile(
    pairs: list[Pair], offered: list[int], expected: str
) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    pair.theirs._srtp_profiles = [THEIR_PROFILES[PROFILES[i].name] for i in offered]
    theirs = pair.start_theirs()
    assert (await pair.ours.handshake(pair.fingerprints)).profile == expected
    await theirs


async def test_a_certificate_that_was_not_offered_is_refused(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    theirs = pair.start_theirs()
    with pytest.raises(DtlsError):
        await pair.ours.handshake([("sha-256", fingerprint_of(new_certificate()))])
    await theirs


async def test_a_certificate_that_cannot_be_read(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL does not mind a version that there is not; the library that takes its fingerprint does."""
    pair = Pair(passive=True)
    pairs.append(pair)
    certificate, create = pair.theirs_certificate, pair.theirs_certificate._create_ssl_context
    version = bytes.fromhex("a003020102")
    der = certificate._cert.public_bytes(Encoding.DER)
    assert version in der

    def strange(srtp_profiles: list[rtcdtlstransport.SRTPProtectionProfile]) -> SSL.Context:
        context = create(srtp_profiles)
        with pytest.deprecated_call():
            context.use_certificate(
                crypto.load_certificate(crypto.FILETYPE_ASN1, der.replace(version, b"\xa0\x03\x02\x01\x07", 1))
            )
        return context

    monkeypatch.setattr(certificate, "_create_ssl_context", strange)
    theirs = pair.start_theirs()
    with pytest.raises(DtlsError):
        await pair.ours.handshake(pair.fingerprints)
    await theirs


async def test_a_peer_that_leaves_during_the_handshake(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    handshake = asyncio.create_task(pair.ours.handshake(pair.fingerprints))
    await asyncio.sleep(0)
    pair.wire.endpoint.close()
    with pytest.raises(DtlsError):
        await handshake


async def test_rubbish_does_not_end_a_handshake(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    for _ in range(3):
        pair.wire.endpoint.deliver_dtls(bytes((22, 254, 253)) + bytes(60))
        pair.wire.endpoint.deliver_dtls(bytes((63,)))
    theirs = pair.start_theirs()
    await pair.ours.handshake(pair.fingerprints)
    await theirs


async def test_goodbyes_are_heard_on_both_sides(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    theirs = pair.start_theirs()
    await pair.ours.handshake(pair.fingerprints)
    await theirs
    await pair.ours.close()
    await pair.ours.close()
    async with asyncio.timeout(60):
        await asyncio.wait({pair.theirs._task} if pair.theirs._task else set())
    assert pair.theirs.state == "closed"
    other = Pair(passive=True)
    pairs.append(other)
    theirs = other.start_theirs()
    await other.ours.handshake(other.fingerprints)
    await theirs
    await other.theirs.stop()
    async with asyncio.timeout(60):
        await other.ours.closed()


@pytest.mark.parametrize("passive", [True, False])
@pytest.mark.parametrize("lost", [0, 1])
async def test_a_lost_flight_is_sent_again(pairs: list[Pair], passive: bool, lost: int) -> None:
    """OpenSSL's timer is a second."""
    pair = Pair(passive=passive)
    pairs.append(pair)
    sent, send = 0, pair.wire.send

    def lossy(data: bytes, address: Address) -> None:
        nonlocal sent
        sent += 1
        if sent != lost + 1:
            send(data, address)

    pair.wire.send = lossy  # type: ignore[method-assign]
    theirs = pair.start_theirs()
    async with asyncio.timeout(60):
        await pair.ours.handshake(pair.fingerprints)
        await theirs
    assert sent > lost + 1 or (passive and lost == 1)
    assert pair.theirs.state == "connected"


async def test_one_of_several_values_of_a_hash_function_will_do(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    theirs = pair.start_theirs()
    other = ("SHA-256", fingerprint_of(new_certificate()))
    await pair.ours.handshake([other, *pair.fingerprints, ("md5", "00")])
    await theirs


@pytest.mark.parametrize("fingerprints", [[], [("md5", "00:11")]])
async def test_without_a_known_hash_function_nobody_is_let_in(
    pairs: list[Pair], fingerprints: list[tuple[str, str]]
) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    theirs = pair.start_theirs()
    with pytest.raises(DtlsError):
        await pair.ours.handshake(fingerprints)
    await theirs


def record(size: int) -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size)


def test_records_are_packed_and_never_cut() -> None:
    records = [record(size) for size in (100, 900, 300, 5, 1187, 1)]
    packed = datagrams(b"".join(records))
    assert b"".join(packed) == b"".join(records)
    assert [len(one) for one in packed] == [13 + 100 + 13 + 900, 13 + 300 + 13 + 5, 13 + 1187, 13 + 1]
    assert all(len(one) <= MTU for one in packed)
    assert datagrams(b"") == []


def test_records_with_short_headers_are_not_cut() -> None:
    """DTLS 1.3 (RFC 9147 section 4)."""
    long = bytes((0x2C,)) + b"\0\1" + (900).to_bytes(2, "big") + bytes(900)
    short = bytes((0x24,)) + b"\1" + (400).to_bytes(2, "big") + bytes(400)
    rest = bytes((0x28,)) + bytes(50)
    assert datagrams(long + short + rest) == [long, short + rest]


async def test_before_the_handshake_nothing_is_decrypted(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    assert pair.ours.decrypt_rtcp(REPORT) is None
