"""Has somebody changed what we made? What others have added to an object does not matter."""

from sightline_kube.cluster import Obj
from sightline_operator import pods

_WHOLE = frozenset({"selector"})
"""Maps in which every entry counts: one label more in a Service's selector, and it leads to nobody."""


def covers(found: object, desired: object) -> bool:
    """Whether everything that we want is so; what others have added does not matter."""
    if isinstance(desired, dict):
        return isinstance(found, dict) and all(
            found.get(key) == item if key in _WHOLE else covers(found.get(key), item) for key, item in desired.items()
        )
    if isinstance(desired, list):
        return (
            isinstance(found, list)
            and len(found) == len(desired)
            and all(covers(have, want) for have, want in zip(found, desired, strict=True))
        )
    return found == desired


def drifted(desired: Obj, found: Obj | None) -> tuple[Obj, ...]:
    """The object, if it is absent or not as it should be. With the uid of the one that was seen, so that the API server
    refuses if it has been replaced meanwhile."""
    if found is None:
        return (desired,)
    if covers(found, desired):
        return ()
    return ({**desired, "metadata": {**desired["metadata"], "uid": pods.uid_of(found)}},)
