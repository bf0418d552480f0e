"""Camera: what a platform team writes, and what the operator answers in its status.

The CRD is generated from these models (`crd`), so each field's docstring is its text in `kubectl explain`. Fields of
later versions are here with their validation; `support` names those that this version refuses.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sightline_model.base import (
    NAME_PATTERN,
    DurationText,
    LenientModel,
    Model,
    Name,
    SecretName,
    ShortText,
    Text,
    Timestamp,
)
from sightline_model.cameraclass import IceServer, Turn
from sightline_model.conditions import Condition
from sightline_model.rules import Checked, Listed, Rule, address, exactly_one, lasting, matching, ordered

Port = Annotated[int, Field(ge=1, le=65535)]
Hex = Annotated[str, Field(pattern=r"^[0-9A-Fa-f:]+$", max_length=128)]


Url = Annotated[str, Field(min_length=8, max_length=2048)]


class SecretReference(Model):
    """A Secret in the camera's own namespace."""

    name: SecretName
    """Name of the Secret; keys `username` and `password`, or `token`."""


class RtspTransport(StrEnum):
    """How RTP travels from the camera."""

    AUTO = "Auto"
    TCP = "TCP"
    UDP = "UDP"


class RtspSource(Model):
    """A camera that serves RTSP (RFC 2326, RFC 7826)."""

    url: Url
    """Address of the stream: rtsp://host[:port]/path. User name and password belong into credentialsRef."""
    credentials_ref: SecretReference | None = None
    """Secret with the keys `username` and `password`."""
    transport: RtspTransport = RtspTransport.AUTO
    """TCP: RTP inside the RTSP connection. UDP: where little gets lost. Auto: TCP, or UDP if nothing comes by TCP."""
    fingerprint: Hex | None = None
    """SHA-256 fingerprint of the camera's certificate, for rtsps cameras with a certificate of their own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *address("url", "rtsp", "rtsps", belongs_to="credentialsRef"),
        Rule(
            "!has(self.fingerprint) || self.url.startsWith('rtsps:')",
            "leave fingerprint out or use rtsps://",
            lambda value: "fingerprint" not in value or str(value["url"]).startswith("rtsps:"),
        ),
        Rule(
            "!has(self.transport) || self.transport != 'UDP' || !self.url.startsWith('rtsps:')",
            "RTP over UDP would not be encrypted: use TCP or Auto with rtsps://",
            lambda value: value.get("transport") != "UDP" or not str(value["url"]).startswith("rtsps:"),
        ),
    )


class RtmpSource(Model):
    """A device that serves RTMP, pulled from where it sends."""

    url: Url
    """Address of the stream: rtmp://host[:port]/app/key. A key that is secret belongs into credentialsRef."""
    credentials_ref: SecretReference | None = None
    """Secret with the key `token`: the stream key, added to the address; or `username` and `password`, sent as its
    `user` and `pass`."""

    rules: ClassVar[tuple[Rule, ...]] = address("url", "rtmp", "rtmps", belongs_to="credentialsRef")


class WhepSource(Model):
    """Another WHEP server."""

    url: Url
    """The WHEP endpoint."""
    token_ref: SecretReference | None = None
    """Secret with the key `token`."""

    rules: ClassVar[tuple[Rule, ...]] = address("url", "http", "https", belongs_to="tokenRef")


class HlsSource(Model):
    """An HLS playlist."""

    url: Url
    """Address of the playlist."""

    rules: ClassVar[tuple[Rule, ...]] = address("url", "http", "https")


class V4l2Source(Model):
    """A camera at the node that the agent runs on."""

    device: Annotated[str, Field(pattern=r"^/dev/[A-Za-z0-9/_-]+$", max_length=128)]
    """Device file, for example /dev/video0."""


