"""A small world on virtual time: in-memory cluster, operator, a kubelet that writes statuses, agents that only talk.

The operator reaches the cluster through `Recording`, which counts its mutating calls.
"""

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from string import ascii_lowercase
from typing import Any

from sightline_kube.cache import Cache, Feed
from sightline_kube.cluster import Obj
from sightline_kube.errors import ClusterError, ConflictError, NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, STREAM_SESSION, Kind, kind_of
from sightline_kube.memory import MemoryCluster
from sightline_model import names
from sightline_model.agent import (
    CONFIG_FILE,
    SPARE_UID,
    SPARE_VARIABLE,
    AgentConfig,
    AgentReport,
    SessionEvent,
    SessionReport,
    SourceCredentials,
    SourceEvent,
    SourceReport,
    SpareStart,
    spare_identity,
)
from sightline_model.base import API_VERSION
from sightline_model.camera import Source
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_operator.agents import AgentTarget, Credentials, Listener
from sightline_operator.core import KINDS, Operator, at_once
from sightline_operator.errors import AgentCallError
from sightline_operator.facts import LinkState, Options
from sightline_operator.heard import Heard, News
from sightline_operator.probe import Prober
from tests.operator.virtualtime import now, until

MUTATING = frozenset({"create", "apply", "replace", "merge_patch", "replace_status", "delete"})
READING = frozenset({"get", "list"})
URL = "rtsp://camera.example:554/stream1"
OPTIONS = Options(agent_image="agent:1", token_keys=({"kty": "OKP", "kid": "k1"},))


class Recording:
    """A cluster that notes who is written to, and can be made to fail."""

    def __init__(self, inner: MemoryCluster) -> None:
        self._inner = inner
        self.calls: list[tuple[str, str, str]] = []
        self.fail: Callable[[str, Kind, str], ClusterError | None] = lambda verb, kind, name: None
        self.lose: Callable[[str, Kind, str], ClusterError | None] = lambda verb, kind, name: None
        """Likewise, after the call has come about: only its answer is lost."""
        self.reads = False
        """Whether reads are noted too."""
        self.freeze_after: int | None = None
        """After so many calls nobody gets an answer any more, as if the process were dead."""
        self.frozen = asyncio.Event()

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._inner, verb)
        if verb not in MUTATING and not (self.reads and verb in READING):
            return method

        async def recorded(*args: Any, **kwargs: Any) -> Any:
            kind, name = _what(args)
            if self.frozen.is_set():
                await asyncio.Event().wait()
            self.calls.append((verb, kind.kind, name))
            error = self.fail(verb, kind, name)
            if error is not None:
                raise error
            if self.freeze_after is not None and len(self.calls) >= self.freeze_after:
                self.frozen.set()
                await method(*args, **kwargs)
                await asyncio.Event().wait()
            answer = await method(*args, **kwargs)
            error = self.lose(verb, kind, name)
            if error is not None:
                raise error
            return answer

        return recorded

    def count(self, verb: str, kind: str) -> int:
        return sum(call[:2] == (verb, kind) for call in self.calls)


def _what(args: tuple[Any, ...]) -> tuple[Kind, str]:
    if isinstance(args[0], Kind):
        return args[0], str(args[2]) if len(args) > 2 else ""
    return kind_of(args[0]), str(args[0]["metadata"].get("name", ""))


@dataclass
class FakeAgent:
    """An agent process in one pod."""

    pod: str
    config: AgentConfig
    instance: str
    spare: bool = False
    """Whether it began without a camera."""
    credentials: dict[str, SourceCredentials] = field(default_factory=dict)
    tell: Callable[[Any], None] = lambda event: None
    source: SourceReport = field(default_factory=SourceReport)
    sessions: dict[str, SessionReport] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    ended: list[tuple[str, EndReason]] = field(default_factory=list)
    started_at: datetime = field(default_factory=now)

    def report(self) -> AgentReport:
        return AgentReport(
            camera=self.config.camera,
            version="test",
            instance=self.instance,
            revision=self.config.revision,
            started_at=self.started_at,
            sealing_key="a key" if self.spare else "",
            source=self.source,
            sessions=list(self.sessions.values()),
        )

    def set_source(self, reason: SourceReason, verified: bool = True, **more: Any) -> None:
        self.source = SourceReport(reason=reason, verified=verified, **more)
        self.tell(SourceEvent(source=self.source))

    def set_session(self, sid: str, phase: SessionPhase, end: EndReason | None = None) -> None:
        before = self.sessions.get(sid)
        later = phase in (SessionPhase.STREAMING, SessionPhase.ENDED)
        self.sessions[sid] = SessionReport(
            id=sid,
            user="alice",
            phase=phase,
            end_reason=end,
            requested_at=before.requested_at if before else now(),
            connected_at=now() if later else None,
            ended_at=now() if phase is SessionPhase.ENDED else None,
        )
        self.tell(SessionEvent(session=self.sessions[sid]))


