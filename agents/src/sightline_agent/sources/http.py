"""The little HTTP that sources need: one request, one bounded answer, every failure as a SourceError.

On asyncio and h11, so that nothing blocks and a cancelled source ends at once. Redirects are followed a few times;
what authorizes at one server is never sent to another. An answer of any status is an answer: `refusal` makes a
SourceError of one that is no success. Addresses appear in no message: they may hold keys.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin, urlsplit

import h11

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.dial import dial, hang_up
from sightline_model.reasons import SourceReason

_READ_BYTES = 64 * 1024
_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_AGENT = "sightline-agent"
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"
"""What may stand in a request's target (RFC 3986); the rest is percent-encoded."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `it` is a phrase for messages, such as "the playlist"."""

    method: str
    url: str
    it: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    max_bytes: int = 1 << 20
    seconds: float = 8.0
    """For the whole answer, redirects included."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    """Where it came from, after redirects."""

    @property
    def ok(self) -> bool:
        """A success."""
        return 200 <= self.status < 300


async def fetch(request: Request) -> Response:
    """The answer, whatever its status; SourceError where there is none."""
    try:
        async with asyncio.timeout(request.seconds):
            for _ in range(_MAX_REDIRECTS + 1):
                response = await _once(request)
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or location is None:
                    return response
                request = _redirected(request, response.status, location)
    except TimeoutError:
        raise SourceError(SourceReason.UNREACHABLE, f"{request.it} does not answer in time") from None
    raise SourceError(SourceReason.PROTOCOL_ERROR, f"{request.it} is redirected without end")


def refusal(response: Response, it: str) -> SourceError:
    """Why an answer that is no success is none."""
    status = response.status
    if status in (401, 403):
        return SourceError(SourceReason.AUTHENTICATION_FAILED, f"the server of {it} refuses access (HTTP {status})")
    if status in (404, 410):
        return SourceError(SourceReason.NOT_FOUND, f"{it} is not there (HTTP {status})")
    if status >= 500 or status == 429:
        return SourceError(SourceReason.UNREACHABLE, f"the server of {it} cannot answer now (HTTP {status})")
    return SourceError(SourceReason.PROTOCOL_ERROR, f"the server of {it} refuses the request (HTTP {status})")


def same_origin(one: str, other: str) -> bool:
    """Do both addresses lead to the same server?"""
    return _origin(one) == _origin(other)


async def _once(request: Request) -> Response:
    scheme, host, port = _origin(request.url)
    if scheme not in _PORTS or not host:
        raise SourceError(SourceReason.PROTOCOL_ERROR, f"the address of {request.it} is not http or https")
    reader, writer = await dial(host, port, request.it, encrypted=scheme == "https")
    try:
        return await _exchange(request, reader, writer)
    except (h11.ProtocolError, UnicodeError):
        raise SourceError(SourceReason.PROTOCOL_ERROR, f"the server of {request.it} does not speak HTTP") from None
    except OSError:
        text = f"the connection to {request.it} was closed by the other side"
        raise SourceError(SourceReason.UNREACHABLE, text) from None
    finally:
        hang_up(writer.transport)


async def _exchange(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Response:
    parts = urlsplit(request.url)
    headers = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": _AGENT,
        "Accept-Encoding": "identity",
        "Connection": "close",
        **request.headers,
    }
    if request.body or request.method == "POST":
        headers["Content-Length"] = str(len(request.body))
    connection = h11.Connection(h11.CLIENT)
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_AS_IT_IS)
    for event in (
        h11.Request(method=request.method, target=target, headers=list(headers.items())),
        h11.Data(data=request.body),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    return await _read(request, reader, connection)


async def _read(request: Request, reader: asyncio.StreamReader, connection: h11.Connection) -> Response:
    status, fields, body = 0, {}, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > request.max_bytes:
                text = f"{request.it} is larger than {request.max_bytes} bytes"
                raise SourceError(SourceReason.PROTOCOL_ERROR, text)
        elif isinstance(event, h11.EndOfMessage):
            return Response(status, fields, bytes(body), request.url)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError


def _redirected(request: Request, status: int, location: str) -> Request:
    url = urljoin(request.url, location)
    headers = dict(request.headers)
    if not same_origin(url, request.url):
        for name in [name for name in headers if name.lower() == "authorization"]:
            del headers[name]
    if status == 303 and request.method != "HEAD":
        return replace(request, method="GET", url=url, headers=headers, body=b"")
    return replace(request, url=url, headers=headers)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    port = 0
    with contextlib.suppress(ValueError):
        port = parts.port or _PORTS.get(scheme, 0)
    return scheme, (parts.hostname or "").lower(), port
