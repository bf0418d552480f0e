"""Sound on its way to the viewers: formats, payloads of a bearable size, and times without a jolt. Pure.

Sound is never encoded again where a browser plays it as it comes (`PASSED_ON`). Its timestamps count samples, while
containers tell times in milliseconds or ticks of 90 kHz: `SampleLine` counts and looks at the time told only to notice
that something is missing, because players take each sample too many or too few for a loss and conceal it.
"""

from sightline_agent.media.frames import MAX_PAYLOAD, AudioFormat, Chunk

OPUS_RATE = 48_000
OPUS = AudioFormat("OPUS", OPUS_RATE, 2)
"""In SDP always two channels, whatever a packet holds (RFC 7587 section 7)."""
G711_RATE = 8_000
PCMU = AudioFormat("PCMU", G711_RATE, 1)
PCMA = AudioFormat("PCMA", G711_RATE, 1)
PASSED_ON = (OPUS, PCMU, PCMA)

_TIMESTAMPS = 1 << 32
_G711_PIECE = 480
"""Samples (60 ms) of a payload that had to be cut."""


class SampleLine:
    """Times of successive blocks of samples, in samples; `tolerance` and `overlap` are in seconds."""

    def __init__(self, rate: int, tolerance: float = 0.05, overlap: float = 2.0) -> None:
        self._tolerance = round(rate * tolerance)
        self._overlap = round(rate * overlap)
        self._next: int | None = None
        self.jumps = 0
        """Times that the count was given up for the time told."""

    def place(self, told: int, samples: int) -> int | None:
        """When a block of so many samples begins, that is told to begin at `told`; None where it is to be left out,
        because its place is taken: the ends of two clips overlap, for example."""
        expected = self._next
        if expected is None or abs(told - expected) > self._tolerance:
            if expected is not None and -self._overlap < told - expected < 0:
                return None
            self.jumps += expected is not None
            expected = told
        self._next = expected + samples
        return expected


def pieces(format_: AudioFormat, payload: bytes) -> list[tuple[bytes, int]]:
    """A payload as one or several that fit a packet, each with its distance in samples from the first; empty where it
    cannot be cut."""
    if len(payload) <= MAX_PAYLOAD:
        return [(payload, 0)] if payload else []
    if format_.codec == OPUS.codec:
        return []
    return [(payload[at : at + _G711_PIECE], at) for at in range(0, len(payload), _G711_PIECE)]


def chunk(payload: bytes, at: int, marker: bool = False) -> Chunk:
    """One payload as the fan-out takes it; `at` in samples."""
    return Chunk((payload,), at % _TIMESTAMPS, last=marker, key=True)


def opus_samples(packet: bytes) -> int:
    """How long an Opus packet plays, in samples at 48 kHz (RFC 6716 section 3.1); 0 for what is none."""
    if not packet:
        return 0
    configuration, code = packet[0] >> 3, packet[0] & 3
    if configuration < 12:
        frame = (480, 960, 1920, 2880)[configuration & 3]
    elif configuration < 16:
        frame = (480, 960)[configuration & 1]
    else:
        frame = (120, 240, 480, 960)[configuration & 3]
    count = (1, 2, 2)[code] if code < 3 else (packet[1] & 0x3F if len(packet) > 1 else 0)
    samples = frame * count
    return samples if samples <= 5760 else 0
