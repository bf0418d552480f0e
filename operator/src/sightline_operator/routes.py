"""Which keys have to be looked at when an object changed: the operator's whole wiring, in one table of functions.

Called by the cache for every change, by links for news from agents. Nothing here decides anything.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, POD_DISRUPTION_BUDGET, SERVICE, STREAM_SESSION, Kind
from sightline_model import names
from sightline_model.agent import CameraIdentity, spare_identity
from sightline_model.reasons import AgentReason, ConditionStatus, ConditionType
from sightline_model.session import SessionPhase
from sightline_operator import budgets, camerastatus, network, nodes, pods, sparepods
from sightline_operator.agents import AgentLinks, AgentTarget
from sightline_operator.audiences import Audiences
from sightline_operator.clock import Clock
from sightline_operator.facts import resolve_class
from sightline_operator.heard import News
from sightline_operator.sessions import answered, camera_of
from sightline_operator.workqueue import Lane, WorkQueue

CLASS_DELAY_SECONDS = 1.0
"""A class's count of cameras is written once for a burst of changes."""
BUDGET_DELAY_SECONDS = 1.0
"""Likewise the look at a namespace's budget."""
REVOKED_KEPT = 4096
"""Deleted sessions that are remembered until their agents have heard of it; the oldest is dropped."""


