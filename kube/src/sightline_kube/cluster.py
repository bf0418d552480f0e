"""The port: the dozen verbs by which operator, front door and tests reach Kubernetes.

Objects are plain JSON dicts, as the API server sends them: typed models cost 20 to 30 times the CPU and would drop
fields that they do not know. `real.RealCluster` and `memory.MemoryCluster` pass one contract-test suite; callers do not
know which one they have. Every method may raise any `errors.ClusterError`.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from sightline_kube.kinds import Kind

Obj = dict[str, Any]
"""A Kubernetes object with apiVersion, kind, metadata and the rest. Treat objects from the port as read-only."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A consistent list and the resourceVersion to watch from."""

    items: list[Obj]
    resource_version: str


class EventType(StrEnum):
    """What a watch event says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change; for DELETED `obj` is the last state. Bookmarks are swallowed by the implementations."""

    type: EventType
    obj: Obj


@dataclass(frozen=True, slots=True)
class TokenUser:
    """Who a bearer token belongs to, by TokenReview."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccessQuery:
    """One SubjectAccessReview: may `user` do `verb` on that resource?"""

    user: TokenUser
    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must still be true for a delete."""

    uid: str | None = None
    resource_version: str | None = None


class Cluster(Protocol):
    """Kubernetes, as far as Sightline needs it."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        """One object; NotFoundError."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Listing:
        """All objects of a kind in one namespace or in all, with all of these labels."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes after `resource_version`, until the server ends the stream (normal; watch again from the last
        object's resourceVersion). GoneError when that is too old. Closing the iterator ends the request."""
        ...

    async def create(self, obj: Obj) -> Obj:
        """Create; `metadata.generateName` is honoured. AlreadyExistsError, InvalidError, ForbiddenError."""
        ...

    async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
        """Server-side apply with force: create it, or make our fields so and drop those that we no longer name.
        With `metadata.uid` set, ConflictError if another object of that name is there, or none; with
        `metadata.resourceVersion` set, ConflictError if it has changed (Kubernetes creates it where there is none)."""
        ...

    async def replace(self, obj: Obj) -> Obj:
        """PUT of everything but status; ConflictError if `metadata.resourceVersion` is not the current one."""
        ...

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Obj:
        """JSON merge patch (RFC 7396) of everything but status."""
        ...

    async def replace_status(self, obj: Obj) -> Obj:
        """PUT of `status` alone (the status subresource); ConflictError as `replace`."""
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete in the background way (dependents are collected later). NotFoundError; ConflictError where the
        preconditions do not hold."""
        ...

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenUser | None:
        """TokenReview: whose token is it? None if it is not valid for one of the audiences."""
        ...

    async def review_access(self, query: AccessQuery) -> bool:
        """SubjectAccessReview: does Kubernetes' own authorization allow it?"""
        ...

    async def close(self) -> None:
        """Close connections and end watches."""
        ...
