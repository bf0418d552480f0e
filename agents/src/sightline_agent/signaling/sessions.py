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


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that awaits its peer."""

    sid: str
    answer: str = field(repr=False)
    etag: str
    """Names the ICE session: `Peer.etag`, without quotes."""


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

    def trickle(self, sid: str, fragment: str) -> str | None:
        """Hand an SDP fragment to `Peer.trickle` and return what it returns; ProblemError session-not-found."""
        ...
