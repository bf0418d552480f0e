"""What the operator and an agent say to each other on the agent's control port.

The operator mounts an AgentConfig, may PUT a newer one, and reads AgentReport (`GET /v1/status`) and the event stream
(`GET /v1/events`, server-sent events): first a `snapshot`, then `source`, `session` and `stats` as they happen. A
snapshot says everything, so a stream that broke is repaired by connecting again, and events may be lost without harm.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from sightline_model.base import LenientModel, Timestamp
from sightline_model.camera import AudioMode, Profile, Source, StartMode, TranscodeMode
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase, SessionRole, Transport

CONTROL_PORT = 8080
MEDIA_PORT = 5004
CONFIG_DIRECTORY = "/etc/sightline/config"
CONFIG_FILE = "agent.json"
CREDENTIALS_DIRECTORY = "/etc/sightline/credentials"
EVENTS_KEEPALIVE_SECONDS = 5.0
SPARE_VARIABLE = "SIGHTLINE_AGENT_SPARE"
"""Environment variable with a SpareStart: the process begins without a camera and waits for one."""
SPARE_UID = "spare"
"""In place of a camera's uid while there is none; no object has it."""
MAIN_PROFILE = "main"
"""Name of the quality that `spec.source` gives; further ones have the names of `spec.profiles`."""


class CameraIdentity(LenientModel):
    """Which camera an agent serves."""

    namespace: str
    name: str
    uid: str

    @property
    def audience(self) -> str:
        """The `aud` of media tokens for this camera."""
        return f"{self.namespace}/{self.name}/{self.uid}"


def spare_identity(namespace: str, pod: str) -> CameraIdentity:
    """Who a spare agent is until it serves a camera; its `audience` stays that of control tokens for its pod's life."""
    return CameraIdentity(namespace=namespace, name=pod, uid=SPARE_UID)


class AgentLifecycle(LenientModel):
    """The camera's lifecycle in seconds."""

    start: StartMode = StartMode.ON_DEMAND
    idle_timeout: float = 30.0
    start_timeout: float = 10.0
    connect_timeout: float = 20.0


class AgentConfig(LenientModel):
    """Everything an agent needs to know; no credentials of the camera are in it."""

    camera: CameraIdentity
    source: Source
    profiles: list[Profile] = []
    """Further qualities."""
    audio: AudioMode = AudioMode.AUTO
    """Whether sound is carried."""
    transcode: TranscodeMode = TranscodeMode.AUTO
    """Whether pictures are made anew for viewers who could not play the camera's own."""
    lifecycle: AgentLifecycle = AgentLifecycle()
    max_viewers: int = 500
    advertise: list[str] = []
    """IP addresses to name to viewers before the pod's own."""
    own_addresses: bool = True
    """Whether the pod's own are named at all; where a node or a load balancer stands in for it, they lead nowhere."""
    token_keys: list[dict[str, Any]] = []
    """Public keys of media tokens as JWKs (two at most, for rotation)."""
    revision: str = ""
    """Hash of the rest; the agent reports it back, so the operator knows what has arrived."""


class SpareStart(LenientModel):
    """What a spare agent starts from."""

    identity: CameraIdentity
    """`spare_identity` of its pod."""
    token_keys: list[dict[str, Any]]
    """Public keys of control tokens as JWKs."""


class SourceCredentials(LenientModel):
    """User name and password of one source, or its token. Shown by no repr."""

    username: Annotated[str, Field(repr=False)] = ""
    password: Annotated[str, Field(repr=False)] = ""
    token: Annotated[str, Field(repr=False)] = ""


class Adoption(LenientModel):
    """What an agent that began as a spare is told: config and credentials, which no Secret of its pod brings it."""

    config: AgentConfig
    credentials: dict[str, SourceCredentials] = {}
    """By the quality's name."""


class SealedAdoption(LenientModel):
    """The body of `PUT /v1/config` for such an agent."""

    sealed: Annotated[str, Field(max_length=512 * 1024)]
    """An Adoption as JSON, sealed to the agent's `sealingKey` (`sealing`)."""


class SourceReport(LenientModel):
    """What the source does now."""

    reason: SourceReason = SourceReason.IDLE
    message: str = ""
    """In words, without credentials."""
    verified: bool = False
    """True once this configuration has delivered a key frame."""
    profile: str = MAIN_PROFILE
    video_codec: str = ""
    audio_codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    bitrate: int = 0
    """Bits per second over the last seconds."""
    keyframe_interval: float = 0.0
    """Seconds between the last two key frames."""
    last_frame_time: Timestamp | None = None
    running_since: Timestamp | None = None
    reconnects: int = 0
    last_error: str = ""


