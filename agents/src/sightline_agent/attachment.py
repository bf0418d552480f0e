"""A viewer's place at a rendition: what sessions ask of `renditions`, and what peers then send.

Types only, so that peers and sessions know neither hubs nor sources.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sightline_agent.media.frames import MediaFormat
from sightline_agent.transport.fanout import FanOut
from sightline_model.agent import MAIN_PROFILE


async def _at_once(patience: float) -> None:
    return


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a viewer asks for."""

    profile: str = MAIN_PROFILE
    """The quality's name."""
    codecs: frozenset[str] = frozenset({"H264"})
    """Of pictures, in upper case: what the viewer says that it decodes."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One viewer counted in at a rendition, whose source runs for it until `leave`, which is called once."""

    profile: str
    format: MediaFormat
    pictures: FanOut
    sound: FanOut | None
    """Of `format.audio`; None where the rendition has no sound."""
    want_key_frame: Callable[[], None]
    leave: Callable[[], None]
    sound_correction: Callable[[float], int] = lambda now: 0
    """Ticks from what the sound's clock shows by arrival, at any monotonic second, to what it shows beside the
    pictures' clock."""
    key_frame: Callable[[float], Awaitable[None]] = _at_once
    """Waits until a viewer may begin here with a picture that is new; for so many seconds at most, then with an older
    one. SourceError where there is none."""
