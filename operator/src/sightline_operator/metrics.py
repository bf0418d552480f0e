"""The operator's metrics, in a registry of its own. Names follow controller-runtime's, so its dashboards fit.

controller_runtime_reconcile_total{controller,result}        passes: success, requeue_after, error, conflict
controller_runtime_reconcile_errors_total{controller}        passes that failed
controller_runtime_reconcile_time_seconds{controller}        how long a pass takes
controller_runtime_active_workers{controller}                passes under way
controller_runtime_max_concurrent_reconciles{controller}     how many there may be
workqueue_depth{name}                                        keys that wait
workqueue_adds_total{name}, workqueue_retries_total{name}
workqueue_queue_duration_seconds{name}                       how long keys wait
workqueue_work_duration_seconds{name}
workqueue_unfinished_work_seconds{name}, workqueue_longest_running_processor_seconds{name}
rest_client_requests_total{code,method}                      requests to the API server
rest_client_request_duration_seconds{method}
sightline_cameras{phase}                                     Camera objects
sightline_camera_ready{status}                               Ready conditions: True, False, Unknown
sightline_sessions{phase}                                    StreamSession objects
sightline_agent_links{state}                                 event streams: connected, lost
sightline_agent_stream_limits_total{limit}                   times that an agent met a limit of its event stream
sightline_status_writes_total{kind}                          statuses written
sightline_events_total{result}                               notes about cameras for kubectl describe
sightline_ports{state}                                       ports of the nodes: held by agents, quarantined after one
sightline_spares{state}                                      spare agents: ready, starting
sightline_adoptions_total{result}                            cameras that took, or could not take, a spare agent
sightline_probes_total{result}                               agents asked at the addresses that viewers dial
sightline_sessions_reaped_total                              ended sessions that were deleted
sightline_swept_ghosts_total                                 deletions that no watch told
sightline_sweep_failures_total                               LISTs that failed
sightline_watches_total{kind}                                watches begun; of the kinds that kopf does not watch
sightline_watch_events_total{kind}                           what they told
sightline_watch_lists_total{kind}                            LISTs that had to come before a watch
sightline_watch_gone_total{kind}                             watches that were too old to go on, or too slow
sightline_watch_errors_total{kind}                           watches, and LISTs before them, that failed
sightline_watch_ghosts_total{kind}                           deletions that only such a LIST showed
sightline_cache_synced                                       1 once every kind was listed
sightline_heartbeat_age_seconds                              since the API server last answered for every kind
sightline_agents{state}                                      cameras by the reason of their AgentReady condition
sightline_networks{state}                                    cameras by the reason of their NetworkReady condition
sightline_sources{state}                                     cameras by the reason of their SourceReady condition
sightline_session_phase_seconds{phase}                       how long sessions take to be answered, connected, streaming
leader_election_master_status{name}                          1 while this operator holds the Lease, 0 while it waits
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sightline_kube.cache import FeedStats
from sightline_kube.kinds import Kind
from sightline_model.session import SessionPhase, StreamSessionStatus

_TIMES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_SESSION_TIMES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 14400.0)
QUEUE = "sightline"
_SKEW = timedelta(seconds=1)
"""Between clocks that are right: the API server's times have no fractions of a second."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted when somebody asks, from caches alone."""

    camera_phases: Tally[str]
    camera_ready: Tally[str]
    session_phases: Tally[str]
    links: Tally[str]
    unfinished_seconds: float
    longest_seconds: float
    reaped: int
    ghosts: int
    sweep_failures: int
    synced: bool
    ports: Mapping[str, int]
    spares: Mapping[str, int]
    """Spare agents: those that could be adopted, and those on their way."""
    adoptions: Mapping[str, int]
    """Cameras that wanted a spare agent, by what became of it."""
    agents: Tally[str]
    """Cameras by the reason of their AgentReady condition."""
    networks: Tally[str]
    """Likewise NetworkReady."""
    sources: Tally[str]
    """Likewise SourceReady."""
    probes: Mapping[str, int]
    """Questions to agents at the addresses that viewers dial, by what became of them."""


