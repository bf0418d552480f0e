"""MemoryCluster: the Kubernetes port in one process, for development, embedded mode and fast tests.

It passes the same contract tests as `real.RealCluster`: resourceVersions from one counter, uids, generation, conflicts
and preconditions, server-side apply with field ownership, watches that resume and expire, label selectors, the status
subresource, finalizers, and background collection of objects whose owners are gone.

What it does not imitate:
* No kubelet, scheduler or endpoints: pods stay as they were written until somebody writes their status. A pod that has
  a node is only marked on delete, as in Kubernetes; whoever plays the kubelet deletes it with `grace_seconds=0`.
* Core kinds get no defaults (a real Pod comes back with dnsPolicy, tolerations and more, a Service with a clusterIP)
  and little validation: `admission` lists what is checked. Our own kinds are checked and defaulted by their CRDs.
* On a real server the first write after create saves the defaults of status and so moves the resourceVersion, even if
  it changes nothing; here it does not.
* `metadata.managedFields` is kept inside and not shown. Merge keys of lists come from one table (`fields.KEYED`).
* Any user may do anything: no quota, no Pod Security, no RBAC but `review_access`. No latency, no partial failure.
* History is bounded per kind (`history.WatchLimits`) instead of by time. No `ERROR` events, no bookmarks.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sightline_kube import admission, fields, garbage
from sightline_kube.cluster import AccessQuery, Listing, Obj, Preconditions, TokenUser, WatchEvent
from sightline_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from sightline_kube.history import Change, History, Selection, WatchLimits
from sightline_kube.kinds import NAMESPACE, POD, Kind, kind_of
from sightline_kube.objects import (
    copied,
    home_of,
    labels_match,
    merge_patched,
    namespace_of,
    owner_references,
    without_nulls,
)

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' alphabet for generateName: no vowels, no words
_DEFAULT_GRACE = 30
_FROM_BEFORE = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")

_Id = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A bearer token that TokenReview knows."""

    user: TokenUser
    audiences: frozenset[str] = frozenset({"sightline"})


@dataclass(slots=True)
class _Stored:
    obj: Obj
    owners: dict[str, frozenset[fields.Path]] = field(default_factory=dict)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _deny(_query: AccessQuery) -> bool:
    return False


