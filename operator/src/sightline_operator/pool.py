"""The spare agents of all classes: kept in number, offered to cameras, handed over. The border between the pure parts
(`spares`, `sparepods`) and `core`, which calls it in the passes of classes and cameras.

The only place where Secrets with cameras' credentials are read, one by one and by name, in the namespaces that are
switched on for spares (`Options.spare_namespaces`) and nowhere else. They go sealed to the agent and are not kept.
"""

import base64
import binascii
import logging
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import Cluster, EventType, Obj, Preconditions
from sightline_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, SECRET
from sightline_model import names
from sightline_model.agent import SourceCredentials
from sightline_model.cameraclass import CameraClassSpec
from sightline_operator import accept, generations, network, pods, sparepods, spares
from sightline_operator.agents import AgentLinks
from sightline_operator.build import Plan
from sightline_operator.clock import Clock, after, soonest
from sightline_operator.decide import Push, Takeover
from sightline_operator.errors import AgentCallError, OperatorError
from sightline_operator.facts import CameraFacts, LinkState, Options, SpareStanding, resolve_class
from sightline_operator.lessor import Lessor
from sightline_operator.spares import SpareDecision, SpareFacts

log = logging.getLogger(__name__)

WITHOUT_SECONDS = 60.0
"""A camera whose credentials could not be read starts pods of its own for so long."""
REFUSED_SECONDS = 30.0
"""After a refusal, such as a full quota, making spares is tried again."""
_MAX_WITHOUT = 4096
"""Cameras that are remembered for that; the oldest is forgotten."""
_KEYS = ("username", "password", "token")


class CredentialsError(OperatorError):
    """A Secret with credentials is not there, or may not be read; the message names it."""


@dataclass(frozen=True, slots=True)
class _Scene:
    """One class in one namespace."""

    namespace: str
    camera_class: Obj
    spec: CameraClassSpec
    wanted: int


