"""Viewers who come and go, and when somebody looks at their camera."""

import asyncio

from sightline_operator.audiences import DELAY_SECONDS, Audiences, Place
from tests.operator.virtualtime import run, running

GATE, YARD = ("site", "gate"), ("site", "yard")


class Wall:
    """Cameras whose viewers are not those that are written, and when each was looked at."""

    def __init__(self, *differing: Place) -> None:
        self.differing = {*differing}
        self.looks: list[tuple[Place, float]] = []
        self.audiences = Audiences(lambda camera: camera in self.differing, self._look)

    def _look(self, camera: Place) -> None:
        self.looks.append((camera, asyncio.get_running_loop().time()))


def test_there_is_one_look_for_all_who_came_and_went_meanwhile() -> None:
    async def main() -> None:
        wall = Wall(GATE, YARD)
        async with running(wall.audiences.run()):
            for camera in (GATE, YARD, GATE, GATE):
                wall.audiences.changed(camera)
                await asyncio.sleep(1)
            await asyncio.sleep(20)
            assert wall.looks == [(GATE, DELAY_SECONDS), (YARD, DELAY_SECONDS + 1)]
            wall.audiences.changed(YARD)
            await asyncio.sleep(20)
            assert wall.looks[2:] == [(YARD, 24 + DELAY_SECONDS)]

    run(main)


def test_who_has_come_and_gone_makes_nobody_look() -> None:
    async def main() -> None:
        wall = Wall(YARD)
        async with running(wall.audiences.run()):
            wall.audiences.changed(GATE)
            wall.audiences.changed(YARD)
            await asyncio.sleep(20)
            assert [camera for camera, _ in wall.looks] == [YARD]
            wall.differing = {GATE}
            wall.audiences.changed(GATE)
            await asyncio.sleep(20)
            assert [camera for camera, _ in wall.looks] == [YARD, GATE]

    run(main)


def test_a_camera_that_changes_during_the_look_at_another_one_is_not_forgotten() -> None:
    async def main() -> None:
        wall = Wall(GATE, YARD)
        async with running(wall.audiences.run()):
            wall.audiences.changed(GATE)
            await asyncio.sleep(DELAY_SECONDS)
            wall.audiences.changed(YARD)
            await asyncio.sleep(20)
        assert [camera for camera, _ in wall.looks] == [GATE, YARD]

    run(main)
