"""Cameras whose viewers come and go: looked at a while later, once for all of them, if there are more or fewer by then.

Who clicks through a wall of cameras leaves viewers of some seconds, whom no status has to tell of; a look at a camera
takes longer than everything that is done for such a session.
"""

import asyncio
from collections.abc import Callable

DELAY_SECONDS = 5.0

Place = tuple[str, str]
"""Namespace and name of a camera."""


class Audiences:
    """The cameras that had viewers come or go; each at most once."""

    def __init__(self, differs: Callable[[Place], bool], look: Callable[[Place], None]) -> None:
        """`differs` says whether another number watches than is written, `look` is called where it is so."""
        self._differs = differs
        self._look = look
        self._due: dict[Place, float] = {}  # all wait equally long: the first one is due first
        self._wake = asyncio.Event()

    def changed(self, camera: Place) -> None:
        """A viewer came, or went."""
        self._due.setdefault(camera, asyncio.get_running_loop().time() + DELAY_SECONDS)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                camera, due = next(iter(self._due.items()))
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                del self._due[camera]
                if self._differs(camera):
                    self._look(camera)
