"""The agent as a whole: its configuration in force and what it reports about itself.

Puts together what the hubs, the registry and the fan-out know; control's routes and the metrics read from
here.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sightline_agent.gate import CpuGate
from sightline_agent.registry import SessionRegistry
from sightline_agent.renditions import Renditions
from sightline_agent.transport.fanout import FanOutTotals
from sightline_agent.viewerstats import Audience
from sightline_model.agent import (
    MEDIA_PORT,
    SPARE_UID,
    AgentConfig,
    AgentReport,
    AgentStats,
    CapacityReport,
    SourceReport,
)

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Transport:
    """What the media side counts."""

    totals: Callable[[], FanOutTotals]
    """What was sent."""
    datagrams: Callable[[], Mapping[str, int]] = dict
    """What arrived, by what became of it: a closed list of names."""
    port: int = MEDIA_PORT
    audience: Audience = field(default_factory=Audience)
    """How viewers receive."""


class Agent:
    """One agent process, seen from its control port."""

    def __init__(
        self,
        config: AgentConfig,
        renditions: Renditions,
        registry: SessionRegistry,
        transport: Transport,
        gate: CpuGate | None = None,
    ) -> None:
        self.config = config
        self.renditions = renditions
        self.registry = registry
        self.transport = transport
        self.gate = gate
        self.sealing_key = ""
        """Of an agent that began as a spare."""
        self.ready = True
        """False while the process is on its way out."""
        self._instance = secrets.token_hex(8)
        self._started_at = datetime.now(UTC)
        self._version = _version()

    def apply(self, config: AgentConfig) -> None:
        """Put another configuration of the same camera in force."""
        self.config = config
        self.registry.reconfigure(config)
        self.renditions.reconfigure(config)

    def report(self, details: bool = False) -> AgentReport:
        """Everything; `details`: with how each viewer receives."""
        return AgentReport(
            camera=self.config.camera,
            version=self._version,
            instance=self._instance,
            revision=self.config.revision,
            started_at=self._started_at,
            media_port=self.transport.port,
            sealing_key=self.sealing_key,
            source=self.source(),
            profiles=self.renditions.reports(),
            sessions=self.registry.reports(details),
            stats=self.stats(),
            capacity=self.capacity(),
        )

    def capacity(self) -> CapacityReport | None:
        """For how many more viewers there is CPU."""
        return self.gate.report(self.registry.viewers) if self.gate is not None else None

    def source(self) -> SourceReport:
        """What the source does; a spare has none."""
        return SourceReport() if self.config.camera.uid == SPARE_UID else self.renditions.report()

    def stats(self) -> AgentStats:
        """The counters."""
        totals = self.transport.totals()
        return AgentStats(
            viewers=self.registry.viewers,
            peer_connections=self.registry.peer_connections,
            packets_sent=totals.packets,
            bytes_sent=totals.octets,
            cpu_seconds=round(time.process_time(), 2),
            memory_bytes=_resident_bytes(),
        )


def _version() -> str:
    try:
        return version("sightline-agent")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
