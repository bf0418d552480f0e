"""Targets on the media port: STUN and demultiplexing, DTLS before and after the handshake, RTCP after decryption."""

import asyncio
import zlib
from collections import Counter
from random import Random
from typing import Any, cast

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from sightline_agent.transport import mux as mux_module
from sightline_agent.transport import rtcp, stun
from sightline_agent.transport.dtls import DtlsError, DtlsSession, fingerprint_of, new_certificate
from sightline_agent.transport.endpoint import MAX_ADDRESSES, Endpoint, IceCredentials
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.mux import LOG_INTERVAL, MuxCount, UdpMux
from sightline_agent.transport.receiver import NativeReceiver
from tests.fuzz.runner import Target
from tests.helpers.dtls_wire import DtlsWire

_HOME: Address = ("192.0.2.1", 1000)
_SOURCES: tuple[Address, ...] = (
    _HOME,
    ("198.51.100.7", 2000),
    ("2001:db8::7", 3000),
    *(("203.0.113.1", port) for port in range(4000, 4020)),
)
_PEER = IceCredentials("peer", "p" * 24)
_MILLISECOND = 0.001
_MAX_DTLS_REPLY = 16 * 1024
"""Bytes of answers to one datagram: a whole flight with a certificate."""
_HELLO_ALLOWANCE = 10


class _CountingLog:
    """Stands for the module's logger."""

    def __init__(self) -> None:
        self.lines = 0

    def debug(self, *_: object, **__: object) -> None:
        self.lines += 1

    info = warning = error = exception = debug


class _Mux(UdpMux):
    """Without a wire; each datagram takes a millisecond."""

    def __init__(self, receiver: NativeReceiver | None) -> None:
        self.time = 100.0
        self.sent: list[tuple[bytes, Address]] = []
        super().__init__("127.0.0.1", 0, clock=lambda: self.time, receiver=receiver)

    def send(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))


class Mux:
    """The port with two sessions; datagrams come from their peers, from others, and with forged addresses."""

    def __init__(self, receiver: NativeReceiver | None = None) -> None:
        self._log = _CountingLog()
        self._was, mux_module.log = mux_module.log, self._log
        self._loop = asyncio.new_event_loop()
        self._mux = _Mux(receiver)
        self._endpoints = [self._mux.open_endpoint() for _ in range(2)]
        for endpoint in self._endpoints:
            endpoint.remote = _PEER
            endpoint.on_media = lambda data: zlib.crc32(data) % 2 == 0
        self._proven: set[Address] = set()
        self._began = self._mux.time

    def feed(self, data: bytes, random: Random) -> None:
        endpoint, source = random.choice(self._endpoints), random.choice(_SOURCES)
        if random.random() < 0.8:
            source = _HOME if endpoint is self._endpoints[0] else _SOURCES[1]
        probes = [datagram for datagram, _ in self._mux.sent if datagram[:2] == b"\0\1"]
        self._mux.sent.clear()
        signed = random.random() < 0.6
        if signed:
            data = _signed(data, endpoint)
        if probes and random.random() < 0.5:
            data, signed = _answer(probes[-1], random.random() < 0.5), False
        self._mux.time += _MILLISECOND
        before, address = self._mux.counters.total(), endpoint.address
        self._mux.datagram(data, source)
        assert self._mux.counters.total() == before + 1
        assert signed or not self._mux.sent
        for answer, to in self._mux.sent:
            assert len(answer) <= len(data)
            assert to == source
        if endpoint.address != address and address is not None:
            assert self._mux.counters[MuxCount.PROBE_ANSWER]
        while not endpoint._inbox.empty():
            endpoint._inbox.get_nowait()
        if random.random() < 0.001:
            endpoint.restart()

    def check(self) -> None:
        assert len(self._mux._by_ufrag) <= 2 * len(self._endpoints)
        assert len(self._mux._by_address) <= MAX_ADDRESSES * len(self._endpoints)
        for endpoint in self._endpoints:
            assert len(endpoint._seen) <= MAX_ADDRESSES
            assert len(endpoint._probes) <= MAX_ADDRESSES
        assert set(self._mux.counters) <= set(MuxCount)
        elapsed = self._mux.time - self._began
        assert self._log.lines <= len(MuxCount) * (1 + elapsed / LOG_INTERVAL)

    def close(self) -> None:
        mux_module.log = self._was
        for endpoint in self._endpoints:
            endpoint.close()
        assert not self._mux._by_address
        assert not self._mux._by_ufrag
        self._loop.close()


