"""CameraClass: how the agents of a group of cameras are run. Cluster-scoped, written by the platform team."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from sightline_model.base import DurationText, LenientModel, Model, Name, SecretName
from sightline_model.conditions import Condition
from sightline_model.rules import Listed, Rule, lasting

LabelValue = Annotated[str, Field(max_length=63)]
ImageReference = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")]
Quantity = Annotated[str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|Ki|Mi|Gi)?$")]


class PullPolicy(StrEnum):
    """Kubernetes' image pull policies."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class AgentImage(Model):
    """What the agents run."""

    image: ImageReference | None = None
    """Image of the agent; none: the one that belongs to the operator's version."""
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the kubelet pulls it."""
    pull_secrets: Annotated[list[SecretName], Field(max_length=8), Listed()] = []
    """Secrets for the registry, in the camera's namespace."""


class ResourceAmounts(Model):
    """CPU and memory."""

    cpu: Quantity | None = None
    """For example 100m."""
    memory: Quantity | None = None
    """For example 128Mi."""


class Resources(Model):
    """What an agent's container asks for and may use."""

    requests: ResourceAmounts = ResourceAmounts(cpu="50m", memory="128Mi")
    """What the scheduler reserves."""
    limits: ResourceAmounts = ResourceAmounts(memory="512Mi")
    """What the container may use at most."""


class Scheduling(Model):
    """Where agents may run; the fields of a pod by the same names."""

    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] = {}
    """Labels that a node must have."""
    tolerations: Annotated[list[dict[str, Any]], Field(max_length=16)] = []
    """Taints that agents tolerate."""
    affinity: dict[str, Any] | None = None
    """Affinity rules."""
    priority_class_name: Name | None = None
    """Priority of the pods."""
    runtime_class_name: Name | None = None
    """Container runtime."""


class NetworkMode(StrEnum):
    """How the media of viewers reaches the pod."""

    POD_IP = "PodIP"
    HOST_PORT = "HostPort"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    HOST_NETWORK = "HostNetwork"
    RELAY = "Relay"


class PortRange(Model):
    """Ports that may be handed out."""

    first: Annotated[int, Field(ge=1024, le=65535)]
    """First port."""
    last: Annotated[int, Field(ge=1024, le=65535)]
    """Last port."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.first <= self.last",
            "let first be at most last",
            lambda value: bool(value["first"] <= value["last"]),
        ),
    )


class IceServer(Model):
    """A STUN or TURN server that viewers are told of."""

    urls: Annotated[
        list[Annotated[str, Field(pattern=r"^(stun|turns?):\S+$", max_length=256)]],
        Field(min_length=1, max_length=4),
        Listed(),
    ]
    """For example stun:stun.example.org:3478."""


class GatewayReference(Model):
    """A Gateway (gateway.networking.k8s.io)."""

    namespace: Name
    """Its namespace."""
    name: Name
    """Its name."""


class Turn(Model):
    """A TURN server with a shared secret for short-lived credentials."""

    urls: Annotated[
        list[Annotated[str, Field(pattern=r"^turns?:\S+$", max_length=256)]],
        Field(min_length=1, max_length=4),
        Listed(),
    ]
    """Addresses of the server."""
    secret_ref: SecretName
    """Secret with the key `secret`, mounted in the front door (chart value `api.turnSecrets`)."""
    gateway_ref: GatewayReference | None = None
    """STUNner's Gateway that serves the addresses: with Relay, a UDPRoute lets it dial each camera."""


