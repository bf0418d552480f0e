"""What a person names a camera by, in one line: an address of any kind, a path, a test pattern.

For `sightline-agent --standalone --source` and `sightline dev --camera`. User name, password and token are taken out of
the address; they are in no message, whatever is wrong.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from sightline_agent.sources.credentials import Credentials, split_url
from sightline_model.camera import (
    FileSource,
    HlsSource,
    RtmpSource,
    RtspSource,
    RtspTransport,
    Source,
    V4l2Source,
    WhepSource,
)
from sightline_model.camera import TestPatternSource as TestPatternSpec

EXAMPLES = (
    "rtsp://[user:password@]host/path, rtmp://host/app/key, http(s)://host/index.m3u8, http(s)://host/clip.mp4, "
    "wheps://[token@]host/path, /path/to/clip, /dev/video0 or test"
)
_RTSP_OPTIONS = "behind a # may stand transport=TCP, UDP (not with rtsps) or Auto, and fingerprint=SHA-256 with rtsps"
_TRANSPORTS = {one.lower(): one.value for one in RtspTransport}
_TEST = "test"

Named = tuple[Source, Credentials | None]


class AddressError(ValueError):
    """It names no camera; the text says what would."""


def parse_address(text: str) -> Named:
    """The source and its credentials.

    `test` and `testpattern://?width=640&fps=15` are the test pattern. A WHEP endpoint is an http(s) URL that ends in
    /whep, or one with the scheme whep or wheps instead; its token stands where a user name would. Other http(s) URLs
    are playlists if they end like one, else clips. Behind an RTSP address `#transport=TCP` (or UDP) says how RTP
    comes, and `#fingerprint=` names the certificate that an rtsps camera made itself.
    """
    if text == _TEST or text.startswith("testpattern:"):
        scheme = "testpattern"
    else:
        scheme = text.partition("://")[0] if "://" in text else ""
    make = _KINDS.get(scheme)
    if make is None:
        raise AddressError(f"not a known kind of address; write {EXAMPLES}")
    try:
        return make(text)
    except AddressError:
        raise
    except ValueError:  # of pydantic and urlsplit: the text may hold a password and is not repeated
        raise AddressError(f"not a valid address; write {EXAMPLES}") from None


def _pattern(text: str) -> Named:
    query = parse_qs(urlsplit(text).query)
    options = {name: values[-1] for name, values in query.items()}
    return Source(test_pattern=TestPatternSpec.model_validate(options)), None


def _rtsp(text: str) -> Named:
    address, _, fragment = text.partition("#")
    url, credentials = _split(address)
    options = {name: values[-1] for name, values in parse_qs(fragment, keep_blank_values=True).items()}
    if not options.keys() <= {"transport", "fingerprint"}:
        raise AddressError(f"not a valid address; a # in a password is written %23; {_RTSP_OPTIONS}")
    if "transport" in options:
        options["transport"] = _TRANSPORTS.get(options["transport"].lower(), options["transport"])
    try:
        return Source(rtsp=RtspSource.model_validate({"url": url, **options})), credentials
    except ValidationError:
        if options:
            raise AddressError(f"not a valid address; {_RTSP_OPTIONS}") from None
        raise


def _split(text: str) -> tuple[str, Credentials | None]:
    """As `split_url`. In `user:12/3@host` the password is cut in two: its halves would pass for a port and a path."""
    url, credentials = split_url(text)
    if credentials is None and "@" in url:
        raise AddressError("not a valid address; a / or ? in a password is written %2F or %3F, an @ in a path %40")
    return url, credentials


def _rtmp(text: str) -> Named:
    url, credentials = _split(text)
    return Source(rtmp=RtmpSource(url=url)), credentials


def _whep(text: str) -> Named:
    url, credentials = _split("http" + text.partition("whep")[2] if text.startswith("whep") else text)
    if credentials is None:
        return Source(whep=WhepSource(url=url)), None
    # MediaMTX takes user name and password as a token with a colon between.
    token = ":".join(filter(None, (credentials.username, credentials.password)))
    return Source(whep=WhepSource(url=url)), Credentials("", "", token)


def _http(text: str) -> Named:
    path = urlsplit(text).path
    if path.endswith("/whep"):
        return _whep(text)
    if split_url(text)[1] is not None:
        raise AddressError("a playlist or a clip takes no user name and password")
    if path.endswith((".m3u8", ".m3u")):
        return Source(hls=HlsSource(url=text)), None
    return Source(file=FileSource(url=text)), None


def _path(text: str) -> Named:
    if not text:
        raise AddressError(f"nothing is named; write {EXAMPLES}")
    if text.startswith("/dev/"):
        return Source(v4l2=V4l2Source(device=text)), None
    return Source(file=FileSource(path=str(Path(text.removeprefix("file://")).absolute()))), None


_KINDS: dict[str, Callable[[str], Named]] = {
    "testpattern": _pattern,
    "rtsp": _rtsp,
    "rtsps": _rtsp,
    "rtmp": _rtmp,
    "rtmps": _rtmp,
    "whep": _whep,
    "wheps": _whep,
    "http": _http,
    "https": _http,
    "file": _path,
    "": _path,
}
