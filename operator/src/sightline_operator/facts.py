"""What is known about one camera, one class or one session at one moment, gathered from caches without any I/O.

Facts are values: the decisions that read them can be tested with dicts and a date. Objects in them are those of the
cache, to be read only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sightline_kube.cache import Cache
from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, SERVICE, STREAM_SESSION
from sightline_model import names
from sightline_model.agent import AgentReport, SessionReport
from sightline_operator.ports import QUARANTINE_SECONDS
from sightline_operator.probe import Probed
from sightline_operator.rollout import Standing

FRESH_SECONDS = 10.0
NOT_TRUSTED = "HTTP 401"
"""Error of a link whose agent does not know the key that control tokens are signed with."""
UNREADABLE = "a status that cannot be read"
"""Error of a link whose agent speaks another version of the protocol."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the operator has heard from one agent pod."""

    connected: bool = False
    report: AgentReport | None = None
    """The last report with the events since merged in; it stays after the connection was lost."""
    sessions: Mapping[str, SessionReport] = field(default_factory=dict)
    """The report's sessions by id, kept up to date by events."""
    followed_at: datetime | None = None
    """Since when there is a link at all: a pod older than that may have served an operator before this one."""
    changed_at: datetime | None = None
    """Since when the link is connected, or lost."""
    error: str = ""
    """Why the last attempt failed."""
    source_failed_at: datetime | None = None
    """Since when the source fails, whatever the reason; None while it does not."""
    idle_since: datetime | None = None
    """Since when the agent has no sessions, as far as this operator has heard; None while it has some."""
    pushed_revision: str = ""
    pushed_at: datetime | None = None

    def fresh(self, now: datetime) -> bool:
        """True while a link is so new that silence means nothing yet: the operator itself may just have started."""
        if self.report is not None or self.followed_at is None:
            return False
        return (now - self.followed_at).total_seconds() < FRESH_SECONDS


@dataclass(frozen=True, slots=True)
class Options:
    """What builders need of the operator's settings."""

    agent_image: str
    token_keys: tuple[Mapping[str, Any], ...] = ()
    public_url: str = ""
    port_quarantine: float = QUARANTINE_SECONDS
    """Seconds that a port rests before another agent gets it."""
    turn_secrets: frozenset[str] | None = None
    """Names of the TURN servers' Secrets that the front door has; None where nobody knows."""
    spare_namespaces: frozenset[str] = frozenset()
    """Where spare agents are kept, and the Secrets with cameras' credentials may be read for them."""
    owner_role: str = ""
    """The ClusterRole that goes with the release, and the budgets with it; empty: they stay."""
    namespaced: bool = False
    """Only some namespaces are served: a class without cameras there is another operator's to speak of."""


@dataclass(frozen=True, slots=True)
class ConfigWrite:
    """An attempt to write a camera's config Secret."""

    hash: str
    at: datetime
    done: bool = True
    """Whether the API server has confirmed it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the ledger and the prober know, for network modes that lease ports or can be probed."""

    fresh: int | None = None
    """For a pod that may have to be made; None where the mode needs none, or none is free."""
    free_at: datetime | None = None
    """When the next one will be, if none is."""
    probed: Mapping[str, Probed] = field(default_factory=dict)
    """The last probe of each pod, by name."""
    probing: bool = False
    """Whether there is anybody who probes."""
    unnoted: frozenset[int] = frozenset()
    """Those of the camera's pods that the class's status does not name yet."""


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """One camera and everything around it."""

    namespace: str
    name: str
    camera: Obj | None
    class_name: str
    """The class that the camera asks for, or the default one; empty when there is none."""
    camera_class: Obj | None
    pods: tuple[Obj, ...]
    """Pods with the camera's label, whoever controls them."""
    service: Obj | None
    """It also tells which config was written last: Secrets are never read."""
    links: Mapping[str, LinkState]
    """By name of the pod."""
    options: Options
    fresh_suffix: str
    """For the name of a pod that may have to be made; that of the last attempt, if nobody knows that it was."""
    config_write: ConfigWrite | None = None
    """The last write of the config Secret by this process."""
    demand: bool = False
    """Whether there are sessions of the camera that have not ended; asked for only where it may rest."""
    refusal: str = ""
    """Why the API server refused a child in this very pass."""
    nodes: Mapping[str, Obj] = field(default_factory=dict)
    """The nodes of the pods, by name, as far as they are known."""
    exposing: tuple[Obj, ...] = ()
    """Services that lead viewers to one pod each (network modes NodePort and LoadBalancer)."""
    ports: Ports = field(default_factory=Ports)
    spare: Obj | None = None
    """A spare agent that the camera may adopt in this pass."""


