"""The sound of one viewer: its place in the sound's fan-out, and the sender reports that keep it beside the pictures.

A peer has one where sound was negotiated. What goes wrong here costs the viewer its sound and nothing else.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import structlog

from sightline_agent.attachment import Attachment
from sightline_agent.signaling.sound import SoundChoice
from sightline_agent.transport import rtcp
from sightline_agent.transport.fanout import Address, Carried, FanOut, Moment, Viewer
from sightline_agent.transport.srtp import SrtpError
from sightline_agent.viewerstats import Reception
from sightline_model.agent import TrackStats

_log = structlog.get_logger(__name__)


class Listener:
    """One viewer's sound. `correction`: see `Attachment.sound_correction`."""

    def __init__(self, fanout: FanOut, choice: SoundChoice, ssrc: int, correction: Callable[[float], int]) -> None:
        self._fanout = fanout
        self._choice = choice
        self._ssrc = ssrc
        self._correction = correction
        self._reception = Reception()
        self._handle: int | None = None
        self._carried: Carried | None = None
        """While this quality has no sound that could go on."""
        self._resting = False

    def begin(self, viewer: Viewer) -> None:
        """Send from now on; `viewer` is the one of the pictures."""
        mine = replace(viewer, ssrc=self._ssrc, payload_type=self._choice.payload_type, rtx_ssrc=0, rtx_payload_type=0)
        # From the next block on: with one that is on its way already, all later ones would come early to the player,
        # which keeps what is early and plays it late.
        self._fanout.cut()
        try:
            self._handle = self._fanout.add(mine)
        except SrtpError:
            _log.warning("a viewer gets no sound: there is no SRTP context for it")
            return
        if self._resting:
            self._carried, self._handle = self._fanout.release(self._handle), None

    def switch(self, place: Attachment) -> None:
        """To another quality: its sound goes on where it is of the format that was agreed on, else it rests."""
        if self._handle is not None:
            self._carried = self._fanout.release(self._handle)
            self._handle = None
        self._resting = place.sound is None or place.format.audio != self._choice.format
        if place.sound is None or self._resting:
            return
        self._fanout, self._correction = place.sound, place.sound_correction
        if self._carried is not None:
            self._handle = self._fanout.adopt(self._carried, self._choice.format.clock_rate, at_once=False)
            self._carried = None

    def move(self, address: Address) -> None:
        """The viewer roamed."""
        if self._handle is not None:
            with contextlib.suppress(KeyError):  # an address family that we have no socket for
                self._fanout.move(self._handle, address)
        elif self._carried is not None:
            self._carried = replace(self._carried, address=address)

    def end(self) -> None:
        """Send nothing more."""
        if self._handle is not None:
            self._fanout.remove(self._handle)
        self._handle = self._carried = None

    def note(self, report: rtcp.ReceptionReport, count: int) -> None:
        """The viewer says how it receives, the newest of so many reports; those of other tracks are left alone."""
        if report.ssrc == self._ssrc:
            self._reception.note(report, None, self._choice.format.clock_rate, count)

    def stats(self) -> TrackStats | None:
        """How the viewer receives; None while there is no sound for it."""
        sent = self._fanout.stats(self._handle) if self._handle is not None else None
        return self._reception.track(sent) if sent is not None else None

    def report(self, moment: Moment) -> None:
        """Send a sender report, if there was sound."""
        if self._handle is None:
            return
        clock_rate, correction = self._choice.format.clock_rate, self._correction(moment.now)
        octets = self._fanout.report(self._handle, moment, clock_rate, correction)
        if octets is not None:
            self._reception.rate.add(moment.now, octets)