class TestPatternSource(Model):
    """A moving picture made by the agent itself, for trying things out."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    width: Annotated[int, Field(ge=64, le=3840, multiple_of=2)] = 1280
    """Width in pixels."""
    height: Annotated[int, Field(ge=64, le=2160, multiple_of=2)] = 720
    """Height in pixels."""
    fps: Annotated[int, Field(ge=1, le=60)] = 30
    """Frames per second."""
    text: Annotated[str, Field(max_length=64)] = ""
    """Text to show in the picture."""


class FileSource(Model):
    """A recorded clip played as if it were live. Exactly one of `url` and `path`."""

    url: Url | None = None
    """Address of the file."""
    path: Annotated[str, Field(pattern=r"^/\S+$", max_length=1024)] | None = None
    """Path of the file in the agent's image or volumes."""
    loop: bool = True
    """Start again at the end."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *address("url", "http", "https"),
        exactly_one("url", "path"),
    )


class PushProtocol(StrEnum):
    """How a publisher may send."""

    WHIP = "WHIP"
    RTMP = "RTMP"


class PushSource(Model):
    """Published into the agent with a stream key or a token."""

    protocols: Annotated[list[PushProtocol], Field(min_length=1, max_length=2), Listed()] = [PushProtocol.WHIP]
    """What a publisher may use."""


class DeviceSource(Model):
    """A phone or camera device that is asked over signaling, and answers."""

    delivery: Literal["Direct", "Relay"] = "Relay"
    """Direct: the device's own peer connection to the viewer. Relay: through the agent."""


class ExternalFallback(Model):
    """What to show when the robot's own server is away."""

    rtsp: RtspSource | None = None
    """An RTSP stream of the same device."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("rtsp"),)


class ExternalSource(Model):
    """A robot that is its own WebRTC server: no media pod is made."""

    webrtc_url: Url
    """Where viewers are sent after the access and booking checks."""
    fallback: ExternalFallback | None = None
    """Another way to the same picture."""

    rules: ClassVar[tuple[Rule, ...]] = address("webrtcUrl", "http", "https", "ws", "wss")


SOURCE_KINDS = (
    "rtsp",
    "rtmp",
    "whep",
    "hls",
    "v4l2",
    "testPattern",
    "file",
    "push",
    "device",
    "external",
)


class Source(Model):
    """Where the pictures come from. Exactly one field is set."""

    rtsp: RtspSource | None = None
    """Pull from an RTSP camera."""
    rtmp: RtmpSource | None = None
    """Pull RTMP directly from a device."""
    whep: WhepSource | None = None
    """Pull from a WHEP server."""
    hls: HlsSource | None = None
    """Pull an HLS playlist."""
    v4l2: Annotated[V4l2Source | None, Field(alias="v4l2")] = None
    """Read a video device of the node."""
    test_pattern: TestPatternSource | None = None
    """Make a test picture."""
    file: FileSource | None = None
    """Play a file."""
    push: PushSource | None = None
    """Wait for a publisher."""
    device: DeviceSource | None = None
    """Ask a device over signaling."""
    external: ExternalSource | None = None
    """Send viewers to the device's own WebRTC server."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one(*SOURCE_KINDS),)

    @property
    def kind(self) -> str:
        """The wire name of the one source that is set; empty when none is."""
        return next((name for name in SOURCE_KINDS if getattr(self, _python_name(name)) is not None), "")

    @property
    def secret(self) -> str | None:
        """The name of the Secret with what the source shows to be let in; None where it names none."""
        reference = None
        if self.rtsp is not None:
            reference = self.rtsp.credentials_ref
        elif self.rtmp is not None:
            reference = self.rtmp.credentials_ref
        elif self.whep is not None:
            reference = self.whep.token_ref
        return reference.name if reference is not None else None


def _python_name(wire: str) -> str:
    return "test_pattern" if wire == "testPattern" else wire


