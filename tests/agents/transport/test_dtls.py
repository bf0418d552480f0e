"""DTLS-SRTP between our session and a plain aiortc transport, and the private names that we lean on."""

import asyncio
import importlib.metadata
import inspect
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pylibsrtp
import pytest
from aiortc import RTCCertificate, rtcdtlstransport
from aiortc.rtcdtlstransport import RTCDtlsParameters, RTCDtlsTransport
from pylibsrtp import _binding

from sightline_agent.transport.dtls import PROFILES, DtlsError, DtlsSession, fingerprint_of, new_certificate
from sightline_agent.transport.endpoint import Endpoint
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.rtcp import SenderReport, build_sender_report
from sightline_agent.transport.srtp import PacketBuffer, SendContext, protect

AGENT = Path(__file__).parents[3] / "agents"
HOME: Address = ("192.0.2.1", 1)
REPORT = build_sender_report(SenderReport(1, 2, 3, 4, 5, "x"))


class TestPrivateNames:
    """An upgrade that changes these must fail here, not in the field."""

    def test_aiortc_is_pinned(self) -> None:
        project = tomllib.loads((AGENT / "pyproject.toml").read_text())["project"]
        pinned = [name for name in project["dependencies"] if name.startswith("aiortc")]
        assert pinned == [f"aiortc=={importlib.metadata.version('aiortc')}"]

    def test_aiortc(self) -> None:
        for name in ("_setup_srtp", "_set_role", "_send_rtp", "start", "stop", "state"):
            assert hasattr(RTCDtlsTransport, name)
        assert "self._setup_srtp()" in inspect.getsource(RTCDtlsTransport.start)
        for name in ("_recv", "_send"):
            assert f"self.transport.{name}(" in inspect.getsource(rtcdtlstransport)
        used = inspect.getsource(RTCDtlsTransport.__init__)
        for name in ("_rx_srtp", "_tx_srtp", "_ssl", "_srtp_profiles", "_task", "_role"):
            assert f"self.{name}" in used

    def test_pylibsrtp(self) -> None:
        assert callable(_binding.lib.srtp_protect)
        assert isinstance(_binding.ffi.new("int *")[0], int)
        assert "_srtp" in vars(pylibsrtp.Session())


class Wire:
    """The peer's end: an ICE transport as aiortc wants it, and the mux as the endpoint wants it."""

    role = "controlling"

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.endpoint = Endpoint(self)

    def send(self, data: bytes, address: Address) -> None:
        self.inbox.put_nowait(data)

    def bind_ufrag(self, ufrag: str, endpoint: Endpoint) -> None: ...

    def release(self, ufrags: list[str], addresses: list[Address], endpoint: Endpoint) -> None: ...

    def now(self) -> float:
        return 0.0

    async def _recv(self) -> bytes:
        data = await self.inbox.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        if 128 <= data[0] <= 191:
            self.endpoint.deliver_media(data, HOME)
        else:
            self.endpoint.deliver_dtls(data)


class Pair:
    """Our session and a foreign one."""

    def __init__(self, *, passive: bool) -> None:
        self.wire = Wire()
        self.wire.endpoint.address = HOME
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
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.openssl_profile.decode())
async def test_both_sides_agree_on_keys(
    pairs: list[Pair], passive: bool, profile: rtcdtlstransport.SRTPProtectionProfile
) -> None:
    pair = Pair(passive=passive)
    pairs.append(pair)
    pair.theirs._srtp_profiles = [profile]
    theirs = pair.start_theirs()
    keys = await pair.ours.handshake(pair.fingerprints)
    await theirs
    assert keys.profile == profile.openssl_profile.decode()
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
    pair.theirs._srtp_profiles = [PROFILES[i] for i in offered]
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
    async with asyncio.timeout(10):
        await asyncio.wait({pair.theirs._task} if pair.theirs._task else set())
    assert pair.theirs.state == "closed"
    other = Pair(passive=True)
    pairs.append(other)
    theirs = other.start_theirs()
    await other.ours.handshake(other.fingerprints)
    await theirs
    await other.theirs.stop()
    async with asyncio.timeout(10):
        await other.ours.closed()
    await other.ours.send_rtcp(REPORT)


async def test_before_the_handshake_nothing_is_decrypted_or_sent(pairs: list[Pair]) -> None:
    pair = Pair(passive=True)
    pairs.append(pair)
    assert pair.ours.decrypt_rtcp(REPORT) is None
    await pair.ours.send_rtcp(REPORT)
    assert pair.wire.inbox.empty()
