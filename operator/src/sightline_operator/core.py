"""The operator itself: a queue of keys, workers that look at them, links to agents and the reaper.

It knows nothing of kopf. Whoever starts it feeds the cache: `__main__` from kopf's handlers and the sweep, embedded
mode from `sightline_kube.cache.Feed`. Nothing is done before the cache is synced, because what is not in it yet would
be taken for missing. On standby it does nothing either, but it knows the agents already when its time comes.
"""

import asyncio
import logging
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import Cluster, Obj
from sightline_kube.errors import ClusterError, ConflictError, UnavailableError
from sightline_kube.kinds import (
    CAMERA,
    CAMERA_CLASS,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STREAM_SESSION,
    kind_of,
)
from sightline_model import names
from sightline_model.camera import CameraStatus
from sightline_model.reasons import EndReason
from sightline_model.session import StreamSessionStatus
from sightline_operator import accept, budgets, camerastatus, classes, notes, pods, sessions, successors
from sightline_operator.act import Actor
from sightline_operator.agents import AgentLinks
from sightline_operator.attempts import Attempts
from sightline_operator.budgets import Budgets
from sightline_operator.census import Census
from sightline_operator.clock import Clock, soonest, utc_now
from sightline_operator.decide import Decision, Push, decide
from sightline_operator.errors import AgentCallError
from sightline_operator.facts import (
    CameraFacts,
    ConfigWrite,
    Options,
    camera_facts,
    class_facts,
    resolve_class,
    session_facts,
)
from sightline_operator.handover import HangUp
from sightline_operator.lessor import Lessor
from sightline_operator.metrics import Figures, Metrics
from sightline_operator.notes import Notebook
from sightline_operator.pool import Pool
from sightline_operator.probe import Prober
from sightline_operator.reaper import Reaper
from sightline_operator.rollout import Progress, Rollouts
from sightline_operator.routes import CLASS_DELAY_SECONDS, Routes
from sightline_operator.sessions import SessionDecision
from sightline_operator.status import StatusWriter, plan
from sightline_operator.sweep import Sweeper
from sightline_operator.workqueue import Lane, WorkQueue

log = logging.getLogger(__name__)

KINDS = (CAMERA, CAMERA_CLASS, STREAM_SESSION, POD, SERVICE, NODE, POD_DISRUPTION_BUDGET)
"""What the cache must hold. Secrets are written and never read (docs/design/0005), but for credentials that go to spare
agents (docs/design/0018)."""
FULL_PASS_SECONDS = 300.0
"""Each camera is looked at so often even if nothing happened; the first time, after the look at the start, within twice
as long."""
DRAIN_SECONDS = 5.0
_WAITS = "Its class has changed; a newer agent takes over when the camera's turn comes."
ASK_AGAIN_SECONDS = 5.0
"""A watched camera that waits for its turn in a roll-out asks so often."""
_SYNC_POLL_SECONDS = 0.05


async def at_once() -> None:
    """For an operator that has nobody to wait for."""


class _RefusedError(Exception):
    """The API server refuses a child; the status says so, and the key comes again."""