class PlayerReport(LenientModel):
    """What a viewer's player says of its own picture: totals since the session began. Nobody but it sees a freeze."""

    freezes: Annotated[int, Field(ge=0, le=10**9)] = 0
    frozen_seconds: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = 0.0
    """How long the freezes lasted together."""
    frames_dropped: Annotated[int, Field(ge=0, le=10**12)] = 0
    """Decoded too late to be shown, or not at all."""
    frames_decoded: Annotated[int, Field(ge=0, le=10**12)] = 0
    frames_per_second: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    """Now."""
    jitter_buffer_ms: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0.0
    """How long a frame waits between arriving and being decoded, on average."""
    decoder: Annotated[str, Field(max_length=64, pattern=r"^[ -~]*$")] = ""
    """As the browser names it."""


class TrackStats(LenientModel):
    """How one viewer receives one track: what was sent to it, and the newest of what its RTCP says."""

    bitrate: int = 0
    """Bits of media per second, over the last seconds."""
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_dropped: int = 0
    """Not sent to it: the socket was full, or it had to wait for the next key frame."""
    reports: int = 0
    """Receiver reports that arrived; before the first, what they say is 0 or absent."""
    fraction_lost: float = 0.0
    """In the last report's interval, 0 to 1; repaired losses count."""
    packets_lost: int = 0
    """Since the beginning; negative where packets were duplicated on the way."""
    jitter_ms: float = 0.0


class SessionStats(TrackStats):
    """How one viewer receives: the pictures, and beside them the sound."""

    since: Timestamp
    """When its connection stood."""
    address_family: Literal["IPv4", "IPv6"]
    packets_resent: int = 0
    round_trip_ms: float | None = None
    nacks: int = 0
    key_frames_wanted: int = 0
    """PLI and FIR."""
    sound: TrackStats | None = None
    """None where it gets none. Sound that is lost is not sent again."""
    player: PlayerReport | None = None
    """The newest that its player said, if it says anything."""


class SessionReport(LenientModel):
    """One session as its agent knows it."""

    id: str
    user: str
    role: SessionRole = SessionRole.VIEW
    transport: Transport = Transport.WHEP
    profile: str = MAIN_PROFILE
    """The quality that it gets now."""
    phase: SessionPhase
    end_reason: EndReason | None = None
    message: str = ""
    requested_at: Timestamp
    answered_at: Timestamp | None = None
    connected_at: Timestamp | None = None
    first_media_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    stats: SessionStats | None = None
    """Of a connected session, in `GET /v1/status` only: it changes too fast for events."""


class AgentStats(LenientModel):
    """Counters that change all the time."""

    viewers: int = 0
    peer_connections: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


class CapacityReport(LenientModel):
    """What viewers cost this agent and for how many more it has CPU. All CPU in cores (CPU seconds per second)."""

    resource: Literal["process", "loop"]
    """The scarcer one, of which the figures are: the process's CPU, or the one core of its event loop."""
    cpu_budget: float
    cpu_used: float
    cpu_per_viewer: float
    remaining_viewers: int
    """By CPU; `maxViewers` may allow fewer."""
    full: bool = False
    """New viewers are refused with `agent-overloaded`."""


class AgentReport(LenientModel):
    """Everything an agent knows; the body of `GET /v1/status` and of the `snapshot` event."""

    camera: CameraIdentity
    version: str
    instance: str
    """Random per process: tells a restarted agent from the one before."""
    revision: str
    """`AgentConfig.revision` in force."""
    started_at: Timestamp
    media_port: int = MEDIA_PORT
    sealing_key: str = ""
    """Public key of this very process, of agents that began as spares: adoptions are sealed to it."""
    source: SourceReport
    """The main one."""
    profiles: list[SourceReport] = []
    """The sources of the further qualities."""
    sessions: list[SessionReport] = []
    """Live sessions, and ended ones for a minute."""
    stats: AgentStats = AgentStats()
    capacity: CapacityReport | None = None


class EventType(StrEnum):
    """The `event:` names of the stream."""

    SNAPSHOT = "snapshot"
    SOURCE = "source"
    SESSION = "session"
    STATS = "stats"


class SnapshotEvent(LenientModel):
    type: Literal[EventType.SNAPSHOT] = EventType.SNAPSHOT
    report: AgentReport


class SourceEvent(LenientModel):
    type: Literal[EventType.SOURCE] = EventType.SOURCE
    source: SourceReport


class SessionEvent(LenientModel):
    type: Literal[EventType.SESSION] = EventType.SESSION
    session: SessionReport


class StatsEvent(LenientModel):
    type: Literal[EventType.STATS] = EventType.STATS
    stats: AgentStats
    source: SourceReport


AgentEvent = Annotated[SnapshotEvent | SourceEvent | SessionEvent | StatsEvent, Field(discriminator="type")]
