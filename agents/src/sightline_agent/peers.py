"""One viewer: from its offer over the handshake to the fan-out, and to its end.

The registry makes a Peer per session, asks it for the answer and runs `run()` as a task; everything that the
peer learns goes to its observer. A peer ends by one cause, the first: its own goodbye (DTLS close_notify or
RTCP BYE), silence, a handshake that failed, `close`, or cancellation. Whatever the cause: the viewer leaves
the fan-out, the peer is told by close_notify, its place on the mux is given back, and the observer hears
`closed` exactly once.

Liveness (`liveness`, pure). A viewer that plays sends receiver reports about each second and ICE checks each
few seconds; nothing authentic for 10 s means that it is gone. Without checks for 30 s its consent to receive
has expired (RFC 7675), whatever else arrives.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from sightline_agent.attachment import Attachment
from sightline_agent.listener import Listener
from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.signaling.answer import (
    CNAME,
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
from sightline_agent.transport.fanout import Address, Viewer
from sightline_agent.transport.mux import UdpMux
from sightline_agent.transport.srtp import SrtpError
from sightline_agent.viewerstats import Audience, Family, Reception, family_of
from sightline_model.agent import SessionStats
from sightline_model.reasons import EndReason

log = structlog.get_logger(__name__)

_FIRST_REPORTS = 3
"""Browsers need two of each track to keep lips in step."""
_REPORTS_AGAIN = 20
"""Chromium fits a line through the last twenty: so many until those of before a jump are forgotten."""
_RTCP_TYPES = range(192, 224)
"""The second byte of RTCP on a port shared with RTP (RFC 5761 section 4)."""


_SETTLE_SECONDS = 0.002
_SETTLE_LOOKS = 50
"""A frame of a camera is over after some milliseconds; one that is never over belongs to a camera that is gone."""


class PeerObserver(Protocol):
    """Who wants to know what a peer goes through. Called on the loop; must not raise or block."""

    def connected(self) -> None:
        """The handshake is over."""
        ...

    def media(self) -> None:
        """The first packet was sent."""
        ...

    def alive(self) -> None:
        """The peer gave an authenticated sign of life (RTCP, ICE check)."""
        ...

    def key_frame_wanted(self) -> None:
        """The peer cannot decode (PLI, FIR)."""
        ...

    def closed(self, reason: EndReason, message: str) -> None:
        """It is over; nothing comes after this."""
        ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds."""

    connect: float = 30.0
    """From the start of `run` to the end of the handshake. The session's own limit is usually shorter."""
    silence: float = 9.0
    """With `watch`, a dead viewer is gone within 10 s."""
    consent: float = 30.0
    watch: float = 1.0
    """Between looks at the clock."""
    report_least: float = 2.0
    report_most: float = 3.0
    report_hurried: float = 0.1
    """While a viewer does not know yet how sound and pictures belong together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a peer ended."""

    reason: EndReason
    message: str


def liveness(now: float, last_check: float, last_rtcp: float, timings: Timings) -> Outcome | None:
    """Is the viewer gone? None as long as it is not."""
    if now - max(last_check, last_rtcp) > timings.silence:
        return Outcome(EndReason.SOCKET_LOST, f"nothing was heard of the viewer for {timings.silence:g} s")
    if now - last_check > timings.consent:
        return Outcome(EndReason.SOCKET_LOST, f"no ICE check arrived for {timings.consent:g} s")
    return None


@dataclass(frozen=True, slots=True)
class _Negotiated:
    choice: Choice
    ours: Ours
    dtls: DtlsSession