@dataclass(frozen=True, slots=True)
class SpareStanding:
    """The spare agents of one class, in all namespaces."""

    wanted: int = 0
    ready: int = 0
    """How many could be adopted now."""
    switched_on: bool = False
    """Whether there is any namespace for spares."""
    problem: str = ""
    """Why one could not be made."""
    trouble: str = ""
    """Why one that was made does not answer; empty while it merely starts."""
    look_again: float | None = None


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One CameraClass and how many cameras use it."""

    camera_class: Obj
    cameras: int
    rollout: Standing = field(default_factory=Standing)
    spares: SpareStanding = field(default_factory=SpareStanding)
    ports: str = ""
    """Ports of the nodes that its agents hold, or held a moment ago."""


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent pod of a camera, as a session sees it."""

    pod: Obj
    link: LinkState


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """One session, its camera and the agents that may hold it."""

    namespace: str
    name: str
    session: Obj | None
    revoked: bool
    """True when somebody deleted the StreamSession a moment ago."""
    camera: Obj | None
    camera_class: Obj | None
    agents: tuple[AgentView, ...]
    public_url: str


LinkLookup = Callable[[str, str], LinkState]
"""The link of a pod, by namespace and name."""


def resolve_class(cache: Cache, camera: Obj | None) -> tuple[str, Obj | None]:
    """The class of a camera: the one named, else the default one (the newest, should there be several)."""
    wanted = ((camera or {}).get("spec") or {}).get("className")
    if wanted:
        return str(wanted), cache.get(CAMERA_CLASS, "", str(wanted))
    defaults = [
        item
        for item in cache.list(CAMERA_CLASS)
        if (item["metadata"].get("annotations") or {}).get(names.DEFAULT_CLASS_ANNOTATION) == "true"
    ]
    if not defaults:
        return "", None
    newest = max(defaults, key=lambda item: (item["metadata"].get("creationTimestamp") or "", _name(item)))
    return _name(newest), newest


def camera_facts(
    cache: Cache, links: LinkLookup, options: Options, key: tuple[str, str], suffix: Callable[[], str]
) -> CameraFacts:
    """Everything about the camera `key` (namespace, name)."""
    namespace, name = key
    camera = cache.get(CAMERA, namespace, name)
    class_name, camera_class = resolve_class(cache, camera)
    pods = tuple(pod for pod in cache.list(POD, namespace, {names.CAMERA_LABEL: name}) if _ours(pod))
    taken = {_name(pod) for pod in pods}
    services = cache.list(SERVICE, namespace, {names.CAMERA_LABEL: name})
    nodes = (cache.get(NODE, "", str((pod.get("spec") or {}).get("nodeName") or "")) for pod in pods)
    fresh = next(drawn for drawn in iter(suffix, None) if names.agent_pod(name, drawn) not in taken)
    return CameraFacts(
        namespace=namespace,
        name=name,
        camera=camera,
        class_name=class_name,
        camera_class=camera_class,
        pods=pods,
        service=_ours(cache.get(SERVICE, namespace, names.agent_service(name))),
        links={_name(pod): links(namespace, _name(pod)) for pod in pods},
        options=options,
        fresh_suffix=fresh,
        nodes={_name(node): node for node in nodes if node},
        exposing=tuple(found for found in services if _ours(found) and _label(found, names.AGENT_LABEL)),
    )


def session_facts(
    cache: Cache, links: LinkLookup, key: tuple[str, str], camera_name: str, public_url: str, revoked: bool
) -> SessionFacts:
    """Everything about the session `key` (namespace, name) of `camera_name`."""
    namespace, name = key
    camera = cache.get(CAMERA, namespace, camera_name)
    pods = cache.list(POD, namespace, {names.CAMERA_LABEL: camera_name}) if camera_name else []
    return SessionFacts(
        namespace=namespace,
        name=name,
        session=cache.get(STREAM_SESSION, namespace, name),
        revoked=revoked,
        camera=camera,
        camera_class=resolve_class(cache, camera)[1],
        agents=tuple(AgentView(pod, links(namespace, _name(pod))) for pod in pods),
        public_url=public_url,
    )


def class_facts(cache: Cache, name: str) -> ClassFacts | None:
    """A class and its cameras; None when there is no such class."""
    camera_class = cache.get(CAMERA_CLASS, "", name)
    if camera_class is None:
        return None
    default = resolve_class(cache, None)[0]
    used = sum((camera.get("spec") or {}).get("className", default) == name for camera in cache.list(CAMERA))
    return ClassFacts(camera_class, used)


def _ours(obj: Obj | None) -> Obj | None:
    """The object if the operator made it; some caches hold everybody's objects."""
    labels = (obj or {"metadata": {}})["metadata"].get("labels") or {}
    return obj if labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY else None


def _label(obj: Obj, label: str) -> str:
    return str((obj["metadata"].get("labels") or {}).get(label, ""))


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])
