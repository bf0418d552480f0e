"""The agent's metrics for Prometheus, read from its parts when they are asked for.

Labels come from closed lists, so the number of series is bounded by the code.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sightline_agent.control.events import EventHub
from sightline_agent.control.status import Agent
from sightline_agent.quality import Cause
from sightline_agent.sources.sound.process import Drop
from sightline_agent.viewerstats import Family, Tally
from sightline_model.problems import ProblemCode
from sightline_model.reasons import EndReason, SourceReason

_PREFIX = "sightline_agent"
_LIMITS = (ProblemCode.TOO_MANY_VIEWERS, ProblemCode.AGENT_OVERLOADED)


class AgentCollector(Collector):
    """Makes the metric families out of the present state."""

    def __init__(self, agent: Agent, events: EventHub) -> None:
        self._agent = agent
        self._events = events

    def collect(self) -> Iterable[Metric]:
        stats, source, totals = self._agent.stats(), self._agent.source(), self._agent.transport.totals()
        yield GaugeMetricFamily(f"{_PREFIX}_viewers", "Sessions that watch.", value=stats.viewers)
        yield GaugeMetricFamily(f"{_PREFIX}_peer_connections", "Peer connections.", value=stats.peer_connections)
        yield CounterMetricFamily(f"{_PREFIX}_packets_sent", "RTP packets sent.", value=stats.packets_sent)
        yield CounterMetricFamily(f"{_PREFIX}_bytes_sent", "Bytes of media sent.", value=stats.bytes_sent)
        yield CounterMetricFamily(f"{_PREFIX}_packets_resent", "Packets sent again.", value=totals.resent)
        yield CounterMetricFamily(
            f"{_PREFIX}_bursts", "Times a viewer got the group of pictures under way at once.", value=totals.bursts
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_delays", "Times a full socket made a viewer fall behind.", value=totals.delayed
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_source_reconnects", "Times the source was connected to again.", value=source.reconnects
        )
        yield GaugeMetricFamily(f"{_PREFIX}_source_bitrate", "Bits per second from the source.", source.bitrate)
        yield GaugeMetricFamily(f"{_PREFIX}_source_fps", "Frames per second from the source.", source.fps)
        transcoding = self._agent.renditions.transcoding
        yield GaugeMetricFamily(f"{_PREFIX}_transcoders", "Transcoders that run.", value=transcoding.running)
        yield CounterMetricFamily(
            f"{_PREFIX}_transcoder_starts", "Times a transcoder was started.", value=transcoding.starts
        )
        yield from self._labelled(source.reason)
        yield from self._audience()
        yield from self._players()
        yield from self._capacity()

    def _labelled(self, now: SourceReason) -> Iterable[Metric]:
        state = GaugeMetricFamily(f"{_PREFIX}_source_state", "1 for the state that the source is in.", labels=["state"])
        for reason in SourceReason:
            state.add_metric([reason], float(reason is now))
        yield state
        ended = CounterMetricFamily(f"{_PREFIX}_sessions_ended", "Sessions that ended.", labels=["reason"])
        for end in EndReason:
            ended.add_metric([end], self._agent.registry.ended_by_reason[end])
        yield ended
        changes = CounterMetricFamily(
            f"{_PREFIX}_quality_changes", "Viewers who went on with another quality.", labels=["cause"]
        )
        for cause in Cause:
            changes.add_metric([cause], self._agent.registry.quality_changes[cause])
        yield changes
        yield self._dropped()
        arrived = CounterMetricFamily(
            f"{_PREFIX}_datagrams", "Datagrams that arrived, by what became of them.", labels=["kind"]
        )
        for kind, number in self._agent.transport.datagrams().items():
            arrived.add_metric([kind], number)
        yield arrived

    def _audience(self) -> Iterable[Metric]:
        """How viewers receive: a sample of each about every 2.5 s, as long as it reports."""
        audience = self._agent.transport.audience
        yield _histogram("viewer_loss_ratio", "Fraction of packets lost on the way to a viewer.", audience.loss)
        yield _histogram("viewer_round_trip_seconds", "Round trip to a viewer.", audience.round_trip)
        yield _histogram("viewer_jitter_seconds", "Jitter at a viewer (RFC 3550).", audience.jitter)
        yield CounterMetricFamily(f"{_PREFIX}_receiver_reports", "Reports of viewers.", value=audience.reports)
        yield CounterMetricFamily(f"{_PREFIX}_nacks", "NACK messages of viewers.", value=audience.nacks)
        yield CounterMetricFamily(
            f"{_PREFIX}_key_frames_wanted", "PLI and FIR messages of viewers.", value=audience.key_frames_wanted
        )
        connected = GaugeMetricFamily(
            f"{_PREFIX}_viewers_connected", "Viewers connected, by address family.", labels=["family"]
        )
        for family in Family:
            connected.add_metric([family], audience.families[family])
        yield connected

    def _players(self) -> Iterable[Metric]:
        """What players say of their pictures, as far as they say anything."""
        players = self._agent.registry.players
        yield CounterMetricFamily(f"{_PREFIX}_viewer_freezes", "Freezes that players saw.", value=players.freezes)
        yield CounterMetricFamily(
            f"{_PREFIX}_viewer_frozen_seconds", "How long they lasted together.", value=players.frozen_seconds
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_viewer_frames_dropped", "Frames that players did not show.", value=players.frames_dropped
        )
        reports = CounterMetricFamily(f"{_PREFIX}_player_reports", "Reports of players.", labels=["result"])
        reports.add_metric(["counted"], players.counted)
        reports.add_metric(["ignored"], players.ignored)
        yield reports
        yield _histogram(
            "viewer_jitter_buffer_seconds", "How long a frame waits at a player to be decoded.", players.jitter_buffer
        )
        yield _histogram("viewer_frame_rate", "Frames per second at a player.", players.frame_rate)

    def _capacity(self) -> Iterable[Metric]:
        """What viewers cost, and whom a limit kept out."""
        refused = CounterMetricFamily(
            f"{_PREFIX}_viewers_refused", "Viewers whom a limit kept out, by the problem's code.", labels=["code"]
        )
        for code in _LIMITS:
            refused.add_metric([code], self._agent.registry.refused[code])
        yield refused
        gate = self._agent.gate
        if gate is None:
            return
        capacity = gate.report(self._agent.registry.viewers)
        yield GaugeMetricFamily(
            f"{_PREFIX}_viewers_remaining", "Viewers for whom there is CPU.", value=capacity.remaining_viewers
        )
        budget = GaugeMetricFamily(f"{_PREFIX}_cpu_budget_cores", "CPU that may be used.", labels=["resource"])
        used = GaugeMetricFamily(f"{_PREFIX}_cpu_used_cores", "CPU in use, smoothed.", labels=["resource"])
        cost = GaugeMetricFamily(
            f"{_PREFIX}_cpu_per_viewer_cores", "CPU that one more viewer takes, as measured.", labels=["resource"]
        )
        for resource in gate.resources:
            budget.add_metric([resource.name], resource.budget)
            used.add_metric([resource.name], resource.meter.used)
            cost.add_metric([resource.name], resource.meter.cost.per_viewer)
        yield from (budget, used, cost)
        yield GaugeMetricFamily(f"{_PREFIX}_loop_lag_seconds", "How late the event loop was last.", value=gate.lag)

    def _dropped(self) -> Metric:
        totals, registry = self._agent.transport.totals(), self._agent.registry
        dropped = CounterMetricFamily(f"{_PREFIX}_dropped", "What full queues refused.", labels=["queue", "cause"])
        dropped.add_metric(["socket", "full"], totals.dropped)
        dropped.add_metric(["resend", "refused"], totals.refused)
        dropped.add_metric(["behind", "skipped"], totals.skipped)
        dropped.add_metric(["gop", "over-bounds"], totals.gops_dropped)
        dropped.add_metric(["transcoder", "too-slow"], self._agent.renditions.transcoding.left_out)
        for why in Drop:
            dropped.add_metric(["sound", str(why)], self._agent.renditions.sound_dropped[why])
        dropped.add_metric(["events", "overflow"], self._events.overflows)
        dropped.add_metric(["session", "full"], registry.inbox_dropped)
        return dropped


def _histogram(name: str, text: str, tally: Tally) -> Metric:
    family = HistogramMetricFamily(f"{_PREFIX}_{name}", text)
    family.add_metric([], tally.buckets(), sum_value=tally.total)
    return family


def registry_of(agent: Agent, events: EventHub) -> CollectorRegistry:
    """Everything that the agent shows."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentCollector(agent, events))
    ProcessCollector(registry=registry)
    return registry


def expose(agent: Agent, events: EventHub) -> bytes:
    """The page that Prometheus reads (text format 0.0.4)."""
    return generate_latest(registry_of(agent, events))
