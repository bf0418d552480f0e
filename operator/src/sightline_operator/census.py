"""How many cameras and sessions are in which state, counted as the cache changes.

Metrics ask for it again and again, and whoever waits for a pass should not wait for a look at ten thousand statuses.
"""

from collections import Counter as Tally
from typing import Any

from sightline_kube.cache import Key
from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_model.reasons import PENDING

_PARTS = ("AgentReady", "NetworkReady", "SourceReady")


class Census:
    """What a cache holds, state by state; nothing until it is told of changes."""

    def __init__(self) -> None:
        self.phases: Tally[str] = Tally()
        self.ready: Tally[str] = Tally()
        """By the status of their Ready conditions."""
        self.agents: Tally[str] = Tally()
        """By the reason of their AgentReady conditions."""
        self.networks: Tally[str] = Tally()
        self.sources: Tally[str] = Tally()
        self.sessions: Tally[str] = Tally()
        """Sessions, by phase."""

    def changed(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """The cache's subscriber."""
        for obj, number in ((before, -1), (now, 1)):
            if obj is None:
                continue
            if key.kind == CAMERA:
                self._camera(obj.get("status") or {}, number)
            elif key.kind == STREAM_SESSION:
                self.sessions[str((obj.get("status") or {}).get("phase", "Requested"))] += number

    def _camera(self, status: dict[str, Any], number: int) -> None:
        said = {condition["type"]: condition for condition in status.get("conditions") or ()}
        self.phases[str(status.get("phase", "Pending"))] += number
        self.ready[said.get("Ready", {}).get("status", "Unknown")] += number
        for tally, type_ in zip((self.agents, self.networks, self.sources), _PARTS, strict=True):
            tally[said.get(type_, {}).get("reason", PENDING)] += number
