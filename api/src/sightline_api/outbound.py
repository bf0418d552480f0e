"""What the front door asks others over HTTP, agents and issuers: pools of connections, and answers of bounded size."""

import asyncio

import aiohttp

MAX_CONNECTIONS = 4096
MAX_PER_HOST = 1024
"""Viewers who wait for one camera hold a connection each; those of a camera that hangs leave some to all others."""


class TooLargeError(Exception):
    """An answer is larger than anything that was asked for."""


def new_session() -> aiohttp.ClientSession:
    """A pool: no cookies, no proxies of the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, limit_per_host=MAX_PER_HOST, ttl_dns_cache=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        loop=asyncio.get_running_loop(),
    )


async def read(content: aiohttp.StreamReader, most: int) -> bytes:
    """The whole body; TooLargeError as soon as it has more bytes than that."""
    chunks = bytearray()
    async for chunk in content.iter_any():
        chunks += chunk
        if len(chunks) > most:
            raise TooLargeError(f"more than {most} bytes")
    return bytes(chunks)
