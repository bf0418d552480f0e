"""The bodies of the REST API. Camera specs are the model's own; everything else is worded here, and is a contract."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from sightline_model.base import MAX_CAMERA_NAME, NAME_PATTERN, LenientModel, Model, Timestamp
from sightline_model.camera import CameraSpec, Phase, Role
from sightline_model.conditions import Condition
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase, SessionRole, SessionTimestamps, Transport

MAX_SDP = 64 * 1024

SPEC_MARK = "x-sightline-schema"
"""Marks where the OpenAPI document shall refer to the schema of CameraSpec (see `openapi`)."""
Spec = Annotated[dict[str, Any], WithJsonSchema({"type": "object", SPEC_MARK: CameraSpec.__name__})]
"""A CameraSpec: as Kubernetes holds it, or to be validated by `editing.validated`. Untyped here, because FastAPI would
spread the model's own schemas, with the rules that they carry, over its document."""

Labels = Annotated[dict[str, str], Field(max_length=64)]
CameraName = Annotated[str, Field(min_length=1, max_length=MAX_CAMERA_NAME, pattern=NAME_PATTERN)]


class Me(Model):
    """Whom the front door takes you for."""

    user: str
    groups: list[str]
    issuer: str


class IceServerView(Model):
    """A STUN or TURN server, in the shape of RTCIceServer."""

    urls: list[str]
    username: str | None = None
    credential: str | None = None


class WebrtcConfig(Model):
    """What a peer connection needs."""

    ice_servers: list[IceServerView]
    ice_transport_policy: Literal["all", "relay"] = "all"
    """relay: the camera is reached through its TURN server only."""


class SourceSummary(Model):
    """What the source does, in a list."""

    reason: str
    message: str
    video_codec: str
    width: int
    height: int
    fps: int


class CameraSummary(Model):
    """A camera in the list."""

    namespace: str
    name: str
    title: str
    description: str
    labels: dict[str, str]
    phase: Phase
    ready: bool
    message: str
    """Why it is not ready, and what to do; empty where it is."""
    live: bool
    viewers: int
    source: SourceSummary
    rights: list[Role]
    whep: str


class CameraPage(Model):
    """A page of cameras."""

    items: list[CameraSummary]
    continue_: Annotated[str | None, Field(alias="continue")] = None


class CameraConfig(Model):
    """What a camera is described as."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created_at: Timestamp | None
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Spec


class CameraCreate(Model):
    """A camera to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "harbour",
                    "labels": {"site": "north"},
                    "spec": {
                        "source": {"rtsp": {"url": "rtsp://camera.lan/stream1", "credentialsRef": {"name": "harbour"}}},
                        "access": {"grants": [{"subjects": ["group:guards"], "roles": ["View"]}]},
                    },
                }
            ]
        }
    )

    name: CameraName
    labels: Labels = {}
    annotations: Labels = {}
    spec: Spec


class CameraReplace(Model):
    """What a camera shall be; labels and annotations stay as they are where they are left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"spec": {"source": {"testPattern": {"fps": 25}}}}]})

    labels: Labels | None = None
    annotations: Labels | None = None
    spec: Spec
    resource_version: Annotated[str | None, Field(max_length=64)] = None
    """Refuse (409) if somebody changed the camera since this version was read."""


class SourceState(Model):
    """What the source does."""

    state: str
    """The reason of the SourceReady condition."""
    message: str
    video_codec: str
    audio_codec: str
    width: int
    height: int
    fps: int
    bitrate: int
    reconnects: int
    running_since: Timestamp | None
    last_error: str


class ProfileState(Model):
    """What a further quality's source does."""

    name: str
    state: str
    """A reason of the SourceReady condition."""
    video_codec: str
    audio_codec: str
    width: int
    height: int
    last_error: str


class CameraStatusView(Model):
    """How a camera is."""

    namespace: str
    name: str
    phase: Phase
    ready: bool
    running: bool
    """True while the source sends."""
    stream_type: Literal["webrtc"] = "webrtc"
    viewers: int
    peer_connections: int
    uptime_seconds: int
    """How long the source has been sending."""
    last_frame_time: Timestamp | None
    live: bool
    source: SourceState
    profiles: list[ProfileState]
    """The further qualities; their sources run only while somebody watches them."""
    conditions: list[Condition]


class CameraStatusPage(Model):
    """A page of statuses."""

    items: list[CameraStatusView]
    continue_: Annotated[str | None, Field(alias="continue")] = None


class CameraCombined(Model):
    """Description and status in one answer."""

    config: CameraConfig
    status: CameraStatusView


class OfferBody(Model):
    """An SDP offer as browsers serialise it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sdp": "v=0\r\n...", "type": "offer"}]})

    sdp: Annotated[str, Field(min_length=2, max_length=MAX_SDP)]
    type: Literal["offer"]


class AnswerBody(Model):
    """The SDP answer, and where the session can be ended."""

    sdp: str
    type: Literal["answer"] = "answer"
    session_id: str
    session_url: str


class SessionRequest(Model):
    """A session to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"namespace": "default", "camera": "test-pattern"}]})

    namespace: Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
    camera: CameraName
    role: SessionRole = SessionRole.VIEW
    transport: Transport = Transport.WHEP
    profile: Annotated[str, Field(min_length=1, max_length=32, pattern=NAME_PATTERN)] | None = None
    """The quality; none: the one that the viewer's link carries."""


class LayerSelection(LenientModel):
    """A viewer's choice, as WHEP's layer extension words it; what it has beyond this means nothing here."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"mediaId": "0", "encodingId": "sd"}]})

    media_id: Annotated[str, Field(max_length=64)] | None = None
    """The `mid` of the pictures."""
    encoding_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The quality's name; none: the one that the link carries."""


class Layer(LenientModel):
    """A quality."""

    encoding_id: Annotated[str, Field(max_length=64)]
    """Its name."""
    width: int | None = None
    height: int | None = None
    bitrate: int | None = None
    """Bits per second; only while its source runs."""


class MediaLayers(LenientModel):
    """The qualities of one track."""

    active: Annotated[list[Layer], Field(max_length=16)]
    """Those whose source runs, the best first."""
    inactive: Annotated[list[Layer], Field(max_length=16)]
    """Those that would have to start."""
    selected: Annotated[str, Field(max_length=64)]
    """The one that is sent."""
    automatic: bool
    """Chosen by what the link carries."""


class SessionTicket(Model):
    """How to open a session that was made: send the offer to `endpoint` with `token`, before `expires_at`."""

    id: str
    endpoint: str
    token: str
    ice_servers: list[IceServerView]
    ice_transport_policy: Literal["all", "relay"] = "all"
    """relay: the camera is reached through its TURN server only."""
    expires_at: Timestamp


class SessionView(Model):
    """A session as Kubernetes knows it."""

    id: str
    namespace: str
    camera: str
    user: str
    role: SessionRole
    transport: Transport
    phase: SessionPhase
    end_reason: EndReason | None
    message: str
    endpoint: str
    created_at: Timestamp | None
    timestamps: SessionTimestamps


class SessionList(Model):
    """Sessions."""

    items: list[SessionView]
