"""The sound of an RTMP stream: FLV audio tags, and enhanced RTMP's with four letters.

`parse` reads a message and is pure; `Sound` does with it what `sources.sound.live` does with any.
"""

from dataclasses import dataclass

from sightline_agent.media import aac
from sightline_agent.sources.sound.live import LiveSound
from sightline_agent.sources.sound.wire import Coding

AAC = "AAC"
_CODECS = {0: "L16", 1: "ADPCM", 2: "MP3", 3: "L16", 4: "NELLYMOSER", 5: "NELLYMOSER", 6: "NELLYMOSER", 11: "SPEEX"}
_PASSED_ON = {
    "PCMA": Coding("pcm_alaw", 8000, 1),
    "PCMU": Coding("pcm_mulaw", 8000, 1),
    "OPUS": Coding("opus", 48_000, 2),
}
_A_LAW, _MU_LAW, _ENHANCED, _AAC = 7, 8, 9, 10
_FOURCC = {b"mp4a": AAC, b"Opus": "OPUS"}
_CONFIGURATION, _CODED = 0, 1


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a decoder of AAC starts from."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Coded:
    """A block of sound."""

    codec: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Foreign:
    """Sound of a codec that is not carried."""

    codec: str


def parse(body: bytes) -> Configuration | Coded | Foreign | None:
    """What the message holds; None for nothing of interest."""
    if len(body) < 2:
        return None
    kind = body[0] >> 4
    if kind == _ENHANCED:
        return _content(_FOURCC.get(body[1:5], ""), body[0] & 0x0F, body[5:])
    if kind == _AAC:
        return _content(AAC, body[1], body[2:])
    if kind in (_A_LAW, _MU_LAW):
        return Coded("PCMA" if kind == _A_LAW else "PCMU", body[1:])
    return Foreign(_CODECS.get(kind, f"codec {kind}"))


def _content(codec: str, kind: int, data: bytes) -> Configuration | Coded | Foreign | None:
    if not codec:
        return Foreign("an unknown codec")
    if kind == _CONFIGURATION:
        return Configuration(data) if codec == AAC and data else None
    return Coded(codec, data) if kind == _CODED and data else None


class Sound(LiveSound):
    """One stream's sound."""

    def hear(self, body: bytes, at: int | None) -> None:
        """A message of sound; `at` is its time on the pictures' line at 90 kHz, None where it has no place there."""
        found = parse(body)
        if isinstance(found, Foreign):
            self.refuse(found.codec)
        elif isinstance(found, Configuration):
            config = aac.parse_config(found.data)
            if config is None:
                self.refuse("AAC of an unknown kind")
            else:
                self.expect(Coding("aac", config.rate, config.channels, found.data))
        elif found is not None and at is not None:
            coding = _PASSED_ON.get(found.codec)
            if coding is not None:
                self.expect(coding)
            self.take(found.data, at)
