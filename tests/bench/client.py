"""One real viewer up to the end of its handshake: aiortc's ICE and DTLS, signalled by WHEP or with Janus."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
import aioice.ice
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpTransceiver,
    RTCSessionDescription,
    rtcdtlstransport,
)

from tests.bench.janus import Janus

_CONNECT_SECONDS = 20
_PROFILES = [rtcdtlstransport.SRTP_AEAD_AES_128_GCM]
"""The same for all servers."""


class ConnectError(Exception):
    """A viewer did not get through."""


@dataclass
class Client:
    """A connected viewer."""

    connection: RTCPeerConnection
    receiver: Any
    asked: float
    """When signalling began, by time.monotonic()."""
    connected: float
    leave: Callable[[], Awaitable[None]]

    @property
    def dtls(self) -> Any:
        """The transport below it."""
        return self.receiver.transport

    @property
    def datagrams(self) -> Any:
        """The asyncio protocol of the nominated pair."""
        (pair,) = self.dtls.transport._connection._nominated.values()
        return pair.protocol

    @property
    def socket(self) -> socket.socket:
        """Its UDP socket."""
        found: socket.socket = self.datagrams.transport.get_extra_info("socket")
        return found


def use_loopback() -> None:
    """Let ICE gather 127.0.0.1 and nothing else."""
    aioice.ice.get_host_addresses = lambda **_families: ["127.0.0.1"]


class Clients:
    """Makes viewers of one server."""

    def __init__(self, http: aiohttp.ClientSession, whep: str, janus: Janus | None) -> None:
        self._http = http
        self._whep = whep
        self._janus = janus

    async def connect(self, prepare: Callable[[Any], None]) -> Client:
        """A connected viewer. `prepare` gets the RTP receiver before any packet comes."""
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await self._connect(connection, prepare)
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            await connection.close()
            raise ConnectError(f"a viewer did not connect: {error!r}") from error

    async def _connect(self, connection: RTCPeerConnection, prepare: Callable[[Any], None]) -> Client:
        settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def changed() -> None:
            if connection.connectionState in ("connected", "failed", "closed") and not settled.done():
                settled.set_result(connection.connectionState)

        connection.on("connectionstatechange", changed)
        signal = self._by_whep if self._janus is None else self._by_janus
        asked, receiver, leave = await signal(connection, prepare)
        if (state := await settled) != "connected":
            raise ConnectionError(state)
        return Client(connection, receiver, asked, time.monotonic(), leave)

    async def _by_whep(self, connection: RTCPeerConnection, prepare: Callable[[Any], None]) -> Any:
        transceiver = connection.addTransceiver("video", direction="recvonly")
        capabilities = RTCRtpReceiver.getCapabilities("video")
        codecs = capabilities.codecs if capabilities else []
        wanted = [one for one in codecs if one.parameters.get("profile-level-id") == "42e01f"]
        transceiver.setCodecPreferences([*wanted, *(one for one in codecs if one.mimeType == "video/rtx")])
        receiver = _prepared(transceiver, prepare)
        await connection.setLocalDescription(await connection.createOffer())
        headers = {"Content-Type": "application/sdp"}
        asked = time.monotonic()
        async with self._http.post(self._whep, data=connection.localDescription.sdp, headers=headers) as response:
            answer = await response.text()
            if response.status not in (200, 201):
                raise ConnectionError(f"{response.status} {answer[:200]}")
            location = response.headers.get("Location")
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

        async def leave() -> None:
            if location:
                async with self._http.delete(urljoin(self._whep, location)):
                    pass

        return asked, receiver, leave

    async def _by_janus(self, connection: RTCPeerConnection, prepare: Callable[[Any], None]) -> Any:
        assert self._janus is not None
        janus = self._janus
        asked = time.monotonic()
        handle, offer = await janus.offer()
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        receiver = _prepared(connection.getTransceivers()[0], prepare)
        await connection.setLocalDescription(await connection.createAnswer())
        await janus.answer(handle, connection.localDescription.sdp)

        async def leave() -> None:
            await janus.leave(handle)

        return asked, receiver, leave


def _prepared(transceiver: RTCRtpTransceiver, prepare: Callable[[Any], None]) -> Any:
    receiver: Any = transceiver.receiver
    receiver.transport._srtp_profiles = _PROFILES
    prepare(receiver)
    return receiver
