"""Patience for packets that are missing: each has its own, however many there are."""

import asyncio

from sightline_agent.media.rtp import RtpPacket
from sightline_agent.sources.ordered import OrderedPackets
from tests.helpers.virtual_time import run

PATIENCE = 0.3
STEP = 0.01


def packet(number: int) -> RtpPacket:
    return RtpPacket(96, marker=False, sequence=number % 65_536, timestamp=0, ssrc=1, payload=b"x")


class Link:
    """A packet each hundredth of a second; every fifth is missing, and comes again after so many steps, or never."""

    def __init__(self, again: int | None) -> None:
        self.again = again
        self.pushed: list[tuple[float, int]] = []
        self.delivered = 0
        self.ordered = OrderedPackets(128, PATIENCE, self._push, self._deliver)

    def _push(self, packet: RtpPacket, gap: bool) -> None:
        self.pushed.append((asyncio.get_running_loop().time(), packet.sequence))

    def _deliver(self, now: float) -> None:
        self.delivered += 1

    async def play(self, steps: int) -> None:
        for number in range(1, steps):
            if number % 5:
                self.ordered.take(packet(number))
            if self.again is not None and number > self.again and (number - self.again) % 5 == 0:
                self.ordered.take(packet(number - self.again))
            self.ordered.settle()
            await asyncio.sleep(STEP)


def test_what_comes_again_in_time_is_waited_for_although_something_is_always_missing() -> None:
    async def scenario() -> None:
        link = Link(again=20)
        await link.play(400)
        assert (link.ordered.lost, link.ordered.late) == (0, 0)
        link.ordered.close()

    run(scenario())


def test_what_never_comes_holds_up_nothing_for_longer_than_the_patience() -> None:
    async def scenario() -> None:
        link = Link(again=None)
        await link.play(400)
        # Packet n came in step n, and what is missing is noticed with the next one.
        late = [at - (number - 1) * STEP for at, number in link.pushed]
        assert max(late) <= PATIENCE + 1e-6
        assert link.ordered.lost >= 70
        assert link.delivered
        link.ordered.close()

    run(scenario())


def test_several_that_are_missing_at_once_are_given_up_at_once() -> None:
    async def scenario() -> None:
        link = Link(again=None)
        for number in (1, 3, 5, 7):
            link.ordered.take(packet(number))
        link.ordered.settle()
        await asyncio.sleep(PATIENCE + 0.001)
        assert [number for _, number in link.pushed] == [1, 3, 5, 7]
        assert link.ordered.lost == 3
        assert not link.ordered.waiting

    run(scenario())
