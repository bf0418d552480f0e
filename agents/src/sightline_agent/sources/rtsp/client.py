"""One connection to a camera: requests, answers, challenges. Every failure leaves as a SourceError.

Not a general client: one request is under way at a time, and what the camera sends meanwhile is kept in order
for whoever reads the stream afterwards.
"""

import asyncio
import hashlib
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.dial import first_that_answers, hang_up
from sightline_agent.sources.rtsp import auth, messages
from sightline_agent.sources.rtsp.apart import choose_apart
from sightline_agent.sources.rtsp.inbox import Inbox
from sightline_agent.sources.rtsp.messages import Status
from sightline_agent.sources.rtsp.wire import Batch, Item, Message, Packet, Read, Splitter, WireError
from sightline_model.reasons import SourceReason

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 4.0
_GOODBYE_SECONDS = 1.0
_MAX_EARLY = 4096
"""Packets that may overtake the answer to PLAY; more is no camera."""
_MAX_EARLY_BYTES = 8 << 20
_MAX_UNREAD = 16 * 1024
_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
_HARMLESS_REQUESTS = ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER")

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its status."""

    status: Status
    message: Message


class Connection:
    """An open connection. Use `connect`."""

    def __init__(self, inbox: Inbox, credentials: Credentials | None) -> None:
        self._inbox = inbox
        self._transport = inbox.transport
        self._credentials = credentials
        self._authorizer: auth.Authorizer | None = None
        self.apart = choose_apart()
        """What takes apart that comes."""
        self._splitter = Splitter(self.apart.cut)
        self._sequence = 0
        self._early: list[Item] = []
        self._early_bytes = 0

    @property
    def addresses(self) -> tuple[str, str]:
        """Our end and the camera's, without ports."""
        ours, theirs = (self._transport.get_extra_info(name)[0] for name in ("sockname", "peername"))
        return str(ours), str(theirs)

    async def call(self, method: str, url: str, headers: Headers = ()) -> Answer:
        """Send a request and wait for its answer; a challenge is answered once."""
        answer = await self._call(method, url, headers)
        for again in (False, True):
            # A second time only if the camera says that it was the nonce that had expired, not the password.
            if answer.status.code != 401 or (again and not _stale(answer.message)):
                break
            self._challenged(answer.message)
            answer = await self._call(method, url, headers)
        if answer.status.code in (401, 403):
            text = "the camera refuses the user name or the password"
            if answer.status.code == 403:
                text = "the camera forbids access to this stream"
            raise SourceError(SourceReason.AUTHENTICATION_FAILED, text)
        return answer

    def send(self, method: str, url: str, headers: Headers = ()) -> int:
        """Send a request whose answer is read from the stream; its number."""
        self._sequence += 1
        fields = list(headers)
        if self._authorizer is not None:
            fields.append(("Authorization", self._authorizer.field_for(method, url)))
        self._transport.write(messages.request(method, url, self._sequence, fields))
        return self._sequence

    def send_packet(self, channel: int, data: bytes) -> None:
        """Send an interleaved packet, unless the camera does not read what it is sent."""
        if self._transport.get_write_buffer_size() < _MAX_UNREAD:
            self._transport.write(bytes((0x24, channel)) + len(data).to_bytes(2, "big") + data)

    async def follow(self, take: Callable[[list[Item]], None], read: Read | None = None) -> None:
        """Hand over what comes, as it comes; ends by SourceError only: when the camera hangs up or makes no sense, or
        `take` raises it. `read`: what makes batches of the packets that come from now on."""
        early, self._early, self._early_bytes = self._early, [], 0
        take(early)
        self._splitter.read = read
        feed = self._splitter.feed

        def received(data: bytes) -> None:
            try:
                items = feed(data)
            except WireError as error:
                raise _nonsense(error) from error
            take(items)

        await self._inbox.follow(received)

    def reply(self, request: Message) -> None:
        """Answer a request of the camera; SourceError when it asks and asks but does not read the answers."""
        if self._transport.get_write_buffer_size() > _MAX_UNREAD:
            raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera asks but does not read the answers")
        method = request.start.partition(" ")[0]
        line = "200 OK" if method in _HARMLESS_REQUESTS else "501 Not Implemented"
        number = messages.sequence(request)
        self._transport.write(f"{messages.VERSION} {line}\r\nCSeq: {number or 0}\r\n\r\n".encode())

    def renew(self, answer: Message) -> bool:
        """Take the new nonce of a 401; False where it cannot be answered."""
        try:
            self._challenged(answer)
        except SourceError:
            return False
        return True

    def close(self) -> None:
        """Hang up; what was written still goes out, unless the camera does not read."""
        hang_up(self._transport, _GOODBYE_SECONDS)

    async def _call(self, method: str, url: str, headers: Headers) -> Answer:
        number = self.send(method, url, headers)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(number)
        except TimeoutError:
            raise SourceError(
                SourceReason.UNREACHABLE, f"the camera did not answer {method} within {ANSWER_SECONDS:g} s"
            ) from None

    async def _answer(self, number: int) -> Answer:
        while True:
            found: Answer | None = None
            for item in self._split(await self._inbox.read()):
                status = messages.status(item) if isinstance(item, Message) else None
                if found is None and isinstance(item, Message) and status is not None:
                    if messages.sequence(item) in (number, None) and status.code >= 200:
                        found = Answer(status, item)
                elif isinstance(item, Message) and status is None:
                    self.reply(item)
                else:
                    self._keep(item)
            if found is not None:
                return found

    def _keep(self, item: Item) -> None:
        """Until somebody follows."""
        if not isinstance(item, Batch) and len(self._early) < _MAX_EARLY and self._early_bytes < _MAX_EARLY_BYTES:
            self._early.append(item)
            self._early_bytes += len(item.data) if isinstance(item, Packet) else len(item.body)

    def _split(self, data: bytes) -> list[Item]:
        try:
            return self._splitter.feed(data)
        except WireError as error:
            raise _nonsense(error) from error

    def _challenged(self, answer: Message) -> auth.Challenge:
        """Prepare to answer a 401."""
        if self._credentials is None:
            text = "the camera asks for a user name and a password, and none are set"
            raise SourceError(SourceReason.AUTHENTICATION_FAILED, text)
        challenge = auth.choose(answer.all("www-authenticate"))
        if challenge is None:
            text = "the camera asks for a kind of authentication that is not known here"
            raise SourceError(SourceReason.AUTHENTICATION_FAILED, text)
        self._authorizer = auth.Authorizer(challenge, self._credentials, lambda: secrets.token_hex(8))
        return challenge