class FakeLinks:
    """AgentLinks without a network: agents are found by the address of their pod."""

    def __init__(self) -> None:
        self.agents: dict[str, FakeAgent] = {}
        self.deaf = False
        self._targets: dict[tuple[str, str], AgentTarget] = {}
        self._heard: dict[tuple[str, str], Heard] = {}
        self._listeners: list[Listener] = []

    def reset(self) -> None:
        """Another operator begins: agents go on, nobody listens to them."""
        self._targets.clear()
        self._heard.clear()
        self._listeners.clear()

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def follow(self, target: AgentTarget, *, hurry: bool = False) -> None:
        before = self._targets.get(target.key)
        if before is not None and before.spare_of and replace(before, camera=target.camera, spare_of="") == target:
            self._targets[target.key] = target
            self._heard[target.key].adopted(now())
        elif before != target:
            self._targets[target.key] = target
            self._heard[target.key] = Heard(now())
        self.connect(target.address)

    def drop(self, namespace: str, pod: str) -> None:
        self._targets.pop((namespace, pod), None)
        self._heard.pop((namespace, pod), None)

    def state(self, namespace: str, pod: str) -> LinkState:
        heard = self._heard.get((namespace, pod))
        return heard.state if heard else LinkState()

    def connected(self) -> tuple[int, int]:
        return sum(heard.state.connected for heard in self._heard.values()), len(self._heard)

    async def put_config(
        self, namespace: str, pod: str, config: AgentConfig, credentials: Credentials | None = None
    ) -> None:
        target = self._targets.get((namespace, pod))
        agent = self.agents.get(target.address) if target else None
        if target is None or agent is None or self.deaf:
            raise AgentCallError("no answer")
        heard = self._heard[target.key]
        heard.pushed(config.revision, now())
        if agent.config.camera.uid == SPARE_UID:
            agent.source = SourceReport(reason=SourceReason.IDLE, verified=True)  # it has looked at once
        elif config.source != agent.config.source:
            agent.source = SourceReport()
        assert agent.spare is (credentials is not None), "spares are told credentials, and nobody else"
        assert agent.config.camera in (config.camera, spare_identity(namespace, pod)), "it serves another camera"
        agent.config = config
        agent.credentials = dict(credentials or {})
        agent.configs.append(config.revision)
        self._tell(target, heard.snapshot(agent.report(), now()))

    async def end_session(self, namespace: str, pod: str, session: str, reason: EndReason) -> None:
        target = self._targets.get((namespace, pod))
        agent = self.agents.get(target.address) if target else None
        if agent is None or self.deaf:
            raise AgentCallError("no answer")
        agent.ended.append((session, reason))
        agent.set_session(session, SessionPhase.ENDED, reason)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def started(self, address: str, agent: FakeAgent) -> None:
        """A process listens at that address."""
        self.agents[address] = agent
        self.connect(address)

    def died(self, address: str) -> None:
        """It listens no more."""
        self.agents.pop(address, None)
        self.disconnect(address)

    def connect(self, address: str) -> None:
        agent = self.agents.get(address)
        for target in list(self._targets.values()):
            heard = self._heard[target.key]
            if target.address == address and agent is not None and not heard.state.connected and not self.deaf:

                def tell(event: Any, key: tuple[str, str] = target.key, heard: Heard = heard) -> None:
                    if self._heard.get(key) is heard and heard.state.connected:
                        self._tell(self._targets[key], heard.take(event, now()))

                agent.tell = tell
                self._tell(target, heard.snapshot(agent.report(), now()))

    def disconnect(self, address: str, error: str = "connection refused") -> None:
        for target in list(self._targets.values()):
            if target.address == address:
                self._tell(target, self._heard[target.key].lost(error, now()))

    def refuse(self, address: str) -> None:
        """The agent there does not trust the operator's key."""
        self.agents.pop(address, None)
        self.disconnect(address, "HTTP 401")

    def _tell(self, target: AgentTarget, news: News) -> None:
        if news:
            for listener in self._listeners:
                listener(target, news)


