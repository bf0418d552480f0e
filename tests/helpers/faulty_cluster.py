"""A cluster that fails as told: a wrapper around another one, for tests of whoever has to live with failures."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline_kube.cluster import AccessQuery, Cluster, Listing, Obj, Preconditions, TokenUser, WatchEvent
from sightline_kube.errors import ClusterError
from sightline_kube.kinds import Kind, kind_of


@dataclass(frozen=True, slots=True)
class Fault:
    """What a call meets. `done`: it is carried out all the same, only its answer is lost; a watch gives one event."""

    error: ClusterError
    done: bool = False


Plan = Callable[[str, Kind | None], Fault | None]
"""Asked before each call, with the verb (the method's name) and the kind; None lets it pass."""


def first(*faults: Fault | ClusterError | None) -> Plan:
    """The first calls meet these, one each; all later ones pass."""
    waiting = list(faults)

    def plan(_verb: str, _kind: Kind | None) -> Fault | None:
        fault = waiting.pop(0) if waiting else None
        return Fault(fault) if isinstance(fault, ClusterError) else fault

    return plan


class FaultyCluster:
    """Fails where `plan` says, else does what the other one does; `calls` are the verbs and kinds asked for."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster = cluster
        self.plan = plan
        self.calls: list[tuple[str, Kind | None]] = []

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        """As the other one."""
        self._meet("get", kind)
        return await self._cluster.get(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Listing:
        """As the other one."""
        self._meet("list", kind)
        return await self._cluster.list(kind, namespace, labels=labels)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """As the other one; a fault that is `done` lets one event through."""
        lost = self._meet("watch", kind)
        async for event in self._cluster.watch(kind, namespace, labels=labels, resource_version=resource_version):
            yield event
            if lost:
                raise lost

    async def create(self, obj: Obj) -> Obj:
        """As the other one."""
        lost = self._meet("create", kind_of(obj))
        return _answer(await self._cluster.create(obj), lost)

    async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
        """As the other one."""
        lost = self._meet("apply", kind_of(obj))
        return _answer(await self._cluster.apply(obj, field_manager=field_manager), lost)

    async def replace(self, obj: Obj) -> Obj:
        """As the other one."""
        lost = self._meet("replace", kind_of(obj))
        return _answer(await self._cluster.replace(obj), lost)

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Obj:
        """As the other one."""
        lost = self._meet("merge_patch", kind)
        return _answer(await self._cluster.merge_patch(kind, namespace, name, patch), lost)

    async def replace_status(self, obj: Obj) -> Obj:
        """As the other one."""
        lost = self._meet("replace_status", kind_of(obj))
        return _answer(await self._cluster.replace_status(obj), lost)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """As the other one."""
        lost = self._meet("delete", kind)
        await self._cluster.delete(kind, namespace, name, preconditions=preconditions, grace_seconds=grace_seconds)
        if lost:
            raise lost

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenUser | None:
        """As the other one."""
        self._meet("review_token", None)
        return await self._cluster.review_token(token, audiences)

    async def review_access(self, query: AccessQuery) -> bool:
        """As the other one."""
        self._meet("review_access", None)
        return await self._cluster.review_access(query)

    async def close(self) -> None:
        """Close the other one."""
        await self._cluster.close()

    def _meet(self, verb: str, kind: Kind | None) -> ClusterError | None:
        """Raise the fault that is due, or give the error that is due after the call."""
        self.calls.append((verb, kind))
        fault = self.plan(verb, kind)
        if fault and not fault.done:
            raise fault.error
        return fault.error if fault else None


def _answer(obj: Obj, lost: ClusterError | None) -> Obj:
    if lost:
        raise lost
    return obj
