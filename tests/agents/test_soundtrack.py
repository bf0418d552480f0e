"""The sound of one source: a fan-out for each format, and one line of timestamps."""

from typing import cast

from sightline_agent.media.frames import Chunk
from sightline_agent.media.sound import OPUS, PCMA, chunk
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.transport.fanout import FanOut, FanOutTotals


class Recorder:
    """As much of a fan-out as the sound needs."""

    def __init__(self) -> None:
        self.sent: list[Chunk] = []
        self.cuts = 0

    def send(self, chunk: Chunk) -> None:
        self.sent.append(chunk)

    def cut(self) -> None:
        self.cuts += 1

    def totals(self) -> FanOutTotals:
        return FanOutTotals(packets=len(self.sent))


class Hall:
    def __init__(self) -> None:
        self.made: list[Recorder] = []
        self.sound = Soundtrack(self._make)

    def _make(self) -> FanOut:
        self.made.append(Recorder())
        return cast("FanOut", self.made[-1])


def test_cameras_without_sound_cost_nothing() -> None:
    hall = Hall()
    hall.sound.start(None)
    hall.sound.picture(1, 1.0)
    assert hall.sound.write(chunk(b"x", 1), 1.0, None) is None
    assert (hall.made, hall.sound.fanout(None), hall.sound.totals()) == ([], None, FanOutTotals())


def test_another_codec_never_reaches_who_agreed_on_the_first() -> None:
    hall = Hall()
    hall.sound.start(OPUS)
    first = hall.sound.fanout(OPUS)
    hall.sound.write(chunk(b"opus", 1), 1.0, None)
    hall.sound.start(PCMA)
    hall.sound.write(chunk(b"law", 1), 2.0, None)
    hall.sound.start(OPUS)
    assert hall.sound.fanout(OPUS) is first
    hall.sound.write(chunk(b"more", 1), 3.0, None)
    assert [[one.payloads[0] for one in made.sent] for made in hall.made] == [[b"opus", b"more"], [b"law"]]
    assert hall.sound.totals().packets == 3


def test_another_run_goes_on_by_the_time_that_passed() -> None:
    hall = Hall()
    hall.sound.start(OPUS)
    hall.sound.write(chunk(b"x", 1000), 1.0, None)
    hall.sound.restart()
    hall.sound.start(OPUS)
    hall.sound.write(chunk(b"y", 77_000_000), 3.5, None)
    (made,) = hall.made
    assert [one.timestamp for one in made.sent] == [1000, 1000 + round(2.5 * 48_000)]
    assert made.cuts == 1


def test_reports_are_corrected_by_the_relation_of_the_run() -> None:
    hall = Hall()
    hall.sound.start(OPUS)
    hall.sound.picture(0, 10.0)
    hall.sound.write(chunk(b"x", 0), 10.25, 0)
    assert hall.sound.correction(20.0) == 12_000
    hall.sound.restart()
    assert hall.sound.correction(20.0) == 0