class Kubelet:
    """Binds pods, writes their status, starts agents; restarts containers and removes deleted pods."""

    def __init__(self, cluster: MemoryCluster, links: FakeLinks) -> None:
        self._cluster = cluster
        self._links = links
        self._addresses = (f"10.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())
        self._instances = itertools.count(1)
        self._mounted: dict[str, AgentConfig] = {}
        self._waiting: dict[tuple[str, str], None] = {}
        self.hold = False
        """While True, new pods stay pending."""
        self.start_seconds = 0.5
        self.node = "node-1"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._mount_again())

    async def _mount_again(self) -> None:
        """Pods whose volumes were absent are tried again, as by the real one."""
        while True:
            await asyncio.sleep(2.0)
            for namespace, name in list(self._waiting):
                del self._waiting[namespace, name]
                try:
                    await self._launch(await self._cluster.get(POD, namespace, name))
                except (NotFoundError, ConflictError):
                    continue

    async def _watch(self) -> None:
        listing = await self._cluster.list(POD)
        async for event in self._cluster.watch(POD, resource_version=listing.resource_version):
            await self.pod(event.obj["metadata"]["namespace"], event.obj["metadata"]["name"])

    async def pod(self, namespace: str, name: str) -> None:
        try:
            pod = await self._cluster.get(POD, namespace, name)
            if pod["metadata"].get("deletionTimestamp"):
                self._links.died(_ip(pod))
                await self._cluster.delete(POD, namespace, name, grace_seconds=0)
            elif not pod["spec"].get("nodeName") and not self.hold:
                await self._start(pod)
        except (NotFoundError, ConflictError):
            return

    async def _start(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        bound = await self._cluster.merge_patch(
            POD, metadata["namespace"], metadata["name"], {"spec": {"nodeName": self.node}}
        )
        await asyncio.sleep(self.start_seconds)
        await self._launch(bound)

    async def _launch(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            self._mounted[metadata["name"]] = await self._config(pod)
        except NotFoundError:
            self._waiting[metadata["namespace"], metadata["name"]] = None
            await self.write(pod, waiting_status("", "ContainerCreating") | {"phase": "Pending"})
            return
        await self.write(pod, running_status(next(self._addresses)))
        await self.start_agent(metadata["namespace"], metadata["name"])

    async def _config(self, pod: Obj) -> AgentConfig:
        spare = spare_start(pod)
        if spare is not None:
            source = Source.model_validate({"testPattern": {}})
            return AgentConfig(camera=spare.identity, source=source, token_keys=spare.token_keys)
        name = pod["spec"]["volumes"][0]["secret"]["secretName"]
        secret = await self._cluster.get(SECRET, pod["metadata"]["namespace"], name)
        return AgentConfig.model_validate_json(base64.b64decode(secret["data"][CONFIG_FILE]))

    async def start_agent(self, namespace: str, name: str) -> None:
        """Start the process: it reads its mounted config and listens."""
        pod = await self._cluster.get(POD, namespace, name)
        try:
            config = self._mounted[name] = await self._config(pod)
        except NotFoundError:
            config = self._mounted[name]  # a mounted volume outlives its Secret
        agent = FakeAgent(name, config, f"instance-{next(self._instances)}", spare=spare_start(pod) is not None)
        agent.source = SourceReport(reason=SourceReason.IDLE, verified=True)
        self._links.started(_ip(pod), agent)

    async def write(self, pod: Obj, status: dict[str, Any]) -> None:
        while True:
            fresh = await self._cluster.get(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
            try:
                await self._cluster.replace_status({**fresh, "status": status})
            except ConflictError:
                continue
            return

    async def crash(self, namespace: str, name: str) -> None:
        """The process is killed, and the container started again."""
        pod = await self._cluster.get(POD, namespace, name)
        self._links.died(_ip(pod))
        await self.write(pod, waiting_status(_ip(pod), "ContainerCreating"))
        await asyncio.sleep(1.0)
        await self.write(pod, running_status(_ip(pod)))
        await self.start_agent(namespace, name)


def spare_start(pod: Obj) -> SpareStart | None:
    """What the process is given where it begins without a camera."""
    env = {variable["name"]: variable.get("value", "") for variable in pod["spec"]["containers"][0]["env"]}
    return SpareStart.model_validate_json(env[SPARE_VARIABLE]) if SPARE_VARIABLE in env else None


def running_status(ip: str) -> dict[str, Any]:
    started = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Running",
        "podIP": ip,
        "startTime": started,
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "agent", "ready": True, "state": {"running": {"startedAt": started}}}],
    }


def waiting_status(ip: str, reason: str) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "agent", "ready": False, "state": {"waiting": {"reason": reason}}}],
    }


def evicted_status() -> dict[str, Any]:
    moment = now().strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": moment}],
    }


