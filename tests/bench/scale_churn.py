"""Sessions that come and go at a steady rate, for `make bench-scale`.

Each is created, streams, ends and is deleted, and a watch tells when the operator's status said so. It comes through
`sightline_kube.cache.Feed`, which resumes a watch that the API server ends (as it does with those of slow readers), and
lists again where that is too old. A session that is stuck says at which step, and what the API server has of it.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from sightline_kube.cache import Cache, Feed, FollowSettings, Key
from sightline_kube.cluster import Cluster, Obj
from sightline_kube.errors import ClusterError, NotFoundError
from sightline_kube.kinds import STREAM_SESSION
from sightline_model.base import API_VERSION
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase

PATIENCE = 60.0
"""Seconds for each step of a session."""
LIFE_SECONDS = 3.0
SWEEP_SECONDS = 30.0
WEIGHED = 20
"""Of so many sessions one is read to see how large it has become."""
TOLD = 5
"""Of so many sessions that are stuck the page tells."""
Figures = dict[str, Any]
Place = tuple[str, str]
"""Namespace and name of a camera."""
Speak = Callable[[Place, str, SessionPhase, EndReason | None], None]
"""Has a camera's agent say how far a session is."""


class Step(StrEnum):
    """How far the operator's status says that a session is, in order."""

    SEEN = "its first status"
    STREAMING = "Streaming"
    ENDED = "Ended"
    GONE = "deleted"


STEPS = tuple(Step)


class StuckError(Exception):
    """A session that does not get on."""


@dataclass(frozen=True)
class Plan:
    """How many sessions, how fast, and with how much patience."""

    rate: int
    seconds: float
    life_seconds: float = LIFE_SECONDS
    patience: float = PATIENCE


@dataclass
class Life:
    """One session as the driver knows it; times are those of the event loop."""

    sid: str
    camera: Place
    sent: float = 0.0
    created: float = 0.0
    told: dict[Step, float] = field(default_factory=dict)
    """When its agent has said so."""
    shown: dict[Step, float] = field(default_factory=dict)
    """When the operator's status was seen to say so."""
    end_reason: str = ""
    _reached: dict[Step, asyncio.Event] = field(default_factory=lambda: {step: asyncio.Event() for step in STEPS})

    def show(self, step: Step, now: float) -> None:
        """It is so far; what nobody saw on the way (a LIST shows the last state alone) is over, too."""
        self.shown.setdefault(step, now)
        for passed in STEPS[: STEPS.index(step) + 1]:
            self._reached[passed].set()

    async def reach(self, step: Step, patience: float) -> None:
        """Wait until it is so far; StuckError."""
        try:
            async with asyncio.timeout(patience):
                await self._reached[step].wait()
        except TimeoutError:
            place, so_far = "/".join(self.camera), ", ".join(self.shown) or "nothing"
            what = f"session {self.sid} of {place}: not {step} within {patience:.0f} s; seen: {so_far}"
            raise StuckError(what) from None


