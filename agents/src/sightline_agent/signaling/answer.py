"""The answer to a viewer's offer: one sendonly section of pictures, one of sound if there is any, else inactive ones.

Pure: `choose` finds out what to send (or raises SdpError), `build_answer` and `build_restart` write it. The order of
some lines is what real players need: the first `a=ssrc` line is the media's (Chromium takes it for the stream), IPv4
host candidates come before others (FFmpeg looks at the first one only), and all is said in each bundled section.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from sightline_agent.media.frames import CLOCK_RATE, AudioFormat, VideoFormat
from sightline_agent.media.grammar import H264
from sightline_agent.media.playable import codec_name
from sightline_agent.signaling.pictures import decodable, parameters, pick
from sightline_agent.signaling.sdp import Codec, Offer, SdpError, Section
from sightline_agent.signaling.sound import SoundChoice, choose_sound, sound_lines
from sightline_agent.transport.rtcp import CNAME
from sightline_model.problems import ProblemCode

_PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF")
_FEEDBACK = ("nack", "nack pli", "ccm fir")
_HOST_TYPE_PREFERENCE = 126
_END = "\r\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """What this viewer gets."""

    section: Section
    codec: Codec
    rtx: Codec | None
    passive: bool
    """We are the DTLS server."""
    sound: SoundChoice | None = None


@dataclass(frozen=True, slots=True)
class Ours:
    """Our side of the answer."""

    ufrag: str
    password: str = field(repr=False)
    fingerprint: str
    """SHA-256 of our certificate."""
    addresses: Sequence[str]
    """Where peers reach us, best first."""
    port: int
    ssrc: int
    rtx_ssrc: int
    session_id: int
    sound_ssrc: int = 0


def offered(offer: Offer) -> frozenset[str]:
    """What the peer decodes (names of `media.playable`); SdpError where there would be nothing to send in any case."""
    codecs = decodable(_pictures(offer))
    if not codecs:
        text = "the offer has neither H264 with packetization-mode=1 nor H265"
        raise SdpError(text, ProblemCode.CODEC_NOT_OFFERED)
    return codecs


def choose(offer: Offer, video: VideoFormat, audio: AudioFormat | None = None) -> Choice:
    """The offered codec that fits the source best; SdpError with the problem when there is nothing to send."""
    section = _pictures(offer)
    codec = pick(section, video)
    if codec is None:
        packets = " with packetization-mode=1" if video.codec == H264 else ""
        raise SdpError(f"the offer has no {codec_name(video)}{packets}", ProblemCode.CODEC_NOT_OFFERED)
    rtx = next((c for c in section.codecs.values() if _repairs(c, codec.payload_type)), None)
    choice = Choice(section, codec, rtx, passive=section.transport.setup != "passive")
    return replace(choice, sound=_sound(offer, choice, audio))


def _pictures(offer: Offer) -> Section:
    """The section that is answered."""
    if offer.ice_lite:
        raise SdpError("both sides are ICE-lite, so nobody would connect")
    videos = [section for section in offer.sections if section.kind == "video" and section.enabled]
    if not videos:
        raise SdpError("the offer asks for no video", ProblemCode.CODEC_NOT_OFFERED)
    for kind in ("video", "audio"):
        if sum(section.kind == kind and section.enabled for section in offer.sections) > 1:
            raise SdpError(f"the offer has more than one {kind} section", ProblemCode.NOT_SUPPORTED_YET)
    _check(videos[0])
    return videos[0]


def _sound(offer: Offer, choice: Choice, audio: AudioFormat | None) -> SoundChoice | None:
    beside = (s for s in offer.sections if s is not choice.section and _bundled(s, offer, choice))
    return next(filter(None, (choose_sound(section, audio) for section in beside)), None)


def _check(section: Section) -> None:
    transport = section.transport
    if section.protocol not in _PROTOCOLS:
        raise SdpError("the video section's protocol is not UDP/TLS/RTP/SAVPF")
    if section.direction not in ("recvonly", "sendrecv"):
        raise SdpError(f"the video section is {section.direction}: a viewer receives")
    if not section.rtcp_mux:
        raise SdpError("the video section lacks rtcp-mux")
    if not transport.ufrag or not transport.password:
        raise SdpError("the video section has no ICE credentials")
    if not transport.fingerprints:
        raise SdpError("the video section has no fingerprint by SHA-256, SHA-384 or SHA-512")


def _repairs(codec: Codec, payload_type: int) -> bool:
    return codec.name == "RTX" and codec.clock_rate == CLOCK_RATE and codec.parameters.get("apt") == str(payload_type)


def order_addresses(advertised: Sequence[str], own: Sequence[str]) -> list[str]:
    """Advertised before own, IPv4 before IPv6, each once; what is no IP address is left out."""
    found: dict[str, int] = {}
    for text in (*advertised, *own):
        try:
            ip = ip_address(text.strip())
        except ValueError:
            continue
        if not ip.is_unspecified and not ip.is_multicast:
            found.setdefault(str(ip), ip.version)
    return sorted(found, key=found.__getitem__)


def build_answer(offer: Offer, choice: Choice, ours: Ours) -> str:
    """The answer's text."""
    bundled = [s for s in offer.sections if _bundled(s, offer, choice)]
    lines = [
        "v=0",
        f"o=- {ours.session_id} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=ice-options:trickle ice2",
    ]
    mids = [s.mid for s in bundled if s.mid is not None]
    if offer.bundle and mids:
        lines.append("a=group:BUNDLE " + " ".join(mids))
    lines.append("a=msid-semantic: WMS *")
    for section in offer.sections:
        if section is choice.section:
            lines += _video(choice, ours)
        elif choice.sound is not None and section is choice.sound.section:
            lines += _head(section, [str(choice.sound.payload_type)], ours)
            lines += ["a=sendonly", *_transport(section, choice, ours)]
            lines += sound_lines(choice.sound, ours.sound_ssrc, CNAME)
        elif section in bundled:
            lines += _inactive(section, choice, ours)
        else:
            lines += _refused(section)
    return _END.join(lines) + _END


