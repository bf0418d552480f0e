"""Connections to the servers that sources read from by name, HTTP and RTMP: opened in time, or told why not.

Certificates are verified. An address may hold a key, so no message repeats it, nor what the system says of it. Cameras
that are asked over RTSP have a connection of their own: their messages name them, and their certificates may be pinned.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeVar

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

CONNECT_SECONDS = 4.0

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(host: str, port: int, it: str, *, encrypted: bool) -> Streams:
    """Both directions of a connection; SourceError where there is none. `it` is a phrase such as "the playlist"."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            tls, name = (_tls(), host) if encrypted else (None, None)
            return await first_that_answers(
                host, port, lambda address: asyncio.open_connection(address, port, ssl=tls, server_hostname=name)
            )
    except TimeoutError:
        text = f"{it} cannot be reached: nobody answers"
    except ConnectionRefusedError:
        text = f"{it} cannot be reached: the connection is refused"
    except ssl.SSLCertVerificationError as error:
        text = f"the certificate of {it} is not trusted: {error.verify_message}"
    except ssl.SSLError:
        text = f"{it} cannot be reached: TLS fails"
    except (OSError, UnicodeError):
        text = f"{it} cannot be reached"
    raise SourceError(SourceReason.UNREACHABLE, text)


async def first_that_answers(host: str, port: int, connect: Callable[[str], Awaitable[T]]) -> T:
    """`connect` to the addresses of a name, one after the other, each with its share of the time: one that leads
    nowhere, as IPv6 does in many a network, shall not keep us from the next. OSError, of the last one."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CONNECT_SECONDS
    addresses = await _addresses(host, port)
    for number, address in enumerate(addresses[:-1]):
        try:
            async with asyncio.timeout((end - loop.time()) / (len(addresses) - number)):
                return await connect(address)
        except ssl.SSLError:
            raise
        except OSError:  # its time was over, or nobody listens there
            continue
    return await connect(addresses[-1])


async def _addresses(host: str, port: int) -> list[str]:
    try:
        ip_address(host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    return [host]


def hang_up(transport: asyncio.WriteTransport, patience: float = 0.0) -> None:
    """Close a connection. What the other side has not taken after so many seconds is dropped: who does not read would
    keep the socket open for as long as it likes, and so would who never ends TLS."""
    transport.close()
    asyncio.get_running_loop().call_later(patience, transport.abort)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
