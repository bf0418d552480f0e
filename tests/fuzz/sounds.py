"""Targets that read sound: AAC in RTP payloads, Opus, and the messages of RTMP."""

from random import Random

from sightline_agent.media import aac, sound
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.sources.rtmp.sound import Configuration, parse
from tests.fuzz.runner import Target

_MAX_PART = 8192


class AccessUnits:
    """Payloads of one stream, with losses."""

    def __init__(self) -> None:
        self._reader = aac.AccessUnits(aac.Layout())
        self._timestamp = 0

    def feed(self, data: bytes, random: Random) -> None:
        self._timestamp += 1024 * random.randrange(3)
        for unit, distance in self._reader.push(data, self._timestamp, gap=random.random() < 0.1):
            assert unit
            assert distance % aac.SAMPLES == 0

    def check(self) -> None:
        assert len(self._reader._part) <= _MAX_PART

    def close(self) -> None: ...


class Messages:
    """RTMP's messages of sound, what configures a decoder, and payloads that are passed on."""

    def feed(self, data: bytes, random: Random) -> None:
        found = parse(data)
        if isinstance(found, Configuration):
            config = aac.parse_config(found.data)
            assert config is None or (7350 <= config.rate <= 96_000 and config.channels <= 8)
        assert 0 <= sound.opus_samples(data) <= 5760
        for format_ in sound.PASSED_ON:
            assert all(0 < len(piece) <= MAX_PAYLOAD for piece, _ in sound.pieces(format_, data))

    def check(self) -> None: ...

    def close(self) -> None: ...


_AAC_TOKENS = (b"\0\x10", b"\0\x20", b"\x08\0", b"\xff\xff", bytes(16))
_RTMP_TOKENS = (b"\xaf\0", b"\xaf\1", b"\x90mp4a", b"\x91Opus", b"\x12\x10", b"\x72", b"\xff\xff\xff")

TARGETS = (
    Target("aac", AccessUnits, _AAC_TOKENS, 65_535),
    Target("rtmp-sound", Messages, _RTMP_TOKENS, 65_536),
)
