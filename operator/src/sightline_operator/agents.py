"""One event stream per agent pod, kept alive: how the operator hears of sources and sessions, and tells agents things.

A link begins as soon as its pod has an address (the kubelet's Ready comes a second later), reconnects with jittered
backoff, and treats 15 s without a byte as a broken stream: agents send a comment every 5 s. What was heard is in
`heard.Heard`; listeners learn which pod has news and look again.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import aiohttp
from pydantic import TypeAdapter, ValidationError

from sightline_model.agent import (
    CONTROL_PORT,
    Adoption,
    AgentConfig,
    AgentEvent,
    AgentReport,
    CameraIdentity,
    SealedAdoption,
    SourceCredentials,
    spare_identity,
)
from sightline_model.reasons import EndReason
from sightline_model.sealing import SealError, seal
from sightline_model.tokens import Signer
from sightline_operator import stream
from sightline_operator.backoff import Backoff
from sightline_operator.clock import Clock, utc_now
from sightline_operator.errors import AgentCallError
from sightline_operator.facts import UNREADABLE, LinkState
from sightline_operator.heard import Heard, News
from sightline_operator.share import Share
from sightline_operator.sse import EventTooLargeError, ServerEvent
from sightline_operator.stream import Patience, RefusedError, StreamError

log = logging.getLogger(__name__)

SILENCE_SECONDS = 15.0
CONNECT_SECONDS = 3.0
CALL_SECONDS = 5.0
RECONNECT = Backoff(base=0.2, cap=5.0)
NEVER_ANSWERED = Backoff(base=0.3, cap=30.0)
EAGER_SECONDS = 15.0
"""A new pod is asked again at once for so long: it is about to listen."""
DIALLED_AT_ONCE = 32
"""Before everything else has a turn: some ten milliseconds."""
CONTROL_USER = "sightline-operator"
_EVENT: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)
_MAX_REPORT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AgentTarget:
    """One agent pod and where it listens."""

    namespace: str
    pod: str
    pod_uid: str
    camera: CameraIdentity
    address: str
    port: int = CONTROL_PORT
    spare_of: str = ""
    """The class whose spare it is; empty once a camera has it."""
    began_as_spare: bool = False
    """Orders then come under its pod's name, whichever camera it serves."""

    @property
    def audience(self) -> str:
        """The `aud` of control tokens."""
        camera = spare_identity(self.namespace, self.pod) if self.began_as_spare else self.camera
        return camera.audience

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the pod."""
        return self.namespace, self.pod

    @property
    def base_url(self) -> str:
        """Root of the control port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


Credentials = Mapping[str, SourceCredentials]
"""By the qualities' names."""
Listener = Callable[[AgentTarget, News], None]
"""Told that there is news from an agent. Must not block."""