class Routes:
    """Puts keys on the queue, keeps links to pods, and remembers which sessions belong to which camera."""

    def __init__(self, cache: Cache, queue: WorkQueue[Key], links: AgentLinks, clock: Clock) -> None:
        self._cache = cache
        self._queue = queue
        self._links = links
        self._clock = clock
        self._sessions: dict[tuple[str, str], set[str]] = {}
        self._pods_on: dict[str, set[tuple[str, str]]] = {}
        """By node: a start would look through all pods for each of a thousand nodes."""
        self._revoked: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._expected: dict[Key, Obj] = {}
        self.audiences = Audiences(self._more_or_fewer, lambda camera: queue.add(Key(CAMERA, *camera)))
        self._by_kind: dict[Kind, Callable[[Key, Obj | None, Obj | None], None]] = {
            CAMERA: self._camera,
            CAMERA_CLASS: self._class,
            STREAM_SESSION: self._session,
            POD: self._pod,
            SERVICE: self._child,
            NODE: self._node,
            POD_DISRUPTION_BUDGET: self._budget,
        }

    def changed(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """The cache's subscriber."""
        route = self._by_kind.get(key.kind)
        if route is not None:
            route(key, before, now)

    def heard(self, target: AgentTarget, news: News) -> None:
        """The links' listener."""
        camera = target.camera
        if target.spare_of:
            self._queue.add_after(Key(CAMERA_CLASS, "", target.spare_of), CLASS_DELAY_SECONDS)
            return
        if news.camera:
            self._queue.add(Key(CAMERA, camera.namespace, camera.name))
        elif news.viewers:
            # An agent that has a successor goes as soon as its last viewer has moved.
            if len(self._agents((camera.namespace, camera.name))) == 1:
                self.audiences.changed((camera.namespace, camera.name))
            else:
                self._queue.add(Key(CAMERA, camera.namespace, camera.name))
        told = set(news.sessions)
        if news.all_sessions:
            told |= self._sessions.get((camera.namespace, camera.name), set())
            # Sessions that were deleted while nothing could be told to their agent.
            known = self._links.state(target.namespace, target.pod).sessions
            told |= {session for session in known if (camera.namespace, session) in self._revoked}
        for session in told:
            self._queue.add(Key(STREAM_SESSION, camera.namespace, session))

    @contextmanager
    def expecting(self, key: Key, status: Obj) -> Iterator[None]:
        """While a session's status is written by us, nobody has to look at the session because of that."""
        self._expected[key] = status
        try:
            yield
        finally:
            del self._expected[key]

    def lane(self, key: Key) -> Lane:
        """How urgent a key is: first viewers who have no answer yet, then sessions, then what somebody has just made or
        edited, then everything else: an operator that has just begun looks at everything once."""
        place = (key.namespace, key.name)
        if key.kind == STREAM_SESSION:
            session = self._cache.get(STREAM_SESSION, *place)
            return Lane.NOW if session and not answered(session) else Lane.SOON
        waited_for = key.kind == CAMERA and place in self._sessions and not self._answers(place) and self.wanted(place)
        if waited_for:
            return Lane.NOW
        return Lane.EDITED if key.kind in (CAMERA, CAMERA_CLASS) and self._edited(key) else Lane.ROUTINE

    def all_revoked(self) -> list[Key]:
        """The sessions that somebody deleted a while ago, perhaps while nobody was there to hang up."""
        return [Key(STREAM_SESSION, *place) for place in self._revoked]

    def revoked(self, namespace: str, name: str) -> str:
        """The camera of a session that somebody deleted a while ago; empty if nobody did."""
        return self._revoked.get((namespace, name), ("", None))[0]

    def wanted(self, camera: tuple[str, str]) -> bool:
        """Whether the camera (namespace, name) has sessions that have not ended."""
        known = (self._cache.get(STREAM_SESSION, camera[0], name) for name in self._sessions.get(camera, ()))
        return any(session and (session.get("status") or {}).get("phase") != SessionPhase.ENDED for session in known)

    def _edited(self, key: Key) -> bool:
        """Whether its status does not speak of the spec as it is now."""
        found = self._cache.get(key.kind, key.namespace, key.name)
        status = (found or {}).get("status") or {}
        return found is not None and found["metadata"].get("generation") != status.get("observedGeneration")

    def _rests(self, camera: tuple[str, str]) -> bool:
        """Whether the camera's status says that a viewer has to wake it."""
        return any(item.get("reason") == AgentReason.SCALED_TO_ZERO for item in self._conditions(camera))

    def _answers(self, camera: tuple[str, str]) -> bool:
        """Whether the camera's status says where its agent is."""
        said = (
            item.get("status") for item in self._conditions(camera) if item.get("type") == ConditionType.AGENT_READY
        )
        return ConditionStatus.TRUE in said

    def _agents(self, camera: tuple[str, str]) -> list[Obj]:
        return self._cache.list(POD, camera[0], {names.CAMERA_LABEL: camera[1]})

    def _more_or_fewer(self, camera: tuple[str, str]) -> bool:
        """Whether another number of viewers watches than the camera's status says."""
        links = (self._links.state(camera[0], pods.name_of(pod)) for pod in self._agents(camera))
        return bool(self._status(camera).get("viewers", 0) != sum(map(camerastatus.viewers_of, links)))

    def _conditions(self, camera: tuple[str, str]) -> list[Obj]:
        return self._status(camera).get("conditions") or []

    def _status(self, camera: tuple[str, str]) -> Obj:
        return (self._cache.get(CAMERA, *camera) or {}).get("status") or {}

    def _camera(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        self._queue.add(key)
        if _same(before, now):
            return
        if before is None or now is None:
            self._queue.add_after(Key(POD_DISRUPTION_BUDGET, key.namespace, budgets.NAME), BUDGET_DELAY_SECONDS)
        for obj in (before, now):
            class_name = resolve_class(self._cache, obj)[0] if obj else ""
            if class_name:
                self._queue.add_after(Key(CAMERA_CLASS, "", class_name), CLASS_DELAY_SECONDS)
        self._sessions_of(key.namespace, key.name)

    def _class(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        if now is not None:
            # Where only its status differs, that was our own writing most often.
            self._queue.add_after(key, CLASS_DELAY_SECONDS if _same(before, now) else 0.0)
        if _same(before, now) and _is_default(before) == _is_default(now):
            return
        for camera in self._cache.list(CAMERA):
            wanted = (camera.get("spec") or {}).get("className")
            if wanted in (None, "", key.name):
                self._queue.add(_key(CAMERA, camera))
        for other in self._cache.list(CAMERA_CLASS):
            self._queue.add_after(_key(CAMERA_CLASS, other), CLASS_DELAY_SECONDS)

    def _session(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        expected = self._expected.get(key)
        if expected is not None and now is not None and _same(before, now) and now.get("status") == expected:
            return
        self._queue.add(key)
        obj = now or before
        if obj is None:
            return
        owner = (key.namespace, camera_of(obj))
        if now is not None:
            self._sessions.setdefault(owner, set()).add(key.name)
            if before is None and self._rests(owner):
                self._queue.add(Key(CAMERA, *owner))
            return
        known = self._sessions.get(owner, set())
        known.discard(key.name)
        if not known:
            self._sessions.pop(owner, None)
        self._revoked[key.namespace, key.name] = (owner[1], self._clock())
        if len(self._revoked) > REVOKED_KEPT:
            self._revoked.pop(next(iter(self._revoked)))

    def _pod(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        self._child(key, before, now)
        self._place(key, pods.node(before) if before else "", pods.node(now) if now else "")
        target = target_of(now) if now is not None and not pods.failed(now) else None
        if target is None:
            self._links.drop(key.namespace, key.name)
        else:
            became_ready = pods.kubelet_ready(now or {}) and not (before and pods.kubelet_ready(before))
            self._links.follow(target, hurry=became_ready)
        if _vital(before) != _vital(now):
            self._sessions_of(key.namespace, _camera_label(now or before))

    def _child(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        camera = _camera_label(now or before)
        if camera:
            self._queue.add(Key(CAMERA, key.namespace, camera))

    def _budget(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        self._queue.add(key)

    def _node(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """A node that is lost, cordoned, back or moved concerns the cameras whose agents are there."""
        if _vital_of_node(before) == _vital_of_node(now):
            return
        found = (self._cache.get(POD, *place) for place in sorted(self._pods_on.get(key.name, ())))
        for pod in filter(None, found):
            if sparepods.waits(pod):
                self._queue.add_after(Key(CAMERA_CLASS, "", sparepods.class_of(pod)), CLASS_DELAY_SECONDS)
            else:
                self._queue.add(Key(CAMERA, str(pod["metadata"]["namespace"]), _camera_label(pod)))

    def _place(self, key: Key, before: str, now: str) -> None:
        """Note which node a pod is on."""
        if before == now:
            return
        if now:
            self._pods_on.setdefault(now, set()).add((key.namespace, key.name))
        known = self._pods_on.get(before, set())
        known.discard((key.namespace, key.name))
        if not known:
            self._pods_on.pop(before, None)

    def _sessions_of(self, namespace: str, camera: str) -> None:
        for session in self._sessions.get((namespace, camera), ()):
            self._queue.add(Key(STREAM_SESSION, namespace, session))


def target_of(pod: Obj) -> AgentTarget | None:
    """Where the agent of a pod listens; None while it has no address, or when the pod is neither a camera's nor a
    spare."""
    address, camera, uid = pods.address(pod), _camera_label(pod), pods.controller_uid(pod)
    waits = sparepods.waits(pod)
    if not (address and uid and (camera or waits)):
        return None
    namespace, name = str(pod["metadata"]["namespace"]), pods.name_of(pod)
    identity = CameraIdentity(namespace=namespace, name=camera, uid=uid)
    return AgentTarget(
        namespace,
        name,
        pods.uid_of(pod),
        spare_identity(namespace, name) if waits else identity,
        address,
        network.listens(pod, "control"),
        spare_of=sparepods.class_of(pod) if waits else "",
        began_as_spare=sparepods.began_as_spare(pod),
    )


def _vital(pod: Obj | None) -> tuple[object, ...]:
    """What makes sessions look again: is the pod there, and does the same container still run?"""
    if pod is None:
        return ()
    return pods.deleting(pod), pods.failed(pod), pods.running_since(pod), pods.node(pod)


def _vital_of_node(node: Obj | None) -> tuple[object, ...]:
    """May agents stay there, and where do viewers find it?"""
    if node is None:
        return ()
    return nodes.lost(node), nodes.cordoned(node), (node.get("status") or {}).get("addresses")


def _same(before: Obj | None, now: Obj | None) -> bool:
    """Whether only the status differs."""
    if before is None or now is None:
        return False
    return before.get("spec") == now.get("spec") and pods.deleting(before) == pods.deleting(now)


def _is_default(obj: Obj | None) -> bool:
    return obj is not None and pods.annotation(obj, names.DEFAULT_CLASS_ANNOTATION) == "true"


def _camera_label(obj: Obj | None) -> str:
    return str(((obj or {}).get("metadata", {}).get("labels") or {}).get(names.CAMERA_LABEL, ""))


def _key(kind: Kind, obj: Obj) -> Key:
    metadata = obj["metadata"]
    return Key(kind, str(metadata.get("namespace") or ""), str(metadata["name"]))