class Pool:
    """Spares, for one operator."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        links: AgentLinks,
        lessor: Lessor,
        options: Options,
        clock: Clock,
        *,
        suffix: Callable[[], str],
        changed: Callable[[Key], None],
    ) -> None:
        """`changed` is told of every class whose spares have to be looked at."""
        self._cluster = cluster
        self._cache = cache
        self._links = links
        self._lessor = lessor
        self._options = options
        self._clock = clock
        self._suffix = suffix
        self._changed = changed
        self._waiting: dict[str, set[tuple[str, str]]] = {}
        self._handed: set[str] = set()
        self._spoiled: dict[str, str] = {}
        self._without: dict[tuple[str, str], datetime] = {}
        self._unanswered: dict[tuple[str, str], Obj] = {}
        """By class and namespace, a spare that may have been made: tried again, it is no second one."""
        self.outcomes: Tally[str] = Tally()
        """Adoptions that were tried, by what became of them."""
        cache.subscribe(self._observe)

    # Cameras

    def with_spare(self, facts: CameraFacts) -> CameraFacts:
        """The facts, with a spare that the camera may adopt if there is one. Nothing may be awaited until `take`."""
        if not self._waiting.get(facts.class_name) or facts.namespace not in self._options.spare_namespaces:
            return facts
        if self._is_without(facts) or any(generations.answers(pod, facts.links) for pod in facts.pods):
            return facts
        _, spec = accept.camera_class(facts.camera_class or {})
        if spec is None or facts.camera_class is None or pods.deleting(facts.camera_class):
            return facts
        scene = _Scene(facts.namespace, facts.camera_class, spec, spec.warm_agents)
        there = self._facts(scene)
        untried = [spare for spare in there.spares if not self._spoiled_as_it_is(spare)]
        spare = spares.offer(replace(there, spares=untried))
        if spare is None:
            return facts
        node = self._cache.get(NODE, "", pods.node(spare))
        known = {pods.node(spare): node} if node else {}
        return replace(facts, spare=spare, nodes={**facts.nodes, **known})

    async def take(self, camera: tuple[str, str], takeover: Takeover) -> bool:
        """Make the spare the camera's and tell it the config; False where it cannot be had."""
        namespace, push = camera[0], takeover.push
        uid = str(takeover.patch["metadata"]["uid"])
        self._handed.add(uid)
        try:
            credentials = await self._read(namespace, push.credentials or {})
            pod = await self._cluster.merge_patch(POD, namespace, push.pod, takeover.patch)
        except CredentialsError as error:
            log.info("camera %s/%s adopts no spare agent: %s", *camera, error)
            self._remember(camera)
            self.outcomes["no credentials"] += 1
            return False
        except (ConflictError, NotFoundError, InvalidError, ForbiddenError) as error:
            # It was changed or deleted meanwhile; to cameras it comes into question again as another version.
            log.info("camera %s/%s cannot have spare agent %s: %s", *camera, push.pod, error)
            # Only as long as it is taken for one that waits: to whom it went, or that it is gone, may be known by now.
            known = self._cache.get(POD, namespace, push.pod)
            if known is not None and sparepods.waits(known) and pods.uid_of(known) == uid:
                self._spoiled[uid] = str(takeover.patch["metadata"]["resourceVersion"])
            self.outcomes["lost"] += 1
            return False
        finally:
            self._handed.discard(uid)
        self._spoiled.pop(uid, None)
        self.outcomes["adopted"] += 1
        log.info("camera %s/%s has adopted spare agent %s", *camera, push.pod)
        self._cache.observe(POD, EventType.MODIFIED, pod)
        await self._links.put_config(namespace, push.pod, push.config, credentials)
        return True

    async def tell(self, namespace: str, push: Push) -> None:
        """Hand a config to a running agent. One without credentials says itself what it lacks; one that has been told
        some keeps those until they can be read again."""
        if push.credentials is None:
            await self._links.put_config(namespace, push.pod, push.config)
            return
        try:
            credentials = await self._read(namespace, push.credentials)
        except CredentialsError as error:
            if self._serves(namespace, push):
                raise AgentCallError(f"pod {push.pod} is not told its config without credentials: {error}") from error
            log.warning("pod %s/%s is told its config without credentials: %s", namespace, push.pod, error)
            credentials = {}
        await self._links.put_config(namespace, push.pod, push.config, credentials)

    # Classes

    async def tend(self, camera_class: Obj) -> SpareStanding:
        """Make and end spares of the class, in all namespaces; how they stand then."""
        _, spec = accept.camera_class(camera_class)
        if spec is None:
            return SpareStanding()  # what runs is left alone
        name = pods.name_of(camera_class)
        inhabited = set() if pods.deleting(camera_class) or not spec.warm_agents else set(self._inhabited(name))
        wanted, ready, again, problem, trouble = 0, 0, None, "", ""
        for namespace in sorted(inhabited | {place[0] for place in self._waiting.get(name, ())}):
            number = spec.warm_agents if namespace in inhabited else 0
            scene = _Scene(namespace, camera_class, spec, number)
            decision = spares.decide(self._facts(scene), self._clock())
            wanted, ready = wanted + number, ready + decision.ready
            again, trouble = soonest(again, decision.look_again), trouble or decision.trouble
            for spare in decision.end:
                await self._end(spare)
            refusal = await self._make(scene, decision)
            if refusal:
                problem, again = refusal, soonest(again, REFUSED_SECONDS)
        return SpareStanding(wanted, ready, bool(self._options.spare_namespaces), problem, trouble, again)

    def states(self) -> dict[str, int]:
        """How many spares could be adopted now, and how many are on their way."""
        waiting = [place for places in self._waiting.values() for place in places]
        ready = sum(spares.answers(spare, self._links_of([spare])) for spare in self._pods(waiting))
        return {"ready": ready, "starting": len(waiting) - ready}

    # Parts

    def _observe(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        """The cache's subscriber: who waits, class by class."""
        if key.kind == CAMERA_CLASS and now is None:
            for place in [place for place in self._unanswered if place[0] == key.name]:
                del self._unanswered[place]
        if key.kind != POD or not (sparepods.waits(before) or sparepods.waits(now)):
            return
        for obj in (before, now):
            if obj is None:
                continue
            places = self._waiting.setdefault(sparepods.class_of(obj), set())
            if obj is now and sparepods.waits(now):
                places.add((key.namespace, key.name))
            else:
                places.discard((key.namespace, key.name))
            if not places:
                del self._waiting[sparepods.class_of(obj)]
            self._changed(Key(CAMERA_CLASS, "", sparepods.class_of(obj)))
        if before is not None and not (now and sparepods.waits(now) and pods.uid_of(now) == pods.uid_of(before)):
            self._spoiled.pop(pods.uid_of(before), None)

    def _inhabited(self, class_name: str) -> Iterable[str]:
        """Namespaces that are switched on and have cameras of the class: elsewhere nobody would come for a spare."""
        default = resolve_class(self._cache, None)[0]
        for namespace in self._options.spare_namespaces:
            cameras = self._cache.list(CAMERA, namespace)
            if any(((camera.get("spec") or {}).get("className") or default) == class_name for camera in cameras):
                yield namespace

    def _facts(self, scene: _Scene) -> SpareFacts:
        name = pods.name_of(scene.camera_class)
        here = [place for place in self._waiting.get(name, ()) if place[0] == scene.namespace]
        found = [spare for spare in self._pods(here) if pods.uid_of(spare) not in self._handed]
        located = ((pods.node(spare), self._cache.get(NODE, "", pods.node(spare))) for spare in found)
        plan = sparepods.spare_plan(scene.namespace, name, scene.spec, self._options)
        return SpareFacts(
            wanted=scene.wanted,
            hash=sparepods.wanted_hash(plan),
            class_uid=pods.uid_of(scene.camera_class),
            spares=found,
            links=self._links_of(found),
            nodes={node: obj for node, obj in located if obj},
            within=network.port_range(scene.spec.network),
        )

    def _spoiled_as_it_is(self, spare: Obj) -> bool:
        return self._spoiled.get(pods.uid_of(spare)) == str(spare["metadata"].get("resourceVersion"))

    def _pods(self, places: Iterable[tuple[str, str]]) -> list[Obj]:
        found = (self._cache.get(POD, *place) for place in sorted(places))
        return [pod for pod in found if pod]

    def _links_of(self, found: Iterable[Obj]) -> Mapping[str, LinkState]:
        return {pods.name_of(pod): self._links.state(pod["metadata"]["namespace"], pods.name_of(pod)) for pod in found}

    async def _make(self, scene: _Scene, decision: SpareDecision) -> str:
        """Make what is missing; the answer is empty, or why the API server refuses it."""
        name = pods.name_of(scene.camera_class)
        plan = sparepods.spare_plan(scene.namespace, name, scene.spec, self._options)
        before = self._unanswered.pop((name, scene.namespace), None)
        for _ in range(decision.make):
            again = before if before and self._is_as_wanted(before, scene, plan) else None
            spare, before = again or self._fresh(scene, plan, decision.attempt), None
            if spare is None:
                return f"namespace {scene.namespace}: no port of network.portRange is free."
            self._lessor.lease((spare,))
            try:
                made = await self._create(spare)
            except (ForbiddenError, InvalidError, NotFoundError) as error:
                self._lessor.refused(spare, str(error))
                said = network.explained(str(error), scene.spec.network.mode)
                return f"namespace {scene.namespace}: {said.replace(pods.name_of(spare), 'spare agent')}"
            except UnavailableError:
                self._unanswered[name, scene.namespace] = spare
                raise
            self._cache.observe(POD, EventType.ADDED, made)
        return ""

    def _fresh(self, scene: _Scene, plan: Plan, attempt: int) -> Obj | None:
        """A spare under a new name; None where it needs a port and none is free."""
        port = self._lessor.free(scene.spec.network)
        if port is None and network.port_range(scene.spec.network) is not None:
            return None
        fresh = names.spare_pod("".join(self._suffix() for _ in range(3)))
        return sparepods.pod(plan, pods.uid_of(scene.camera_class), fresh, attempt, port or 0)

    def _is_as_wanted(self, spare: Obj, scene: _Scene, plan: Plan) -> bool:
        """Whether a spare that was to be made before, and that nobody has seen, is what would be made now."""
        name, port = pods.name_of(spare), network.leased(spare)
        alike = pods.desired_hash(spare) == sparepods.wanted_hash(plan)
        own = pods.controller_uid(spare) == pods.uid_of(scene.camera_class)
        unseen = self._cache.get(POD, scene.namespace, name) is None
        return alike and own and unseen and self._lessor.may_lease(scene.spec.network, scene.namespace, name, port)

    async def _create(self, spare: Obj) -> Obj:
        """The spare as it is in the cluster. Not applied: it may be there already, and a camera's by now."""
        try:
            return await self._cluster.create(spare)
        except AlreadyExistsError:
            return await self._cluster.get(POD, str(spare["metadata"]["namespace"]), pods.name_of(spare))

    async def _end(self, spare: Obj) -> None:
        """Delete it if it is still as it was seen: a camera may just have adopted it."""
        namespace, name = str(spare["metadata"]["namespace"]), pods.name_of(spare)
        seen = Preconditions(pods.uid_of(spare), str(spare["metadata"]["resourceVersion"]))
        try:
            await self._cluster.delete(POD, namespace, name, preconditions=seen)
            log.info("ended spare agent %s/%s", namespace, name)
            self._cache.observe(POD, EventType.MODIFIED, await self._cluster.get(POD, namespace, name))
        except NotFoundError:
            self._cache.observe(POD, EventType.DELETED, spare)
        except ConflictError:
            log.debug("spare agent %s/%s has changed and is looked at again", namespace, name)
            self._changed(Key(CAMERA_CLASS, "", sparepods.class_of(spare)))

    async def _read(self, namespace: str, secrets: Mapping[str, str]) -> dict[str, SourceCredentials]:
        """The credentials in these Secrets, by the same keys."""
        if secrets and namespace not in self._options.spare_namespaces:
            raise CredentialsError(f"namespace {namespace} is not switched on for spare agents")
        found = {}
        for profile, name in secrets.items():
            try:
                secret = await self._cluster.get(SECRET, namespace, name)
            except (NotFoundError, ForbiddenError) as error:
                why = "is not there" if isinstance(error, NotFoundError) else "may not be read"
                raise CredentialsError(f"Secret {name} {why}") from error
            found[profile] = _credentials(secret)
        return found

    def _serves(self, namespace: str, push: Push) -> bool:
        """Whether the agent says that it has been told this camera."""
        said = self._links.state(namespace, push.pod).report
        return said is not None and bool(said.revision) and said.camera == push.config.camera

    def _is_without(self, facts: CameraFacts) -> bool:
        since = self._without.get((facts.namespace, facts.name))
        return since is not None and after(since, WITHOUT_SECONDS) > self._clock()

    def _remember(self, camera: tuple[str, str]) -> None:
        self._without.pop(camera, None)
        self._without[camera] = self._clock()
        if len(self._without) > _MAX_WITHOUT:
            self._without.pop(next(iter(self._without)))


def _credentials(secret: Obj) -> SourceCredentials:
    """What agents read from a mounted Secret: values without the newline that editors leave."""
    data = secret.get("data") or {}
    return SourceCredentials(**{key: _text(str(data[key])) for key in _KEYS if key in data})


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode("utf-8", "replace").rstrip("\r\n")
    except binascii.Error:
        return ""
