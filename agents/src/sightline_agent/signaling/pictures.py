"""Which of the offered codecs carries the pictures: H.264 by its profile, H.265 by profile (RFC 7798 section 7). Pure.

`decodable` says, before anything is known of the source, what the peer decodes; `media.playable` compares that with
what the source sends. Levels are not compared, as in H.264: decoders do not keep to them.
"""

import re

from sightline_agent.media.frames import CLOCK_RATE, VideoFormat
from sightline_agent.media.grammar import H264, H265
from sightline_agent.media.playable import codec_name
from sightline_agent.signaling.h264 import DEFAULT_PROFILE_LEVEL_ID, best_fit, is_profile_level_id
from sightline_agent.signaling.sdp import Codec, Section

_OF_H264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id="
_OF_H265 = ("level-id", "profile-id", "tier-flag", "tx-mode")
_VALUE = re.compile(r"[A-Za-z0-9]{1,8}")
_MAIN = "1"
"""What an offer of H.265 without profile-id means."""


def decodable(section: Section) -> frozenset[str]:
    """The peer's codecs by the names of `media.playable`."""
    return frozenset(filter(None, map(_name, section.codecs.values())))


def pick(section: Section, video: VideoFormat) -> Codec | None:
    """The codec that fits the source best; None where none does."""
    wanted = codec_name(video)
    fitting = [codec for codec in section.codecs.values() if _name(codec) == wanted]
    if wanted != H264 or not fitting:
        return next(iter(fitting), None)
    return fitting[best_fit(video.profile_level_id, [_profile(codec) for codec in fitting])]


def parameters(codec: Codec) -> str:
    """The answer's format parameters; of H.265 those that were offered, which is what a sender may choose from."""
    if codec.name == H264:
        return _OF_H264 + _profile(codec)
    found = ((name, codec.parameters.get(name, "")) for name in _OF_H265)
    return ";".join(f"{name}={value}" for name, value in found if _VALUE.fullmatch(value))


def _name(codec: Codec) -> str:
    if codec.clock_rate != CLOCK_RATE:
        return ""
    if codec.name == H264 and codec.parameters.get("packetization-mode") == "1":
        return H264 if is_profile_level_id(_profile(codec)) else ""
    if codec.name == H265 and codec.parameters.get("tx-mode", "SRST") == "SRST":
        return codec_name(VideoFormat(H265, codec.parameters.get("profile-id", _MAIN)))
    return ""


def _profile(codec: Codec) -> str:
    return codec.parameters.get("profile-level-id", DEFAULT_PROFILE_LEVEL_ID).lower()
