"""RTSP requests and what the header fields of responses say (RFC 2326). Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sightline_agent.sources.rtsp.wire import Message

VERSION = "RTSP/1.0"
USER_AGENT = "Sightline"
DEFAULT_TIMEOUT = 60.0
_STATUS_LINE = re.compile(r"RTSP/\d\.\d (\d{3})(?: (.*))?")
_DIGITS = re.compile(r"[0-9]{1,6}")
_SHORTEST_TIMEOUT = 2.0
_LONGEST_TIMEOUT = 3600.0


@dataclass(frozen=True, slots=True)
class Status:
    """The first line of a response."""

    code: int
    phrase: str


@dataclass(frozen=True, slots=True)
class SessionHeader:
    """Session: the id, and after how many silent seconds the camera forgets it."""

    id: str
    timeout: float


def request(method: str, url: str, sequence: int, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """The bytes of a request without a body."""
    fields = [("CSeq", str(sequence)), ("User-Agent", USER_AGENT), *headers]
    lines = [f"{method} {url} {VERSION}", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode()


def status(message: Message) -> Status | None:
    """The status of a response; None for a request of the camera."""
    match = _STATUS_LINE.fullmatch(message.start.strip())
    if match is None:
        return None
    return Status(int(match[1]), printable(match[2] or ""))


def sequence(message: Message) -> int | None:
    """CSeq; None where it is missing or no number."""
    text = message.header("cseq")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def session(value: str) -> SessionHeader:
    """What the Session field says."""
    id_, *parameters = (part.strip() for part in value.split(";"))
    timeout = DEFAULT_TIMEOUT
    for parameter in parameters:
        name, _, number = parameter.partition("=")
        digits = _DIGITS.match(number.strip())
        if name.strip().lower() == "timeout" and digits:
            timeout = min(max(float(digits[0]), _SHORTEST_TIMEOUT), _LONGEST_TIMEOUT)
    return SessionHeader(id_, timeout)


def rtp_channel(transport: str, wanted: int) -> int | None:
    """The channel of RTP in a Transport field; `wanted` where it names none; None where RTP is not interleaved."""
    first = transport.split(",")[0]
    parts = [part.strip() for part in first.split(";")]
    if parts[0].upper() != "RTP/AVP/TCP":
        return None
    for part in parts[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "interleaved":
            digits = _DIGITS.match(value.strip())
            return int(digits[0]) if digits and int(digits[0]) < 256 else None
    return wanted


def methods(public: str) -> frozenset[str]:
    """What the Public field offers."""
    return frozenset(part.strip().upper() for part in public.split(",") if part.strip())


def join(base: str, control: str) -> str:
    """The URL that `a=control` means (RFC 2326 appendix C.1.1, as cameras understand it).

    Cameras append the control value to the base, also where RFC 3986 would replace the last segment or drop
    the query.
    """
    if control in ("", "*"):
        return base
    if urlsplit(control).scheme in ("rtsp", "rtsps"):
        return control
    return f"{base.rstrip('/')}/{control.lstrip('/')}"


def clean_url(url: str) -> str | None:
    """A URL from the camera that may be sent back to it: no user name, no spaces, no line breaks."""
    if len(url) > 2048 or not url.isprintable() or " " in url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("rtsp", "rtsps") or not parts.netloc:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def printable(text: str, limit: int = 80) -> str:
    """A camera's words, fit for a message: bounded, one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit]).strip()
