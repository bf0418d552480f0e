"""The sound of a WHEP session: RTP in order, passed on as it comes.

The receiver (`session`) hands over each packet. What is lost stays lost: players conceal it. Which picture belongs to
which sound is not known here (aiortc keeps the sender reports for itself), so the moment of arrival counts.
"""

from sightline_agent.errors import ProblemError
from sightline_agent.media import sound
from sightline_agent.media.frames import AudioFormat
from sightline_agent.media.rtp import RtpPacket
from sightline_agent.signaling.sdp import Section, parse_offer
from sightline_agent.sources.base import Sink
from sightline_agent.sources.ordered import OrderedPackets

_WINDOW = 32
_PATIENCE_SECONDS = 0.06
_STATIC = {0: sound.PCMU, 8: sound.PCMA}
_CODECS = {(one.codec, one.clock_rate): one for one in sound.PASSED_ON}


class Hearing:
    """One session's sound. It begins when the pictures have (`begin`)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._formats: dict[int, AudioFormat] = {}
        self._begun = False
        self._ordered = OrderedPackets(_WINDOW, _PATIENCE_SECONDS, self._push, lambda now: None)
        self.format: AudioFormat | None = None
        """What the server sends, once it has answered; None for no sound."""

    def answered(self, answer: str) -> None:
        """Look what the server sends."""
        self._formats = formats_of(answer)
        self.format = next(iter(self._formats.values()), None)

    def begin(self) -> None:
        """The sink knows the format."""
        self._begun = True

    def packet(self, packet: RtpPacket) -> None:
        """Digest a packet."""
        if packet.payload and self._formats.get(packet.payload_type) == self.format and self.format is not None:
            self._ordered.take(packet)
            self._ordered.settle()

    def close(self) -> None:
        """Nothing more is delivered."""
        self._begun = False
        self._ordered.close()

    def _push(self, packet: RtpPacket, gap: bool) -> None:
        if not self._begun or self.format is None:
            return
        for payload, distance in sound.pieces(self.format, packet.payload):
            self._sink.write_audio(sound.chunk(payload, packet.timestamp + distance, packet.marker))


def formats_of(answer: str) -> dict[int, AudioFormat]:
    """Payload types of the sound that an answer promises, in its order; empty where it promises none."""
    try:
        sections = parse_offer(answer).sections
    except ProblemError:
        return {}
    for section in sections:
        if section.kind == "audio" and section.enabled and section.direction in ("sendonly", "sendrecv"):
            return _formats(section)
    return {}


def _formats(section: Section) -> dict[int, AudioFormat]:
    found = {}
    for number, codec in section.codecs.items():
        format_ = _CODECS.get((codec.name, codec.clock_rate)) if codec.name else _STATIC.get(number)
        if format_ is not None:
            found[number] = format_
    return found