class Metrics:
    """All metrics that are counted as things happen, and the queue's observer."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        label = ["controller"]
        self.passes = Counter(
            "controller_runtime_reconcile", "Passes by result", [*label, "result"], registry=self.registry
        )
        self.errors = Counter(
            "controller_runtime_reconcile_errors", "Passes that failed", label, registry=self.registry
        )
        self.pass_time = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of a pass",
            label,
            buckets=_TIMES,
            registry=self.registry,
        )
        self.active = Gauge("controller_runtime_active_workers", "Passes under way", label, registry=self.registry)
        self.workers = Gauge(
            "controller_runtime_max_concurrent_reconciles", "Passes at a time", label, registry=self.registry
        )
        self._leading = Gauge(
            "leader_election_master_status", "Whether this operator holds the Lease", ["name"], registry=self.registry
        )
        self.status_writes = Counter("sightline_status_writes", "Statuses written", ["kind"], registry=self.registry)
        self._events = Counter("sightline_events", "Events of cameras", ["result"], registry=self.registry)
        self._limits = Counter(
            "sightline_agent_stream_limits", "Limits that agents' event streams met", ["limit"], registry=self.registry
        )
        self._heartbeat = Gauge(
            "sightline_heartbeat_age_seconds", "Since the API server answered for every kind", registry=self.registry
        )
        self._session_phases = Histogram(
            "sightline_session_phase_seconds",
            "Time that sessions take",
            ["phase"],
            buckets=_SESSION_TIMES,
            registry=self.registry,
        )
        self._requests = Counter(
            "rest_client_requests", "Requests to the API server", ["code", "method"], registry=self.registry
        )
        self._request_time = Histogram(
            "rest_client_request_duration_seconds",
            "Time of a request to the API server",
            ["method"],
            buckets=_TIMES,
            registry=self.registry,
        )
        self._depth = self._queue_gauge("workqueue_depth", "Keys that wait")
        self._adds = Counter("workqueue_adds", "Keys added", ["name"], registry=self.registry).labels(QUEUE)
        self._retries = Counter("workqueue_retries", "Keys tried again", ["name"], registry=self.registry).labels(QUEUE)
        self._waited = self._queue_histogram("workqueue_queue_duration_seconds", "Time that keys wait")
        self._worked = self._queue_histogram("workqueue_work_duration_seconds", "Time that keys take")

    def added(self) -> None:
        """A key was added."""
        self._adds.inc()

    def retried(self) -> None:
        """A key failed and comes again."""
        self._retries.inc()

    def depth(self, waiting: int) -> None:
        """So many keys wait."""
        self._depth.set(waiting)

    def taken(self, waited: float) -> None:
        """A key's turn came."""
        self._waited.observe(waited)

    def finished(self, worked: float) -> None:
        """A key is done."""
        self._worked.observe(worked)

    def request(self, method: str, code: str, seconds: float) -> None:
        """One request to the API server."""
        self._requests.labels(code, method).inc()
        self._request_time.labels(method).observe(seconds)

    def limited(self, limit: str) -> None:
        """An agent met a limit of its event stream."""
        self._limits.labels(limit).inc()

    def event(self, result: str) -> None:
        """What became of a note about a camera."""
        self._events.labels(result).inc()

    def election(self, name: str, leading: Callable[[], bool]) -> None:
        """Tell of a Lease whenever somebody asks."""
        self._leading.labels(name).set_function(lambda: float(leading()))

    def heartbeat(self, age: Callable[[], float]) -> None:
        """Tell whenever somebody asks how long ago the API server answered."""
        self._heartbeat.set_function(age)

    def session(self, status: StreamSessionStatus, now: datetime) -> None:
        """A session's status was written: how long it took to come so far. The time to its answer is the only one that
        is taken from two clocks, the API server's and the agent's; where one of them is wrong, it is not counted."""
        times = status.timestamps
        if status.phase is SessionPhase.STREAMING:
            if _plausible(times.requested, times.answered, now):
                self._phase("answered", times.requested, times.answered)
            self._phase("connected", times.answered, times.connected)
            self._phase("first media", times.connected, times.first_media)
        elif status.phase is SessionPhase.ENDED:
            self._phase("whole", times.requested, times.ended)

    def _phase(self, phase: str, begin: datetime | None, end: datetime | None) -> None:
        if begin is not None and end is not None:
            self._session_phases.labels(phase).observe(max(0.0, (end - begin).total_seconds()))

    def watch(self, figures: Callable[[], Figures]) -> None:
        """Count from caches whenever somebody asks."""
        self.registry.register(_FiguresCollector(figures))

    def feed(self, stats: Mapping[Kind, FeedStats]) -> None:
        """Tell whenever somebody asks what has become of the watches of these kinds."""
        self.registry.register(_FeedCollector(stats))

    def _queue_gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["name"], registry=self.registry).labels(QUEUE)

    def _queue_histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ["name"], buckets=_TIMES, registry=self.registry).labels(QUEUE)


