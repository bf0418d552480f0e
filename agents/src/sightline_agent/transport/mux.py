"""One UDP port for all peers: ICE-lite (RFC 8445 section 2.5), then demultiplexing by address.

A peer finds us by the candidates in its answer and sends binding requests. One whose MESSAGE-INTEGRITY was made with
the password of the ufrag that it names is answered, and its source address is bound to that session's `Endpoint`; all
else (DTLS, SRTCP) is believed to belong to the session whose peer last proved itself from that address. Nothing is ever
sent to an address from which nothing was proved, and an answer is no longer than what it answers. One thing is answered
to anybody, a few times per second: a binding request without credentials, by which the operator finds out whether the
address that viewers shall dial leads here (docs/design/0014).

Everything that arrives is untrusted: the reader counts and drops, and never raises. Where there is a native receiver,
its thread reads the sockets, and what it has left over comes here in the order of arrival. Callers: `peers.py`
(endpoints) and the fan-out (`socket_for`). Event-driven; no task, no timer.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from typing import Any
from weakref import WeakValueDictionary

import structlog

from sightline_agent.transport.endpoint import ADDRESS_HELD_SECONDS, Endpoint
from sightline_agent.transport.fanout import Address
from sightline_agent.transport.receiver import Harvest, NativeReceiver
from sightline_agent.transport.stun import (
    BindingRequest,
    StunError,
    build_pong,
    build_response,
    build_role_conflict,
    is_indication,
    is_response,
    parse_ping,
    parse_request,
    parse_response,
)

BATCH = 128
"""Datagrams per wake-up: the other work of the loop must get its turn."""
MAX_DATAGRAM = 2048
PINGS_PER_SECOND = 10.0
PING_BURST = 20.0
SEND_BUFFER_BYTES = 16 << 20
RECEIVE_BUFFER_BYTES = 8 << 20
LOG_INTERVAL = 10.0

# From asm-generic/socket.h; with CAP_NET_ADMIN they go beyond the system's limits.
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33

log = structlog.get_logger(__name__)


class MuxCount(StrEnum):
    """What became of each datagram."""

    STUN = "stun"
    DTLS = "dtls"
    MEDIA = "media"
    """SRTP and SRTCP."""
    BAD_STUN = "bad-stun"
    KEEP_ALIVE = "keep-alive"
    """A peer keeps its NAT's memory fresh."""
    PING = "ping"
    """Answered without credentials: the operator asks whether an address leads here."""
    PING_LIMITED = "ping-limited"
    """Not answered: there were too many."""
    UNKNOWN_UFRAG = "unknown-ufrag"
    BAD_INTEGRITY = "bad-integrity"
    ROLE_CONFLICT = "role-conflict"
    SHORT_CHECK = "short-check"
    """A valid check without what RFC 8445 wants in it, shorter than our answer would be."""
    PROBE_ANSWER = "probe-answer"
    """A peer is where it wants to be reached."""
    STRAY_ANSWER = "stray-answer"
    """An answer to nothing that we asked."""
    ADDRESS_TAKEN = "address-taken"
    """A valid check from an address from which another session's peer is active."""
    UNKNOWN_ADDRESS = "unknown-address"
    UNKNOWN_PROTOCOL = "unknown-protocol"
    OVERSIZED = "oversized"
    EARLY_MEDIA = "early-media"
    """SRTP or SRTCP before the handshake is over."""
    DTLS_QUEUE_FULL = "dtls-queue-full"
    """Policy: the newest goes; DTLS sends again."""
    INBOX_FULL = "inbox-full"
    """The event loop did not keep up with what the receiver left for it. Policy: the newest goes."""
    SEND_FAILED = "send-failed"
    """Our answer found the socket full."""
    FAILED = "failed"
    """A defect of ours, not the peer's; logged with its trace."""


_STRAGGLERS = (MuxCount.UNKNOWN_ADDRESS, MuxCount.UNKNOWN_UFRAG)
_COUNTED = (MuxCount.STUN, MuxCount.SEND_FAILED, MuxCount.MEDIA, MuxCount.INBOX_FULL, MuxCount.FAILED)
"""By the receiver, in its order."""