class Operator:
    """Everything between the cache and the Cluster port."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        links: AgentLinks,
        options: Options,
        *,
        workers: int = 16,
        metrics: Metrics | None = None,
        clock: Clock = utc_now,
        suffix: Callable[[], str] = lambda: names.random_suffix(3),
        prober: Prober | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.queue: WorkQueue[Key] = WorkQueue(self.metrics, lane=self._lane)
        self.queue.open = False
        self.reaper = Reaper(cluster, clock)
        self.sweeper: Sweeper | None = None
        self._cache = cache
        self._links = links
        self._options = options
        self._workers = workers
        self._clock = clock
        self._suffix = suffix
        self._actor = Actor(cluster, cache)
        self._writer = StatusWriter(cluster, cache)
        self._census = Census()
        self._routes = Routes(cache, self.queue, links, clock)
        self._notebook = Notebook(cluster, clock, self.metrics)
        self._rollouts = Rollouts()
        self._prober = prober
        self._lessor = Lessor(cache, prober, clock, self._class_changed, options.port_quarantine)
        self._attempts = Attempts(self._lessor)
        self._pool = Pool(
            cluster, cache, links, self._lessor, options, clock, suffix=suffix, changed=self._class_changed
        )
        self._written: dict[tuple[str, str], datetime] = {}
        self._used_classes: set[str] = set()
        self._configs: dict[tuple[str, str], ConfigWrite] = {}
        self._budgets = Budgets(cluster, cache, options.owner_role)
        self._passes = {
            CAMERA: self._camera,
            CAMERA_CLASS: self._class,
            STREAM_SESSION: self._session,
            POD_DISRUPTION_BUDGET: self._budget,
        }
        cache.subscribe(self._census.changed)
        cache.subscribe(self._routes.changed)
        links.subscribe(self._routes.heard)
        if prober is not None:
            prober.subscribe(lambda target: self.queue.add(Key(CAMERA, target.namespace, target.camera)))
        self.metrics.watch(self._figures)
        for kind in self._passes:
            self.metrics.workers.labels(kind.kind).set(workers)

    async def run(self, in_charge: Callable[[], Awaitable[None]] = at_once) -> None:
        """Listen to agents, and work once `in_charge` is back, until cancelled; ends by itself only with an error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._links.run(), name="links")
            while not self._cache.synced():  # noqa: ASYNC110 - the cache tells of objects, not of itself
                await asyncio.sleep(_SYNC_POLL_SECONDS)
            await in_charge()
            self._begin()
            if self._prober is not None:
                group.create_task(self._prober.run(), name="prober")
            group.create_task(self.queue.run(self._look, self._workers, max(1, self._workers // 8)), name="workers")
            group.create_task(self.reaper.run(), name="reaper")
            group.create_task(self._routes.audiences.run(), name="audiences")
            group.create_task(self._notebook.run(), name="events")
            group.create_task(self._full_passes(), name="full passes")

    def _begin(self) -> None:
        """From here on it acts: what others have left is taken over, and everything is looked at."""
        self._lessor.recover()
        self._recover_rollouts()
        self.queue.open = True
        for key in (*self._routes.all_revoked(), *self._all()):
            self.queue.add(key)
        log.info("working with %d workers", self._workers)

    async def drain(self) -> None:
        """Let passes under way come to their end; what waits is left to the next start."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.queue.drain()
        except TimeoutError:
            log.warning("some passes did not end in %.0f s and are abandoned", DRAIN_SECONDS)

    async def _look(self, key: Key) -> None:
        """One pass, whatever comes of it: errors bring the key back later and later."""
        controller = key.kind.kind
        self.metrics.active.labels(controller).inc()
        started = asyncio.get_running_loop().time()
        try:
            result = await self._attempt(key)
        finally:
            self.metrics.active.labels(controller).dec()
            self.metrics.pass_time.labels(controller).observe(asyncio.get_running_loop().time() - started)
        self.metrics.passes.labels(controller, result).inc()
        if result == "error":
            self.metrics.errors.labels(controller).inc()

    async def _attempt(self, key: Key) -> str:
        where = f"{key.kind.kind} {key.namespace}/{key.name}"
        try:
            again = await self._passes[key.kind](key)
        except ConflictError:
            self.queue.retry(key)
            return "conflict"
        except UnavailableError as error:
            delay = self.queue.retry(key, error.retry_after or 0.0)
            log.warning("%s: %s; again in %.1f s", where, error, delay)
            return "error"
        except _RefusedError:
            self.queue.retry(key, 1.0)
            return "error"
        except (ClusterError, AgentCallError) as error:
            delay = self.queue.retry(key)
            log.warning("%s: %s; again in %.1f s", where, error, delay)
            return "error"
        except Exception:
            delay = self.queue.retry(key, 1.0)
            log.exception("%s: a bug; again in %.1f s", where, delay)
            return "error"
        self.queue.forget(key)
        if again is None:
            return "success"
        self.queue.add_after(key, again)
        return "requeue_after"

    async def _camera(self, key: Key) -> float | None:
        """Gather, decide, act on one camera."""
        place = (key.namespace, key.name)
        facts = camera_facts(self._cache, self._links.state, self._options, place, self._suffix)
        demand = self._demand(place, facts.camera)
        facts = replace(facts, config_write=self._configs.get(place), ports=self._lessor.ports(facts), demand=demand)
        if facts.camera is None:
            self._written.pop(place, None)
            self._configs.pop(place, None)
            self._attempts.over(*place)
            self.queue.drop(key)
            self._rolled(place)
            return None
        facts = self._pool.with_spare(self._attempts.again(facts))
        decision = self._in_turn(place, facts, decide(facts, self._clock()))
        if decision.takeover is not None:
            await self._pool.take(place, decision.takeover)
            return 0.0
        self._lessor.lease(decision.new_pod)
        self._attempts.begin(facts, decision.new_pod)
        refusal = await self._apply(place, (*decision.apply, *decision.new_pod))
        if refusal:
            decision = decide(replace(facts, refusal=refusal), self._clock())
        elif decision.new_pod:
            self._attempts.over(*place)
        with self.queue.elsewhere(key):
            problem = await self._push(key.namespace, decision.push) if not refusal else None
            self._lessor.probe(decision.probe)
            problem = await self._move(key.namespace, decision.hang_up) or problem
        await self._actor.delete(decision.delete)
        if decision.rollout is Progress.NONE:
            self._rolled(place)
        wait = await self._write_camera(facts, decision.status)
        if refusal:
            raise _RefusedError(refusal)
        if problem:
            raise problem
        return soonest(decision.requeue_after, wait)

    def _demand(self, place: tuple[str, str], camera: Obj | None) -> bool:
        """Whether sessions want the camera awake: looked for only where it could rest."""
        lifecycle = ((camera or {}).get("spec") or {}).get("lifecycle") or {}
        return lifecycle.get("scaleToZeroAfter", "Never") != "Never" and self._routes.wanted(place)

    async def _apply(self, place: tuple[str, str], objects: tuple[Obj, ...]) -> str:
        """Apply the objects in order, noting writes of the config; the answer is empty, or why one is refused."""
        for obj in objects:
            write = ConfigWrite(pods.desired_hash(obj), self._clock(), done=False) if kind_of(obj) == SECRET else None
            if write:
                self._configs[place] = write
            refusal = await self._actor.apply(obj)
            if refusal:
                self._lessor.refused(obj, refusal)
                return refusal
            if write:
                self._configs[place] = replace(write, done=True)
        return ""

    def _in_turn(self, place: tuple[str, str], facts: CameraFacts, decision: Decision) -> Decision:
        """The decision, without the new pod if other cameras of the class have to be moved first."""
        if decision.rollout is Progress.NONE:
            return decision
        self._class_changed(Key(CAMERA_CLASS, "", facts.class_name))
        if decision.rollout is Progress.UNDER_WAY:
            self._rollouts.under_way(facts.class_name, place)
            return decision
        # None: the operator has just started and has not heard from the agent.
        viewers = decision.status.viewers if decision.status else None
        at_a_time = accept.class_spec_or_default(facts.camera_class).rollout.max_unavailable
        if self._rollouts.may_begin(facts.class_name, place, viewers, at_a_time):
            return decision
        return replace(
            decision,
            new_pod=(),
            takeover=None,
            status=decision.status and successors.noted(decision.status, _WAITS),
            requeue_after=soonest(decision.requeue_after, ASK_AGAIN_SECONDS if viewers else None),
        )

    def _recover_rollouts(self) -> None:
        """Whoever has pods of two generations is being moved, or its next pass says that it is not."""
        hashes: dict[tuple[str, str], set[str]] = {}
        for pod in self._cache.list(POD):
            if pods.live(pod):
                metadata = pod["metadata"]
                place = (str(metadata["namespace"]), str((metadata.get("labels") or {}).get(names.CAMERA_LABEL)))
                hashes.setdefault(place, set()).add(pods.desired_hash(pod))
        for place, found in hashes.items():
            camera = self._cache.get(CAMERA, *place)
            if camera is not None and len(found) > 1:
                self._rollouts.under_way(resolve_class(self._cache, camera)[0], place)

    def _rolled(self, place: tuple[str, str]) -> None:
        """This camera is where it should be: the next one may begin."""
        for name in self._rollouts.classes_of(place):
            self._class_changed(Key(CAMERA_CLASS, "", name))
        for following in self._rollouts.done(place):
            self.queue.add(Key(CAMERA, *following))

    async def _push(self, namespace: str, pushes: tuple[Push, ...]) -> AgentCallError | None:
        """Hand configs to running agents; a failure is told at the end of the pass."""
        problem = None
        for push in pushes:
            try:
                await self._pool.tell(namespace, push)
                log.info("pod %s/%s was told its new config", namespace, push.pod)
            except AgentCallError as error:
                problem = error
        return problem

    async def _move(self, namespace: str, hang_ups: tuple[HangUp, ...]) -> AgentCallError | None:
        """Hang viewers up that have to move; a failure is told at the end of the pass."""
        calls = [
            self._links.end_session(namespace, hang_up.pod, session, EndReason.MOVED)
            for hang_up in hang_ups
            for session in hang_up.sessions
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, AgentCallError):
                raise result
        return next((result for result in results if isinstance(result, AgentCallError)), None)

    async def _write_camera(self, facts: CameraFacts, status: CameraStatus | None) -> float | None:
        """Write the status if it is due; otherwise in how many seconds it will be."""
        # The camera of the facts, not of the cache: the decision was made on that version.
        if status is None or facts.camera is None:
            return None
        place = (facts.namespace, facts.name)
        now = self._clock()
        stored = camerastatus.stored(facts.camera)
        due = plan(stored, status, self._written.get(place), now)
        if due.write and await self._writer.write(facts.camera, status.to_wire()):
            self._written[place] = now
            self.metrics.status_writes.labels(CAMERA.kind).inc()
            note = notes.of(stored, status)
            if note is not None:
                self._notebook.add(facts.camera, note)
        return due.wait

    def _lane(self, key: Key) -> Lane:
        return self._routes.lane(key)

    def _class_changed(self, key: Key) -> None:
        self.queue.add_after(key, CLASS_DELAY_SECONDS)

    async def _class(self, key: Key) -> float | None:
        """One CameraClass: its spares and its status."""
        facts = class_facts(self._cache, key.name)
        if facts is None:
            return None
        spares = await self._pool.tend(facts.camera_class)
        if facts.cameras:
            self._used_classes.add(key.name)
        elif self._options.namespaced and key.name not in self._used_classes:
            return spares.look_again
        rollout = self._rollouts.standing(key.name)
        status = classes.status_of(
            replace(facts, ports=self._lessor.text(facts), rollout=rollout, spares=spares), self._clock()
        )
        changed = status != classes.stored(facts.camera_class)
        if changed and await self._writer.write(facts.camera_class, status.to_wire()):
            self.metrics.status_writes.labels(CAMERA_CLASS.kind).inc()
        return spares.look_again

    async def _budget(self, key: Key) -> float | None:
        """The budget of one namespace's agents."""
        await self._budgets.look(key.namespace)
        return None

    async def _session(self, key: Key) -> float | None:
        """Gather, decide, act on one session."""
        place = (key.namespace, key.name)
        session = self._cache.get(STREAM_SESSION, *place)
        revoked_camera = self._routes.revoked(*place) if session is None else ""
        camera = sessions.camera_of(session) if session else revoked_camera
        facts = session_facts(
            self._cache, self._links.state, place, camera, self._options.public_url, bool(revoked_camera)
        )
        if session is None:
            self.reaper.forget(place)
            self.queue.drop(key)
        decision = sessions.decide(facts, self._clock())
        with self.queue.elsewhere(key):
            problem = await self._hang_up(place, decision)
        if session is not None and decision.status is not None:
            await self._write_session(key, session, decision.status)
        if session is not None and decision.delete_at is not None:
            self.reaper.schedule(place, pods.uid_of(session), decision.delete_at)
        if problem:
            raise problem
        return decision.requeue_after

    async def _hang_up(self, place: tuple[str, str], decision: SessionDecision) -> AgentCallError | None:
        """Have the session ended wherever it lives; a failure is told at the end of the pass."""
        problem = None
        for pod in decision.hang_up:
            try:
                await self._links.end_session(place[0], pod, place[1], decision.reason)
            except AgentCallError as error:
                problem = error
        return problem

    async def _write_session(self, key: Key, session: Obj, status: StreamSessionStatus) -> None:
        wire = status.to_wire()
        with self._routes.expecting(key, wire):
            written = await self._writer.write(session, wire)
        if written:
            self.metrics.status_writes.labels(STREAM_SESSION.kind).inc()
            self.metrics.session(status, self._clock())

    async def _full_passes(self) -> None:
        """Every object now and then, spread over the period: what was missed is repaired."""
        while True:
            await asyncio.sleep(FULL_PASS_SECONDS)
            keys = self._all()
            for number, key in enumerate(keys):
                self.queue.add_after(key, FULL_PASS_SECONDS * number / len(keys))

    def _all(self) -> list[Key]:
        """Whatever is looked at, budgets that are still to be made among it."""
        objects = ((kind, obj["metadata"]) for kind in self._passes for obj in self._cache.list(kind))
        keys = [Key(kind, str(found.get("namespace") or ""), str(found["name"])) for kind, found in objects]
        inhabited = {key.namespace for key in keys if key.kind == CAMERA}
        wanted = [Key(POD_DISRUPTION_BUDGET, namespace, budgets.NAME) for namespace in sorted(inhabited)]
        return list(dict.fromkeys(keys + wanted))  # most of them are there already

    def _figures(self) -> Figures:
        # On standby there is nothing to tell: whoever adds up all operators would count each camera twice.
        works = self.queue.open
        counted = self._census if works else Census()
        connected, links = self._links.connected() if works else (0, 0)
        unfinished, longest = self.queue.working(asyncio.get_running_loop().time())
        return Figures(
            camera_phases=+counted.phases,
            camera_ready=+counted.ready,
            agents=+counted.agents,
            networks=+counted.networks,
            sources=+counted.sources,
            session_phases=+counted.sessions,
            links=Tally({"connected": connected, "lost": links - connected}),
            unfinished_seconds=unfinished,
            longest_seconds=longest,
            reaped=self.reaper.deleted,
            ghosts=self.sweeper.ghosts if self.sweeper else 0,
            sweep_failures=self.sweeper.failures if self.sweeper else 0,
            synced=self._cache.synced(),
            ports=self._lessor.states() if works else {},
            spares=self._pool.states() if works else {},
            adoptions=self._pool.outcomes,
            probes=self._prober.outcomes if self._prober is not None else Tally(),
        )