def _plausible(requested: datetime | None, answered: datetime | None, now: datetime) -> bool:
    return requested is not None and answered is not None and requested - _SKEW <= answered <= now + _SKEW


class _FiguresCollector(Collector):
    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: figures are only known while the operator runs."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All gauges of this moment."""
        figures = self._figures()
        yield _tally("sightline_cameras", "Camera objects", "phase", figures.camera_phases)
        yield _tally("sightline_camera_ready", "Ready conditions of cameras", "status", figures.camera_ready)
        yield _tally("sightline_agents", "Cameras by the state of their agent", "state", figures.agents)
        yield _tally("sightline_networks", "Cameras by the state of their network", "state", figures.networks)
        yield _tally("sightline_sources", "Cameras by the state of their source", "state", figures.sources)
        yield _tally("sightline_sessions", "StreamSession objects", "phase", figures.session_phases)
        yield _tally("sightline_agent_links", "Event streams of agents", "state", figures.links)
        yield _queue_gauge("workqueue_unfinished_work_seconds", figures.unfinished_seconds)
        yield _queue_gauge("workqueue_longest_running_processor_seconds", figures.longest_seconds)
        yield CounterMetricFamily("sightline_sessions_reaped", "Ended sessions deleted", value=figures.reaped)
        yield CounterMetricFamily("sightline_swept_ghosts", "Deletions no watch told", value=figures.ghosts)
        yield CounterMetricFamily("sightline_sweep_failures", "LISTs that failed", value=figures.sweep_failures)
        yield _tally("sightline_ports", "Ports of the nodes", "state", Tally(figures.ports))
        yield _tally("sightline_spares", "Spare agents", "state", Tally(figures.spares))
        yield _counted("sightline_adoptions", "Spare agents handed over", "result", figures.adoptions)
        yield _counted("sightline_probes", "Probes of agents' addresses", "result", figures.probes)
        yield GaugeMetricFamily("sightline_cache_synced", "Every kind was listed", value=int(figures.synced))


class _FeedCollector(Collector):
    def __init__(self, stats: Mapping[Kind, FeedStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand, as above."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All counters of this moment."""
        stats = {kind.kind: said for kind, said in self._stats.items()}
        for name, text, count in _WATCH_COUNTS:
            yield _counted(name, text, "kind", {kind: count(said) for kind, said in stats.items()})


_WATCH_COUNTS: tuple[tuple[str, str, Callable[[FeedStats], int]], ...] = (
    ("sightline_watches", "Watches begun", lambda said: said.watches),
    ("sightline_watch_events", "Events of watches", lambda said: said.events),
    ("sightline_watch_lists", "LISTs before watches", lambda said: said.lists),
    ("sightline_watch_gone", "Watches too old or too slow to go on", lambda said: said.gone),
    ("sightline_watch_errors", "Watches and their LISTs that failed", lambda said: said.errors),
    ("sightline_watch_ghosts", "Deletions that only a LIST before a watch showed", lambda said: said.ghosts),
)


def _counted(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _tally(name: str, text: str, label: str, tally: Tally[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(tally.items()):
        family.add_metric([value], count)
    return family


def _queue_gauge(name: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, "Seconds of work in progress", labels=["name"])
    family.add_metric([QUEUE], value)
    return family
