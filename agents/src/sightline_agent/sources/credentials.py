"""User name and password of a camera, or its token: from a mounted Secret, or from a URL given on the command line.

Read anew each time a source is made, so a corrected Secret is used by the next attempt without a restart. A source asks
for the Secret that it names and gets no other: a pod keeps what it mounts when its camera's config changes, and whoever
changed that may not be allowed to send this Secret anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """Shown nowhere: no repr, no str."""

    username: str
    password: str
    token: str = ""
    """Of a WHEP server, or an RTMP stream key."""

    def __repr__(self) -> str:
        return "Credentials(...)"


ReadCredentials = Callable[[str | None], Credentials | None]
"""Asked with the name of the Secret that the source names."""


def mounted(directory: Path) -> ReadCredentials:
    """Reads the files `username`, `password` and `token` in the folder that is named like the Secret in `directory`;
    None while there are none, and for a source that names no Secret."""

    def read(secret: str | None) -> Credentials | None:
        if not secret:
            return None
        username, password, token = (_file(directory / secret / key) for key in ("username", "password", "token"))
        if username is None and password is None and token is None:
            return None
        return Credentials(username or "", password or "", token or "")

    return read


def split_url(url: str) -> tuple[str, Credentials | None]:
    """The URL without user name and password, and those."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    username, _, password = userinfo.partition(":")
    clean = SplitResult(parts.scheme, host, parts.path, parts.query, parts.fragment).geturl()
    return clean, Credentials(unquote(username), unquote(password))


def _file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    # Editors and `echo` leave a newline that nobody meant to be part of the password.
    return data.decode("utf-8", "replace").rstrip("\r\n")