def _signed(data: bytes, endpoint: Endpoint) -> bytes:
    """Mutated attributes in a message that is otherwise right: of this session, with length and integrity."""
    body = data[stun.HEADER_BYTES : stun.MAX_REQUEST_BYTES - 100].replace(
        b"UFRAGUFR", endpoint.credentials.ufrag.encode()
    )
    transaction = data[8:20].ljust(12, b"\0")
    return stun._sign(
        stun.BINDING_REQUEST, transaction, body[: len(body) // 4 * 4], endpoint.credentials.password.encode()
    )


def _answer(probe: bytes, right: bool) -> bytes:
    password = _PEER.password if right else "x" * 24
    return stun.build_response(stun.parse_request(probe), password.encode(), _HOME)


class Rtcp:
    """A compound packet of an authenticated viewer."""

    def feed(self, data: bytes, random: Random) -> None:
        feedback = rtcp.parse(data)
        assert len(feedback.reports) <= rtcp.MAX_BLOCKS
        assert len(feedback.key_frame_wanted) <= rtcp.MAX_BLOCKS
        lost = [number for numbers in feedback.lost.values() for number in numbers]
        assert len(lost) <= rtcp.MAX_LOST
        assert all(0 <= number < 1 << 16 for number in lost)
        assert len(feedback.lost) + len(feedback.bye) <= len(data)
        for report in feedback.reports:
            assert 0 <= report.fraction_lost < 1
            took = rtcp.round_trip(report, random.getrandbits(64))
            assert took is None or 0 <= took <= 1 << 16

    def check(self) -> None: ...

    def close(self) -> None: ...


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let tasks do what they can without waiting."""
    for _ in range(4):
        loop.call_soon(loop.stop)
        loop.run_forever()


def _in_range(data: bytes) -> bytes:
    """What the mux takes for DTLS (RFC 7983)."""
    first = data[0] if data else 22
    return bytes((first if 20 <= first <= 63 else 20 + first % 44,)) + data[1:]


class Handshake:
    """Datagrams into a handshake that has just begun, a new one every few."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._certificate = new_certificate()
        self._fed = 0
        self._task: asyncio.Task[Any] | None = None
        self._wire = DtlsWire(_HOME)
        self._fresh()

    def _fresh(self) -> None:
        self._end()
        self._wire = DtlsWire(_HOME)
        session = DtlsSession(self._wire.endpoint, self._certificate, passive=True)
        self._task = self._loop.create_task(session.handshake([("sha-256", ":".join(["AB"] * 32))]))
        _turn(self._loop)

    def feed(self, data: bytes, random: Random) -> None:
        self._fed += 1
        if self._fed % 16 == 0 or self._task is None or self._task.done():
            self._fresh()
        before = self._wire.sent
        self._wire.endpoint.deliver_dtls(_in_range(data))
        _turn(self._loop)
        assert self._wire.sent - before <= _MAX_DTLS_REPLY

    def _end(self) -> None:
        if self._task is None:
            return
        self._wire.endpoint.close()
        _turn(self._loop)
        self._task.cancel()
        results = self._loop.run_until_complete(asyncio.gather(self._task, return_exceptions=True))
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, DtlsError):
                raise result
        self._task = None

    def check(self) -> None:
        assert len(asyncio.all_tasks(self._loop)) <= 2

    def close(self) -> None:
        self._end()
        self._loop.close()


