"""The objects of one kind for a cache, with what has to be remembered of those that are gone."""

from collections.abc import Iterable, Mapping

from sightline_kube.cluster import Obj
from sightline_kube.objects import name_of, namespace_of

TOMBSTONES = 4096
"""So many deletions are remembered, so that an event that comes late does not bring an object back; what comes later
than so many deletions is put right by the next sweep."""


class Shelf:
    """Objects by namespace and name, an index by label, and the versions of deletions and lists."""

    def __init__(self, indexed: frozenset[str]) -> None:
        self.objects: dict[str, dict[str, Obj]] = {}
        self.tombstones: dict[tuple[str, str], int] = {}
        self.floors: dict[str | None, int] = {}  # version of the last LIST, by what was listed
        self._indexed = indexed
        self._index: dict[tuple[str, str, str], dict[str, Obj]] = {}

    def get(self, namespace: str, name: str) -> Obj | None:
        """One object."""
        return self.objects.get(namespace, {}).get(name)

    def listed_at(self, namespace: str | None) -> int:
        """The version of the last LIST that had all objects of the namespace, or of all."""
        return max(self.floors.get(None, 0), self.floors.get(namespace, 0))

    def gone_until(self, namespace: str, name: str) -> int:
        """The last version at which an object that is not here is known not to be there."""
        return max(self.listed_at(namespace), self.tombstones.get((namespace, name), 0))

    def candidates(self, namespace: str | None, labels: Mapping[str, str] | None) -> Iterable[Obj]:
        """Objects among which are all that match."""
        if namespace is None:
            return (obj for objects in self.objects.values() for obj in objects.values())
        for label, value in (labels or {}).items():
            if label in self._indexed:
                return self._index.get((namespace, label, value), {}).values()
        return self.objects.get(namespace, {}).values()

    def put(self, obj: Obj, before: Obj | None) -> None:
        """Add or replace."""
        if before is not None:
            self._unindex(before)
        namespace, name = namespace_of(obj), name_of(obj)
        self.tombstones.pop((namespace, name), None)
        self.objects.setdefault(namespace, {})[name] = obj
        for place in self._places(obj):
            self._index.setdefault(place, {})[name] = obj

    def drop(self, obj: Obj) -> None:
        """Remove."""
        self._unindex(obj)
        self.objects[namespace_of(obj)].pop(name_of(obj))

    def bury(self, namespace: str, name: str, version: int) -> None:
        """Remember that whatever is not newer than `version` is gone."""
        self.tombstones[namespace, name] = max(version, self.tombstones.pop((namespace, name), 0))
        if len(self.tombstones) > TOMBSTONES:
            self.tombstones.pop(next(iter(self.tombstones)))

    def _places(self, obj: Obj) -> list[tuple[str, str, str]]:
        labels = obj["metadata"].get("labels") or {}
        return [(namespace_of(obj), label, labels[label]) for label in self._indexed if label in labels]

    def _unindex(self, obj: Obj) -> None:
        for place in self._places(obj):
            entry = self._index.get(place, {})
            entry.pop(name_of(obj), None)
            if not entry:
                self._index.pop(place, None)