class Network(Model):
    """How viewers reach agents of this class."""

    mode: NetworkMode = NetworkMode.POD_IP
    """PodIP: viewers dial pods. HostPort, HostNetwork, NodePort: nodes. LoadBalancer: its address. Relay: turn."""
    advertise: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=8), Listed()] = []
    """Further IP addresses that agents name to viewers, first ones first."""
    port_range: PortRange | None = None
    """Ports for HostPort and HostNetwork (20000 to 29999 by default) and NodePort (30000 to 32767)."""
    ice_servers: Annotated[list[IceServer], Field(max_length=8)] = []
    """Servers that viewers are told of."""
    turn: Turn | None = None
    """TURN server that viewers may go through, and have to with Relay."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.mode) || self.mode != 'Relay' || has(self.turn)",
            "Relay needs turn: the server that viewers go through",
            lambda value: value["mode"] != "Relay" or "turn" in value,
        ),
    )


class Limits(Model):
    """Bounds for every camera of the class."""

    max_viewers: Annotated[int, Field(ge=1, le=100000)] = 1000
    """Viewers of one camera at most, whatever the camera says."""
    publish_per_user: Annotated[int, Field(ge=1, le=100)] = 1
    """Publish sessions that a user may have in a namespace."""


class ClassDefaults(Model):
    """Durations for sessions of the class."""

    connect_timeout: Annotated[DurationText, lasting("100ms", "10m")] = "20s"
    """From the answer to the first media."""


class RolloutOrder(StrEnum):
    """Who is replaced first."""

    IDLE_FIRST = "IdleFirst"


class Rollout(Model):
    """How a changed class reaches running agents."""

    max_unavailable: Annotated[int, Field(ge=1, le=1000)] = 1
    """Agents replaced at the same time."""
    order: RolloutOrder = RolloutOrder.IDLE_FIRST
    """Idle cameras first."""
    drain_timeout: Annotated[DurationText, lasting("0s", "24h")] = "60s"
    """How long a watched camera's viewers have to move."""


class Persistence(StrEnum):
    """Where sessions are kept."""

    ALWAYS = "Always"
    ON_DEMAND = "OnDemand"


class Sessions(Model):
    """How StreamSessions of the class are kept."""

    persist: Persistence = Persistence.ALWAYS
    """Always: each session is a StreamSession."""
    retention: Annotated[DurationText, lasting("0s", "24h")] = "60s"
    """How long an ended session stays."""
    max_duration: Annotated[DurationText, lasting("1s", "168h")] = "12h"
    """How long a session may live at most."""


class Transports(Model):
    """What viewers may use."""

    simple: bool = True
    """Only WebRTC is served and advertised."""


class CameraClassSpec(Model):
    """How agents of this class are run."""

    agent: AgentImage = AgentImage()
    """What they run."""
    resources: Resources = Resources()
    """What they ask for and may use."""
    scheduling: Scheduling = Scheduling()
    """Where they may run."""
    pod_template: dict[str, Any] | None = None
    """Overlay on the pod."""
    network: Network = Network()
    """How viewers reach them."""
    limits: Limits = Limits()
    """Bounds."""
    defaults: ClassDefaults = ClassDefaults()
    """Durations of sessions."""
    warm_agents: Annotated[int, Field(ge=0, le=1000)] = 0
    """Spare agents that wait for a camera, in each namespace with cameras of the class that is switched on for them."""
    rollout: Rollout = Rollout()
    """How a changed class reaches running agents."""
    sessions: Sessions = Sessions()
    """How sessions are kept."""
    transports: Transports = Transports()
    """What viewers may use."""


class CameraClassStatus(LenientModel):
    """What is. Only the operator writes it."""

    observed_generation: int = 0
    """Generation of the spec that this status speaks of."""
    conditions: Annotated[list[Condition], Field(max_length=8), Listed("type")] = []
    """Accepted, RolledOut, and SparesReady where warmAgents is not 0."""
    cameras: int = 0
    """Cameras of this class."""
    moving: int = 0
    """Cameras whose agent is being replaced because the class has changed."""
    waiting: int = 0
    """Cameras whose agent is to be replaced and whose turn has not come."""
    spares: int = 0
    """Spare agents that a camera could adopt now."""
    ports: Annotated[str, Field(max_length=8192)] = ""
    """Ports that agents hold or held a moment ago, such as 20000-20004,20007; a new operator starts from them."""
