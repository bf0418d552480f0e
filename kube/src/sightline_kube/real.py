"""RealCluster: the Kubernetes port on the official client's asyncio side.

The client (`kubernetes.aio`) is used for what is hard to do well: kubeconfig files and exec plug-ins, service-account
tokens that rotate, TLS and proxies. Objects stay JSON dicts: its models cost 20 to 30 times the CPU and refuse fields
that they do not know. This module alone imports it, and no exception of it or of aiohttp leaves this module.

Writes are checked strictly (`fieldValidation=Strict`): a field that the server does not know is an answer, not silence.
Status is the exception: an operator that is newer than the installed CRDs goes on working.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from sightline_kube.cluster import (
    AccessQuery,
    EventType,
    Listing,
    Obj,
    Preconditions,
    TokenUser,
    WatchEvent,
)
from sightline_kube.errors import GoneError, InvalidError, UnauthenticatedError, UnavailableError
from sightline_kube.kinds import Kind, kind_of
from sightline_kube.objects import home_of
from sightline_kube.translate import error_of, without_credentials

log = logging.getLogger(__name__)

TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews", namespaced=False)
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)

Observer = Callable[[str, Kind, int, float], None]
"""Told of every request: verb, kind, HTTP status (0: no answer), seconds until the answer."""

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML
_STRICT = {"fieldValidation": "Strict"}
_LENIENT = {"fieldValidation": "Ignore"}
"""The default, Warn, costs the server as much as Strict, for a header that nobody reads."""
_REMEMBERED_BOOKMARKS = 256


@dataclass(frozen=True, slots=True)
class RealSettings:
    """How patient the client is."""

    request_seconds: float = 10
    watch_seconds: float = 300
    """A watch is asked to end after this time, give or take a tenth."""
    inactivity_seconds: float = 70
    """A watch without an event or a bookmark (one comes each minute) for so long is dead: connections die silently."""
    page_size: int = 500
    listed: Callable[[Obj], Obj] | None = None
    """What becomes of each object of a list before the next page is read: ten thousand as they come take 300 MB."""
    reload_seconds: float = 10
    """Credentials that were refused are loaded again at most so often."""
    user_agent: str = "sightline"
    """Its part before a slash is the field manager of what is not applied."""
    rng: random.Random = field(default_factory=random.SystemRandom)


@dataclass(frozen=True, slots=True)
class _Request:
    """One call of the API."""

    verb: str
    kind: Kind
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = _JSON

    @property
    def what(self) -> str:
        """For error messages."""
        return f"{self.verb} {self.kind.plural}"


class RealCluster:
    """A `cluster.Cluster` that is one; made by `in_cluster`, `from_kubeconfig` or `connect`."""

    def __init__(
        self,
        open_client: Callable[[], Awaitable[ApiClient]],
        client: ApiClient,
        *,
        observe: Observer | None = None,
        settings: RealSettings | None = None,
    ) -> None:
        self._open_client = open_client
        self._client = client
        self._retired: ApiClient | None = None  # refused, but open for the calls that are still on their way
        self._observe = observe
        self._settings = settings or RealSettings()
        self._reloading = asyncio.Lock()
        self._reloaded_at = float("-inf")
        self._closed = False
        # Where a quiet watch may go on: by what is watched and the version that its reader knows.
        self._bookmarks: dict[tuple[str, str, str], str] = {}

    @classmethod
    async def in_cluster(
        cls, *, observe: Observer | None = None, settings: RealSettings | None = None
    ) -> "RealCluster":
        """With the pod's service account; its token is read again as it rotates."""

        async def load(configuration: Configuration) -> None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]

        return await cls._opened(load, "the pod's service account", observe, settings)

    @classmethod
    async def from_kubeconfig(
        cls,
        path: str | None = None,
        context: str | None = None,
        *,
        observe: Observer | None = None,
        settings: RealSettings | None = None,
    ) -> "RealCluster":
        """With a kubeconfig file; by default those of KUBECONFIG or ~/.kube/config, and their current context."""

        async def load(configuration: Configuration) -> None:
            await load_kube_config(  # type: ignore[no-untyped-call]
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )

        return await cls._opened(load, f"the kubeconfig {path or 'of this user'}", observe, settings)

    @classmethod
    async def _opened(
        cls,
        load: Callable[[Configuration], Awaitable[None]],
        source: str,
        observe: Observer | None,
        settings: RealSettings | None,
    ) -> "RealCluster":
        settings = settings or RealSettings()

        async def open_client() -> ApiClient:
            configuration = Configuration()
            # Python 3.13 refuses CAs without a key identifier, which many clusters have; this is what 3.12 checks.
            configuration.disable_strict_ssl_verification = True
            # Else aiohttp looks for a proxy and reads ~/.netrc, in a thread, for each request: a third of the CPU.
            configuration.client_session_kwargs = {"trust_env": False}
            try:
                await load(configuration)
                configuration.proxy = configuration.proxy or _proxy_for(configuration.host)
                client = ApiClient(configuration=configuration)
            except Exception as error:
                # The loader raises whatever a file of a strange shape makes of it, and its texts may repeat tokens.
                raise UnauthenticatedError(
                    f"{source} cannot be used ({type(error).__name__}): check that it is there and complete"
                ) from None
            client.user_agent = settings.user_agent
            return client

        return cls(open_client, await open_client(), observe=observe, settings=settings)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        """One object."""
        return await self._call(_Request("get", kind, "GET", kind.path(namespace, name)))

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Listing:
        """All that match, in pages; from the start again when the server forgot the list between two of them."""
        query = {"limit": str(self._settings.page_size), **_selector(labels)}
        try:
            return await self._list(kind, namespace, query)
        except GoneError:
            del query["limit"]
            return await self._list(kind, namespace, query)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes from `resource_version` on, or from the last bookmark after it."""
        place = (kind.path(namespace), _selector(labels).get("labelSelector", ""))
        known = resource_version
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._bookmarks.get((*place, known), known),
            "timeoutSeconds": str(int(self._settings.watch_seconds * self._settings.rng.uniform(0.9, 1.1))),
            **_selector(labels),
        }
        request = _Request("watch", kind, "GET", kind.path(namespace), query)
        try:
            async with self._answer(request, streaming=True) as response:
                async for line in self._lines(response, request):
                    event = _parsed(line, request)
                    obj = event["object"]
                    if event["type"] == "ERROR":
                        raise error_of(int(obj.get("code") or 0), obj, what=request.what)
                    version = str(obj["metadata"]["resourceVersion"])
                    if event["type"] == "BOOKMARK":
                        self._remember((*place, known), version)
                        continue
                    self._bookmarks.pop((*place, known), None)
                    known = version
                    yield WatchEvent(EventType(event["type"]), obj)
        except GoneError:
            self._bookmarks.pop((*place, known), None)
            raise

    async def create(self, obj: Obj) -> Obj:
        """POST."""
        kind = _kind(obj)
        if obj["metadata"].get("resourceVersion"):  # the server calls this an internal error
            raise InvalidError("metadata.resourceVersion must not be set on objects to be created")
        path = kind.path(home_of(kind, obj))
        return await self._call(_Request("create", kind, "POST", path, _STRICT, obj))

    async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
        """PATCH by server-side apply with force."""
        kind = _kind(obj)
        metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
        query = {"fieldManager": field_manager, "force": "true", **_STRICT}
        body = {**obj, "metadata": metadata}
        return await self._call(_Request("apply", kind, "PATCH", _path(obj), query, body, _APPLY))

    async def replace(self, obj: Obj) -> Obj:
        """PUT."""
        return await self._call(_Request("update", _kind(obj), "PUT", _path(obj), _STRICT, obj))

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Obj:
        """PATCH."""
        path = kind.path(namespace, name)
        return await self._call(_Request("patch", kind, "PATCH", path, _STRICT, dict(patch), _MERGE_PATCH))

    async def replace_status(self, obj: Obj) -> Obj:
        """PUT of the status subresource."""
        return await self._call(_Request("update-status", _kind(obj), "PUT", f"{_path(obj)}/status", _LENIENT, obj))

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """DELETE."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if preconditions:
            expected = {"uid": preconditions.uid, "resourceVersion": preconditions.resource_version}
            options["preconditions"] = {key: value for key, value in expected.items() if value}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._call(_Request("delete", kind, "DELETE", kind.path(namespace, name), {}, options))

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenUser | None:
        """POST of a TokenReview."""
        status = await self._review(TOKEN_REVIEW, {"token": token, "audiences": [*audiences]})
        # A server that does not know of audiences names none; the token is then its own, not ours.
        if not status.get("authenticated") or not set(audiences) & set(status.get("audiences") or []):
            return None
        user = status["user"]
        return TokenUser(
            username=user["username"],
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra=user.get("extra") or {},
        )

    async def review_access(self, query: AccessQuery) -> bool:
        """POST of a SubjectAccessReview."""
        resource = {
            "verb": query.verb,
            "group": query.group,
            "resource": query.resource,
            "subresource": query.subresource,
            "namespace": query.namespace,
            "name": query.name,
        }
        spec = {
            "user": query.user.username,
            "uid": query.user.uid,
            "groups": [*query.user.groups],
            "extra": {key: [*values] for key, values in query.user.extra.items()},
            "resourceAttributes": {key: value for key, value in resource.items() if value},
        }
        status = await self._review(ACCESS_REVIEW, spec)
        return bool(status.get("allowed")) and not status.get("denied")

    async def close(self) -> None:
        """Close all connections; watches end with UnavailableError."""
        self._closed = True
        await self._close(self._client)
        await self._close(self._retired)

    async def _list(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Listing:
        items: list[Obj] = []
        token = ""
        while True:
            where = {**query, "continue": token} if token else query
            answer = await self._call(_Request("list", kind, "GET", kind.path(namespace), where))
            # Items of the core kinds' lists do not say what they are.
            page = ({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer.get("items") or [])
            items += map(self._settings.listed, page) if self._settings.listed else page
            token = answer["metadata"].get("continue") or ""
            if not token:
                return Listing(items, str(answer["metadata"]["resourceVersion"]))

    async def _review(self, kind: Kind, spec: dict[str, Any]) -> dict[str, Any]:
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
        answer = await self._call(_Request("create", kind, "POST", kind.path(), {}, body))
        status: dict[str, Any] = answer.get("status") or {}
        return status

    async def _call(self, request: _Request) -> Obj:
        async with self._answer(request) as response, _border(request.what):
            return _parsed(await response.read(), request)

    @asynccontextmanager
    async def _answer(self, request: _Request, streaming: bool = False) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, if it is a good one. Refused credentials are loaded again and the request is sent once more."""
        client = self._client
        response = await self._send(client, request, streaming)
        if response.status == 401 and await self._reloaded(client):
            response.close()
            response = await self._send(self._client, request, streaming)
        try:
            if response.status >= 300:
                async with _border(request.what):
                    body = _status_object(await response.read())
                raise error_of(response.status, body, response.headers, request.what)
            yield response
        finally:
            if streaming:
                _cut(response)
            else:
                response.release()

    async def _send(self, client: ApiClient, request: _Request, streaming: bool) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": request.content_type, **client.default_headers}
        url = client.configuration.host + request.path
        if request.query:
            url += "?" + urlencode(request.query)
        patience = self._settings
        timeout = (
            aiohttp.ClientTimeout(sock_connect=patience.request_seconds, sock_read=patience.inactivity_seconds)
            if streaming
            else aiohttp.ClientTimeout(total=patience.request_seconds)
        )
        loop = asyncio.get_running_loop()
        started, code = loop.time(), 0
        try:
            async with _border(request.what):
                if self._closed:
                    raise UnavailableError(f"{request.what}: the connection was closed")
                await client.update_params_for_auth(headers, [], ["BearerToken"], request.path, request.method, None)
                answer = await client.rest_client.request(  # type: ignore[no-untyped-call]
                    request.method, url, headers=headers, body=request.body, _request_timeout=timeout
                )
                response: aiohttp.ClientResponse = answer.response
                code = response.status
                return response
        finally:
            if self._observe:
                self._observe(request.verb, request.kind, code, loop.time() - started)

    async def _lines(self, response: aiohttp.ClientResponse, request: _Request) -> AsyncGenerator[bytes, None]:
        """Lines of a watch until the server ends it or nothing more is heard of it."""
        while True:
            try:
                async with _border(request.what), asyncio.timeout(self._settings.inactivity_seconds):
                    line = await response.content.readline()
            except _SilenceError:
                log.info("%s: nothing heard for %s s", request.what, self._settings.inactivity_seconds)
                return
            if not line:
                return
            if line.strip():
                yield line

    async def _reloaded(self, refused: ApiClient) -> bool:
        """Replace the client whose credentials were refused; False if that was tried a moment ago."""
        async with self._reloading:
            if self._client is not refused:
                return True
            now = asyncio.get_running_loop().time()
            if self._closed or now - self._reloaded_at < self._settings.reload_seconds:
                return False
            self._reloaded_at = now
            fresh = await self._open_client()
            await self._close(self._retired)
            self._client, self._retired = fresh, refused
            return True

    async def _close(self, client: ApiClient | None) -> None:
        if client:
            await client.close()  # type: ignore[no-untyped-call]

    def _remember(self, place: tuple[str, str, str], version: str) -> None:
        self._bookmarks.pop(place, None)
        self._bookmarks[place] = version
        if len(self._bookmarks) > _REMEMBERED_BOOKMARKS:  # then one watch resumes from an older version, or lists
            self._bookmarks.pop(next(iter(self._bookmarks)))


class _SilenceError(UnavailableError):
    """A time-out: no answer, or a stream without a sign of life."""


@asynccontextmanager
async def _border(what: str) -> AsyncIterator[None]:
    """What the network may do to us, in our words."""
    try:
        yield
    except TimeoutError as error:  # aiohttp's time-outs are these too
        raise _SilenceError(f"{what}: the API server did not answer in time") from error
    except (aiohttp.ClientError, OSError, RuntimeError, AssertionError) as error:
        # The last two: how aiohttp tells of a session that is closed, or is being closed.
        raise UnavailableError(f"{what}: {without_credentials(str(error)) or type(error).__name__}") from error
    except ConfigException as error:
        raise UnauthenticatedError(f"{what}: the service account's token cannot be read") from error
    except (HttpProcessingError, ValueError) as error:
        # For example a line of more than 4 MiB (etcd takes 1.5). The error repeats a part of it: it goes no further.
        raise UnavailableError(f"{what}: the answer cannot be read ({type(error).__name__})") from None


def _proxy_for(url: str) -> str | None:
    """The environment's proxy for this address (HTTPS_PROXY and its like), unless NO_PROXY leaves it out."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _cut(response: aiohttp.ClientResponse) -> None:
    """End a stream at once; a polite end of TLS would wait for an answer behind whatever is still on its way."""
    if response.connection and response.connection.transport:
        response.connection.transport.abort()
    response.close()


def _kind(obj: Obj) -> Kind:
    try:
        return kind_of(obj)
    except KeyError:
        raise InvalidError(f"{obj.get('apiVersion')} {obj.get('kind')} is none of Sightline's kinds") from None


def _path(obj: Obj) -> str:
    kind = _kind(obj)
    return kind.path(home_of(kind, obj), obj["metadata"]["name"])


def _selector(labels: Mapping[str, str] | None) -> dict[str, str]:
    if not labels:
        return {}
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in sorted(labels.items()))}


def _parsed(data: bytes, request: _Request) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UnavailableError(f"{request.what}: the answer is no JSON") from error
    if not isinstance(value, dict):
        raise UnavailableError(f"{request.what}: the answer is no object")
    return value


def _status_object(data: bytes) -> dict[str, Any]:
    """The Status in an error's body; a proxy's page is none."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
