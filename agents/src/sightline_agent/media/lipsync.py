"""Which picture belongs to which sound: the relation of their two clocks.

Timestamps of both tracks count on clocks of their own. A source with one clock for both (a container, the test
pattern) knows for each block of sound what the timestamp of a picture of the same moment would be. A camera tells it
in its RTCP sender reports: for each track a timestamp and the moment on the camera's own clock. Where neither is there
the relation is that of arrival. Pure.
"""

from sightline_agent.media.frames import CLOCK_RATE

_MODULUS = 1 << 32
_HALF = 1 << 31

Told = tuple[float, int]
"""Seconds on the camera's clock, and the timestamp of that moment."""


def signed(difference: int) -> int:
    """A difference of two timestamps, which wrap after 32 bits."""
    return (difference + _HALF) % _MODULUS - _HALF


def picture_at(sound: int, rate: int, sound_told: Told, picture_told: Told) -> int:
    """The timestamp that a picture of the same moment has as the sample `sound`, after what the camera told of both."""
    seconds = sound_told[0] + signed(sound - sound_told[1]) / rate - picture_told[0]
    return (picture_told[1] + round(seconds * CLOCK_RATE)) % _MODULUS


class Unwrapper:
    """Timestamps that go on beyond 32 bits."""

    def __init__(self) -> None:
        self._last: int | None = None

    def unwrap(self, timestamp: int) -> int:
        """The timestamp nearest to the one before."""
        last = self._last if self._last is not None else timestamp
        self._last = last + signed(timestamp - last)
        return self._last


class LipSync:
    """What sender reports have to say of sound so that it goes with the pictures; timestamps are those of the viewers'
    lines, times any monotonic seconds."""

    def __init__(self) -> None:
        self._picture: tuple[int, float] | None = None
        self._sound: tuple[int, float] | None = None
        self._relation: tuple[int, int] | None = None

    def restart(self) -> None:
        """Another run of the source: nothing is known of it."""
        self._picture = self._sound = self._relation = None

    def picture(self, timestamp: int, now: float) -> None:
        """A part of a picture came. The newest counts, as in the pictures' own reports: so both tell of one clock."""
        self._picture = (timestamp, now)

    def sound(self, timestamp: int, now: float, picture: int | None) -> None:
        """Sound came, of the same moment as `picture` if that is known."""
        self._sound = (timestamp, now)
        self._relation = (timestamp, picture) if picture is not None else None

    def correction(self, rate: int, now: float) -> int:
        """Ticks from what the clock of the sound shows by arrival to what it shows beside the pictures' clock."""
        if self._picture is None or self._sound is None or self._relation is None:
            return 0
        (picture, picture_at), (newest, newest_at), (sound, same) = self._picture, self._sound, self._relation
        shown = signed(picture - same) + (now - picture_at) * CLOCK_RATE
        beside = sound + round(shown * rate / CLOCK_RATE)
        return signed(beside - newest - round((now - newest_at) * rate))
