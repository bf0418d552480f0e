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
_ABSOLUTE = re.compile(r"rtsps?:", re.IGNORECASE)
_PROTOCOLS = {"RTP/AVP/TCP": True, "RTP/AVP": False, "RTP/AVP/UDP": False}
_PAIR = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
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


@dataclass(frozen=True, slots=True)
class Transport:
    """Transport: how RTP and RTCP come."""

    interleaved: bool
    """In the RTSP connection, not over UDP."""
    numbers: tuple[int, int] | None = None
    """The two channels, or the camera's two ports; None where it names none."""


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
    # It is sent back in each request: one line, and nothing that is no text.
    return SessionHeader(id_ if id_.isprintable() else "", timeout)


def transport(value: str) -> Transport | None:
    """What a Transport field says; None for what is none of the ways that we ask for."""
    first = value.split(",")[0]
    parts = [part.strip() for part in first.split(";")]
    interleaved = _PROTOCOLS.get(parts[0].upper())
    if interleaved is None or "multicast" in map(str.lower, parts):
        return None
    wanted, limit = ("interleaved", 0xFF) if interleaved else ("server_port", 0xFFFF)
    for part in parts[1:]:
        name, _, pair = part.partition("=")
        if name.strip().lower() == wanted:
            numbers = _pair(pair.strip(), limit)
            if numbers is not None or interleaved:
                return Transport(interleaved, numbers) if numbers is not None else None
    return Transport(interleaved)


def _pair(text: str, limit: int) -> tuple[int, int] | None:
    """`4-5`, or `4` for itself and the next."""
    match = _PAIR.match(text)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if max(first, second) <= limit else None


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
    if _ABSOLUTE.match(control):
        return control
    return f"{base.rstrip('/')}/{control.lstrip('/')}"


def clean_url(url: str) -> str | None:
    """A URL from the camera that may be sent back to it: no user name, no spaces, quotes or line breaks."""
    if len(url) > 2048 or not url.isprintable() or " " in url or '"' in url:
        return None
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and parts.port != 0
    except ValueError:
        return None
    if parts.scheme not in ("rtsp", "rtsps") or not named:
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def printable(text: str, limit: int = 80) -> str:
    """A camera's words, fit for a message: bounded, one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:limit]).strip()
