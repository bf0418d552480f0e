"""Settings of the operator process: environment variables with the prefix `SIGHTLINE_`, nothing else.

A test compares these fields with the environment in the chart, so a field here is a documented variable there.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sightline_model.names import SIGNING_KEY_FILE
from sightline_operator.ports import QUARANTINE_SECONDS


class OperatorSettings(BaseSettings):
    """What a platform team may set."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTLINE_", frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    agent_image: Annotated[str, Field(min_length=1)]
    """Image of agents whose class names none."""
    signing_key_file: Path = Path(SIGNING_KEY_FILE)
    """PEM file with the Ed25519 key that signs media tokens; shared with the api."""
    previous_signing_key_file: Path | None = None
    """The key before, during a rotation: agents go on trusting it."""
    namespaces: Annotated[str, NoDecode] = ""
    """Namespaces to serve, with commas between them; empty: all."""
    public_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    """Address of the front door as people reach it; sessions then name it as their endpoint."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's own address is not known beforehand
    """Address to listen on for health and metrics."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of health and metrics."""
    workers: Annotated[int, Field(ge=1, le=256)] = 32
    """Objects worked on at the same time; of those that nobody waits for an eighth while somebody waits for another."""
    sweep_interval: Annotated[float, Field(ge=1.0)] = 60.0
    """Seconds between two full LISTs of cameras and classes; each fifth time all other kinds are listed, too."""
    port_quarantine: Annotated[float, Field(ge=0, le=86400)] = QUARANTINE_SECONDS
    """Seconds that a port of the nodes rests before another agent gets it: longer than nodes remember UDP streams."""
    spare_namespaces: Annotated[str, NoDecode] = ""
    """Namespaces where spare agents are kept, and the Secrets with cameras' credentials may be read for them."""
    turn_secrets: Annotated[str | None, NoDecode] = None
    """Names of the TURN servers' Secrets that the front door has, with commas between them; unset: not known."""
    owner_role: str = ""
    """ClusterRole that is uninstalled with the operator: the budgets of its agents then go too; empty: they stay."""
    lease_name: str = ""
    """Lease by which several operators agree on the one that works; empty: this is the only one."""
    lease_namespace: str = "default"
    """Namespace of the Lease."""
    lease_seconds: Annotated[int, Field(ge=3, le=300)] = 15
    """How long a Lease holds that is not renewed: after so long a dead operator's successor begins."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity to log."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object for each line, or text for people."""

    @property
    def namespace_list(self) -> tuple[str, ...]:
        """`namespaces` as a tuple; empty for all."""
        return _parts(self.namespaces)

    @property
    def spare_namespace_set(self) -> frozenset[str]:
        """`spare_namespaces` as a set, of those that are served."""
        wanted = frozenset(_parts(self.spare_namespaces))
        return wanted & frozenset(self.namespace_list) if self.namespaces else wanted

    @property
    def known_turn_secrets(self) -> frozenset[str] | None:
        """`turn_secrets` as a set."""
        return None if self.turn_secrets is None else frozenset(_parts(self.turn_secrets))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
