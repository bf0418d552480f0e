"""From OPTIONS to PLAY: which track, which way its packets come, what the session is called.

The ways are tried in the order given: a camera that refuses one (461) is asked for the next in the same session.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sightline_agent.sources.base import SourceError
from sightline_agent.sources.rtsp import messages, sdp
from sightline_agent.sources.rtsp.client import Answer, Connection
from sightline_agent.sources.rtsp.udp import UdpPair, open_pair
from sightline_agent.sources.rtsp.wire import Message
from sightline_model.reasons import SourceReason

_CHANNELS = (0, 1)


class Way(StrEnum):
    """How RTP comes to us."""

    TCP = "TCP"
    """Interleaved in the RTSP connection."""
    UDP = "UDP"


class MovedError(Exception):
    """The camera wants to be asked elsewhere."""

    def __init__(self, location: str) -> None:
        super().__init__("the camera wants to be asked at another address")
        self.location = location


class WayRefusedError(SourceError):
    """The camera serves RTP in none of the ways that it was asked for."""


@dataclass(frozen=True, slots=True)
class Playing:
    """What the handshake led to."""

    track: sdp.VideoTrack
    url: str
    """What keep-alives and TEARDOWN are sent to."""
    session: messages.SessionHeader
    keep_alive: str
    channels: tuple[int, int]
    """Of RTP and RTCP, where they are interleaved."""
    udp: UdpPair | None

    @property
    def way(self) -> Way:
        """How RTP comes."""
        return Way.UDP if self.udp is not None else Way.TCP


async def play(connection: Connection, url: str, ways: Sequence[Way], report: bytes) -> Playing:
    """Bring the camera to send; `report` is RTCP that says nothing yet. SourceError or MovedError where it does not."""
    options = _not_moved(await connection.call("OPTIONS", url))
    offered = messages.methods(",".join(options.message.all("public")))
    described = _expect("DESCRIBE", await connection.call("DESCRIBE", url, [("Accept", "application/sdp")]))
    base = _base(described.message, url)
    description = sdp.parse(described.message.body.decode("utf-8", "replace"))
    track = choose(description)
    message, udp = await _set_up(connection, _resolve(base, track.control), ways)
    try:
        channels = _CHANNELS
        transport = messages.transport(message.header("transport"))
        session = messages.session(message.header("session"))
        if transport is None or transport.interleaved is (udp is not None) or not session.id:
            raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera's answer to SETUP makes no sense")
        if udp is not None:
            udp.aim(transport.numbers)
            udp.punch(report)
        else:
            channels = transport.numbers or _CHANNELS
        aggregate = _resolve(base, description.control)
        headers = [("Session", session.id), ("Range", "npt=0.000-")]
        _expect("PLAY", await connection.call("PLAY", aggregate, headers))
    except (SourceError, MovedError, asyncio.CancelledError):
        if udp is not None:
            udp.close()
        raise
    keep_alive = "GET_PARAMETER" if "GET_PARAMETER" in offered else "OPTIONS"
    return Playing(track, aggregate, session, keep_alive, channels, udp)


async def _set_up(connection: Connection, url: str, ways: Sequence[Way]) -> tuple[Message, UdpPair | None]:
    for way in ways:
        udp = open_pair(*connection.addresses) if way is Way.UDP else None
        first, second = _CHANNELS if udp is None else udp.ports
        wanted = f"RTP/AVP/TCP;unicast;interleaved={first}-{second}"
        if udp is not None:
            wanted = f"RTP/AVP;unicast;client_port={first}-{second}"
        try:
            answer = await connection.call("SETUP", url, [("Transport", wanted)])
            if answer.status.code != 461:
                return _expect("SETUP", answer).message, udp
        except (SourceError, MovedError, asyncio.CancelledError):
            if udp is not None:
                udp.close()
            raise
        if udp is not None:
            udp.close()
    names = " or ".join(ways)
    raise WayRefusedError(SourceReason.PROTOCOL_ERROR, f"the camera does not serve RTP over {names}")


def _not_moved(answer: Answer) -> Answer:
    location = answer.message.header("location")
    if 300 <= answer.status.code < 400 and location:
        raise MovedError(location)
    return answer


def _expect(method: str, answer: Answer) -> Answer:
    code = _not_moved(answer).status.code
    if 200 <= code < 300:
        return answer
    if code in (404, 410):
        raise SourceError(SourceReason.NOT_FOUND, "the camera has no stream at this path")
    text = f"the camera answered {method} with {code} {answer.status.phrase}".strip()
    if code >= 500:
        raise SourceError(SourceReason.UNREACHABLE, text)
    raise SourceError(SourceReason.PROTOCOL_ERROR, text)


def _base(message: Message, url: str) -> str:
    for name in ("content-base", "content-location"):
        base = messages.clean_url(messages.join(url, message.header(name))) if message.header(name) else None
        if base is not None:
            return base
    return url


def _resolve(base: str, control: str) -> str:
    resolved = messages.clean_url(messages.join(base, control))
    if resolved is None:
        raise SourceError(SourceReason.PROTOCOL_ERROR, "the camera's description holds an address that is none")
    return resolved


def choose(description: sdp.Description) -> sdp.VideoTrack:
    """The track to play; SourceError with the codecs' names where there is none."""
    if description.h264 is not None:
        return description.h264
    if not description.videos:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, "the camera offers no video")
    names = ", ".join(dict.fromkeys(track.codec for track in description.videos))
    if names == "H264":
        names = "H264 with interleaved packets"
    text = f"the camera sends {names}; set it to H264"
    raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)