class Peer:
    """One sendonly viewer."""

    def __init__(
        self, factory: "PeerFactory", sid: str, place: Attachment, observer: PeerObserver, endpoint: Endpoint
    ) -> None:
        self.sid = sid
        self.reception = Reception()
        self._factory = factory
        self._place = place
        self._observer = observer
        self._endpoint = endpoint
        self._ssrc, self._rtx_ssrc, self._sound_ssrc = _ssrcs()
        self._listener: Listener | None = None
        self._hurried = 0
        self._negotiated: _Negotiated | None = None
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._running = False
        self._told = False
        self._handle: int | None = None
        self._last_rtcp = float("-inf")
        self._since: datetime | None = None
        self._family: Family | None = None

    def stats(self) -> SessionStats | None:
        """How the viewer receives; None before it is connected."""
        if self._since is None or self._family is None:
            return None
        self._hear()
        sent = self._place.pictures.stats(self._handle) if self._handle is not None else None
        return self.reception.stats(sent, self._since, self._family)

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
        """Take a trickle-ice-sdpfrag. A new ufrag is an ICE restart and is answered; candidates need no answer."""
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
            self._hurried = _REPORTS_AGAIN

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
                log.error("a peer failed", sid=self.sid, exc_info=error)
                self._finish(Outcome(EndReason.AGENT_LOST, "an internal error"))
            await self._clean_up()
            self._tell()

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
        if self._listener is not None:
            self._listener.begin(viewer)
            self._hurried = _FIRST_REPORTS
        async with asyncio.TaskGroup() as group:
            report = group.create_task(self._report(negotiated.dtls))
            watch = group.create_task(self._watch())
            await negotiated.dtls.closed()
            self._finish(Outcome(EndReason.HANGUP, "the viewer closed the connection"))
            report.cancel()
            watch.cancel()

    async def _watch(self) -> None:
        """Notice that nobody is there any more. Checks count as a sign of life too: without media no reports come."""
        factory = self._factory
        seen = self._endpoint.last_check
        while True:
            await asyncio.sleep(factory.timings.watch)
            self._hear()
            checked = self._endpoint.last_check
            if checked > seen:
                seen = checked
                self._observer.alive()
            gone = liveness(factory.clock(), checked, self._last_rtcp, factory.timings)
            if gone is not None:
                self._finish(gone)
                return

    async def _report(self, dtls: DtlsSession) -> None:
        """Sender reports at irregular intervals, so that many viewers do not get theirs in step (RFC 3550 6.2)."""
        sampled = 0
        while True:
            await asyncio.sleep(self._until_report())
            if self.reception.reports > sampled:
                sampled = self.reception.reports
                self._factory.audience.observe(self.reception)
            stats = self._place.pictures.stats(self._handle) if self._handle is not None else None
            if stats is None or not stats.packets:
                continue
            self.reception.rate.add(self._factory.clock(), stats.octets)
            # What the stream's clock shows now: the last packet's timestamp plus the time since.
            now, ntp = self._factory.clock(), rtcp.ntp_time(self._factory.wall_clock())
            elapsed = max(0.0, now - stats.last_sent)
            report = rtcp.SenderReport(
                ssrc=self._ssrc,
                ntp=ntp,
                rtp_timestamp=stats.last_timestamp + round(elapsed * CLOCK_RATE),
                packets=stats.packets,
                octets=stats.octets,
                cname=CNAME,
            )
            await dtls.send_rtcp(rtcp.build_sender_report(report))
            sound = self._listener.report(now, ntp) if self._listener is not None else None
            if sound is not None:
                await dtls.send_rtcp(sound)

    def _until_report(self) -> float:
        timings = self._factory.timings
        if self._hurried:
            self._hurried -= 1
            return timings.report_hurried
        return random.uniform(timings.report_least, timings.report_most)  # noqa: S311

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
        news = self._endpoint.news()
        if news.reported > self._last_rtcp:
            self._last_rtcp = news.reported
            self._observer.alive()
        for heard in news.heard:
            if heard.report.ssrc == self._ssrc:
                self._note(heard.report, heard.at, heard.count)

    def _on_rtcp(self, plain: bytes) -> None:
        """What the viewer says, in clear."""
        self._last_rtcp = self._factory.clock()
        feedback = rtcp.parse(plain)
        self._observer.alive()
        for report in feedback.reports:
            if report.ssrc == self._ssrc:
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
            self._hurried = _REPORTS_AGAIN

    def _note(self, report: rtcp.ReceptionReport, at: float, count: int = 1) -> None:
        """A report, the newest of so many, that came at that time of the wall clock."""
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
        self.audience = audience or Audience()
        self.clock: Callable[[], float] = time.monotonic
        self.wall_clock: Callable[[], float] = time.time

    def make(self, sid: str, place: Attachment, observer: PeerObserver) -> Peer:
        """A peer that awaits its offer; it has its place on the mux until it is closed or has run."""
        return Peer(self, sid, place, observer, self.mux.open_endpoint())