class MemoryCluster:
    """A `cluster.Cluster` that holds everything in memory; the namespaces default and kube-system are there."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = _utc_now,
        rng: random.Random | None = None,
        tokens: Mapping[str, StaticToken] | None = None,
        access: Callable[[AccessQuery], bool] = _deny,
        limits: WatchLimits | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._tokens = dict(tokens or {})
        self._access = access
        self._objects: dict[Kind, dict[_Id, _Stored]] = {}
        self._version = 0
        self._dependents = garbage.Dependents()
        self._suspects: dict[garbage.Place, None] = {}
        self._collecting = False
        self._closed = False
        self.history = History(limits or WatchLimits())
        for name in ("default", "kube-system"):
            self._create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Obj:
        """One object."""
        await self._turn()
        return _shown(self._stored(kind, namespace, name).obj)

    async def list(
        self, kind: Kind, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
    ) -> Listing:
        """All that match, in the order of namespace and name."""
        await self._turn()
        found = [
            _shown(stored.obj)
            for (where, _), stored in sorted(self._objects.get(kind, {}).items())
            if (not namespace or where == namespace) and labels_match(stored.obj, labels)
        ]
        return Listing(found, str(self._version))

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes from `resource_version` on."""
        await self._turn()
        if not resource_version.isdecimal():
            raise InvalidError(f"resourceVersion: {resource_version!r} is no number")
        selection = Selection(namespace if kind.namespaced else None, labels)
        stream = self.history.follow(kind, selection, int(resource_version), self._version)
        try:
            async for event in stream:
                yield event
        finally:
            await stream.aclose()

    async def create(self, obj: Obj) -> Obj:
        """Create one object."""
        await self._turn()
        new = without_nulls(obj)
        kind = _kind(new)
        if new["metadata"].get("resourceVersion"):
            raise InvalidError("metadata.resourceVersion must not be set on objects to be created")
        return self._create(kind, new)

    async def apply(self, obj: Obj, *, field_manager: str) -> Obj:
        """Server-side apply with force."""
        await self._turn()
        config = without_nulls(obj)
        kind, meta = _kind(config), config["metadata"]
        if kind in admission.STATUS_SUBRESOURCE:
            config.pop("status", None)
        stored = self._find(kind, home_of(kind, config), meta.get("name"))
        if stored is None:
            if meta.get("uid"):
                raise ConflictError(f'{kind.plural} "{meta.get("name")}" with uid {meta["uid"]} is not there')
            return self._create(kind, config, field_manager)
        self._check(kind, stored, meta)
        new, owners = fields.applied(stored.obj, config, stored.owners, field_manager)
        return self._update(kind, stored, new, owners)

    async def replace(self, obj: Obj) -> Obj:
        """PUT of everything but status."""
        await self._turn()
        new = without_nulls(obj)
        kind, meta = _kind(new), new["metadata"]
        stored = self._stored(kind, home_of(kind, new), str(meta.get("name")))
        if kind in admission.OWN and not meta.get("resourceVersion"):
            raise InvalidError("metadata.resourceVersion: must be specified for an update")
        self._check(kind, stored, meta)
        return self._update(kind, stored, new)

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Obj:
        """JSON merge patch of everything but status."""
        await self._turn()
        stored = self._stored(kind, namespace, name)
        self._check(kind, stored, patch.get("metadata") or {})
        return self._update(kind, stored, merge_patched(stored.obj, patch))

    async def replace_status(self, obj: Obj) -> Obj:
        """PUT of status alone."""
        await self._turn()
        new = without_nulls(obj)
        kind, meta = _kind(new), new["metadata"]
        stored = self._stored(kind, home_of(kind, new), str(meta.get("name")))
        if kind not in admission.STATUS_SUBRESOURCE:
            raise NotFoundError("the server could not find the requested resource")
        if kind in admission.OWN and not meta.get("resourceVersion"):
            raise InvalidError("metadata.resourceVersion: must be specified for an update")
        self._check(kind, stored, meta)
        status = {"status": new["status"]} if "status" in new else {}
        rest = {key: value for key, value in stored.obj.items() if key != "status"}
        return self._write(kind, stored, admission.admitted(kind, {**rest, **status}, stored.obj), stored.owners)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete one object; what it owns follows later."""
        await self._turn()
        stored = self._stored(kind, namespace, name)
        if preconditions:
            expected = {"uid": preconditions.uid, "resourceVersion": preconditions.resource_version}
            self._check(kind, stored, expected)
        self._delete(kind, stored, grace_seconds)

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenUser | None:
        """Whose token is it, by the table of static tokens."""
        await self._turn()
        known = self._tokens.get(token)
        return known.user if known and known.audiences.intersection(audiences) else None

    async def review_access(self, query: AccessQuery) -> bool:
        """What the callable says that was given at construction."""
        await self._turn()
        return self._access(query)

    async def close(self) -> None:
        """End the watches; every later call fails."""
        self._closed = True
        self.history.end_watches()

    # From here on everything is synchronous: one verb is one transaction.

    async def _turn(self) -> None:
        """Let others run, as a call over a network would, and refuse when closed."""
        await asyncio.sleep(0)
        if self._closed:
            raise UnavailableError("the in-memory cluster is closed")

    def _find(self, kind: Kind, namespace: str | None, name: str | None) -> _Stored | None:
        where = (namespace or "") if kind.namespaced else ""
        return self._objects.get(kind, {}).get((where, name or ""))

    def _stored(self, kind: Kind, namespace: str | None, name: str) -> _Stored:
        stored = self._find(kind, namespace, name)
        if stored is None:
            raise NotFoundError(f'{kind.plural} "{name}" not found')
        return stored

    def _check(self, kind: Kind, stored: _Stored, expected: Mapping[str, Any]) -> None:
        """ConflictError unless uid and resourceVersion, where expected, are those of the stored object."""
        meta = stored.obj["metadata"]
        for key in ("uid", "resourceVersion"):
            if expected.get(key) and expected[key] != meta[key]:
                raise ConflictError(
                    f'{kind.plural} "{meta["name"]}" has changed: {key} is {meta[key]}, not {expected[key]};'
                    " read it again"
                )

    def _create(self, kind: Kind, obj: Obj, applier: str | None = None) -> Obj:
        meta: dict[str, Any] = {key: value for key, value in obj["metadata"].items() if key not in _FROM_BEFORE}
        meta.pop("resourceVersion", None)
        if namespace := home_of(kind, obj):
            self._check_namespace(namespace)
        else:
            meta.pop("namespace", None)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(self._rng.choice(_SUFFIX) for _ in range(5))
        admission.check_name(kind, str(meta.get("name") or ""))
        if self._find(kind, meta.get("namespace"), meta["name"]):
            raise AlreadyExistsError(f'{kind.plural} "{meta["name"]}" already exists')
        new = admission.admitted(kind, {**_without_status(kind, obj), "metadata": meta}, None)
        meta["uid"] = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        meta["creationTimestamp"] = self._now()
        if kind in admission.GENERATION:
            meta["generation"] = 1
        if kind == NAMESPACE:
            new["status"] = {"phase": "Active"}
        new["metadata"] = meta
        # Who applies owns what was said, who creates owns the defaults too.
        owners = {applier: fields.paths_of(obj)} if applier else {fields.UPDATES: fields.paths_of(new)}
        stored = _Stored(new, owners)
        self._objects.setdefault(kind, {})[_id(new)] = stored
        self._record(kind, None, stored)
        return _shown(stored.obj)

    def _check_namespace(self, name: str) -> None:
        namespace = self._find(NAMESPACE, None, name)
        if namespace is None:
            raise NotFoundError(f'namespaces "{name}" not found')
        if namespace.obj["metadata"].get("deletionTimestamp"):
            raise ForbiddenError(f'namespace "{name}" is being terminated')

    def _update(
        self,
        kind: Kind,
        stored: _Stored,
        obj: Obj,
        owners: dict[str, frozenset[fields.Path]] | None = None,
    ) -> Obj:
        """Store a new state of everything but status and of what only the server writes."""
        old = stored.obj
        new = _without_status(kind, obj)
        if kind in admission.STATUS_SUBRESOURCE and "status" in old:
            new["status"] = old["status"]
        meta = {key: value for key, value in obj["metadata"].items() if key not in _FROM_BEFORE}
        meta.update({key: old["metadata"][key] for key in _FROM_BEFORE if key in old["metadata"]})
        meta.pop("managedFields", None)
        for key in ("name", "namespace"):
            if key in old["metadata"]:
                meta[key] = old["metadata"][key]
        new["metadata"] = meta
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        new = admission.admitted(kind, new, old)
        if kind in admission.GENERATION and admission.spec_moved(new, old):
            new["metadata"]["generation"] += 1
        return self._write(kind, stored, new, fields.updated(old, new, stored.owners) if owners is None else owners)

    def _write(self, kind: Kind, stored: _Stored, new: Obj, owners: dict[str, frozenset[fields.Path]]) -> Obj:
        """Store a new state, unless nothing differs."""
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": stored.obj["metadata"]["resourceVersion"]}}
        if new == stored.obj and owners == stored.owners:
            return _shown(stored.obj)
        before = stored.obj
        stored.obj, stored.owners = new, owners
        self._record(kind, before, stored)
        meta = new["metadata"]
        ending = kind != NAMESPACE and "deletionTimestamp" in meta
        if ending and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
            self._remove(kind, stored)
        return _shown(stored.obj)

    def _delete(self, kind: Kind, stored: _Stored, grace_seconds: int | None) -> None:
        meta = stored.obj["metadata"]
        grace = _grace(kind, stored.obj, grace_seconds)
        if kind != NAMESPACE and not grace and not meta.get("finalizers"):
            self._remove(kind, stored)
            return
        marked = dict(meta)
        if "deletionTimestamp" not in meta and "generation" in meta:
            marked["generation"] += 1  # as the API server does: the wish has changed
        if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
            marked["deletionTimestamp"] = self._now(grace)
            marked["deletionGracePeriodSeconds"] = grace
        new = {**stored.obj, "metadata": marked}
        if kind == NAMESPACE:
            new["status"] = {"phase": "Terminating"}
            marked.pop("deletionGracePeriodSeconds", None)
        self._write(kind, stored, new, stored.owners)
        if kind == NAMESPACE:
            self._collect_soon(*self._content(meta["name"]))

    def _remove(self, kind: Kind, stored: _Stored) -> None:
        del self._objects[kind][_id(stored.obj)]
        before = stored.obj
        self._version += 1
        last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self._version)}}
        self.history.record(kind, Change(self._version, before, None, _shown(last)))
        self._dependents.moved(kind, before, None)
        self._collect_soon(*self._dependents.of(before))

    def _record(self, kind: Kind, before: Obj | None, stored: _Stored) -> None:
        """Give the stored object the next resourceVersion and tell the watches. The old object stays as it was."""
        self._version += 1
        meta = {**stored.obj["metadata"], "resourceVersion": str(self._version)}
        stored.obj = {**stored.obj, "metadata": meta}
        self.history.record(kind, Change(self._version, before, stored.obj, _shown(stored.obj)))
        self._dependents.moved(kind, before, stored.obj)
        if self._is_orphan(stored.obj):  # its owner is gone already, or never was
            self._collect_soon((kind, *_id(stored.obj)))

    def _now(self, later: float = 0) -> str:
        return (self._clock() + timedelta(seconds=later)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # Collection: a callback of the loop, not a task; it runs after the verb that made it necessary has answered.

    def _collect_soon(self, *places: garbage.Place) -> None:
        self._suspects.update(dict.fromkeys(places))
        if not self._collecting:
            self._collecting = True
            asyncio.get_running_loop().call_soon(self._collect)

    def _collect(self) -> None:
        """Delete suspects that have no owner left or whose namespace ends, then namespaces that are empty."""
        self._collecting = False
        suspects, self._suspects = list(self._suspects), {}
        for kind, namespace, name in suspects:
            stored = self._find(kind, namespace, name)
            if stored is None or "deletionTimestamp" in stored.obj["metadata"]:
                continue
            if self._is_orphan(stored.obj) or self._namespace_ends(stored.obj):
                self._delete(kind, stored, None)
        for stored in list(self._objects.get(NAMESPACE, {}).values()):
            meta = stored.obj["metadata"]
            if "deletionTimestamp" in meta and not any(self._content(meta["name"])):
                self._remove(NAMESPACE, stored)

    def _is_orphan(self, obj: Obj) -> bool:
        """Whether it had owners and has none left. One owner that is there keeps an object."""
        owners = owner_references(obj)
        return bool(owners) and not any(self._owner_exists(owner, namespace_of(obj)) for owner in owners)

    def _owner_exists(self, reference: dict[str, Any], namespace: str) -> bool:
        try:
            kind = kind_of(reference)
        except KeyError:
            return True  # a kind that is not kept here, so it cannot be known to be gone
        owner = self._find(kind, namespace, reference.get("name"))
        return owner is not None and owner.obj["metadata"]["uid"] == reference.get("uid")

    def _namespace_ends(self, obj: Obj) -> bool:
        namespace = self._find(NAMESPACE, None, namespace_of(obj)) if namespace_of(obj) else None
        return namespace is not None and "deletionTimestamp" in namespace.obj["metadata"]

    def _content(self, namespace: str) -> Iterator[garbage.Place]:
        for kind, objects in self._objects.items():
            for where, name in objects:
                if where == namespace:
                    yield kind, where, name


def _kind(obj: Obj) -> Kind:
    if not isinstance(obj.get("metadata"), dict):
        raise InvalidError("metadata: required")
    try:
        return kind_of(obj)
    except KeyError:
        raise InvalidError(f"{obj.get('apiVersion')} {obj.get('kind')} is not served here") from None


def _id(obj: Obj) -> _Id:
    return namespace_of(obj), str(obj["metadata"]["name"])


def _shown(obj: Obj) -> Obj:
    """A copy for the caller: nothing that is done to it reaches the store."""
    shown: Obj = copied(obj)
    return shown


def _without_status(kind: Kind, obj: Obj) -> Obj:
    if kind not in admission.STATUS_SUBRESOURCE:
        return dict(obj)
    return {key: value for key, value in obj.items() if key != "status"}


def _grace(kind: Kind, obj: Obj, wanted: int | None) -> int:
    """Seconds that a kubelet has to end a pod; everything else goes at once."""
    phase = (obj.get("status") or {}).get("phase")
    if kind != POD or not obj["spec"].get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    return int(obj["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE)) if wanted is None else wanted
