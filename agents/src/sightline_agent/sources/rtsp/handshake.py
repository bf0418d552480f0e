"""From OPTIONS to PLAY: which tracks, which way their packets come, what the session is called.

The ways are tried in the order given: a camera that refuses one (461) is asked for the next in the same session. Sound
comes the way that the pictures come, or not at all: a camera that refuses to send it plays without, and one that breaks
down over it (SoundFailedError) is asked for the pictures alone.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sightline_agent.media.grammar import GRAMMARS
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.rtsp import messages, sdp
from sightline_agent.sources.rtsp.client import Answer, Connection
from sightline_agent.sources.rtsp.sound import Plan, plan
from sightline_agent.sources.rtsp.udp import UdpPair, open_pair
from sightline_agent.sources.rtsp.wire import Message
from sightline_model.reasons import SourceReason

_CHANNELS = (0, 1)
_SOUND_CHANNELS = (2, 3)


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


class SoundFailedError(Exception):
    """The camera does not answer, hangs up, or refuses to play, when it is asked for its sound, too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the camera is asked for."""

    url: str
    ways: Sequence[Way]
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Lane:
    """Where the packets of one track come."""

    channels: tuple[int, int]
    """Of RTP and RTCP, where they are interleaved."""
    udp: UdpPair | None

    def close(self) -> None:
        """Give the ports back."""
        if self.udp is not None:
            self.udp.close()


@dataclass(frozen=True, slots=True)
class Playing:
    """What the handshake led to."""

    track: sdp.VideoTrack
    url: str
    """What keep-alives and TEARDOWN are sent to."""
    session: messages.SessionHeader
    keep_alive: str
    lane: Lane
    sound: tuple[Plan, Lane] | None = None
    silence: str = ""
    """Why there is no sound, if the camera has some."""

    @property
    def channels(self) -> tuple[int, int]:
        """Of the pictures' RTP and RTCP, where they are interleaved."""
        return self.lane.channels

    @property
    def udp(self) -> UdpPair | None:
        """Where the pictures come by UDP."""
        return self.lane.udp

    def close(self) -> None:
        """Give the ports back."""
        self.lane.close()
        if self.sound is not None:
            self.sound[1].close()

    @property
    def way(self) -> Way:
        """How RTP comes."""
        return Way.UDP if self.udp is not None else Way.TCP


async def play(connection: Connection, asked: Asked, report: bytes) -> Playing:
    """Bring the camera to send; `report` is RTCP that says nothing yet. SourceError, MovedError or SoundFailedError
    where it does not."""
    options = _not_moved(await connection.call("OPTIONS", asked.url))
    offered = messages.methods(",".join(options.message.all("public")))
    described = _expect("DESCRIBE", await connection.call("DESCRIBE", asked.url, [("Accept", "application/sdp")]))
    base = _base(described.message, asked.url)
    description = sdp.parse(described.message.body.decode("utf-8", "replace"))
    track = choose(description)
    setup = _Setup(connection, base, report)
    try:
        lane, session = await setup.pictures(track, asked.ways)
        sounds, silence = plan(description) if asked.sound else (None, "")
        if sounds is not None:
            silence = await setup.sound(sounds, session)
        of_sound = (sounds, setup.lanes[1]) if sounds is not None and not silence else None
        aggregate = _resolve(base, description.control)
        await _start(connection, aggregate, session, of_sound is not None)
    except (SourceError, MovedError, SoundFailedError, asyncio.CancelledError):
        setup.close()
        raise
    keep_alive = "GET_PARAMETER" if "GET_PARAMETER" in offered else "OPTIONS"
    return Playing(track, aggregate, session, keep_alive, lane, of_sound, silence)


async def _start(connection: Connection, url: str, session: messages.SessionHeader, with_sound: bool) -> None:
    try:
        headers = [("Session", session.id), ("Range", "npt=0.000-")]
        _expect("PLAY", await connection.call("PLAY", url, headers))
    except SourceError as error:
        if with_sound and error.reason is not SourceReason.AUTHENTICATION_FAILED:
            raise SoundFailedError from error
        raise


class _Setup:
    """SETUP of one track after the other."""

    def __init__(self, connection: Connection, base: str, report: bytes) -> None:
        self._connection = connection
        self._base = base
        self._report = report
        self.lanes: list[Lane] = []

    def close(self) -> None:
        """Give all ports back."""
        for lane in self.lanes:
            lane.close()

    async def pictures(self, track: sdp.VideoTrack, ways: Sequence[Way]) -> tuple[Lane, messages.SessionHeader]:
        """The first of the ways that the camera accepts."""
        url = _resolve(self._base, track.control)
        for way in ways:
            answer = await self._ask(url, way, _CHANNELS, [])
            if answer.status.code != 461:
                lane = self._ready(_expect("SETUP", answer).message, _CHANNELS)
                session = messages.session(answer.message.header("session"))
                if not session.id:
                    raise _senseless()
                return lane, session
            self.lanes.pop().close()
        names = " or ".join(ways)
        raise WayRefusedError(SourceReason.PROTOCOL_ERROR, f"the camera does not serve RTP over {names}")

    async def sound(self, of: Plan, session: messages.SessionHeader) -> str:
        """The sound beside them; why there is none."""
        way = Way.UDP if self.lanes[0].udp is not None else Way.TCP
        try:
            url = _resolve(self._base, of.track.control)
            answer = await self._ask(url, way, _SOUND_CHANNELS, [("Session", session.id)])
            if 200 <= answer.status.code < 300:
                self._ready(answer.message, _SOUND_CHANNELS)
                return ""
            refused = str(answer.status.code)
        except SourceError as error:
            if error.reason is SourceReason.UNREACHABLE:
                raise SoundFailedError from error
            refused = str(error)
        while len(self.lanes) > 1:
            self.lanes.pop().close()
        return f"the camera refuses to send it ({refused})"

    async def _ask(self, url: str, way: Way, channels: tuple[int, int], headers: list[tuple[str, str]]) -> Answer:
        udp = open_pair(*self._connection.addresses) if way is Way.UDP else None
        self.lanes.append(Lane(channels, udp))
        first, second = channels if udp is None else udp.ports
        wanted = f"RTP/AVP/TCP;unicast;interleaved={first}-{second}"
        if udp is not None:
            wanted = f"RTP/AVP;unicast;client_port={first}-{second}"
        return await self._connection.call("SETUP", url, [*headers, ("Transport", wanted)])

    def _ready(self, message: Message, channels: tuple[int, int]) -> Lane:
        """What the camera has accepted."""
        udp = self.lanes[-1].udp
        transport = messages.transport(message.header("transport"))
        if transport is None or transport.interleaved is (udp is not None):
            raise _senseless()
        if udp is not None:
            udp.aim(transport.numbers)
            udp.punch(self._report)
        else:
            self.lanes[-1] = Lane(transport.numbers or channels, None)
        return self.lanes[-1]


def _senseless() -> SourceError:
    return SourceError(SourceReason.PROTOCOL_ERROR, "the camera's answer to SETUP makes no sense")


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
    if description.best is not None:
        return description.best
    if not description.videos:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, "the camera offers no video")
    names = ", ".join(dict.fromkeys(track.codec for track in description.videos))
    if names in GRAMMARS:
        names += " with interleaved packets"
    text = f"the camera sends {names}; set it to H264"
    raise SourceError(SourceReason.CODEC_UNSUPPORTED, text)
