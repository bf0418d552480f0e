"""The interface of the fan-out: packetise once, then per viewer a header, encryption and a send.

Callers: the hub (`send`), peers (`add`, `remove`, `move`, `resend`, `stats`). Two implementations have the same
semantics: a native one, and one in pure Python, which is the reference and serves where the native one is not there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from sightline_agent.media.frames import CLOCK_RATE, Chunk

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SendKeys:
    """What DTLS-SRTP (RFC 5764) negotiated for our direction. Key and salt are secrets: no repr."""

    profile: str
    """`SRTP_AEAD_AES_128_GCM`, `SRTP_AES128_CM_SHA1_80` or `SRTP_AEAD_AES_256_GCM`."""
    key: bytes
    salt: bytes

    def __repr__(self) -> str:
        return f"SendKeys({self.profile})"


@dataclass(frozen=True, slots=True)
class Viewer:
    """One receiver of the stream."""

    address: Address
    keys: SendKeys
    ssrc: int
    payload_type: int
    rtx_ssrc: int
    rtx_payload_type: int
    """0: the peer has no RTX."""


@dataclass(frozen=True, slots=True)
class ViewerStats:
    """The counters, and what a sender report needs (RFC 3550 section 6.4.1)."""

    packets: int
    octets: int
    last_timestamp: int
    resent: int
    dropped: int
    last_sent: float = 0.0
    """`time.monotonic()` when the packet with `last_timestamp` was sent; 0 before the first."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks."""

    now: float
    """The monotonic clock that packets were sent by."""
    ntp: int
    """The wall clock (`rtcp.ntp_time`)."""


@dataclass(frozen=True, slots=True)
class FanOutTotals:
    """Counters over all viewers that were ever served."""

    packets: int = 0
    """Sent, resent ones included."""
    octets: int = 0
    """Of UDP payload sent."""
    resent: int = 0
    dropped: int = 0
    """Not sent because the socket was full or refused them."""
    refused: int = 0
    """Asked for by NACK, but no longer kept or over the viewer's budget."""
    bursts: int = 0
    """Times that a viewer got the group of pictures under way at once."""
    delayed: int = 0
    """Times that a full socket made a viewer fall behind; it caught up, or something was dropped."""
    skipped: int = 0
    """Packets that a viewer who was behind did not get, because a newer key frame made them needless."""
    gops_dropped: int = 0
    """Groups of pictures that were too long or too large to be kept."""

    def __add__(self, other: "FanOutTotals") -> "FanOutTotals":
        return FanOutTotals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Carried:
    """A viewer between two fan-outs of one kind, adopted once or never: keys, numbers and counters go with it."""

    state: Any = field(repr=False)
    address: Address
    on_start: Callable[[], None] | None = None
    """Still to be called with the first packet."""


class FanOut(Protocol):
    """Sends each chunk to every viewer. Not thread-safe: one task, the hub's loop, calls it.

    A viewer gets the packets of the stream in their order and with their timestamps, numbered without a gap. One who is
    behind (see `pacing`) gets them in slices, between the calls, until it has caught up.
    """

    def add(self, viewer: Viewer, on_start: Callable[[], None] | None = None) -> int:
        """Start a viewer with the group of pictures under way, or with the next key frame where there is none.

        `on_start` is called with the first packet, never within this call; the handle is for the other calls.
        """
        ...

    def refresh(self, handle: int) -> bool:
        """Send the group under way to a viewer again, who cannot decode (PLI); not too often. Was it done?"""
        ...

    def cut(self) -> None:
        """The source was stopped or replaced: who joins now waits for the next key frame."""
        ...

    def gop_seconds(self) -> float | None:
        """How much of the stream a viewer who joined now would get at once; None: it would have to wait."""
        ...

    def remove(self, handle: int) -> None:
        """Forget a viewer; unknown handles are ignored."""
        ...

    def settled(self, handle: int) -> bool:
        """Is the viewer between two frames, and not behind? Then nothing is cut in two by `release`."""
        ...

    def release(self, handle: int) -> Carried | None:
        """Let a viewer go to another fan-out, which goes on where this one stops; None for unknown handles."""
        ...

    def adopt(self, carried: Carried, clock_rate: int = CLOCK_RATE, *, at_once: bool = True) -> int:
        """Take in a viewer that another fan-out of this kind has released.

        It begins with the group of pictures under way (`at_once`), else with the next key frame. Its sequence numbers
        and SRTP indices go on without a gap, its timestamps by the time that has passed on a clock of that rate. What
        was sent before can no longer be repeated.
        """
        ...

    def move(self, handle: int, address: Address) -> None:
        """Send to another address from now on (the peer roamed)."""
        ...

    def send(self, chunk: Chunk) -> None:
        """Send to all; never blocks. Whom a full socket holds up too long goes on at the next key frame (counted)."""
        ...

    def resend(self, handle: int, sequence_numbers: list[int]) -> None:
        """Answer a NACK (RFC 4585) from the shared ring, by RTX (RFC 4588) where the peer has it."""
        ...

    def report(self, handle: int, moment: Moment, clock_rate: int = CLOCK_RATE, correction: int = 0) -> int | None:
        """Send a viewer a sender report: what its stream's clock shows at that moment, which is the newest packet's
        timestamp plus the time since, and `correction` ticks.

        Bytes of payload that it was sent until now. None for unknown handles and before the first packet, when there
        is nothing to tell.
        """
        ...

    def stats(self, handle: int) -> ViewerStats | None:
        """Counters of a viewer; None for unknown handles."""
        ...

    def totals(self) -> FanOutTotals:
        """Counters of all."""
        ...
