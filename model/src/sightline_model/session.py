"""StreamSession: one peer's use of one camera, as Kubernetes shows it.

Made by the front door (or by kubectl: the status then carries the endpoint), written by the operator from what the
agent reports, deleted `retention` after its end. It has no finalizer and no timer of its own.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from sightline_model.base import LenientModel, Model, Name, ShortText, Text, Timestamp
from sightline_model.conditions import Condition
from sightline_model.reasons import EndReason
from sightline_model.rules import Listed, Rule, moment


class Transport(StrEnum):
    """How the peer exchanges media."""

    WHEP = "WHEP"
    WHIP = "WHIP"
    RTMP = "RTMP"
    DEVICE = "Device"
    EXTERNAL = "External"
    HLS = "HLS"


class SessionRole(StrEnum):
    """Which way media flows."""

    VIEW = "View"
    PUBLISH = "Publish"


class CameraReference(Model):
    """A camera in the session's own namespace."""

    name: Name
    """Name of the camera."""


MAX_EXTENSION = timedelta(hours=24)
"""How much `expiresAt` may grow in one step."""

_FIXED = ("cameraRef", "user", "role", "transport", "profile", "client")
_OPTIONAL = ("profile", "client")


def _same(name: str) -> str:
    if name not in _OPTIONAL:
        return f"self.{name} == oldSelf.{name}"
    both = f"has(self.{name}) == has(oldSelf.{name})"
    return f"{both} && (!has(self.{name}) || self.{name} == oldSelf.{name})"


def _is_extension(new: dict[str, Any], old: dict[str, Any]) -> bool:
    if "expiresAt" not in new or "expiresAt" not in old:
        return ("expiresAt" in new) == ("expiresAt" in old)
    return timedelta(0) <= moment(new["expiresAt"]) - moment(old["expiresAt"]) <= MAX_EXTENSION


class StreamSessionSpec(Model):
    """Who wants what. Immutable, but `expiresAt` may grow."""

    camera_ref: CameraReference
    """The camera."""
    user: Annotated[str, Field(min_length=1, max_length=256)]
    """Who watches or publishes, as the front door authenticated them."""
    role: SessionRole = SessionRole.VIEW
    """Watch or publish."""
    transport: Transport = Transport.WHEP
    """How media is exchanged."""
    profile: Name | None = None
    """Quality; none: the main one."""
    expires_at: Timestamp | None = None
    """When the session ends at the latest; none: by the class's maxDuration."""
    client: Annotated[str, Field(max_length=256)] | None = None
    """The peer's program in a few words."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            " && ".join(_same(name) for name in _FIXED),
            "a session cannot be changed, only expiresAt may grow: delete it and make another",
            transition=lambda new, old: all(new.get(name) == old.get(name) for name in _FIXED),
        ),
        Rule(
            "has(self.expiresAt) == has(oldSelf.expiresAt) && (!has(self.expiresAt) || "
            "(self.expiresAt >= oldSelf.expiresAt && self.expiresAt - oldSelf.expiresAt <= duration('24h')))",
            "expiresAt may only grow, by 24h at most in one step",
            transition=_is_extension,
        ),
    )


class SessionPhase(StrEnum):
    """The lifecycle's states."""

    REQUESTED = "Requested"
    CONNECTING = "Connecting"
    STREAMING = "Streaming"
    ENDED = "Ended"


class SessionTimestamps(LenientModel):
    """When each phase was reached."""

    requested: Timestamp | None = None
    """The session was made."""
    authorized: Timestamp | None = None
    """Its user was found to have the right."""
    agent_ready: Timestamp | None = None
    """An agent was there to take it."""
    answered: Timestamp | None = None
    """The agent answered the offer."""
    connected: Timestamp | None = None
    """The peer connection stood."""
    first_media: Timestamp | None = None
    """The first packet was sent."""
    ended: Timestamp | None = None
    """It ended."""


class StreamSessionStatus(LenientModel):
    """What is. Only the operator writes it."""

    # As one value: to note the owner of each field, the API server would store some 700 bytes more with each session.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=8), Listed("type")] = []
    """Authorized, Connected, Ended."""
    phase: SessionPhase = SessionPhase.REQUESTED
    """Where in its life the session is."""
    end_reason: EndReason | None = None
    """Why it ended."""
    message: Text = ""
    """The end in words."""
    endpoint: Annotated[str, Field(max_length=1024)] = ""
    """Where to send the offer."""
    node: ShortText = ""
    """Node of the agent."""
    timestamps: SessionTimestamps = SessionTimestamps()
    """When each phase was reached."""