class UdpMux:
    """The agent's media port."""

    def __init__(
        self,
        host: str | Sequence[str],
        port: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        receiver: NativeReceiver | None = None,
    ) -> None:
        """`host`: an address to bind, or one of each family, or `0.0.0.0` or `::` for all of both. `port` 0: any free
        one."""
        self._counters: Counter[MuxCount] = Counter()
        self._hosts = (host,) if isinstance(host, str) else tuple(host)
        self._port = port
        self._clock = clock
        self._receiver = receiver
        self._by_association: WeakValueDictionary[int, Endpoint] = WeakValueDictionary()
        self._sockets: dict[int, socket.socket] = {}
        self._watched: list[int] = []
        """Descriptors that the event loop watches."""
        self._by_ufrag: dict[str, Endpoint] = {}
        self._by_address: dict[Address, Endpoint] = {}
        self._logged: dict[MuxCount, float] = {}
        self._pings = PING_BURST
        self._pinged_at = clock()

    @property
    def port(self) -> int:
        """The bound port."""
        return self._port

    @property
    def counters(self) -> Counter[MuxCount]:
        """Datagrams by what became of them."""
        if self._receiver is not None:
            self._harvest(self._receiver.collect(0))
        return self._counters

    async def start(self) -> None:
        """Bind and listen; OSError when the port is taken or the address is not ours."""
        if self._wildcard:
            self._bind(socket.AF_INET, "0.0.0.0")  # noqa: S104
            # A host without IPv6 serves IPv4 alone.
            with contextlib.suppress(OSError):
                self._bind(socket.AF_INET6, "::")
        for host in () if self._wildcard else self._hosts:
            self._bind(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        if self._receiver is not None:
            self._watch(self._receiver.listen(self._sockets.values()), self._collect)
            return
        for sock in self._sockets.values():
            self._watch(sock.fileno(), partial(self._readable, sock))

    def _watch(self, descriptor: int, read: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_reader(descriptor, read)
        self._watched.append(descriptor)

    @property
    def _wildcard(self) -> bool:
        return any(host in ("", "0.0.0.0", "::") for host in self._hosts)  # noqa: S104

    def _bind(self, family: int, host: str) -> None:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            _enlarge(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, self._port))
        except OSError:
            sock.close()
            raise
        self._port = sock.getsockname()[1]
        self._sockets[family] = sock

    def close(self) -> None:
        """Stop listening; endpoints that are still open become useless."""
        loop = asyncio.get_running_loop()
        for descriptor in self._watched:
            loop.remove_reader(descriptor)
        self._watched.clear()
        if self._receiver is not None:
            self._receiver.stop()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def addresses(self) -> list[str]:
        """Addresses of ours that peers may try, loopback last."""
        if not self._wildcard:
            return list(self._hosts)
        found = [host for host in _interface_addresses() if ":" not in host or socket.AF_INET6 in self._sockets]
        return [*found, "127.0.0.1", *(["::1"] if socket.AF_INET6 in self._sockets else [])]

    def socket_for(self, address: Address) -> socket.socket:
        """The socket that reaches an address."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return self._sockets[family]

    def send(self, data: bytes, address: Address) -> None:
        """Send or lose, as UDP does; losses here are counted."""
        try:
            self.socket_for(address).sendto(data, address)
        except (OSError, KeyError):
            self._counters[MuxCount.SEND_FAILED] += 1

    def open_endpoint(self) -> Endpoint:
        """A new session's place on this port; `Endpoint.close` gives it back."""
        if self._receiver is None:
            return Endpoint(self)
        association = self._receiver.associate()
        endpoint = self._by_association[association.id] = Endpoint(self, association)
        return endpoint

    def bind_ufrag(self, ufrag: str, endpoint: Endpoint) -> None:
        """Checks that name `ufrag` are for this endpoint."""
        self._by_ufrag[ufrag] = endpoint

    def release(self, ufrags: list[str], addresses: list[Address], endpoint: Endpoint) -> None:
        """Forget names and addresses, as far as they are still this endpoint's."""
        for ufrag in ufrags:
            self._by_ufrag.pop(ufrag, None)
        for address in addresses:
            if self._by_address.get(address) is endpoint:
                del self._by_address[address]

    def now(self) -> float:
        """The clock that endpoints use."""
        return self._clock()

    def _collect(self) -> None:
        if self._receiver is not None:
            self._harvest(self._receiver.collect(BATCH))

    def _readable(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, source = sock.recvfrom(MAX_DATAGRAM)
            except OSError:
                # Nothing left to read, or an ICMP error of an earlier send: neither is ours to handle.
                return
            self._guarded(self._demultiplex, data, source[:2])

    def datagram(self, data: bytes, source: Address) -> None:
        """Digest one datagram, as if it had been read."""
        if self._receiver is None:
            self._demultiplex(data, source)
            return
        answer, harvest = self._receiver.digest(data, source, self._clock())
        if answer is not None:
            self.send(answer, source)
        self._harvest(harvest)

    def _harvest(self, harvest: Harvest) -> None:
        """What the receiver has done, and what it has left to do."""
        left, counts = harvest
        for count, number in zip(_COUNTED, counts, strict=True):
            if number:
                self._counters[count] += number
        for data, host, port, association in left:
            if association:
                endpoint = self._by_association.get(association)
                if endpoint is not None:
                    self._guarded(endpoint.deliver_rtcp, data)
            else:
                self._guarded(self._demultiplex, data, (host, port))

    def _guarded(self, handle: Callable[..., None], data: bytes, *source: Address) -> None:
        try:
            handle(data, *source)
        except Exception:
            self._counters[MuxCount.FAILED] += 1
            log.exception("a datagram was not handled", size=len(data))

    def _demultiplex(self, data: bytes, source: Address) -> None:
        """By the first byte (RFC 7983)."""
        if not data:
            self._drop(MuxCount.UNKNOWN_PROTOCOL, source)
            return
        if len(data) >= MAX_DATAGRAM:
            self._drop(MuxCount.OVERSIZED, source)
            return
        first = data[0]
        if first < 4:
            self._stun(data, source)
            return
        endpoint = self._by_address.get(source)
        if endpoint is None:
            self._drop(MuxCount.UNKNOWN_ADDRESS, source)
        elif 20 <= first <= 63:
            full = not endpoint.deliver_dtls(data)
            self._counters[MuxCount.DTLS_QUEUE_FULL if full else MuxCount.DTLS] += 1
        elif 128 <= first <= 191:
            early = not endpoint.deliver_media(data, source)
            self._counters[MuxCount.EARLY_MEDIA if early else MuxCount.MEDIA] += 1
        else:
            self._drop(MuxCount.UNKNOWN_PROTOCOL, source)

    def _stun(self, data: bytes, source: Address) -> None:
        if is_indication(data) and source in self._by_address:
            self._counters[MuxCount.KEEP_ALIVE] += 1
            return
        try:
            if is_response(data):
                endpoint = self._by_address.get(source)
                if endpoint is not None and endpoint.answered(parse_response(data), source):
                    self._counters[MuxCount.PROBE_ANSWER] += 1
                else:
                    self._drop(MuxCount.STRAY_ANSWER, source)
                return
            request = parse_request(data)
        except StunError:
            self._ping(data, source)
            return
        self._check(request, source)

    def _ping(self, data: bytes, source: Address) -> None:
        """Say that we are here: to anybody, so never with more bytes than were sent, and not often."""
        try:
            ping = parse_ping(data)
        except StunError:
            self._drop(MuxCount.BAD_STUN, source)
            return
        now = self._clock()
        self._pings = min(PING_BURST, self._pings + (now - self._pinged_at) * PINGS_PER_SECOND)
        self._pinged_at = now
        answer = build_pong(ping, source)
        if len(answer) > ping.size:
            self._drop(MuxCount.SHORT_CHECK, source)
        elif self._pings < 1:
            self._drop(MuxCount.PING_LIMITED, source)
        else:
            self._pings -= 1
            self._counters[MuxCount.PING] += 1
            self.send(answer, source)

    def _check(self, request: BindingRequest, source: Address) -> None:
        endpoint = self._by_ufrag.get(request.local_ufrag)
        if endpoint is None:
            self._drop(MuxCount.UNKNOWN_UFRAG, source)
            return
        password = endpoint.password_of(request.local_ufrag)
        if not request.verify(password):
            self._drop(MuxCount.BAD_INTEGRITY, source)
            return
        conflict = build_role_conflict(request, password) if request.controlled else b""
        response = conflict or build_response(request, password, source)
        if len(response) > request.size:
            self._drop(MuxCount.SHORT_CHECK, source)
            return
        if conflict:
            self._counters[MuxCount.ROLE_CONFLICT] += 1
            self.send(conflict, source)
            return
        holder = self._by_address.get(source)
        if holder is not None and holder is not endpoint:
            # Who can write this source address into a packet could otherwise take another viewer's packets away.
            if self._clock() - holder.last_seen(source) < ADDRESS_HELD_SECONDS:
                self._drop(MuxCount.ADDRESS_TAKEN, source)
                return
            holder.forget(source)
        self._counters[MuxCount.STUN] += 1
        self.send(response, source)
        forgotten = endpoint.checked(request, source)
        self._by_address[source] = endpoint
        if forgotten is not None:
            self.release([], [forgotten], endpoint)

    def _drop(self, cause: MuxCount, source: Address) -> None:
        """Count, and say so now and then: whoever sends rubbish shall not fill the log."""
        self._counters[cause] += 1
        now = self._clock()
        if now - self._logged.get(cause, float("-inf")) >= LOG_INTERVAL:
            self._logged[cause] = now
            # Stragglers of sessions that have just ended are everyday life.
            write = log.debug if cause in _STRAGGLERS else log.info
            write("datagram dropped", cause=str(cause), source=source[0], total=self._counters[cause])


def _interface_addresses() -> list[str]:
    """What the machine's interfaces have, but for loopback and what is valid on one link alone."""
    import ifaddr  # an agent that is told its address never asks

    ips = (ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    texts = (ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in ips)
    return [text for text in texts if not (ip_address(text).is_loopback or text.startswith("fe80:"))]


def _enlarge(sock: socket.socket) -> None:
    """Buffers for key-frame bursts to many viewers; what the system does not grant is not fatal."""
    wanted: tuple[tuple[int, Any, int], ...] = (
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES),
    )
    for force, plain, size in wanted:
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, plain, size)
