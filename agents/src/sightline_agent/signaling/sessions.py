"""What signaling asks of the session registry, and in which words.

`whep.py` and `offer.py` turn HTTP into these calls; the registry turns them into peers. Failures are ProblemErrors.
"""

from dataclasses import dataclass, field
from typing import Protocol

from sightline_model.reasons import EndReason
from sightline_model.session import SessionRole, Transport


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Somebody wants to watch or publish."""

    sid: str
    """The session id that the media token names; the registry uses each once."""
    user: str
    role: SessionRole
    transport: Transport
    offer: str = field(repr=False)
    """The SDP offer. It holds ICE passwords, so it is never shown."""
    client: str = ""
    """The peer's program in its own words (User-Agent), cut to 256 characters."""
    profile: str | None = None
    """The quality that is asked for; None: the one that the link carries, beginning with the best."""
    codecs: frozenset[str] = frozenset({"H264"})
    """Of pictures, in upper case: what the offer says that the peer decodes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A quality that may be chosen, and what its source sent last."""

    name: str
    running: bool
    codec: str
    width: int
    height: int
    bitrate: int


@dataclass(frozen=True, slots=True)
class Layers:
    """The qualities of a session."""

    media_id: str | None
    """The `mid` of the pictures."""
    layers: list[Layer]
    """The best first."""
    selected: str
    """What is sent."""
    automatic: bool
    """By what the link carries, not by the viewer's choice."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that awaits its peer."""

    sid: str
    answer: str = field(repr=False)
    etag: str
    """Names the ICE session: `Peer.etag`, without quotes."""
    layered: bool = False
    """There is more than one quality to choose from."""


class Sessions(Protocol):
    """The registry, as far as signaling needs it."""

    async def open(self, request: OpenRequest) -> Opened:
        """Park until the source runs, then answer. Cancelled when the client hangs up meanwhile: then nothing stays."""
        ...

    async def close(self, sid: str, reason: EndReason) -> bool:
        """End a session; False when there is no live one of this name."""
        ...

    def etag(self, sid: str) -> str | None:
        """`Peer.etag` of a live session; None when there is none."""
        ...

    def layers(self, sid: str) -> Layers:
        """What may be chosen; ProblemError session-not-found."""
        ...

    async def select(self, sid: str, profile: str | None) -> None:
        """Change to a quality, None: by what the link carries; returns when it is done. ProblemErrors."""
        ...

    def trickle(self, sid: str, fragment: str) -> str | None:
        """Hand an SDP fragment to `Peer.trickle` and return what it returns; ProblemError session-not-found."""
        ...
