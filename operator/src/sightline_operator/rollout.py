"""How a changed class or agent image reaches running agents: a few cameras at a time, idle ones first.

Who may begin is decided here; how one camera is moved (new pod first, then the old one goes) is the business of
`generations`. A new generation that never answers keeps its place, so a broken image stops the roll-out at the first
camera and every other one goes on as it was. State is in memory only: another operator finds in the pods who was being
moved, before anybody may begin (`under_way`); after that each pass tells anew.
"""

import heapq
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


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a class's roll-out has come."""

    moving: tuple[CameraKey, ...] = ()
    """Cameras that have, or are about to have, a newer agent beside the one that serves."""
    waiting: int = 0
    watched: int = 0
    """So many of those that wait have viewers."""


@dataclass(slots=True)
class _Class:
    at_a_time: int = 1
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

    def may_begin(self, class_name: str, camera: CameraKey, viewers: int | None, at_a_time: int) -> bool:
        """Whether it is the camera's turn; if not, `done` will name it when it is.

        A watched camera that asks for the first time is to ask again: idle ones may not have asked yet. So is one of
        which nobody knows yet how many watch it (None).
        """
        if class_name in self._classes and camera in self._classes[class_name].active:
            return True
        if viewers is None:
            return False
        state = self._classes.setdefault(class_name, _Class())
        state.at_a_time = at_a_time
        first = camera not in state.waiting
        state.waiting[camera] = viewers
        if viewers and first:
            return False
        # One of several whose turn it is need not wait for the others, which may fail for a while.
        if camera not in _first(state, at_a_time - len(state.active)):
            return False
        self.under_way(class_name, camera)
        return True

    def done(self, camera: CameraKey) -> tuple[CameraKey, ...]:
        """The camera needs no move (any more); the answer is whoever may have a look next."""
        chosen: list[CameraKey] = []
        for name, state in list(self._classes.items()):
            if camera not in state.active and camera not in state.waiting:
                continue
            state.active.discard(camera)
            state.waiting.pop(camera, None)
            chosen += _first(state, state.at_a_time - len(state.active))
            if not state.active and not state.waiting:
                del self._classes[name]
        return tuple(chosen)

    def standing(self, class_name: str) -> Standing:
        """How far the class has come."""
        state = self._classes.get(class_name, _Class())
        watched = sum(viewers > 0 for viewers in state.waiting.values())
        return Standing(tuple(sorted(state.active)), len(state.waiting), watched)

    def classes_of(self, camera: CameraKey) -> tuple[str, ...]:
        """Classes whose roll-outs know the camera."""
        known = self._classes.items()
        return tuple(name for name, state in known if camera in state.active or camera in state.waiting)


def _first(state: _Class, count: int) -> list[CameraKey]:
    """Of those who wait the first so many, fewest viewers first; names decide between equals. Thousands may wait."""
    return heapq.nsmallest(count, state.waiting, key=lambda camera: (state.waiting[camera], camera))