class Churn:
    """One series."""

    def __init__(self, cluster: Cluster, speak: Speak, cameras: Iterable[Place], dice: random.Random) -> None:
        self._cluster = cluster
        self._speak = speak
        self._cameras = sorted(cameras)
        self._dice = dice
        self._lives: dict[str, Life] = {}
        self._stuck: list[str] = []
        self._largest = 0
        self._cache = Cache([STREAM_SESSION])
        self._cache.subscribe(self._changed)

    async def run(self, plan: Plan, found: Figures) -> None:
        """The rate for some seconds, and until the last session is gone; fills in the figures, whatever comes."""
        feed = Feed(self._cluster, self._cache, [STREAM_SESSION], settings=FollowSettings(sweep_seconds=SWEEP_SECONDS))
        async with feed:
            while not self._cache.synced():
                await asyncio.sleep(0.05)
            living = asyncio.ensure_future(self._all(plan, found))
            watching = asyncio.ensure_future(feed.wait())
            try:
                done, _ = await asyncio.wait([living, watching], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                living.cancel()
                watching.cancel()
                await asyncio.wait([living, watching])
                found["watch"] = asdict(feed.stats[STREAM_SESSION])
                found.update(self._figures())

    async def _all(self, plan: Plan, found: Figures) -> None:
        began = _now()
        async with asyncio.TaskGroup() as group:
            for number in range(int(plan.rate * plan.seconds)):
                await asyncio.sleep(max(0.0, began + number / plan.rate - _now()))
                life = Life(f"s-{plan.rate}-{number}", self._dice.choice(self._cameras))
                self._lives[life.sid] = life
                group.create_task(self._tried(life, plan))
            found["driver_late_seconds"] = max(0.0, _now() - began - plan.seconds)
        found["stuck"], found["stuck_sessions"] = len(self._stuck), self._stuck[:TOLD]
        if self._stuck:
            found["failed"] = f"{len(self._stuck)} of {len(self._lives)} sessions are stuck; {self._stuck[0]}"

    async def _tried(self, life: Life, plan: Plan) -> None:
        try:
            await self._live(life, plan)
        except StuckError as error:
            self._stuck.append(f"{error}; {await self._known(life)}")
        except ClusterError as error:
            self._stuck.append(f"session {life.sid} could not be made: {error}")

    async def _live(self, life: Life, plan: Plan) -> None:
        """One session from its creation to its end."""
        life.sent = _now()
        await self._cluster.create(session(life.sid, *life.camera))
        life.created = _now()
        await life.reach(Step.SEEN, plan.patience)
        self._say(life, Step.STREAMING, SessionPhase.STREAMING)
        await life.reach(Step.STREAMING, plan.patience)
        await asyncio.sleep(plan.life_seconds)
        self._say(life, Step.ENDED, SessionPhase.ENDED, EndReason.HANGUP)
        await life.reach(Step.ENDED, plan.patience)
        if int(life.sid.rpartition("-")[2]) % WEIGHED == 0:
            await self._weigh(life)
        await life.reach(Step.GONE, plan.patience)

    def _say(self, life: Life, step: Step, phase: SessionPhase, end: EndReason | None = None) -> None:
        life.told[step] = _now()
        self._speak(life.camera, life.sid, phase, end)

    async def _weigh(self, life: Life) -> None:
        """What the API server stores, to whom each field belongs included: the cache leaves that out."""
        try:
            obj = await self._cluster.get(STREAM_SESSION, life.camera[0], life.sid)
        except NotFoundError:
            return
        self._largest = max(self._largest, len(json.dumps(obj, separators=(",", ":"))))

    async def _known(self, life: Life) -> str:
        """What the API server has, which tells a driver that missed something from an operator that did."""
        try:
            obj = await self._cluster.get(STREAM_SESSION, life.camera[0], life.sid)
        except NotFoundError:
            return "the API server has it no more"
        except ClusterError as error:
            return f"the API server does not say: {error}"
        return f"the API server has it as {step_of(obj) or 'without a status'}"

    def _changed(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """The cache's subscriber."""
        life, moment = self._lives.get(key.name), _now()
        if life is None:
            return
        if now is None:
            life.show(Step.GONE, moment)
            return
        step = step_of(now)
        if step is None:
            return
        life.show(step, moment)
        if step is Step.ENDED:
            life.end_reason = str(now["status"].get("endReason"))

    def _figures(self) -> Figures:
        lives = list(self._lives.values())
        seen = [(life, life.shown[Step.SEEN]) for life in lives if life.created and Step.SEEN in life.shown]
        return {
            "sessions": len(lives),
            "from_request": percentiles(shown - life.sent for life, shown in seen),
            "from_answer": percentiles(max(0.0, shown - life.created) for life, shown in seen),
            "streaming": percentiles(_waits(lives, Step.STREAMING)),
            "ended": percentiles(_waits(lives, Step.ENDED)),
            "ends": dict(Counter(life.end_reason for life in lives if life.end_reason)),
            "largest_bytes": self._largest,
        }


def _now() -> float:
    return asyncio.get_running_loop().time()


def session(sid: str, place: str, name: str) -> Obj:
    """As somebody makes it with kubectl."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {"name": sid, "namespace": place},
        "spec": {"cameraRef": {"name": name}, "user": "bench"},
    }


def step_of(obj: Obj) -> Step | None:
    """How far the session's status says that it is."""
    status = obj.get("status") or {}
    if status.get("phase") == SessionPhase.ENDED:
        return Step.ENDED
    if status.get("phase") == SessionPhase.STREAMING:
        return Step.STREAMING
    return Step.SEEN if (status.get("timestamps") or {}).get("authorized") else None


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """In milliseconds; none of nothing."""
    ordered = sorted(seconds)
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)) if ordered else ()
    return {name: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in shares}


def _waits(lives: Iterable[Life], step: Step) -> Iterable[float]:
    return (life.shown[step] - life.told[step] for life in lives if step in life.shown and step in life.told)
