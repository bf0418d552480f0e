"""What a person names a camera by, in one line: an address of any kind, a path, a test pattern.

For `sightline-agent --standalone --source` and `sightline dev --camera`. User name, password and token are taken out of
the address; they are in no message, whatever is wrong.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from sightline_agent.sources.credentials import Credentials, split_url
from sightline_model.camera import FileSource, HlsSource, RtmpSource, RtspSource, Source, V4l2Source, WhepSource
from sightline_model.camera import TestPatternSource as TestPatternSpec

EXAMPLES = (
    "rtsp://[user:password@]host/path, rtmp://host/app/key, http(s)://host/index.m3u8, http(s)://host/clip.mp4, "
    "wheps://[token@]host/path, /path/to/clip, /dev/video0 or test"
)
_TEST = "test"

Named = tuple[Source, Credentials | None]


class AddressError(ValueError):
    """It names no camera; the text says what would."""


def parse_address(text: str) -> Named:
    """The source and its credentials.

    `test` and `testpattern://?width=640&fps=15` are the test pattern. A WHEP endpoint is an http(s) URL that ends in
    /whep, or one with the scheme whep or wheps instead; its token stands where a user name would. Other http(s) URLs
    are playlists if they end like one, else clips.
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
    url, credentials = split_url(text)
    return Source(rtsp=RtspSource(url=url)), credentials


def _rtmp(text: str) -> Named:
    url, credentials = split_url(text)
    return Source(rtmp=RtmpSource(url=url)), credentials


def _whep(text: str) -> Named:
    url, credentials = split_url("http" + text.partition("whep")[2] if text.startswith("whep") else text)
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
