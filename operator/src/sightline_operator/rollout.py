"""How a changed class or agent image reaches running agents: a few cameras at a time, idle ones first.

Who may begin is decided here; how one camera is moved (new pod first, then the old one goes) is the business of
`generations`. A new generation that never answers keeps its place, so a broken image stops the roll-out at the first
camera and every other one goes on as it was. State is in memory only: after a restart each pass tells anew.
"""

from dataclasses import dataclass, field
from enum import Enum

CameraKey = tuple[str, str]
"""Namespace and name."""


class Progress(Enum):
    """Where a camera stands, as `decide` sees it."""

    NONE = "none"
    WANTED = "wanted"
    """Its pod is of an older class or image, and no newer one has been made."""
    UNDER_WAY = "under way"
    """Both generations are there."""


@dataclass(slots=True)
class _Class:
    active: set[CameraKey] = field(default_factory=set)
    waiting: dict[CameraKey, int] = field(default_factory=dict)
    """Viewers of each camera that waits for its turn."""


class Rollouts:
    """Whose turn it is, for each class."""

    def __init__(self) -> None:
        self._classes: dict[str, _Class] = {}

    def under_way(self, class_name: str, camera: CameraKey) -> None:
        """The camera is being moved."""
        state = self._classes.setdefault(class_name, _Class())
        state.waiting.pop(camera, None)
        state.active.add(camera)

    def may_begin(self, class_name: str, camera: CameraKey, viewers: int, at_a_time: int) -> bool:
        """Whether it is the camera's turn; if not, `done` will name it when it is.

        A watched camera that asks for the first time is to ask again: idle ones may not have asked yet.
        """
        state = self._classes.setdefault(class_name, _Class())
        if camera in state.active:
            return True
        first = camera not in state.waiting
        state.waiting[camera] = viewers
        if viewers and first:
            return False
        if len(state.active) >= at_a_time or _next(state) != camera:
            return False
        self.under_way(class_name, camera)
        return True

    def done(self, camera: CameraKey) -> CameraKey | None:
        """The camera needs no move (any more); the answer is whoever may have a look next."""
        chosen = None
        for name, state in list(self._classes.items()):
            known = camera in state.active or camera in state.waiting
            state.active.discard(camera)
            state.waiting.pop(camera, None)
            if known and state.waiting and not state.active:
                chosen = _next(state)
            if not state.active and not state.waiting:
                del self._classes[name]
        return chosen


def _next(state: _Class) -> CameraKey:
    """The camera with the fewest viewers; names decide between equals."""
    return min(state.waiting, key=lambda camera: (state.waiting[camera], camera))
