"""What Prometheus may ask. One registry per app; every label has a bounded set of values."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)


class Metrics:
    """The front door's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "sightline_api_requests_total",
            "Requests by route template, method and status.",
            ["route", "method", "code"],
            registry=r,
        )
        self.durations = Histogram(
            "sightline_api_request_duration_seconds",
            "Time from request to answer by route template and method.",
            ["route", "method"],
            buckets=_BUCKETS,
            registry=r,
        )
        self.in_progress = Gauge(
            "sightline_api_requests_in_progress", "Requests that wait for their answer.", registry=r
        )
        self.resting = Gauge(
            "sightline_api_connections_resting", "Connections that rest between two requests.", registry=r
        )
        self.rest_ended = Counter(
            "sightline_api_connections_made_room_total",
            "Resting connections that were closed because too many rested.",
            registry=r,
        )
        self.authentications = Counter(
            "sightline_api_authentications_total",
            "Credentials looked at, by kind and result (accepted, rejected, unavailable).",
            ["method", "result"],
            registry=r,
        )
        self.decisions = Counter(
            "sightline_api_authorizations_total",
            "Rights asked for, by action and who decided (grant, rbac, denied, unavailable).",
            ["action", "result"],
            registry=r,
        )
        self.watches = Counter(
            "sightline_api_whep_total",
            "Attempts to watch by outcome: created, abandoned, or the code of the problem.",
            ["outcome"],
            registry=r,
        )
        self.records = Counter(
            "sightline_api_session_records_total",
            "StreamSessions to be written beside an agent's session: created, failed, dropped, discarded.",
            ["outcome"],
            registry=r,
        )

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
