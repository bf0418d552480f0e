"""The agent's metrics for Prometheus, read from its parts when they are asked for.

Labels come from closed lists, so the number of series is bounded by the code.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sightline_agent.control.events import EventHub
from sightline_agent.control.status import Agent
from sightline_model.reasons import EndReason, SourceReason

_PREFIX = "sightline_agent"


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
            f"{_PREFIX}_source_reconnects", "Times the source was connected to again.", value=source.reconnects
        )
        yield GaugeMetricFamily(f"{_PREFIX}_source_bitrate", "Bits per second from the source.", source.bitrate)
        yield GaugeMetricFamily(f"{_PREFIX}_source_fps", "Frames per second from the source.", source.fps)
        yield from self._labelled(source.reason)

    def _labelled(self, now: SourceReason) -> Iterable[Metric]:
        state = GaugeMetricFamily(f"{_PREFIX}_source_state", "1 for the state that the source is in.", labels=["state"])
        for reason in SourceReason:
            state.add_metric([reason], float(reason is now))
        yield state
        ended = CounterMetricFamily(f"{_PREFIX}_sessions_ended", "Sessions that ended.", labels=["reason"])
        for end in EndReason:
            ended.add_metric([end], self._agent.registry.ended_by_reason[end])
        yield ended
        yield self._dropped()
        arrived = CounterMetricFamily(
            f"{_PREFIX}_datagrams", "Datagrams that arrived, by what became of them.", labels=["kind"]
        )
        for kind, number in self._agent.transport.datagrams().items():
            arrived.add_metric([kind], number)
        yield arrived

    def _dropped(self) -> Metric:
        totals, registry = self._agent.transport.totals(), self._agent.registry
        dropped = CounterMetricFamily(f"{_PREFIX}_dropped", "What full queues refused.", labels=["queue", "cause"])
        dropped.add_metric(["socket", "full"], totals.dropped)
        dropped.add_metric(["resend", "refused"], totals.refused)
        dropped.add_metric(["events", "overflow"], self._events.overflows)
        dropped.add_metric(["acks", "full"], registry.acks_dropped)
        return dropped


def expose(agent: Agent, events: EventHub) -> bytes:
    """The page that Prometheus reads (text format 0.0.4)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentCollector(agent, events))
    return generate_latest(registry)
