"""The WHEP source: watches another WHEP server, which may well be another Sightline, and passes on what it sends.

A server that cannot bear to be asked for sound is asked for pictures alone.
"""

import asyncio

from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.whep.reception import Reception
from sightline_agent.sources.whep.session import IT, Session
from sightline_agent.sources.whep.sound import Hearing
from sightline_model.camera import WhepSource as WhepSpec
from sightline_model.reasons import SourceReason

PATIENCE_SECONDS = 9.5
"""From the beginning to the first packet."""
STALL_SECONDS = 5.0


class WhepSource:
    """One stream."""

    def __init__(self, spec: WhepSpec, credentials: Credentials | None, sound: bool = True) -> None:
        """`sound`: whether it is asked for."""
        self._sound = sound
        self._url = spec.url
        self._token = credentials.token if credentials is not None else ""
        self._key_frame_wanted = False
        self._session: Session | None = None

    def want_key_frame(self) -> None:
        """A viewer came who can only begin at one."""
        self._key_frame_wanted = True
        if self._session is not None:
            self._session.changed.set()

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the server fails."""
        patience = _now() + PATIENCE_SECONDS
        try:
            await self._watch(sink, patience, self._sound)
        except _SoundTroubleError:
            await self._watch(sink, patience, sound=False)

    async def _watch(self, sink: Sink, patience: float, sound: bool) -> None:
        session = self._session = Session(self._url, self._token)
        hearing = Hearing(sink) if sound else None
        reception = Reception(sink, session.changed.set, hearing)
        try:
            try:
                async with asyncio.timeout_at(patience):
                    await session.open(reception, hearing)
            except TimeoutError:
                raise SourceError(SourceReason.UNREACHABLE, f"{IT} answers too slowly") from None
            except SourceError as error:
                if sound and error.reason is SourceReason.PROTOCOL_ERROR:
                    raise _SoundTroubleError from error
                raise
            await self._follow(session, reception, patience)
        finally:
            self._session = None
            reception.close()
            await session.close()

    async def _follow(self, session: Session, reception: Reception, patience: float) -> None:
        while True:
            session.changed.clear()
            if reception.error is not None:
                raise reception.error
            if session.state in ("failed", "closed"):
                text = f"{IT} has ended the session" if reception.last_at is not None else _NO_WAY
                raise SourceError(SourceReason.UNREACHABLE, text)
            deadline = patience if reception.last_at is None else reception.last_at + STALL_SECONDS
            if _now() >= deadline:
                raise _silence(session, reception)
            if self._key_frame_wanted and reception.ssrc is not None:
                self._key_frame_wanted = False
                reception.asked()
                await session.ask_key_frame(reception.ssrc)
            try:
                async with asyncio.timeout_at(deadline):
                    await session.changed.wait()
            except TimeoutError:
                continue  # packets may have come meanwhile


class _SoundTroubleError(Exception):
    """What the server says to an offer with sound makes no sense, or it refuses it."""


_NO_WAY = f"{IT} answers, but no way for media to it was found"


def _silence(session: Session, reception: Reception) -> SourceError:
    if reception.last_at is not None:
        return SourceError(SourceReason.STALLED, f"{IT} sent nothing for {STALL_SECONDS:g} s")
    if session.state != "connected":
        return SourceError(SourceReason.UNREACHABLE, _NO_WAY)
    return SourceError(SourceReason.NO_FRAMES, f"{IT} accepts the connection but sends no pictures")


def _now() -> float:
    return asyncio.get_running_loop().time()
