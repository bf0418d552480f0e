"""Watching a stream of Janus: its session, its long poll, and one handle per viewer."""

import asyncio
from types import TracebackType
from typing import Any

import aiohttp

_ANSWER_SECONDS = 20


class Janus:
    """One session that holds all viewers."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._offers: dict[int, asyncio.Future[str]] = {}

    async def __aenter__(self) -> "Janus":
        created = await self._post(self._url, {"janus": "create"})
        self._url = f"{self._url}/{created['data']['id']}"
        self._poll = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._poll.cancel()
        await asyncio.wait({self._poll})

    async def offer(self) -> tuple[int, str]:
        """A new handle and its offer."""
        attached = await self._post(self._url, {"janus": "attach", "plugin": "janus.plugin.streaming"})
        handle: int = attached["data"]["id"]
        offer = self._offers[handle] = asyncio.get_running_loop().create_future()
        await self._post(f"{self._url}/{handle}", {"janus": "message", "body": {"request": "watch", "id": 1}})
        return handle, await asyncio.wait_for(offer, _ANSWER_SECONDS)

    async def answer(self, handle: int, sdp: str) -> None:
        """Start the stream."""
        description = {"type": "answer", "sdp": sdp}
        message = {"janus": "message", "body": {"request": "start"}, "jsep": description}
        await self._post(f"{self._url}/{handle}", message)

    async def leave(self, handle: int) -> None:
        """End a viewer."""
        await self._post(f"{self._url}/{handle}", {"janus": "detach"})

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http.post(url, json={"transaction": "t", **body}) as response:
            found: dict[str, Any] = await response.json()
            return found

    async def _listen(self) -> None:
        while True:
            async with self._http.get(f"{self._url}?maxev=20", timeout=aiohttp.ClientTimeout(60)) as response:
                events = await response.json()
            for event in events if isinstance(events, list) else [events]:
                offer = self._offers.get(event.get("sender"))
                if offer and not offer.done() and "jsep" in event:
                    offer.set_result(event["jsep"]["sdp"])