async def connect(url: str, fingerprint: str | None, credentials: Credentials | None) -> Connection:
    """Open the connection that a URL names; SourceError where there is none to be had."""
    parts = urlsplit(url)
    host, port = _address(url)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    context = _tls(fingerprint) if parts.scheme == "rtsps" else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            inbox = await first_that_answers(host, port, lambda address: _open(address, port, host, context))
    except TimeoutError:
        text = f"{shown} did not answer within {CONNECT_SECONDS:g} s"
        raise SourceError(SourceReason.UNREACHABLE, text) from None
    except socket.gaierror as error:
        raise SourceError(SourceReason.UNREACHABLE, f"the name {host} cannot be resolved") from error
    except ssl.SSLCertVerificationError as error:
        text = f"the camera's certificate is not trusted ({error.verify_message}); if it is the camera's own, set "
        raise SourceError(SourceReason.UNREACHABLE, text + "source.rtsp.fingerprint") from error
    except ssl.SSLError as error:
        text = f"no secure connection to {shown}: {error.reason or 'handshake failed'}"
        raise SourceError(SourceReason.UNREACHABLE, text) from error
    except OSError as error:
        text = f"{shown} cannot be reached: {error.strerror or 'no connection'}"
        raise SourceError(SourceReason.UNREACHABLE, text) from error
    if context is not None and fingerprint is not None:
        _verify(inbox.transport, fingerprint)
    return Connection(inbox, credentials)


async def _open(address: str, port: int, host: str, context: ssl.SSLContext | None) -> Inbox:
    loop, name = asyncio.get_running_loop(), host if context is not None else None
    _, inbox = await loop.create_connection(Inbox, address, port, ssl=context, server_hostname=name)
    return inbox


def _nonsense(error: WireError) -> SourceError:
    return SourceError(SourceReason.PROTOCOL_ERROR, f"what the camera sends is no RTSP: {error}")


def _stale(answer: Message) -> bool:
    challenge = auth.choose(answer.all("www-authenticate"))
    return challenge is not None and challenge.stale


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        host, port = None, 0
    if not host:
        raise SourceError(SourceReason.PROTOCOL_ERROR, "the address of the camera is not valid")
    return host, port


def _tls(fingerprint: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if fingerprint is not None:  # a certificate that the camera made itself: known by what it is
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _verify(transport: asyncio.Transport, fingerprint: str) -> None:
    tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(certificate).hexdigest()
    if not secrets.compare_digest(found, fingerprint.replace(":", "").lower()):
        transport.close()
        text = f"the camera's certificate has another fingerprint: {found}"
        raise SourceError(SourceReason.UNREACHABLE, text)
