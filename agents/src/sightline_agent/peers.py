"""One viewer: from its offer over the handshake to the fan-out, and to its end.

The registry makes a Peer per session, asks it for the answer and runs `run()` as a task; everything that the
peer learns goes to its observer. A peer ends by one cause, the first: its own goodbye (DTLS close_notify or
RTCP BYE), silence, a handshake that failed, `close`, or cancellation. Whatever the cause: the viewer leaves
the fan-out, the peer is told by close_notify, its place on the mux is given back, and the observer hears
`closed` exactly once.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from sightline_agent.attachment import Attachment
from sightline_agent.errors import ProblemError
from sightline_agent.listener import Listener
from sightline_agent.liveness import Outcome, Timings, Vigil
from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.observer import Observer
from sightline_agent.reports import Schedule
from sightline_agent.rounds import Rounds, Turn
from sightline_agent.signaling.answer import (
    Choice,
    Ours,
    build_answer,
    build_restart,
    choose,
    order_addresses,
)
from sightline_agent.signaling.sdp import parse_fragment, parse_offer
from sightline_agent.transport import rtcp
from sightline_agent.transport.dtls import Certificate, DtlsError, DtlsSession, fingerprint_of
from sightline_agent.transport.endpoint import Endpoint, IceCredentials
from sightline_agent.transport.fanout import Address, Moment, Viewer
from sightline_agent.transport.mux import UdpMux
from sightline_agent.transport.srtp import SrtpError
from sightline_agent.viewerstats import Audience, Family, Reception, family_of
from sightline_model.agent import SessionStats
from sightline_model.problems import Problem, ProblemCode
from sightline_model.reasons import EndReason

log = structlog.get_logger(__name__)

_RTCP_TYPES = range(192, 224)
"""The second byte of RTCP on a port shared with RTP (RFC 5761 section 4)."""
_SETTLE_SECONDS = 0.002
_SETTLE_LOOKS = 50
"""A frame of a camera is over after some milliseconds; one that is never over belongs to a camera that is gone."""


@dataclass(frozen=True, slots=True)
class _Negotiated:
    choice: Choice
    ours: Ours
    dtls: DtlsSession


class Peer:
    """One sendonly viewer."""

    def __init__(
        self, factory: "PeerFactory", sid: str, place: Attachment, observer: Observer, endpoint: Endpoint
    ) -> None:
        self.sid = sid
        self.reception = Reception()
        self._factory = factory
        self._place = place
        self._observer = observer
        self._endpoint = endpoint
        self._ssrc, self._rtx_ssrc, self._sound_ssrc = _ssrcs()
        self._listener: Listener | None = None
        self._schedule = Schedule(factory.timings)
        self._negotiated: _Negotiated | None = None
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._running = False
        self._told = False
        self._handle: int | None = None
        self._last_rtcp = self._alive = float("-inf")
        self._sampled = 0
        """Reports of the viewer that went into the histograms, or were passed over."""
        self._since: datetime | None = None
        self._family: Family | None = None

    def stats(self) -> SessionStats | None:
        """How the viewer receives; None before it is connected."""
        if self._since is None or self._family is None:
            return None
        self._hear()
        sent = self._place.pictures.stats(self._handle) if self._handle is not None else None
        stats = self.reception.stats(sent, self._since, self._family)
        return stats if self._listener is None else stats.model_copy(update={"sound": self._listener.stats()})

    @property
    def etag(self) -> str:
        """Names the ICE session; an ICE restart changes it."""
        return self._endpoint.credentials.ufrag

    def answer(self, offer: str) -> str:
        """Answer an offer, once; SdpError when there is nothing to answer."""
        parsed = parse_offer(offer)
        choice = choose(parsed, self._place.format.video, self._place.format.audio)
        self._endpoint.remote = IceCredentials(choice.section.transport.ufrag, choice.section.transport.password)
        dtls = DtlsSession(self._endpoint, self._factory.certificate, passive=choice.passive)
        ours = self._ours()
        self._negotiated = _Negotiated(choice, ours, dtls)
        if choice.sound is not None and self._place.sound is not None:
            self._listener = Listener(self._place.sound, choice.sound, self._sound_ssrc, self._place.sound_correction)
        return build_answer(parsed, choice, ours)

    def _ours(self) -> Ours:
        credentials = self._endpoint.credentials
        factory = self._factory
        return Ours(
            ufrag=credentials.ufrag,
            password=credentials.password,
            fingerprint=fingerprint_of(factory.certificate),
            addresses=order_addresses(factory.advertise(), factory.mux.addresses() if factory.names_own() else ()),
            port=factory.mux.port,
            ssrc=self._ssrc,
            rtx_ssrc=self._rtx_ssrc,
            session_id=secrets.randbits(62),
            sound_ssrc=self._sound_ssrc,
        )

    def trickle(self, fragment: str) -> str | None:
        """Take a trickle-ice-sdpfrag. A new ufrag is an ICE restart and is answered; candidates need no answer.
        ProblemError session-not-found once it is over: its place on the mux is given back, or about to be."""
        if self._end.done():
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        parsed = parse_fragment(fragment)
        negotiated = self._negotiated
        if negotiated is None:
            return None
        section = negotiated.choice.section
        if not parsed.ufrag or parsed.ufrag == section.transport.ufrag:
            return None
        section.transport.ufrag = parsed.ufrag
        section.transport.password = parsed.password or section.transport.password
        self._endpoint.remote = IceCredentials(parsed.ufrag, section.transport.password)
        self._endpoint.restart()
        return build_restart(section, self._ours())

    @property
    def media_id(self) -> str | None:
        """The `mid` of the pictures; None where the offer has none."""
        return self._negotiated.choice.section.mid if self._negotiated is not None else None

    async def switch(self, place: Attachment) -> None:
        """Go on with another quality of the same codec: between two frames, if one ends soon."""
        for _ in range(_SETTLE_LOOKS):
            if self._handle is None or self._place.pictures.settled(self._handle):
                break
            await asyncio.sleep(_SETTLE_SECONDS)
        carried = self._place.pictures.release(self._handle) if self._handle is not None else None
        self._handle = place.pictures.adopt(carried) if carried is not None else None
        self._place = place
        if self._listener is not None:
            self._listener.switch(place)
            self._schedule.again()

    def close(self, reason: EndReason, message: str = "") -> None:
        """End it; the first reason stays. Before `run` this ends it at once."""
        self._finish(Outcome(reason, message))
        if not self._running:
            self._endpoint.close()
            self._tell()

    async def run(self) -> None:
        """Connect and stay until the end, whose reason the observer is told."""
        self._running = True
        live = asyncio.create_task(self._live(), name=f"peer {self.sid}")
        try:
            causes: tuple[asyncio.Future[Any], ...] = (live, self._end)
            await asyncio.wait(causes, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._finish(Outcome(EndReason.AGENT_LOST, "the agent stops"))
            raise
        finally:
            live.cancel()
            await asyncio.wait({live})
            if not live.cancelled() and (error := live.exception()) is not None:
                self._fail(error)
            await self._clean_up()
            self._tell()

    def _fail(self, error: BaseException) -> None:
        log.error("a peer failed", sid=self.sid, exc_info=error)
        self._finish(Outcome(EndReason.AGENT_LOST, "an internal error"))

    def _finish(self, outcome: Outcome) -> None:
        if not self._end.done():
            self._end.set_result(outcome)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            outcome = self._end.result()
            self._observer.closed(outcome.reason, outcome.message)

    async def _clean_up(self) -> None:
        self._count(None)
        if self._handle is not None:
            self._place.pictures.remove(self._handle)
            self._handle = None
        if self._listener is not None:
            self._listener.end()
        self._endpoint.on_media = self._endpoint.on_move = self._endpoint.on_rtcp = None
        if self._negotiated is not None:
            await self._negotiated.dtls.close()
        self._endpoint.close()

    async def _live(self) -> None:
        """Everything from the first check on; returns when the end is known."""
        negotiated = self._negotiated
        if negotiated is None:
            raise RuntimeError("a peer runs after it has answered")
        timings = self._factory.timings
        try:
            async with asyncio.timeout(timings.connect):
                await self._endpoint.reached.wait()
                keys = await negotiated.dtls.handshake(negotiated.choice.section.transport.fingerprints)
        except TimeoutError:
            reached = self._endpoint.address is not None
            what = "the DTLS handshake was not finished" if reached else "no ICE check arrived"
            self._finish(Outcome(EndReason.CONNECT_TIMEOUT, f"{what} within {timings.connect:g} s"))
            return
        except DtlsError as error:
            self._finish(Outcome(EndReason.REJECTED, str(error)))
            return
        address = self._endpoint.address
        if address is None:
            raise RuntimeError("connected without an address")
        choice = negotiated.choice
        viewer = Viewer(
            address=address,
            keys=keys,
            ssrc=self._ssrc,
            payload_type=choice.codec.payload_type,
            rtx_ssrc=self._rtx_ssrc,
            rtx_payload_type=choice.rtx.payload_type if choice.rtx else 0,
        )
        self._endpoint.on_media = self._on_media
        self._endpoint.on_rtcp = self._on_rtcp
        self._endpoint.on_move = self._on_move
        self._last_rtcp = self._factory.clock()
        self._since = datetime.fromtimestamp(self._factory.wall_clock(), UTC)
        self._count(family_of(address[0]))
        self._observer.connected()
        try:
            self._handle = self._place.pictures.add(viewer, self._observer.media)
        except SrtpError as error:
            self._finish(Outcome(EndReason.REJECTED, str(error)))
            return
        turns = self._turns(viewer)
        try:
            await negotiated.dtls.closed()
            self._finish(Outcome(EndReason.HANGUP, "the viewer closed the connection"))
        finally:
            for turn in turns:
                turn.cancel()

    def _turns(self, viewer: Viewer) -> list[Turn]:
        """What is done from now on at its times."""
        each, timings = self._factory.rounds.each, self._factory.timings
        vigil = Vigil(self._factory.clock(), self._endpoint.times()[0])
        turns = [each(timings.watch, partial(self._watch, vigil), self._fail)]
        if self._listener is not None:
            self._schedule.begin()
            turns.append(each(timings.sound, partial(self._begin_sound, self._listener, viewer), self._fail))
        return [*turns, each(self._schedule.seconds(), self._report, self._fail)]

    def _begin_sound(self, listener: Listener, viewer: Viewer) -> None:
        """The viewer may have roamed since its pictures began."""
        listener.begin(replace(viewer, address=self._endpoint.address or viewer.address))

    def _watch(self, vigil: Vigil) -> float | None:
        """Notice that nobody is there any more. Checks count as a sign of life too: without media no reports come."""
        factory = self._factory
        checked, reported = self._endpoint.times()
        self._last_rtcp = max(self._last_rtcp, reported)
        if checked > self._alive or self._last_rtcp > self._alive:
            self._alive = max(checked, self._last_rtcp)
            self._observer.alive()
        gone = vigil.look(factory.clock(), checked, self._last_rtcp, factory.timings)
        if gone is not None:
            self._finish(gone)
            return None
        return factory.timings.watch

    def _report(self) -> float:
        """Sender reports, when they are due, and what the viewer's say."""
        self._hear()
        if self.reception.reports > self._sampled:
            self._sampled = self.reception.reports
            self._factory.audience.observe(self.reception)
        moment = Moment(self._factory.clock(), rtcp.ntp_time(self._factory.wall_clock()))
        octets = self._place.pictures.report(self._handle, moment) if self._handle is not None else None
        if octets is not None:
            self.reception.rate.add(moment.now, octets)
            if self._listener is not None:
                self._listener.report(moment)
        return self._schedule.seconds()

    def _count(self, family: Family | None) -> None:
        """Keep the audience's count by address family."""
        if self._family is not None:
            self._factory.audience.families[self._family] -= 1
        if family is not None:
            self._factory.audience.families[family] += 1
        self._family = family

    def _on_move(self, address: Address) -> None:
        self._count(family_of(address[0]))
        if self._listener is not None:
            self._listener.move(address)
        if self._handle is not None:
            # An address family that we have no socket for cannot have sent us anything.
            with contextlib.suppress(KeyError):
                self._place.pictures.move(self._handle, address)

    def _on_media(self, data: bytes) -> bool:
        """SRTCP from the viewer; SRTP is none of its business here."""
        if len(data) < 2 or data[1] not in _RTCP_TYPES or self._negotiated is None:
            return False
        plain = self._negotiated.dtls.decrypt_rtcp(data)
        if plain is None:
            return False
        self._on_rtcp(plain)
        return True

    def _hear(self) -> None:
        """Take note of what the transport's receiver was told meanwhile."""
        for heard in self._endpoint.heard():
            self._note(heard.report, heard.at, heard.count)

    def _on_rtcp(self, plain: bytes) -> None:
        """What the viewer says, in clear."""
        self._last_rtcp = self._factory.clock()
        feedback = rtcp.parse(plain)
        self._observer.alive()
        for report in feedback.reports:
            self._note(report, self._factory.wall_clock())
        audience = self._factory.audience
        lost = feedback.lost.get(self._ssrc)
        if lost and self._handle is not None:
            self.reception.nacks += 1
            audience.nacks += 1
            self._place.pictures.resend(self._handle, lost)
        if self._ssrc in feedback.key_frame_wanted:
            self.reception.key_frames_wanted += 1
            audience.key_frames_wanted += 1
            if self._handle is not None:
                self._refresh(self._handle)
            self._observer.key_frame_wanted()
        if feedback.bye:
            self._finish(Outcome(EndReason.HANGUP, "the viewer said goodbye"))

    def _refresh(self, handle: int) -> None:
        # The group comes with later timestamps than before: who has sound is told soon how they lie beside it.
        if self._place.pictures.refresh(handle) and self._listener is not None:
            self._schedule.again()

    def _note(self, report: rtcp.ReceptionReport, at: float, count: int = 1) -> None:
        """A report about one of our tracks, the newest of so many, that came at that time of the wall clock."""
        if report.ssrc != self._ssrc:
            if self._listener is not None:
                self._listener.note(report, count)
            return
        self._factory.audience.reports += count
        round_trip = rtcp.round_trip(report, rtcp.ntp_time(at))
        self.reception.note(report, round_trip, CLOCK_RATE, count)


def _ssrcs() -> tuple[int, int, int]:
    """Three different ones, not 0."""
    found: set[int] = set()
    while len(found) < 3:
        found.add(secrets.randbelow((1 << 32) - 2) + 1)
    first, second, third = found
    return first, second, third


class PeerFactory:
    """What all peers of an agent share."""

    def __init__(
        self,
        mux: UdpMux,
        certificate: Certificate,
        advertise: Callable[[], list[str]],
        *,
        timings: Timings | None = None,
        audience: Audience | None = None,
    ) -> None:
        self.mux = mux
        self.certificate = certificate
        self.advertise = advertise
        self.names_own: Callable[[], bool] = lambda: True
        """Whether the addresses of this process are named beside those to advertise."""
        self.timings = timings or Timings()
        self.rounds = Rounds()
        self.audience = audience or Audience()
        self.clock: Callable[[], float] = time.monotonic
        self.wall_clock: Callable[[], float] = time.time

    def make(self, sid: str, place: Attachment, observer: Observer) -> Peer:
        """A peer that awaits its offer; it has its place on the mux until it is closed or has run."""
        return Peer(self, sid, place, observer, self.mux.open_endpoint())
