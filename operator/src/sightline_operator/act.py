"""Carrying out decisions about children through the Cluster port.

Answers of the API server go into the cache at once, so that the next pass sees what this one did, however late the
watch is: that is what keeps a second pod from being made.
"""

import logging
from collections.abc import Iterable

from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster, EventType, Obj, Preconditions
from sightline_kube.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from sightline_kube.kinds import POD, SECRET, UDP_ROUTE, kind_of
from sightline_model import names
from sightline_operator import pods
from sightline_operator.decide import Deletion
from sightline_operator.errors import NotOursError

log = logging.getLogger(__name__)

_FOREIGN = "an object of this name belongs to somebody else; rename or delete it."


class Actor:
    """Applies and deletes children."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache

    async def apply(self, obj: Obj) -> str:
        """Apply one object; the answer is empty, or why the API server refuses it."""
        try:
            await self._apply(obj)
        except (ForbiddenError, InvalidError, NotFoundError, NotOursError) as error:
            if isinstance(error, NotFoundError) and kind_of(obj) != UDP_ROUTE:
                raise  # the namespace goes away
            metadata = obj["metadata"]
            log.warning("refused: %s %s/%s: %s", obj["kind"], metadata["namespace"], metadata["name"], error)
            return _refusal(obj, error)
        return ""

    async def delete(self, deletions: Iterable[Deletion]) -> None:
        """Delete those of the objects that are still the ones that were seen."""
        for deletion in deletions:
            try:
                await self._cluster.delete(
                    deletion.kind,
                    deletion.namespace,
                    deletion.name,
                    preconditions=Preconditions(uid=deletion.uid) if deletion.uid else None,
                )
            except (NotFoundError, ConflictError):
                if deletion.kind == UDP_ROUTE:
                    continue
                known = self._cache.get(deletion.kind, deletion.namespace, deletion.name)
                if known is not None and pods.uid_of(known) == deletion.uid:
                    self._cache.observe(deletion.kind, EventType.DELETED, known)
                continue
            log.info("deleted %s %s/%s", deletion.kind.kind, deletion.namespace, deletion.name)
            if deletion.kind != UDP_ROUTE:
                await self._refresh(deletion)

    async def _apply(self, obj: Obj) -> None:
        kind, metadata = kind_of(obj), obj["metadata"]
        if kind == SECRET:
            await self._write_secret(obj)
        else:
            if kind != POD and not metadata.get("uid"):
                await self._refuse_foreign(obj)
            applied = await self._cluster.apply(obj, field_manager=names.OPERATOR_FIELD_MANAGER)
            if kind != UDP_ROUTE:
                self._cache.observe(kind, EventType.MODIFIED, applied)
        log.info("applied %s %s/%s", kind.kind, metadata["namespace"], metadata["name"])

    async def _write_secret(self, obj: Obj) -> None:
        """Apply without a look before or after: Secrets are not read. What is of another type is somebody else's."""
        try:
            await self._cluster.apply(obj, field_manager=names.OPERATOR_FIELD_MANAGER)
        except InvalidError as error:
            if "type: " in str(error) and "immutable" in str(error):
                raise NotOursError(_FOREIGN) from error
            raise

    async def _refuse_foreign(self, obj: Obj) -> None:
        """Server-side apply with force would take over whatever has the name: look first."""
        kind, metadata = kind_of(obj), obj["metadata"]
        try:
            found = await self._cluster.get(kind, metadata["namespace"], metadata["name"])
        except NotFoundError:
            return
        if pods.controller_uid(found) != metadata["ownerReferences"][0]["uid"]:
            raise NotOursError(_FOREIGN)

    async def _refresh(self, deletion: Deletion) -> None:
        """See at once that the object is gone, or on its way out."""
        try:
            obj = await self._cluster.get(deletion.kind, deletion.namespace, deletion.name)
        except NotFoundError:
            known = self._cache.get(deletion.kind, deletion.namespace, deletion.name)
            if known is not None and pods.uid_of(known) == deletion.uid:
                self._cache.observe(deletion.kind, EventType.DELETED, known)
            return
        self._cache.observe(deletion.kind, EventType.MODIFIED, obj)


def _refusal(obj: Obj, error: Exception) -> str:
    """The refusal in words that are the same for each pod that is tried: a status must not change each time."""
    name = str(obj["metadata"]["name"])
    steady = names.agent_service(obj["metadata"]["labels"][names.CAMERA_LABEL])
    return f"{obj['kind']} {steady}: {str(error).replace(name, steady)}"
