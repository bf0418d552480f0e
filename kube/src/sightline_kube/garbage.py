"""Who owns whom, for the in-memory cluster's garbage collection."""

from collections.abc import Iterable

from sightline_kube.cluster import Obj
from sightline_kube.kinds import Kind
from sightline_kube.objects import name_of, namespace_of, owner_references

Place = tuple[Kind, str, str]
"""Kind, namespace and name of an object."""


class Dependents:
    """The objects that name an owner, by the owner's uid; kept so that a deletion need not look at all objects."""

    def __init__(self) -> None:
        self._by_owner: dict[str, set[Place]] = {}

    def moved(self, kind: Kind, before: Obj | None, after: Obj | None) -> None:
        """Follow one write."""
        for obj in (before,) if before else ():
            for uid in _owner_uids(obj):
                places = self._by_owner.get(uid, set())
                places.discard((kind, namespace_of(obj), name_of(obj)))
                if not places:
                    self._by_owner.pop(uid, None)
        for obj in (after,) if after else ():
            for uid in _owner_uids(obj):
                self._by_owner.setdefault(uid, set()).add((kind, namespace_of(obj), name_of(obj)))

    def of(self, owner: Obj) -> list[Place]:
        """What names this object as an owner, in a fixed order."""
        found = self._by_owner.get(owner["metadata"]["uid"], ())
        return sorted(found, key=lambda place: (place[0].plural, place[1], place[2]))


def _owner_uids(obj: Obj) -> Iterable[str]:
    return {str(owner.get("uid")) for owner in owner_references(obj)}
