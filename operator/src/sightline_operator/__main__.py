"""The operator's process: settings from the environment, kopf and a feed as event sources, one supervised task for each
concern.

It ends with code 0 when it is asked to (SIGTERM, SIGINT), in a sequence with a budget for each stage: not ready, drain
the passes under way, end links and workers, end kopf, close connections. It ends with code 1 as soon as anything that
should run for ever has ended, whatever the reason: a process that only looks alive is worse than one that restarts.

With a Lease (`leader`), everything is listed, watched and listened to from the start, and nothing is done until it is
held. An operator that loses it ends with code 1; one that is asked to end gives it back as soon as it writes no more.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from sightline_kube.cache import Cache, Feed, FollowSettings
from sightline_kube.cluster import Cluster
from sightline_kube.errors import ClusterError
from sightline_kube.kinds import Kind
from sightline_kube.real import RealCluster, RealSettings
from sightline_model.names import OPERATOR_FIELD_MANAGER, random_suffix
from sightline_model.tokens import Signer
from sightline_operator import garbage, handlers, health, logs
from sightline_operator.agents import AgentLinks, HttpAgentLinks
from sightline_operator.core import KINDS, Operator
from sightline_operator.errors import OperatorError, TaskEndedError
from sightline_operator.facts import Options
from sightline_operator.leader import Elector, Fenced
from sightline_operator.lease import Times
from sightline_operator.metrics import Metrics
from sightline_operator.orders import FencedLinks
from sightline_operator.probe import StunProber
from sightline_operator.settings import OperatorSettings
from sightline_operator.sweep import SELECTORS, TAKEN_OVER, WATCHED, Sweeper
from sightline_operator.watchdog import Watchdog, watching

log = logging.getLogger("sightline_operator")

STOP_SECONDS = 5.0
"""For each stage of the end."""
PAGE_SIZE = 100
"""Objects of a LIST that are decoded at a time, while everything else waits: some 10 ms for pods."""
HEARTBEATS = 3
"""So many sweeps may fail before the operator is not ready any more."""


def main() -> None:
    """The entry point."""
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            print(f"SIGHTLINE_{name}: {problem['msg']}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        sys.exit(2)
    logs.configure(settings.log_level, settings.log_format)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        sys.exit(runner.run(_run(settings)))


async def _run(settings: OperatorSettings) -> int:
    """The process's life; its exit code."""
    try:
        signers = load_signers(settings)
        metrics = Metrics()
        cache = cache_for(settings)
        cluster = await _connect(metrics, cache)
    except (OperatorError, ClusterError) as error:
        log.critical("cannot start: %s", error)
        return 1
    try:
        await Process(settings, cluster, cache, signers, metrics).run()
    except Exception:
        log.critical("ending because something that must not end has ended", exc_info=True)
        return 1
    finally:
        await cluster.close()
    log.info("stopped")
    return 0


def cache_for(settings: OperatorSettings) -> Cache:
    """Of all that the operator looks at, and nothing yet in it."""
    return Cache(KINDS, settings.namespace_list or None)


