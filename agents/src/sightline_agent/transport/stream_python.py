"""One viewer's state in the pure-Python fan-out, which alone changes it."""

from collections.abc import Callable

from sightline_agent.transport.fanout import Address, Viewer
from sightline_agent.transport.srtp import SendContext

_NOTHING = 1 << 62
"""No packet has this index."""


class Stream:
    """What belongs to one viewer."""

    __slots__ = (
        "address",
        "behind",
        "budget",
        "context",
        "dropped",
        "failed",
        "first_index",
        "held",
        "last_sent",
        "last_timestamp",
        "next_sequence",
        "octets",
        "offset",
        "on_start",
        "packets",
        "pending",
        "place",
        "refresh_at",
        "resent",
        "rtx_sequence",
        "sendto",
        "sliced_at",
        "stuck_since",
        "timestamp_offset",
        "viewer",
        "waiting",
    )

    def __init__(
        self,
        viewer: Viewer,
        sendto: Callable[[memoryview, Address], int],
        random: Callable[[int], int],
        budget: float,
        on_start: Callable[[], None] | None,
    ) -> None:
        self.viewer = viewer
        self.on_start = on_start
        self.context = SendContext(viewer.keys, repeat=not viewer.rtx_payload_type)
        self.sendto = sendto
        self.address = viewer.address
        # Below 2**15, so that the receiver's guess of the rollover counter is right even if the first packets are
        # lost (RFC 3711 section 3.3.1).
        self.next_sequence = random(15)
        self.rtx_sequence = random(15)
        self.timestamp_offset = random(32)
        self.waiting = True
        self.behind = False
        self.failed = False
        # While it is behind: the index of the next packet, that packet if it is encrypted already, whether a full
        # socket is the cause, since when the socket takes nothing, and when it had its last slice.
        self.place = 0
        self.pending: bytes | None = None
        self.held = False
        self.stuck_since: float | None = None
        self.sliced_at = 0.0
        self.refresh_at = float("-inf")
        self.offset = 0
        self.first_index = 0
        self.packets = self.octets = self.resent = self.dropped = self.last_timestamp = 0
        self.last_sent = 0.0
        self.budget = budget

    def enter(self, sendto: Callable[[memoryview, Address], int], on_start: Callable[[], None] | None) -> None:
        """Into another fan-out, where it waits for a key frame and can repeat nothing that was sent before."""
        self.sendto = sendto
        self.on_start = on_start
        self.waiting, self.behind, self.held = True, False, False
        self.pending = self.stuck_since = None
        self.refresh_at = float("-inf")
        self.first_index = _NOTHING