class Profile(Model):
    """A further quality of the same device."""

    name: Annotated[str, Field(min_length=1, max_length=32, pattern=NAME_PATTERN)]
    """Name that a viewer asks for, such as sd; main is spec.source's."""
    source: Source
    """Where this quality comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.name != 'main'",
            "call it something else: main is the quality of spec.source",
            lambda value: value.get("name") != "main",
        ),
    )


class AudioMode(StrEnum):
    """Whether sound is carried."""

    AUTO = "Auto"
    NONE = "None"


class TranscodeMode(StrEnum):
    """Whether the agent may re-encode what a browser could not play."""

    AUTO = "Auto"
    NEVER = "Never"


class StartMode(StrEnum):
    """When the source runs."""

    ON_DEMAND = "OnDemand"
    ALWAYS = "Always"


class Lifecycle(Model):
    """When the source starts and stops."""

    start: StartMode = StartMode.ON_DEMAND
    """OnDemand: with the first viewer. Always: as long as the agent runs."""
    idle_timeout: Annotated[DurationText, lasting("0s", "24h")] = "30s"
    """How long the source keeps running after the last viewer left."""
    start_timeout: Annotated[DurationText, lasting("100ms", "5m")] = "10s"
    """How long a viewer waits for the first picture before the attempt is refused with the reason."""
    scale_to_zero_after: Annotated[DurationText, lasting("10s", "168h", or_never=True)] = "Never"
    """How long an agent without viewers keeps its pod."""


class Role(StrEnum):
    """What a subject may do with a camera; each contains nothing of the others, and the owner has all."""

    VIEW = "View"
    PUBLISH = "Publish"
    MANAGE = "Manage"


_SUBJECT = matching(r"guest|authenticated|(user|group):\S+", "write user:NAME, group:NAME, authenticated or guest")
Subject = Annotated[str, Field(min_length=1, max_length=256), Checked((_SUBJECT,))]


class Grant(Model):
    """Roles for some subjects, for a time if wanted: a booking."""

    subjects: Annotated[list[Subject], Field(min_length=1, max_length=64), Listed()]
    """user:NAME, group:NAME, `authenticated` for everybody who signed in, `guest` for everybody (in this version
    they have to sign in, too)."""
    roles: Annotated[list[Role], Field(min_length=1, max_length=3), Listed()]
    """What they may do."""
    from_: Annotated[Timestamp | None, Field(alias="from")] = None
    """Start of the booking; none: at once."""
    until: Timestamp | None = None
    """End of the booking; none: for good."""

    rules: ClassVar[tuple[Rule, ...]] = (ordered("from", "until", "let from be before until"),)


class Access(Model):
    """Who may watch, publish and manage. Kubernetes RBAC may allow more; nothing else does."""

    owner: Annotated[str, Field(max_length=256)] | None = None
    """User who may do everything with this camera."""
    grants: Annotated[list[Grant], Field(max_length=64)] = []
    """Roles given to subjects."""
    max_viewers: Annotated[int, Field(ge=1, le=100000)] = 500
    """Viewers at the same time; the next one is refused."""


class Chat(Model):
    """The chat beside the picture."""

    enabled: bool = False
    """Whether there is one."""
    delayed: bool = False
    """Whether messages wait a little before they are shown."""
    followers_only: bool = False
    """Whether only followers may write."""


class Presentation(Model):
    """How the camera is shown to people."""

    title: Annotated[str, Field(max_length=128)] = ""
    """Title; the camera's name when empty."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """A sentence or two."""
    thumbnail: Url | None = None
    """Address of a still picture."""
    chat: Chat | None = None
    """The chat beside the picture."""

    rules: ClassVar[tuple[Rule, ...]] = address("thumbnail", "http", "https")


class OutputTarget(Model):
    """Where a copy is sent."""

    url: Url
    """Address of the target without credentials."""
    credentials_ref: SecretReference | None = None
    """Secret with the stream key or token."""

    rules: ClassVar[tuple[Rule, ...]] = address(
        "url", "rtmp", "rtmps", "http", "https", "srt", belongs_to="credentialsRef"
    )


class Output(Model):
    """A restream target. Exactly one of `rtmp`, `whip` and `srt`."""

    name: Name
    """Name in the status."""
    rtmp: OutputTarget | None = None
    """Send by RTMP."""
    whip: OutputTarget | None = None
    """Send by WHIP."""
    srt: OutputTarget | None = None
    """Send by SRT."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("rtmp", "whip", "srt"),)


class CameraSpec(Model):
    """What the camera is and who may watch it."""

    class_name: Name | None = None
    """CameraClass to use; none: the default class."""
    source: Source
    """Where the pictures come from. Exactly one of its fields."""
    profiles: Annotated[list[Profile], Field(max_length=8), Listed("name")] = []
    """Further qualities of the same device."""
    audio: AudioMode = AudioMode.AUTO
    """Whether the camera's sound is carried; one without sound has none either way."""
    transcode: TranscodeMode = TranscodeMode.AUTO
    """Whether the agent may re-encode what a viewer's browser could not play (B-frames, interlaced, H.265)."""
    lifecycle: Lifecycle = Lifecycle()
    """When the source starts and stops."""
    access: Access = Access()
    """Who may watch, publish and manage."""
    presentation: Presentation = Presentation()
    """How the camera is shown to people."""
    outputs: Annotated[list[Output], Field(max_length=8), Listed("name")] = []
    """Restream targets."""