class Association:
    """Datagrams into an association that stands: forged ones, which change nothing, and now and then true ones."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._wire = DtlsWire(_HOME)
        self._loop.run_until_complete(self._connect())
        self._tasks = len(asyncio.all_tasks(self._loop))

    async def _connect(self) -> None:
        ours, theirs = new_certificate(), RTCCertificate.generateCertificate()
        self.session = DtlsSession(self._wire.endpoint, ours, passive=True)
        self._client = RTCDtlsTransport(cast("Any", self._wire), [theirs])
        self._client._set_role("client")
        fingerprint = next(f for f in theirs.getFingerprints() if f.algorithm == "sha-256")
        remote = RTCDtlsParameters([RTCDtlsFingerprint("sha-256", fingerprint_of(ours))])
        await asyncio.gather(self.session.handshake([("sha-256", fingerprint.value)]), self._client.start(remote))

    def record(self, data: bytes) -> bytes:
        """Application data, as the peer encrypts it."""
        ssl = cast("Any", self._client._ssl)
        ssl.send(data)
        return cast("bytes", ssl.bio_read(1500))

    def goodbye(self) -> bytes:
        """The peer's close_notify."""
        ssl = cast("Any", self._client._ssl)
        ssl.shutdown()
        return cast("bytes", ssl.bio_read(1500))

    def deliver(self, data: bytes) -> None:
        """A datagram, and time for it."""
        self._wire.endpoint.deliver_dtls(data)
        _turn(self._loop)

    def feed(self, data: bytes, random: Random) -> None:
        before = self._wire.sent
        if random.random() < 0.05:
            # What an authenticated peer may send though nobody reads it: application data, several in a datagram.
            data = b"".join(self.record(data[:100] or b"x") for _ in range(random.choice((1, 2, 8))))
        self.deliver(_in_range(data))
        assert self._wire.sent - before <= len(data) + _HELLO_ALLOWANCE + 100
        assert self.session.decrypt_rtcp(bytes((0x80, 201)) + data[2:]) is None

    def check(self) -> None:
        assert self.session.connected
        assert len(asyncio.all_tasks(self._loop)) == self._tasks
        assert Counter(type(task).__name__ for task in asyncio.all_tasks(self._loop)).total() <= 4

    def close(self) -> None:
        async def end() -> None:
            self._wire.endpoint.close()
            self._wire.inbox.put_nowait(None)
            await self.session.close()
            await self._client.stop()

        self._loop.run_until_complete(end())
        _turn(self._loop)
        self._loop.close()


STUN_TOKENS = (
    b"\0\x06\0\x0dUFRAGUFR:peer\0\0\0",
    b"\0\x08\0\x14" + bytes(20),
    b"\x80\x28\0\x04" + bytes(4),
    b"\0\x25\0\0",
    b"\x80\x29\0\x08" + bytes(8),
    b"\0\x24\0\x04" + bytes(4),
    b"\x21\x12\xa4\x42",
    b"\x01\x01",
    b"\x01\x11",
    b"\x80\xc9",
    b"\x16\xfe\xfd",
    b"\xff" * 2100,
)
_DTLS_TOKENS = (
    b"\x16\xfe\xfd",
    b"\x16\xfe\xff",
    b"\x15\xfe\xfd\0\0",
    b"\x17\xfe\xfd",
    b"\x14\xfe\xfd",
    bytes(8),
    b"\x2e",
)
RTCP_TOKENS = (
    b"\x81\xc9\0\x07",
    b"\x81\xcd",
    b"\x81\xce",
    b"\x84\xce",
    b"\x9f\xcb",
    b"\x80\xc8",
    b"\xff\xff",
    bytes(24),
)

TARGETS = (
    Target("mux", Mux, STUN_TOKENS, 2048),
    Target("rtcp", Rtcp, RTCP_TOKENS, 2048),
    Target("dtls-handshake", Handshake, _DTLS_TOKENS, 2048, share=0.2),
    Target("dtls-association", Association, _DTLS_TOKENS, 2048, share=0.5),
)
