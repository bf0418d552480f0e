"""Connections to the servers that sources read from by name, HTTP and RTMP: opened in time, or told why not.

Certificates are verified. An address may hold a key, so no message repeats it, nor what the system says of it. Cameras
that are asked over RTSP have a connection of their own: their messages name them, and their certificates may be pinned.
"""

import asyncio
import functools
import ssl

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

CONNECT_SECONDS = 4.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(host: str, port: int, it: str, *, encrypted: bool) -> Streams:
    """Both directions of a connection; SourceError where there is none. `it` is a phrase such as "the playlist"."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(host, port, ssl=_tls() if encrypted else None)
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


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
