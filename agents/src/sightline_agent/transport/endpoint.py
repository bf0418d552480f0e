"""One session's place on the mux: ICE credentials, the address its peer proved, and what DTLS reads from.

The mux tells of checks and hands over datagrams; DTLS reads and writes its flights (`receive`, `send`); the peer
listens by `on_move`, `on_media` and `on_rtcp`.

Addresses. The first checked address is used until the peer nominates another one (it roamed), or until the first has
been silent while another was checked (a NAT in between changed its mind). A check proves who sent it, not from where:
whoever is logged in could write anybody's address into it and have the pictures sent there. So a new address is probed
first: a binding request with an unguessable transaction goes there, and only its answer moves the session. It costs one
round trip. Nothing but DTLS flights goes to the first address before the handshake, which nobody finishes blindly.

While nothing of this is under way, the native receiver (if there is one) digests what comes from the peer's address:
`_settle` says when that is so, after each step that may begin or end something.
"""

import asyncio
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sightline_agent.transport.fanout import Address
from sightline_agent.transport.receiver import Association, Heard
from sightline_agent.transport.stun import BindingRequest, Signed, build_probe

UFRAG_LENGTH = 8
PASSWORD_LENGTH = 32
DTLS_QUEUE_LENGTH = 64
"""A handshake has some ten datagrams per direction."""
MAX_ADDRESSES = 8
"""A peer may prove more, one per network interface of its; the one longest silent is forgotten."""
ADDRESS_HELD_SECONDS = 6.0
"""Peers check each 2.5 s (Chromium) to 6 s (aioice): one that is silent for longer has left its address."""

PROBE_SECONDS = 0.2
"""Between two probes of a session: peers check again anyway, and nobody makes us send more than they do."""
_MAX_PROBES = 8
"""Unanswered ones that are remembered: round trips of up to 1.6 s."""

_ALPHABET = string.ascii_letters + string.digits


class _Mux(Protocol):
    def send(self, data: bytes, address: Address) -> None: ...
    def bind_ufrag(self, ufrag: str, endpoint: "Endpoint") -> None: ...
    def release(self, ufrags: list[str], addresses: list[Address], endpoint: "Endpoint") -> None: ...
    def now(self) -> float: ...


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """One ICE session's name and secret."""

    ufrag: str
    password: str = field(repr=False)


