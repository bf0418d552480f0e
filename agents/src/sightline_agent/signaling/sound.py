"""The sound's part of an answer: one sendonly section with the one codec that the source has, or none. Pure.

Sound shares the transport and the stream's name with the pictures, so that browsers keep lips in step. Who offers no
section for it, or not this codec, gets pictures alone.
"""

from dataclasses import dataclass

from sightline_agent.media.frames import AudioFormat
from sightline_agent.signaling.sdp import Codec, Section

_STATIC = {0: ("PCMU", 8000), 8: ("PCMA", 8000)}
"""Need no rtpmap (RFC 3551 section 6)."""
_NAMES = {"OPUS": "opus/48000/2", "PCMU": "PCMU/8000", "PCMA": "PCMA/8000"}


@dataclass(frozen=True, slots=True)
class SoundChoice:
    """What this viewer hears."""

    section: Section
    payload_type: int
    format: AudioFormat


def choose_sound(section: Section, format_: AudioFormat | None) -> SoundChoice | None:
    """The offered codec that is the source's; `section` shares the pictures' transport."""
    if format_ is None or section.direction not in ("recvonly", "sendrecv") or not section.rtcp_mux:
        return None
    for codec in section.codecs.values():
        if _name(codec) == (format_.codec, format_.clock_rate):
            return SoundChoice(section, codec.payload_type, format_)
    return None


def _name(codec: Codec) -> tuple[str, int]:
    return (codec.name, codec.clock_rate) if codec.name else _STATIC.get(codec.payload_type, ("", 0))


def sound_lines(choice: SoundChoice, ssrc: int, cname: str) -> list[str]:
    """The attributes of the section that are the sound's own."""
    return [
        f"a=rtpmap:{choice.payload_type} {_NAMES[choice.format.codec]}",
        "a=msid:sightline audio",
        f"a=ssrc:{ssrc} cname:{cname}",
    ]
