"""The RTSP source: where it asks, in which ways, and how often before it gives up.

What viewers and operators are told when it fails is decided within `PATIENCE_SECONDS`: a camera that lets each single
step almost time out is cut short. `Auto` asks for TCP, which loses nothing and passes firewalls, then for UDP: when
the camera refuses TCP, or plays over TCP and nothing comes. Cameras with encryption (rtsps) are asked for TCP alone:
RTP over UDP would go unencrypted.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Sequence

import structlog

from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp.client import Connection, connect
from sightline_agent.sources.rtsp.feedback import Reception
from sightline_agent.sources.rtsp.handshake import (
    Asked,
    MovedError,
    Playing,
    SoundFailedError,
    Way,
    WayRefusedError,
    play,
)
from sightline_agent.sources.rtsp.stream import NoMediaError, Stream
from sightline_agent.sources.rtsp.target import Target, redirected
from sightline_agent.sources.sound.process import Drop
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from sightline_model.reasons import SourceReason

PATIENCE_SECONDS = 9.5
FIRST_PACKET_SECONDS = {Way.TCP: 5.0, Way.UDP: 3.0}
_HANDSHAKE_SECONDS = 8.0
_LEAST_SECONDS = 1.0
"""Less patience than this is not worth another attempt."""

_WAYS: dict[RtspTransport, tuple[Way, ...]] = {
    RtspTransport.AUTO: (Way.TCP, Way.UDP),
    RtspTransport.TCP: (Way.TCP,),
    RtspTransport.UDP: (Way.UDP,),
}

_log = structlog.get_logger(__name__)


class RtspSource:
    """One camera."""

    def __init__(
        self,
        spec: RtspSpec,
        credentials: Credentials | None,
        sound: bool = True,
        dropped: "Counter[Drop] | None" = None,
    ) -> None:
        """`sound`: whether it is asked for; `dropped`: where what is dropped of it is counted."""
        self._sound = sound
        self._dropped = dropped
        self._target = Target(spec.url, credentials, spec.fingerprint)
        self._transport = spec.transport

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the camera fails."""
        patience = _now() + PATIENCE_SECONDS
        ways = _WAYS[self._transport]
        try:
            await self._attempt(ways, sink, patience)
        except NoMediaError as silence:
            if silence.way is ways[-1] or patience - _now() < _LEAST_SECONDS:
                raise
            _log.info("rtsp: nothing comes over TCP, UDP is tried")
            try:
                await self._attempt(ways[1:], sink, patience)
            except (NoMediaError, WayRefusedError):
                raise silence from None

    async def _attempt(self, ways: Sequence[Way], sink: Sink, patience: float) -> None:
        """One connection; more where the camera sends us elsewhere."""
        target = self._target
        while True:
            try:
                await _watch(
                    target, Asked(target.url, _encrypted(target, ways), self._sound), sink, patience, self._dropped
                )
            except SoundFailedError:
                _log.warning("rtsp: the camera breaks down when it is asked for sound, pictures alone are tried")
                self._sound = False
            except MovedError as moved:
                target = redirected(target, moved.location)
            except SourceError as error:
                if target.estranged and error.reason is SourceReason.AUTHENTICATION_FAILED:
                    text = "the camera sends us to another host, which asks for a password and does not get this one's"
                    raise SourceError(error.reason, text) from error
                raise


async def _watch(target: Target, asked: Asked, sink: Sink, patience: float, dropped: "Counter[Drop] | None") -> None:
    reception = Reception(secrets.randbits(32))
    connection = await connect(target.url, target.fingerprint, target.credentials)
    try:
        playing = await _play(connection, asked, patience, reception)
        try:
            first_by = min(patience, _now() + FIRST_PACKET_SECONDS[playing.way])
            await Stream(connection, playing, reception, sink, dropped).run(first_by)
        finally:
            playing.close()
            with contextlib.suppress(OSError, RuntimeError):
                connection.send("TEARDOWN", playing.url, [("Session", playing.session.id)])
    finally:
        connection.close()


async def _play(connection: Connection, asked: Asked, patience: float, reception: Reception) -> Playing:
    limit = min(patience, _now() + _HANDSHAKE_SECONDS)
    try:
        async with asyncio.timeout_at(limit):
            return await play(connection, asked, reception.report(_now()))
    except TimeoutError:
        raise SourceError(SourceReason.UNREACHABLE, "the camera answers too slowly") from None


def _encrypted(target: Target, ways: Sequence[Way]) -> Sequence[Way]:
    """Those of the ways in which nothing goes unencrypted that the address promises to encrypt."""
    if not target.secure:
        return ways
    if Way.TCP not in ways:
        raise WayRefusedError(SourceReason.PROTOCOL_ERROR, "RTP over UDP would not be encrypted; use TCP with rtsps")
    return (Way.TCP,)


def _now() -> float:
    return asyncio.get_running_loop().time()
