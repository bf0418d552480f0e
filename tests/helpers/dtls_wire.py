"""One endpoint of the media port without a socket, joined to a DTLS transport of aiortc in memory."""

import asyncio

from sightline_agent.transport.endpoint import Endpoint
from sightline_agent.transport.fanout import Address


class DtlsWire:
    """The peer's end: an ICE transport as aiortc wants it, and the mux as the endpoint wants it."""

    role = "controlling"

    def __init__(self, peer: Address) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        """What the peer has not read yet; None breaks its connection."""
        self.sent = 0
        """Bytes to the peer."""
        self.endpoint = Endpoint(self)
        self.endpoint.address = peer
        self._peer = peer

    def send(self, data: bytes, address: Address) -> None:
        self.sent += len(data)
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
            self.endpoint.deliver_media(data, self._peer)
        else:
            self.endpoint.deliver_dtls(data)