def new_credentials() -> IceCredentials:
    """More than the 24 and 128 random bits of RFC 8839 section 5.4."""
    return IceCredentials(_random(UFRAG_LENGTH), _random(PASSWORD_LENGTH))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Endpoint:
    """See the module."""

    def __init__(self, mux: _Mux, association: Association | None = None) -> None:
        self.address: Address | None = None
        """Where the peer is; None before its first check."""
        self.reached = asyncio.Event()
        """Set with the first address."""
        self.association = association
        self._placed: tuple[Address, str] | None = None
        self._last_check = mux.now()
        self.on_move: Callable[[Address], None] | None = None
        self.on_media: Callable[[bytes], bool] | None = None
        """Takes SRTP and SRTCP; returns whether the datagram was authentic."""
        self.on_rtcp: Callable[[bytes], None] | None = None
        """Takes RTCP that the receiver has opened and that wants something."""
        self.credentials = new_credentials()
        """The newest; those before stay valid until the peer uses these."""
        self.remote: IceCredentials | None = None
        """The peer's own; without them it cannot be probed, and stays where it is."""
        self._probes: dict[bytes, Address] = {}
        self._probed_at = float("-inf")
        self._mux = mux
        self._passwords = {self.credentials.ufrag: self.credentials.password.encode()}
        self._seen: dict[Address, float] = {}
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue(DTLS_QUEUE_LENGTH)
        self._closed = False
        mux.bind_ufrag(self.credentials.ufrag, self)

    def restart(self) -> IceCredentials:
        """ICE restart: new credentials beside the old ones."""
        current = self.credentials.ufrag
        old = [ufrag for ufrag in self._passwords if ufrag != current]
        for ufrag in old:
            del self._passwords[ufrag]
        self._mux.release(old, [], self)
        self.credentials = new_credentials()
        self._passwords[self.credentials.ufrag] = self.credentials.password.encode()
        self._mux.bind_ufrag(self.credentials.ufrag, self)
        self._settle()
        return self.credentials

    def password_of(self, ufrag: str) -> bytes:
        """The password that goes with one of our ufrags."""
        return self._passwords[ufrag]

    def last_seen(self, address: Address) -> float:
        """When the peer last proved to be there."""
        seen = self._seen.get(address, float("-inf"))
        if self.association is not None and address == self.address and seen > float("-inf"):
            seen = self._seen[address] = max(seen, *self.association.times())
        return seen

    def times(self) -> tuple[float, float]:
        """When a check of the peer was last answered (before the first: when the endpoint was opened), and when RTCP
        was last authentic of which the receiver said nothing (-inf: never)."""
        if self.association is None:
            return self._last_check, float("-inf")
        checked, reported = self.association.times()
        self._last_check = max(self._last_check, checked)
        return self._last_check, reported

    def heard(self) -> list[Heard]:
        """What the peer reported since the last call, of which the receiver said nothing."""
        return self.association.heard() if self.association is not None else []

    def forget(self, address: Address) -> None:
        """The address belongs to another session now."""
        self._seen.pop(address, None)
        self._settle()

    def checked(self, request: BindingRequest, address: Address) -> Address | None:
        """A verified check arrived; an address that had to make room for it is returned."""
        now = self._mux.now()
        self._last_check = now
        ufrag = request.local_ufrag
        if ufrag == self.credentials.ufrag and len(self._passwords) > 1:
            self._retire(ufrag)
        forgotten = None
        if address not in self._seen and len(self._seen) >= MAX_ADDRESSES:
            forgotten = min((a for a in self._seen if a != self.address), key=self._seen.__getitem__)
            del self._seen[forgotten]
        self._seen[address] = now
        if self.address is None:
            self.address = address
            self.reached.set()
        elif address != self.address:
            if request.nominate or now - self.last_seen(self.address) > ADDRESS_HELD_SECONDS:
                self._probe(request, address, now)
        elif request.nominate:
            self._probes.clear()  # the peer has changed its mind
        self._settle()
        return forgotten

    def _settle(self) -> None:
        """Have the receiver digest what comes, for as long as nothing is about to change."""
        if self.association is None:
            return
        steady = len(self._passwords) == 1 and not self._probes and self.address in self._seen and not self._closed
        wanted = (self.address, self.credentials.ufrag) if steady and self.address is not None else None
        if wanted == self._placed:
            return
        if self.address is not None:
            self.last_seen(self.address)
        self._placed = wanted
        if wanted is None:
            self.association.lift()
        else:
            self.association.place(*wanted, self._passwords[wanted[1]])

    def _probe(self, request: BindingRequest, address: Address, now: float) -> None:
        """Ask whether the peer is there."""
        if self.remote is None or now - self._probed_at < PROBE_SECONDS:
            return
        transaction = secrets.token_bytes(12)
        username = f"{self.remote.ufrag}:{request.local_ufrag}"
        probe = build_probe(transaction, username, self.remote.password.encode())
        if len(probe) > request.size:
            return  # no check by the rules: it has the same attributes, and more
        self._probed_at = now
        while len(self._probes) >= _MAX_PROBES:
            del self._probes[next(iter(self._probes))]
        self._probes[transaction] = address
        self._mux.send(probe, address)

    def answered(self, response: Signed, address: Address) -> bool:
        """An answer to a probe moves the session; False for what answers none."""
        if self.remote is None or self._probes.get(response.transaction) != address:
            return False
        if not response.verify(self.remote.password.encode()):
            return False
        self._probes.clear()
        self.address = address
        self._seen[address] = self._mux.now()
        self._settle()
        if self.on_move is not None:
            self.on_move(address)
        return True

    def _retire(self, ufrag: str) -> None:
        """The peer uses the newest credentials: the older ones end."""
        old = [name for name in self._passwords if name != ufrag]
        for name in old:
            del self._passwords[name]
        self._mux.release(old, [], self)

    def deliver_dtls(self, data: bytes) -> bool:
        """Queue for the handshake; False when the queue is full."""
        try:
            self._inbox.put_nowait(data)
        except asyncio.QueueFull:
            return False
        return True

    def deliver_media(self, data: bytes, source: Address) -> bool:
        """Hand SRTP or SRTCP on; False while nobody can decrypt it."""
        if self.on_media is None:
            return False
        if self.on_media(data) and source in self._seen:
            self._seen[source] = self._mux.now()
        return True

    def deliver_rtcp(self, plain: bytes) -> None:
        """Hand on RTCP that the receiver has opened."""
        if self.on_rtcp is not None:
            self.on_rtcp(plain)

    async def receive(self) -> bytes:
        """The next datagram of DTLS; ConnectionError once it is closed."""
        data = await self._inbox.get()
        if data is None:
            raise ConnectionError("closed")
        return data

    def send(self, data: bytes) -> None:
        """To where the peer is; ConnectionError once it is closed."""
        if self._closed or self.address is None:
            raise ConnectionError("closed")
        self._mux.send(data, self.address)

    def close(self) -> None:
        """Give everything back; readers get a ConnectionError. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.on_move = self.on_media = self.on_rtcp = None
        if self.association is not None:
            self.association.close()
        self._mux.release(list(self._passwords), list(self._seen), self)
        if self._inbox.full():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)
