"""A stock viewer (aiortc) that comes through the front door of `sightline dev`, and cameras there that rest."""

import asyncio

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from tests.helpers.dev import TOKEN, Dev

PATIENCE_SECONDS = 120
_AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
_LEAST = {"spec": {"lifecycle": {"scaleToZeroAfter": "10s"}}}


async def let_rest(dev: Dev, name: str) -> None:
    """The camera gives its agent back as soon as cameras may."""
    headers = _AUTHORIZATION | {"Content-Type": "application/merge-patch+json"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.patch(dev.url + _path(name), json=_LEAST) as answer,
    ):
        answer.raise_for_status()


async def resting(dev: Dev, name: str) -> None:
    """Wait until the camera has given its agent back."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await _rests(dev, name):
            await asyncio.sleep(0.2)


async def visit(dev: Dev, name: str) -> tuple[float, float]:
    """Watch until the first picture is decoded: seconds from the POST to its answer, and to the picture."""
    loop = asyncio.get_running_loop()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", direction="recvonly")
    first: asyncio.Future[float] = loop.create_future()
    readers: list[asyncio.Task[None]] = []

    async def read(track: MediaStreamTrack) -> None:
        await track.recv()
        first.set_result(loop.time())

    connection.on("track", lambda track: readers.append(asyncio.create_task(read(track))))
    try:
        await connection.setLocalDescription(await connection.createOffer())
        began = loop.time()
        text = await _answer(dev, name, connection.localDescription.sdp)
        answered = loop.time()
        await connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        seen = await asyncio.wait_for(first, 60)
    finally:
        await connection.close()
        await asyncio.gather(*readers)
    return answered - began, seen - began


async def _answer(dev: Dev, name: str, offer: str) -> str:
    headers = _AUTHORIZATION | {"Content-Type": "application/sdp"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{dev.url}{_path(name)}/whep", data=offer) as answer,
    ):
        text = await answer.text()
        assert answer.status == 201, text
        return text


async def _rests(dev: Dev, name: str) -> bool:
    conditions = (await dev.read(f"{_path(name)}/status"))["conditions"]
    assert isinstance(conditions, list)
    return any(condition["reason"] == "ScaledToZero" for condition in conditions)


def _path(name: str) -> str:
    return f"/v1/namespaces/default/cameras/{name}"