def _ip(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


@dataclass
class World:
    """What a test may touch."""

    cluster: MemoryCluster
    recording: Recording
    links: FakeLinks
    kubelet: Kubelet
    prober: Prober | None = field(init=False, default=None)
    """For the next operator."""
    options: Options = OPTIONS
    """Likewise."""
    cache: Cache = field(init=False)
    operator: Operator = field(init=False)
    _letters: Iterator[str] = field(
        default_factory=lambda: ("".join(letter) for letter in itertools.product(ascii_lowercase, repeat=3))
    )
    _feed: Feed = field(init=False)
    _task: asyncio.Future[None] = field(init=False)

    def start(self, in_charge: Callable[[], Awaitable[None]] = at_once) -> None:
        """A new operator process: nothing is known but what the cluster says."""
        self.cache = Cache(KINDS)
        self.links.reset()
        self.operator = Operator(
            self.recording,
            self.cache,
            self.links,
            self.options,
            clock=now,
            suffix=lambda: next(self._letters),
            prober=self.prober,
        )
        self._feed = Feed(self.cluster, self.cache, KINDS)
        self._feed.start()
        self._task = asyncio.ensure_future(self.operator.run(in_charge))

    async def stop(self) -> None:
        """The operator dies."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._feed.stop()

    async def restart(self) -> None:
        await self.stop()
        self.start()

    def check(self) -> None:
        """The operator must still be running."""
        if self._task.done():
            self._task.result()
            raise AssertionError("the operator has ended")

    async def add_camera(self, name: str = "gate", **spec: Any) -> Obj:
        source = spec.pop("source", {"rtsp": {"url": URL}})
        return await self.cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "Camera",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"source": source, **spec},
            }
        )

    async def add_session(self, sid: str, camera: str = "gate", **spec: Any) -> Obj:
        return await self.cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "StreamSession",
                "metadata": {"name": sid, "namespace": "default"},
                "spec": {"cameraRef": {"name": camera}, "user": "alice", **spec},
            }
        )

    async def camera(self, name: str = "gate") -> Obj:
        return await self.cluster.get(CAMERA, "default", name)

    async def session(self, sid: str) -> Obj | None:
        try:
            return await self.cluster.get(STREAM_SESSION, "default", sid)
        except NotFoundError:
            return None

    async def phase(self, sid: str) -> str:
        session = await self.session(sid)
        return (session or {}).get("status", {}).get("phase", "") if session else "absent"

    async def pods(self, camera: str = "gate") -> list[Obj]:
        listing = await self.cluster.list(POD, "default", labels={names.CAMERA_LABEL: camera})
        return listing.items

    def agent(self) -> FakeAgent:
        """The only agent that runs."""
        (agent,) = self.links.agents.values()
        return agent

    async def condition(self, type_: str, name: str = "gate") -> tuple[str, str, str]:
        status = (await self.camera(name)).get("status") or {}
        for item in status.get("conditions") or []:
            if item["type"] == type_:
                return item["status"], item["reason"], item.get("message", "")
        return "", "", ""

    async def is_ready(self, name: str = "gate") -> bool:
        return (await self.condition("Ready", name))[0] == "True"

    async def ready(self, name: str = "gate") -> None:
        """Wait until the camera is Ready."""
        await until(lambda: self.is_ready(name))

    async def start_camera(self, name: str = "gate", **spec: Any) -> Obj:
        """A camera, as it was made, that is Ready by now."""
        made = await self.add_camera(name, **spec)
        await self.ready(name)
        return made

    async def watch(self, sid: str) -> None:
        """Somebody watches what the only agent sends."""
        await self.add_session(sid)
        self.agent().set_session(sid, SessionPhase.STREAMING)

    async def settled(self, seconds: float = 3.0) -> None:
        """Let everything come to rest."""
        await asyncio.sleep(seconds)
        await until(lambda: self.operator.queue.idle)


@asynccontextmanager
async def world(class_spec: dict[str, Any] | None = None, options: Options = OPTIONS) -> AsyncIterator[World]:
    """An operator that runs, with a default CameraClass."""
    cluster = MemoryCluster(clock=now)
    await cluster.create(default_class(class_spec))
    links = FakeLinks()
    kubelet = Kubelet(cluster, links)
    recording = Recording(cluster)
    here = World(cluster, recording, links, kubelet, options)
    here.start()
    try:
        async with _running(kubelet.run()):
            yield here
            here.check()
    finally:
        await here.stop()


def default_class(spec: dict[str, Any] | None = None, name: str = "default") -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": CAMERA_CLASS.kind,
        "metadata": {"name": name, "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
        "spec": spec or {},
    }


@asynccontextmanager
async def _running(*coroutines: Any) -> AsyncIterator[None]:
    """Tasks that must not end before the context does."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError("a task has ended")
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        _raise_first(result for result in results if isinstance(result, Exception))


def _raise_first(errors: Iterable[Exception]) -> None:
    for error in errors:
        raise error


def names_of(objects: Iterable[Obj]) -> list[str]:
    return [str(obj["metadata"]["name"]) for obj in objects]


def decoded(secret: Obj) -> dict[str, Any]:
    """The AgentConfig in a config Secret."""
    config: dict[str, Any] = json.loads(base64.b64decode(secret["data"][CONFIG_FILE]))
    return config