def load_signers(settings: OperatorSettings) -> list[Signer]:
    """The signing key in force, and the one before it if there is one; agents trust both."""
    paths = [settings.signing_key_file, settings.previous_signing_key_file]
    signers = []
    for path in paths:
        if path is None:
            continue
        try:
            signers.append(Signer.from_pem(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise OperatorError(f"the signing key {path} cannot be read: {error}") from error
    return signers


class Process:
    """All parts of a running operator."""

    def __init__(
        self, settings: OperatorSettings, cluster: Cluster, cache: Cache, signers: list[Signer], metrics: Metrics
    ) -> None:
        namespaces = settings.namespace_list
        self._cache = cache
        self._settings = settings
        self._metrics = metrics
        self._elector = _elector(settings, cluster)
        links: AgentLinks = HttpAgentLinks(signers[0], limited=metrics.limited)
        if self._elector is not None:
            metrics.election(settings.lease_name, lambda: self._elector is not None and self._elector.leading)
            times = Times.of(settings.lease_seconds)
            grace = times.duration - times.give_up
            cluster = Fenced(cluster, self._elector, grace)
            links = FencedLinks(links, self._elector, grace)
        self._cluster = cluster
        self._sweeper = Sweeper(cluster, self._cache, namespaces, settings.sweep_interval)
        options = Options(
            agent_image=settings.agent_image,
            token_keys=tuple(signer.public_jwk() for signer in signers),
            public_url=settings.public_url,
            owner_role=settings.owner_role,
            namespaced=bool(namespaces),
            port_quarantine=settings.port_quarantine,
            turn_secrets=settings.known_turn_secrets,
            spare_namespaces=settings.spare_namespace_set,
        )
        self._operator = Operator(
            cluster,
            self._cache,
            links,
            options,
            workers=settings.workers,
            metrics=metrics,
            prober=StunProber(),
        )
        self._operator.sweeper = self._sweeper
        metrics.heartbeat(self._sweeper.age)
        self._kopf_started = asyncio.Event()
        self._kopf_stopping = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def run(self) -> None:
        """Until a signal comes; TaskEndedError when something else ends it."""
        self._catch_signals()
        dog = Watchdog()
        self._start("watchdog", dog.run())
        with watching(dog):
            await self._run()

    async def _run(self) -> None:
        async with health.serving(
            self._settings.host,
            self._settings.port,
            self._metrics.registry,
            self._ready,
            lambda: self._operator.queue.working(asyncio.get_running_loop().time())[1],
        ) as port:
            log.info("health and metrics on port %d", port)
            try:
                await self._live()
            finally:
                await self._stop()

    async def _live(self) -> None:
        """Start one thing after the other, until a signal comes."""
        if self._elector is not None:
            self._start("election", self._elector.run())
        self._start("garbage", garbage.keep_quiet())
        self._start("operator", self._operator.run(self._in_charge))  # agents are dialled as their pods are listed
        self._start("sweep", self._sweeper.run())
        # kopf does not notice kinds that appear later, so it starts when every kind has been listed; and the feed goes
        # on where that LIST has ended.
        if not await self._reached(self._synced()):
            return
        self._start("feed", self._feed())
        self._start("kopf", self._watch())
        if not await self._reached(self._kopf_started.wait()):
            return
        self._catch_signals()  # kopf has put its own handlers there
        await self._reached(self._stopping.wait())

    async def _in_charge(self) -> None:
        """Back when this operator may act."""
        await self._kopf_started.wait()
        if self._elector is None:
            return
        await self._elector.acquired.wait()
        # What the one before it did last may not have come over the watches yet: a pod would be made a second time.
        await self._sweeper.make_sure(TAKEN_OVER)

    def _ready(self) -> bool:
        """On standby it means: ready to take over."""
        if self._stopping.is_set():
            return False
        # The way to the API server and back is proven by LISTs of every kind, again and again.
        beating = self._sweeper.age() < HEARTBEATS * max(self._settings.sweep_interval, 10.0)
        return beating and self._cache.synced() and self._kopf_started.is_set()

    async def _synced(self) -> None:
        while not self._cache.synced():  # noqa: ASYNC110 - the cache tells of objects, not of itself
            await asyncio.sleep(0.05)

    async def _feed(self) -> None:
        """All kinds that kopf does not watch; the sweep is everybody's."""
        kinds = [kind for kind in KINDS if kind not in WATCHED]
        selectors = {kind: labels for kind, labels in SELECTORS.items() if labels}
        settings = FollowSettings(sweep_seconds=None, selectors=selectors)
        async with Feed(self._cluster, self._cache, kinds, self._settings.namespace_list, settings) as feed:
            self._metrics.feed(feed.stats)
            await feed.wait()

    async def _watch(self) -> None:
        await handlers.watch(self._cache, self._settings.namespace_list, self._kopf_started, self._kopf_stopping)

    def _start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(coroutine, name=name)

    async def _reached(self, goal: Coroutine[Any, Any, Any]) -> bool:
        """Wait for the goal; False if a signal came first, TaskEndedError as soon as one of the tasks is done."""
        waits = [asyncio.ensure_future(goal), asyncio.ensure_future(self._stopping.wait())]
        try:
            done, _ = await asyncio.wait([*waits, *self._tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        for name, task in self._tasks.items():
            if task in done:
                error = None if task.cancelled() else task.exception()
                raise TaskEndedError(f"{name} has ended") from error
        return not self._stopping.is_set()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)

    async def _stop(self) -> None:
        """The sequence: what others wait for first, connections last."""
        self._stopping.set()
        sure = self._elector is None or self._elector.leading
        if sure and "operator" in self._tasks and not self._tasks["operator"].done():
            await self._operator.drain()
        for name in ("operator", "election"):
            await self._end(name)
        if self._elector is not None:
            await self._elector.release()
        for name in ("sweep", "feed"):
            await self._end(name)
        self._kopf_stopping.set()
        kopf_task = self._tasks.get("kopf")
        if kopf_task is not None and not kopf_task.done():
            await asyncio.wait([kopf_task], timeout=STOP_SECONDS)
        await self._end("kopf")
        for name in ("garbage", "watchdog"):
            await self._end(name)

    async def _end(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is None:
            return
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=STOP_SECONDS)
        if not done:
            log.warning("%s does not end and is abandoned", name)
            return
        with suppress(asyncio.CancelledError, Exception):
            task.result()


def _elector(settings: OperatorSettings, cluster: Cluster) -> Elector | None:
    """The contender for the Lease, if there is one; the name of a pod may be used again, so it gets a suffix."""
    if not settings.lease_name:
        return None
    place = (settings.lease_namespace, settings.lease_name)
    return Elector(cluster, place, f"{socket.gethostname()}_{random_suffix(8)}", Times.of(settings.lease_seconds))


async def _connect(metrics: Metrics, cache: Cache) -> RealCluster:
    """The cluster that the pod runs in, or the kubeconfig's."""

    def observe(verb: str, kind: Kind, status: int, seconds: float) -> None:
        metrics.request(verb, str(status or "<error>"), seconds)

    settings = RealSettings(
        user_agent=f"{OPERATOR_FIELD_MANAGER}/{version('sightline-operator')}",
        page_size=PAGE_SIZE,
        listed=cache.kept,
    )
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        return await RealCluster.in_cluster(observe=observe, settings=settings)
    return await RealCluster.from_kubeconfig(observe=observe, settings=settings)


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes a third of the CPU off; the standard one where it is not there."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    main()