def _bundled(section: Section, offer: Offer, choice: Choice) -> bool:
    """The video, and audio that shares its transport."""
    if section is choice.section:
        return True
    mids = (section.mid, choice.section.mid)
    return (
        section.kind == "audio"
        and section.enabled
        and section.protocol in _PROTOCOLS
        and all(mid is not None and mid in offer.bundle for mid in mids)
    )


def _head(section: Section, formats: Sequence[str], ours: Ours) -> list[str]:
    """m=, c= and mid. The default destination is our first candidate (RFC 8839 section 4.2.1.2)."""
    address = ours.addresses[0] if ours.addresses else "0.0.0.0"  # noqa: S104
    lines = [
        f"m={section.kind} {ours.port} {section.protocol} {' '.join(formats)}",
        f"c=IN IP{ip_address(address).version} {address}",
    ]
    return lines if section.mid is None else [*lines, f"a=mid:{section.mid}"]


def _transport(section: Section, choice: Choice, ours: Ours) -> list[str]:
    return [
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        *(["a=rtcp-rsize"] if section.rtcp_rsize else []),
        *_ice(ours),
        f"a=fingerprint:sha-256 {ours.fingerprint}",
        f"a=setup:{'passive' if choice.passive else 'active'}",
    ]


def _ice(ours: Ours) -> list[str]:
    lines = [f"a=ice-ufrag:{ours.ufrag}", f"a=ice-pwd:{ours.password}"]
    for i, address in enumerate(ours.addresses):
        # RFC 8445 section 5.1.2.1: one component, so its term is 255.
        priority = (_HOST_TYPE_PREFERENCE << 24) + ((65535 - i) << 8) + 255
        lines.append(f"a=candidate:{i + 1} 1 udp {priority} {address} {ours.port} typ host")
    return [*lines, "a=end-of-candidates"]


def _video(choice: Choice, ours: Ours) -> list[str]:
    codec, rtx = choice.codec, choice.rtx
    formats = [str(codec.payload_type)] + ([str(rtx.payload_type)] if rtx else [])
    lines = _head(choice.section, formats, ours)
    lines += ["a=sendonly", *_transport(choice.section, choice, ours)]
    format_ = parameters(codec)
    lines += [
        f"a=rtpmap:{codec.payload_type} {codec.name}/{CLOCK_RATE}",
        *([f"a=fmtp:{codec.payload_type} {format_}"] if format_ else []),
        *(f"a=rtcp-fb:{codec.payload_type} {name}" for name in _FEEDBACK if name in codec.feedback),
    ]
    if rtx:
        lines += [
            f"a=rtpmap:{rtx.payload_type} rtx/{CLOCK_RATE}",
            f"a=fmtp:{rtx.payload_type} apt={codec.payload_type}",
            f"a=ssrc-group:FID {ours.ssrc} {ours.rtx_ssrc}",
        ]
    lines += ["a=msid:sightline video", f"a=ssrc:{ours.ssrc} cname:{CNAME}"]
    return [*lines, f"a=ssrc:{ours.rtx_ssrc} cname:{CNAME}"] if rtx else lines


def _inactive(section: Section, choice: Choice, ours: Ours) -> list[str]:
    """Accepted so that nothing is refused in part, but nothing is sent."""
    codec = next(iter(section.codecs.values()))
    lines = _head(section, [str(codec.payload_type)], ours)
    lines += ["a=inactive", *_transport(section, choice, ours)]
    if codec.name:
        channels = f"/{codec.channels}" if codec.channels else ""
        lines.append(f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate}{channels}")
    return lines


def _refused(section: Section) -> list[str]:
    """Port 0 (RFC 3264 section 6)."""
    lines = [
        f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}",
        "c=IN IP4 0.0.0.0",
        *([] if section.mid is None else [f"a=mid:{section.mid}"]),
    ]
    return [*lines, "a=inactive"] if section.kind in ("audio", "video") else lines


def build_restart(section: Section, ours: Ours) -> str:
    """The fragment that answers an ICE restart (RFC 9725 section 4.3.2)."""
    lines = [
        "a=ice-lite",
        "a=ice-options:trickle ice2",
        f"m={section.kind} 9 {section.protocol} {section.formats[0]}",
        *([] if section.mid is None else [f"a=mid:{section.mid}"]),
        *_ice(ours),
    ]
    return _END.join(lines) + _END