class AgentLinks(Protocol):
    """What the operator needs of agents; `HttpAgentLinks` in production, a dict of fakes in tests."""

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of all news from now on."""
        ...

    def follow(self, target: AgentTarget, *, hurry: bool = False) -> None:
        """Keep a link to this pod; `hurry` ends a pause before the next attempt."""
        ...

    def drop(self, namespace: str, pod: str) -> None:
        """The pod is gone."""
        ...

    def state(self, namespace: str, pod: str) -> LinkState:
        """What was heard from the pod."""
        ...

    def connected(self) -> tuple[int, int]:
        """How many links are connected, and how many there are."""
        ...

    async def put_config(
        self, namespace: str, pod: str, config: AgentConfig, credentials: Credentials | None = None
    ) -> None:
        """Hand over a config, with credentials to an agent that began as a spare; AgentCallError."""
        ...

    async def end_session(self, namespace: str, pod: str, session: str, reason: EndReason) -> None:
        """End a session, which may have ended already; AgentCallError."""
        ...

    async def run(self) -> None:
        """Keep the links until cancelled."""
        ...


class HttpAgentLinks:
    """Links over HTTP with control tokens."""

    def __init__(
        self,
        signer: Signer,
        clock: Clock = utc_now,
        rng: Callable[[], float] = random.random,
        limited: Callable[[str], None] = lambda limit: None,
    ) -> None:
        """`limited` is told each time that an agent meets a limit of its stream: `time`, `sessions`, `profiles`."""
        self._signer = signer
        self._clock = clock
        self._rng = rng
        self._limited = limited
        self._links: dict[tuple[str, str], _Link] = {}
        self._listeners: list[Listener] = []
        self._http: aiohttp.ClientSession | None = None
        self._group: asyncio.TaskGroup | None = None

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of all news from now on."""
        self._listeners.append(listener)

    def follow(self, target: AgentTarget, *, hurry: bool = False) -> None:
        """Keep a link to this pod; one to another address of the same pod is replaced."""
        link = self._links.get(target.key)
        if link is not None and link.target == target:
            if hurry:
                link.hurry.set()
            return
        if link is not None and _handed_over(link.target, target):
            link.target = target
            link.heard.adopted(self._clock())
            return
        if link is not None:
            link.cancel()
        link = _Link(target, Heard(self._clock(), self._limited))
        self._links[target.key] = link
        self._start(link)

    def drop(self, namespace: str, pod: str) -> None:
        """The pod is gone."""
        link = self._links.pop((namespace, pod), None)
        if link is not None:
            link.cancel()

    def state(self, namespace: str, pod: str) -> LinkState:
        """What was heard from the pod."""
        link = self._links.get((namespace, pod))
        return link.heard.state if link else LinkState()

    def connected(self) -> tuple[int, int]:
        """How many links are connected, and how many there are."""
        return sum(link.heard.connected for link in self._links.values()), len(self._links)

    async def put_config(
        self, namespace: str, pod: str, config: AgentConfig, credentials: Credentials | None = None
    ) -> None:
        """Hand over a config and read back what the agent makes of it."""
        link = self._link(namespace, pod)
        link.heard.pushed(config.revision, self._clock())
        body = config.to_wire() if credentials is None else _sealed(link, config, credentials)
        await self._call(link, "PUT", "/v1/config", body)
        said = await self._call(link, "GET", "/v1/status")
        try:
            report = AgentReport.model_validate_json(said)
        except ValidationError as error:
            raise AgentCallError(f"{pod} sends a status that cannot be read") from error
        if link.heard.connected:
            self._tell(link.target, link.heard.snapshot(report, self._clock()))

    async def end_session(self, namespace: str, pod: str, session: str, reason: EndReason) -> None:
        """End a session; one that is not there has ended already."""
        path = f"/v1/sessions/{session}?reason={reason}"
        await self._call(self._link(namespace, pod), "DELETE", path, missing_is_fine=True)

    async def run(self) -> None:
        """Keep the links until cancelled."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            self._http = http
            try:
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    await self._start_all()
                    await asyncio.Event().wait()
            finally:
                self._group, self._http = None, None

    async def _start_all(self) -> None:
        """Begin with what there is, some at a time: to sign and dial for ten thousand takes seconds."""
        for number, link in enumerate(list(self._links.values())):
            if link.task is None and self._links.get(link.target.key) is link:
                self._start(link)
            if number % DIALLED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _start(self, link: "_Link") -> None:
        if self._group is not None:
            target = link.target
            link.task = self._group.create_task(self._keep(link), name=f"agent {target.namespace}/{target.pod}")

    async def _keep(self, link: "_Link") -> None:
        """Connect, listen, and connect again, for as long as the pod is there."""
        loop = asyncio.get_running_loop()
        born = loop.time()
        attempt, answered = 0, False
        while True:
            try:
                await self._listen(link)
                problem = "the agent closed the stream"
            except (StreamError, OSError, TimeoutError, ValidationError, EventTooLargeError) as error:
                problem = _in_words(error)
            except Exception:  # one agent's link must not take the others along
                log.exception("link to %s/%s", link.target.namespace, link.target.pod)
                problem = "internal error, see the operator's log"
            if link.heard.connected:
                answered, attempt = True, 0
            self._tell(link.target, link.heard.lost(problem, self._clock()))
            eager = not answered and loop.time() - born < EAGER_SECONDS
            backoff = RECONNECT if answered else NEVER_ANSWERED
            await link.pause(backoff.delay(0 if eager else attempt, self._rng))
            attempt += 1

    async def _listen(self, link: "_Link") -> None:
        """One connection: from the snapshot to its end."""
        target = link.target
        await stream.listen(
            (target.address, target.port),
            self._request(target),
            lambda event: self._take(link, event),
            Patience(CONNECT_SECONDS, SILENCE_SECONDS, link.share, lambda: self._slowed(link)),
        )

    def _slowed(self, link: "_Link") -> None:
        self._limited("time")
        if not link.slowed:
            link.slowed = True
            log.warning(
                "%s/%s says more than the operator listens to: it is read more slowly from now on",
                link.target.namespace,
                link.target.pod,
            )

    def _take(self, link: "_Link", event: ServerEvent) -> None:
        try:
            parsed = _EVENT.validate_json(event.data)
        except ValidationError:
            # A newer agent may send what we do not know; a snapshot, though, must be understood.
            if event.name == "snapshot":
                raise
            log.debug("%s sends an event %r that is not known", link.target.pod, event.name)
            return
        self._tell(link.target, link.heard.take(parsed, self._clock()))

    async def _call(
        self,
        link: "_Link",
        method: str,
        path: str,
        body: dict[str, object] | None = None,
        missing_is_fine: bool = False,
    ) -> bytes:
        if self._http is None:
            raise AgentCallError("the operator is starting or ending")
        url = link.target.base_url + path
        try:
            async with self._http.request(method, url, json=body, headers=self._headers(link.target)) as response:
                if response.status == 404 and missing_is_fine:
                    return b""
                response.raise_for_status()
                return await _bounded_body(response) if method == "GET" else b""
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AgentCallError(f"{method} {path} at pod {link.target.pod}: {_in_words(error)}") from error

    def _request(self, target: AgentTarget) -> bytes:
        """The one that the event stream answers."""
        headers = {
            "Host": target.base_url.removeprefix("http://"),
            "Accept": "text/event-stream",
            "Connection": "close",
            **self._headers(target),
        }
        lines = (f"{name}: {value}\r\n" for name, value in headers.items())
        return f"GET /v1/events HTTP/1.1\r\n{''.join(lines)}\r\n".encode()

    def _headers(self, target: AgentTarget) -> dict[str, str]:
        token = self._signer.sign(target.audience, CONTROL_USER, "Control", "", self._clock())
        return {"Authorization": f"Bearer {token}"}

    def _link(self, namespace: str, pod: str) -> "_Link":
        link = self._links.get((namespace, pod))
        if link is None:
            raise AgentCallError(f"there is no link to pod {pod}")
        return link

    def _tell(self, target: AgentTarget, news: News) -> None:
        if news:
            for listener in self._listeners:
                listener(target, news)


class _Link:
    """One pod's connection and what was heard over it."""

    def __init__(self, target: AgentTarget, heard: Heard) -> None:
        self.target = target
        self.heard = heard
        self.share = Share()
        self.slowed = False
        self.hurry = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """End the task; the task group collects it."""
        if self.task is not None:
            self.task.cancel()

    async def pause(self, delay: float) -> None:
        """Wait before the next attempt, unless there is reason to hurry."""
        try:
            async with asyncio.timeout(delay):
                await self.hurry.wait()
        except TimeoutError:
            return
        finally:
            self.hurry.clear()


