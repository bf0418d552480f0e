"""The quality that one session gets: chosen by its viewer, else by what the link carries; and every change of it.

The session asks for its first place here and gives the last one back. A change comes about in three ways: the viewer
wishes it (`select`), its receiver reports call for it (`adapt`), or the camera sends something else than it did
(`refit`). One change at a time is under way, as a task of its own; the newest wish ends the one before. Nothing changes
for the viewer before the other source runs and has a picture to go on with, so a quality that cannot be had costs
nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, Protocol

import structlog

from sightline_agent.adaptation import Judge, Verdict, neighbour
from sightline_agent.attachment import Attachment, Wanted
from sightline_agent.errors import ProblemError
from sightline_agent.media.playable import codec_name
from sightline_agent.signaling.sessions import OpenRequest
from sightline_agent.sources.base import SourceError
from sightline_model.agent import MAIN_PROFILE, SessionStats
from sightline_model.problems import Problem, ProblemCode, source_problem

_KEY_FRAME_SECONDS = 3.0
"""A change waits so long for a picture to begin with; then the group under way must do."""
_SOURCE_RETRY_SECONDS = 3

_log = structlog.get_logger(__name__)


class Cause(StrEnum):
    """Why a viewer went on with other pictures."""

    VIEWER = "viewer"
    DOWN = "down"
    UP = "up"
    CAMERA = "camera"


_CAUSES = {Verdict.DOWN: Cause.DOWN, Verdict.UP: Cause.UP}


class Viewers(Protocol):
    """The camera's qualities (`renditions.Renditions`), as far as sessions need them."""

    @property
    def names(self) -> list[str]: ...

    async def attach(self, wanted: Wanted) -> Attachment: ...

    def suits(self, place: Attachment, codecs: frozenset[str]) -> bool: ...


class Movable(Protocol):
    """The peer, as far as its quality goes."""

    def stats(self) -> SessionStats | None: ...

    async def switch(self, place: Attachment) -> None: ...


class Quality:
    """The quality of one session."""

    def __init__(self, renditions: Viewers, request: OpenRequest, changed: Callable[[Cause], None]) -> None:
        """`changed` is called after each change."""
        self._renditions = renditions
        self._request = request
        self._changed = changed
        self.peer: Movable | None = None
        """Once there is one."""
        self.name = request.profile or MAIN_PROFILE
        """What is sent, was sent last, or is asked for."""
        self._place: Attachment | None = None
        self._stopped = False
        self._chosen = request.profile
        self._judge = Judge(_now())
        self._judged = 0
        self._moving: asyncio.Task[None] | None = None

    @property
    def profile(self) -> str | None:
        """What is sent; None while nothing is."""
        return self._place.profile if self._place is not None else None

    @property
    def automatic(self) -> bool:
        """The link decides, the viewer has not."""
        return self._chosen is None

    async def attach(self) -> Attachment:
        """The first place; SourceError or ProblemError where there is none."""
        wanted = Wanted(self.name, self._request.codecs)
        self._place = await self._renditions.attach(wanted)
        return self._place

    def want_key_frame(self) -> None:
        """The viewer cannot decode."""
        if self._place is not None:
            self._place.want_key_frame()

    async def stop(self) -> None:
        """No change any more."""
        self._stopped = True
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait({self._moving})

    def leave(self) -> None:
        """Give the place back; the viewer is gone."""
        if self._place is not None:
            self._place.leave()
            self._place = None

    # What changes it

    async def select(self, profile: str | None) -> None:
        """Get this quality from now on; None: the one that the link carries. Where it cannot be had all stays as it is,
        and ProblemError says why."""
        if self._stopped:
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        if profile is not None and profile != self.profile:
            await self._follow(profile)
        self._chosen = profile
        self._judge = Judge(_now())

    def adapt(self, names: list[str]) -> None:
        """Look at what the viewer's newest report says of its link, and change the quality if it says so."""
        place, now = self._place, _now()
        if not self.automatic or place is None or self._under_way:
            return
        stats = self.peer.stats() if self.peer is not None else None
        if stats is None or stats.reports == self._judged:
            return
        self._judged = stats.reports
        trip = stats.round_trip_ms / 1000 if stats.round_trip_ms is not None else None
        self._judge.hear(now, stats.fraction_lost, trip)
        verdict = self._judge.verdict(now)
        profile = neighbour(names, place.profile, verdict)
        if profile is not None:
            self._judge.moved(now, verdict)
            self._begin(self._adapt(profile, _CAUSES[verdict]))

    def refit(self, lost: Callable[[str], None]) -> None:
        """The camera sends something else. A viewer who could not show it gets it transcoded, and one who can does not;
        where neither is possible `lost` hears why."""
        place = self._place
        if place is None or self.peer is None or self._under_way:
            return
        if not self._renditions.suits(place, frozenset({codec_name(place.format.video)})):
            self._begin(self._refit(place.profile, lost))

    # How it changes

    @property
    def _under_way(self) -> bool:
        return self._stopped or (self._moving is not None and not self._moving.done())

    def _begin(self, change: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(change, name=f"quality {self._request.sid}")
        return self._moving

    async def _follow(self, profile: str) -> None:
        following = self._begin(self._change(profile, Cause.VIEWER))
        await asyncio.wait({following})
        if following.cancelled():
            detail = "the session ended, or another quality was asked for meanwhile"
            raise ProblemError(Problem(code=ProblemCode.CONFLICT, detail=detail))
        try:
            following.result()
        except SourceError as error:
            raise ProblemError(source_problem(error.reason, str(error), _SOURCE_RETRY_SECONDS)) from error

    async def _adapt(self, profile: str, cause: Cause) -> None:
        try:
            await self._change(profile, cause)
        except (ProblemError, SourceError) as error:
            self._judge.failed()
            _log.info("quality not changed", session=self._request.sid, to=profile, why=str(error))
        except Exception:
            _log.exception("quality could not be changed", session=self._request.sid, to=profile)

    async def _refit(self, profile: str, lost: Callable[[str], None]) -> None:
        try:
            await self._change(profile, Cause.CAMERA)
        except (ProblemError, SourceError) as error:
            lost(str(error))
        except Exception:
            _log.exception("quality could not be changed", session=self._request.sid, to=profile)
            lost("internal error")

    async def _change(self, profile: str, cause: Cause) -> None:
        before, peer = self._place, self.peer
        if before is None or peer is None:
            raise ProblemError(Problem(code=ProblemCode.CONFLICT, detail="the session is not answered yet"))
        place = await self._renditions.attach(Wanted(profile, frozenset({codec_name(before.format.video)})))
        try:
            _check(before, place)
            await place.key_frame(_KEY_FRAME_SECONDS)
            await peer.switch(place)
        except BaseException:
            place.leave()
            raise
        self._place, self.name = place, place.profile
        before.leave()
        _log.info("quality changed", session=self._request.sid, profile=profile, cause=cause)
        self._changed(cause)


def _check(before: Attachment, place: Attachment) -> None:
    """Nothing is negotiated anew: it must be the same codec, from another fan-out."""
    codec = before.format.video.codec
    if place.pictures is before.pictures:
        detail = f"{place.profile} is sent in a way that this session was not made for: make another"
        raise ProblemError(Problem(code=ProblemCode.CODEC_NOT_OFFERED, detail=detail))
    if place.format.video.codec != codec:
        detail = f"{place.profile} is {place.format.video.codec}, this session was made for {codec}: make another"
        raise ProblemError(Problem(code=ProblemCode.CODEC_NOT_OFFERED, detail=detail))


def _now() -> float:
    return asyncio.get_running_loop().time()
