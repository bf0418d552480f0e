"""Who hears what a viewer's peer goes through: its session. Types only, so that neither needs to know the other."""

from typing import Protocol

from sightline_model.reasons import EndReason


class Observer(Protocol):
    """Called on the loop; must not raise or block."""

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
