"""Where a camera is asked, and where it may send us: redirections that keep what is secret. Pure."""

from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp import messages
from sightline_model.reasons import SourceReason

MAX_REDIRECTIONS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """An address, and what belongs to it alone."""

    url: str
    credentials: Credentials | None = field(default=None, repr=False)
    fingerprint: str | None = None
    redirections: int = 0
    estranged: bool = False
    """The camera has sent us to another host, which got neither user name nor password."""

    @property
    def secure(self) -> bool:
        """Encrypted?"""
        return urlsplit(self.url).scheme == "rtsps"


def redirected(target: Target, location: str) -> Target:
    """Where a Location field sends us; SourceError where we do not follow.

    Another host gets neither the credentials nor the trust in a fingerprint: they were given for this one.
    """
    url = messages.clean_url(location)
    if url is None:
        raise _refused("the camera wants to be asked at another address, but names none")
    if target.redirections >= MAX_REDIRECTIONS:
        raise _refused("the camera sends from address to address without end")
    if target.secure and urlsplit(url).scheme != "rtsps":
        raise _refused("the camera wants to be asked at an address without encryption")
    count = target.redirections + 1
    if _host(url) == _host(target.url):
        return replace(target, url=url, redirections=count)
    return Target(url, redirections=count, estranged=target.estranged or target.credentials is not None)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".").lower()


def _refused(text: str) -> SourceError:
    return SourceError(SourceReason.PROTOCOL_ERROR, text)
