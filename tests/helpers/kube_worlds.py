"""The two clusters that the contract of `sightline_kube.cluster` is tested on, each behind the same small `World`."""

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from kubernetes.aio import client as kubernetes

from sightline_kube.cluster import AccessQuery, Cluster, Obj, TokenUser
from sightline_kube.kinds import Kind
from sightline_kube.memory import MemoryCluster, StaticToken
from sightline_kube.real import RealCluster

PATIENCE = 60.0
MANAGER = "sightline-operator"
ABSENT_UID = "00000000-0000-4000-8000-000000000000"


class World(Protocol):
    """A cluster, a namespace in it, and what only its owner can do."""

    cluster: Cluster
    namespace: str

    async def token(self, name: str, audience: str) -> str:
        """A token of a service account by that name."""
        ...

    async def allow(self, user: str, verb: str, resource: str) -> None:
        """Let a user do something with a resource of ours (a subresource after a slash) in the namespace."""
        ...

    def forget(self) -> None:
        """Make version 1 too old to watch from."""
        ...


class MemoryWorld:
    """MemoryCluster with a frozen clock."""

    def __init__(self) -> None:
        self.namespace = "default"
        self._allowed: set[tuple[str, str, str, str]] = set()
        self._tokens: dict[str, StaticToken] = {}
        self.memory = MemoryCluster(
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            rng=random.Random(1),
            tokens={
                "known-token": StaticToken(
                    TokenUser("system:serviceaccount:default:watcher", "1", ("system:serviceaccounts",)),
                    frozenset({"sightline"}),
                )
            },
            access=self._may,
        )
        self.cluster: Cluster = self.memory

    async def token(self, name: str, audience: str) -> str:
        """The one of the table."""
        assert (name, audience) == ("watcher", "sightline")
        return "known-token"

    async def allow(self, user: str, verb: str, resource: str) -> None:
        """Into the set that `access` looks at."""
        self._allowed.add((user, verb, resource, self.namespace))

    def forget(self) -> None:
        """As compaction does."""
        self.memory.history.forget()

    def _may(self, query: AccessQuery) -> bool:
        resource = "/".join(filter(None, (query.resource, query.subresource)))
        return (query.user.username, query.verb, resource, query.namespace) in self._allowed


class RealWorld:
    """A namespace on the test API server."""

    def __init__(self, cluster: RealCluster, admin: kubernetes.ApiClient, namespace: str) -> None:
        self.cluster: Cluster = cluster
        self.namespace = namespace
        self._admin = admin

    async def token(self, name: str, audience: str) -> str:
        """By a TokenRequest."""
        core = kubernetes.CoreV1Api(self._admin)
        account = kubernetes.V1ServiceAccount.model_validate({"metadata": {"name": name}})
        await core.create_namespaced_service_account(self.namespace, account)
        request = kubernetes.AuthenticationV1TokenRequest.model_validate({"spec": {"audiences": [audience]}})
        answer = await core.create_namespaced_service_account_token(name, self.namespace, request)
        assert answer.status
        return str(answer.status.token)

    async def allow(self, user: str, verb: str, resource: str) -> None:
        """By RBAC."""
        rbac = kubernetes.RbacAuthorizationV1Api(self._admin)
        rules = [{"apiGroups": ["sightline.dev"], "resources": [resource], "verbs": [verb]}]
        role = kubernetes.V1Role.model_validate({"metadata": {"name": "allowed"}, "rules": rules})
        await rbac.create_namespaced_role(self.namespace, role)
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "allowed"}
        subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
        binding = {"metadata": {"name": "allowed"}, "roleRef": reference, "subjects": subjects}
        await rbac.create_namespaced_role_binding(self.namespace, kubernetes.V1RoleBinding.model_validate(binding))

    def forget(self) -> None:
        """Nothing to do: the server's watch cache began after version 1."""


def version(obj: Obj) -> str:
    return str(obj["metadata"]["resourceVersion"])


def generation(obj: Obj) -> int:
    return int(obj["metadata"]["generation"])


@asynccontextmanager
async def watching(world: World, kind: Kind, since: str, **labels: str) -> Any:
    """A function that gives the next event of a watch in the world's namespace."""
    namespace = world.namespace if kind.namespaced else None
    stream = world.cluster.watch(kind, namespace, labels=labels or None, resource_version=since)
    async with aclosing(stream), asyncio.timeout(PATIENCE):
        yield lambda: anext(stream)


async def wait_for(world: World, kind: Kind, done: Callable[[list[Obj]], bool]) -> list[Obj]:
    """The objects of a kind in the namespace, when they are as they should be; each look follows a change."""
    async with asyncio.timeout(PATIENCE):
        while True:
            listing = await world.cluster.list(kind, world.namespace)
            if done(listing.items):
                return listing.items
            async with watching(world, kind, listing.resource_version) as next_event:
                await next_event()