def _handed_over(before: AgentTarget, now: AgentTarget) -> bool:
    """Whether it is the same spare, now with a camera: what is said and heard goes on."""
    return bool(before.spare_of) and replace(before, camera=now.camera, spare_of="") == now


def _sealed(link: _Link, config: AgentConfig, credentials: Credentials) -> dict[str, object]:
    """An adoption that the very process that speaks over this link can read."""
    report = link.heard.state.report
    adoption = Adoption(config=config, credentials=dict(credentials))
    try:
        sealed = seal(
            json.dumps(adoption.to_wire()).encode(), report.sealing_key if report else "", link.target.audience
        )
    except SealError as error:
        raise AgentCallError(f"pod {link.target.pod} has not said what to seal to") from error
    return SealedAdoption(sealed=sealed).to_wire()


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_REPORT_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(body)


def _in_words(error: Exception) -> str:
    """Why a link failed, without anything that changes from attempt to attempt."""
    match error:
        case RefusedError(status=404) | aiohttp.ClientResponseError(status=404):
            return UNREADABLE  # an agent without an event stream
        case StreamError():
            return str(error)
        case aiohttp.ClientResponseError():
            return f"HTTP {error.status}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {stream.why(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            return "the agent closed the stream"
        case TimeoutError():
            return "no answer in time"
        case ValidationError():
            return UNREADABLE
        case _:
            return type(error).__name__