class AgentStatus(LenientModel):
    """The agent of a camera, as the operator sees it."""

    pod: ShortText = ""
    """Name of the pod."""
    node: ShortText = ""
    """Node it runs on."""
    address: ShortText = ""
    """Address of its signaling endpoint inside the cluster."""
    port: int = 0
    """Port of its signaling endpoint."""
    started_at: Timestamp | None = None
    """When the agent process started."""
    version: ShortText = ""
    """Version that the agent reports."""


class InternalAddress(LenientModel):
    """An address inside the cluster."""

    ip: ShortText
    """IP address."""
    port: int
    """UDP port of all media."""


class ExternalAddress(LenientModel):
    """An address that viewers dial."""

    ip: ShortText
    """IP address."""
    port: int
    """Port."""
    transport: ShortText = "udp"
    """udp or tcp."""
    scope: ShortText = "lan"
    """lan or wan."""


class PortLease(LenientModel):
    """A port of the nodes that no other agent gets, for a while not even after this one."""

    port: int
    """UDP port."""
    pod: ShortText
    """Who holds it."""


class NetworkStatus(LenientModel):
    """How viewers reach the agent."""

    mode: ShortText = ""
    """The class's network mode."""
    internal: Annotated[list[InternalAddress], Field(max_length=8)] = []
    """Addresses inside the cluster."""
    external: Annotated[list[ExternalAddress], Field(max_length=16)] = []
    """Addresses that viewers dial."""
    port_lease: PortLease | None = None
    """The port that the agent's pod holds in HostPort, HostNetwork and NodePort."""
    ice_servers: Annotated[list[IceServer], Field(max_length=8)] = []
    """STUN and TURN servers that viewers are told of."""
    turn: Turn | None = None
    """TURN server that viewers get credentials for; its Secret is named, not told."""


class SourceStatus(LenientModel):
    """What the source sends; numbers are refreshed at most every ten seconds."""

    profile: ShortText = ""
    """Quality that runs."""
    video_codec: ShortText = ""
    """For example H264."""
    audio_codec: ShortText = ""
    """For example opus."""
    width: int = 0
    """Width in pixels."""
    height: int = 0
    """Height in pixels."""
    fps: int = 0
    """Frames per second, rounded."""
    bitrate: int = 0
    """Bits per second, two digits exact."""
    keyframe_interval: ShortText = ""
    """Time between key frames as a duration, for example 2s."""
    last_frame_time: Timestamp | None = None
    """When the last frame came; written at most every ten seconds."""
    running_since: Timestamp | None = None
    """When the source started to send this time."""
    reconnects: int = 0
    """Reconnects since the agent started."""
    last_error: Text = ""
    """The last failure in words, without credentials."""


class ProfileStatus(LenientModel):
    """What a further quality sends; its source runs only while somebody watches it."""

    name: ShortText
    """Name of the profile."""
    state: ShortText = ""
    """What its source does: a reason of SourceReady."""
    video_codec: ShortText = ""
    """For example H264; empty before the first viewer."""
    audio_codec: ShortText = ""
    """For example OPUS."""
    width: int = 0
    """Width in pixels."""
    height: int = 0
    """Height in pixels."""
    last_error: Text = ""
    """The last failure in words, without credentials."""


class PublisherStatus(LenientModel):
    """Who publishes now."""

    user: ShortText
    """Name of the user."""
    since: Timestamp
    """Since when."""
    session_name: ShortText
    """The StreamSession."""


class Phase(StrEnum):
    """One word for people, derived from the conditions; scripts read conditions."""

    PENDING = "Pending"
    REFUSED = "Refused"
    STARTING = "Starting"
    IDLE = "Idle"
    STREAMING = "Streaming"
    DEGRADED = "Degraded"


class CameraStatus(LenientModel):
    """What is. Only the operator writes it."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=16), Listed("type")] = []
    """Accepted, AgentReady, NetworkReady, SourceReady, Live, OutputsReady, Ready."""
    phase: Phase = Phase.PENDING
    """One word for people."""
    agent: AgentStatus | None = None
    """The agent."""
    former_agents: Annotated[list[AgentStatus], Field(max_length=8)] = []
    """Agents before this one, which keep their viewers until these have moved."""
    network: NetworkStatus | None = None
    """How viewers reach it."""
    source: SourceStatus | None = None
    """What the source sends."""
    profiles: Annotated[list[ProfileStatus], Field(max_length=8), Listed("name")] = []
    """What the further qualities send."""
    viewers: int = 0
    """Viewers now."""
    publisher: PublisherStatus | None = None
    """Who publishes now."""
    live: bool = False
    """True exactly while pictures come."""
