"""kopf as the source of events of what people describe: each goes into the cache, and the cache tells whom it concerns.

Sessions, and what the operator makes itself, come through `sightline_kube.cache.Feed` (docs/design/0019): there are
many of them and they change often, and kopf takes a task and some 10 KB for each object, one after the other.
No create, update or delete handlers, no finalizers, no annotations: kopf writes nothing to the cluster. Its own names
(finalizer, annotation prefix) are ours all the same, because names that were once written can never be changed safely.
"""

import asyncio
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from sightline_kube.cache import Cache
from sightline_kube.cluster import EventType
from sightline_kube.kinds import Kind
from sightline_model.base import GROUP
from sightline_operator.sweep import WATCHED

SERVER_TIMEOUT_SECONDS = 300
"""A watch is asked to end after so long; the client gives it ten seconds more, then it counts as dead."""
REQUEST_SECONDS = 10.0
IDLE_SECONDS = 1.0
"""kopf has a task for each object of which it has heard lately: at the start for all of them, so it had better be short
(kopf's default is five seconds)."""


async def watch(cache: Cache, namespaces: Sequence[str], started: asyncio.Event, stopping: asyncio.Event) -> None:
    """Feed the cache until `stopping` is set; returning or raising otherwise means that kopf has given up."""
    await kopf.operator(
        registry=registry_for(cache),
        settings=settings(),
        memories=_NoMemories(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        ready_flag=started,
        stop_flag=stopping,
    )


def login_by_address(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """kopf's own login names the API server `kubernetes.default.svc`: the control path must not need cluster DNS."""
    found = kopf.login_with_service_account(**kwargs)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if found is None or not host:
        return found
    address = f"[{host}]" if ":" in host else host
    return dataclasses.replace(found, server=f"https://{address}:{port}")


def registry_for(cache: Cache) -> kopf.OperatorRegistry:
    """One event handler for each kind, with a registry of its own: importing this module changes nothing."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="service-account", errors=kopf.ErrorsMode.IGNORED)(login_by_address)
    kopf.on.login(registry=registry, id="kubeconfig", errors=kopf.ErrorsMode.IGNORED)(kopf.login_with_kubeconfig)
    for kind in WATCHED:
        _observe(registry, cache, kind)
    return registry


def settings() -> kopf.OperatorSettings:
    """kopf's settings: no writes of its own, bounded waits."""
    result = kopf.OperatorSettings()
    result.posting.enabled = False
    result.scanning.disabled = True
    result.persistence.finalizer = f"{GROUP}/operator"
    result.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    result.persistence.diffbase_storage = _NoDiffBase(prefix=GROUP)
    result.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    result.watching.client_timeout = SERVER_TIMEOUT_SECONDS + 10
    result.watching.connect_timeout = REQUEST_SECONDS
    result.watching.chunk_size = 500
    result.queueing.idle_timeout = IDLE_SECONDS
    result.networking.request_timeout = REQUEST_SECONDS
    result.networking.connect_timeout = REQUEST_SECONDS
    return result


class _NoDiffBase(kopf.AnnotationsDiffBaseStorage):
    """kopf copies each object, for each event, to compare it with the one before; nobody here asks what has changed."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None


class _NoMemories(ResourceMemories):
    """kopf keeps some 10 KB for each object it has ever seen, for daemons, indices and retries: there are none here."""

    async def recall(self, raw_body: Any, **options: Any) -> ResourceMemory:
        """A new one each time."""
        return await super().recall(raw_body, **{**options, "ephemeral": True})


def _observe(registry: kopf.OperatorRegistry, cache: Cache, kind: Kind) -> None:
    group, version = _group_version(kind)

    @kopf.on.event(group, version, kind.plural, registry=registry, id=f"observe-{kind.plural}")
    async def observe(event: Mapping[str, Any], **_: Any) -> None:
        # Objects that were there when the watch began have no type.
        type_ = EventType(event["type"]) if event["type"] else None
        cache.observe(kind, type_, dict(event["object"]))


def _group_version(kind: Kind) -> tuple[str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version
