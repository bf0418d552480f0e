"""Field ownership for server-side apply in memory: which manager set which path, and how an apply changes an object.

A path leads through maps by key and through associative lists by the keys of their items, as the API server's schemas
say (`KEYED`); every other list is one value. The real server reads these keys from each kind's schema; here one table
by field name serves all kinds that Sightline applies.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sightline_kube.objects import copied

Step = str | tuple[tuple[str, Any], ...]
Path = tuple[Step, ...]
Owners = Mapping[str, frozenset[Path]]

UPDATES = "(updates)"
"""Owner of what was not written by an apply: create, replace and patches."""

KEYED: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "profiles": ("name",),
    "outputs": ("name",),
}
SETS = frozenset({"finalizers", "pullSecrets", "advertise", "protocols"})
"""Lists of scalars whose items have owners of their own."""
ATOMIC = frozenset({"selector", "nodeSelector"})
"""Maps that are one value: whoever applies them applies all of them."""

_SYSTEM = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "managedFields",
        "selfLink",
    }
)


def owned_part(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object that managers may own: no identity, no status."""
    part = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "status")}
    part["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in _SYSTEM}
    if not part["metadata"]:
        del part["metadata"]
    return part


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every path that holds a value; items of associative lists are paths of their own (with the value None)."""
    found: dict[Path, Any] = {}
    _collect_leaves(value, path, found)
    return found


def paths_of(obj: Mapping[str, Any]) -> frozenset[Path]:
    """The paths of everything in an object that can be owned."""
    return frozenset(leaves(owned_part(obj)))


def applied(
    live: dict[str, Any], config: Mapping[str, Any], owners: Owners, manager: str
) -> tuple[dict[str, Any], dict[str, frozenset[Path]]]:
    """The object and the owners after `manager` applied `config` with force."""
    wanted = leaves(owned_part(config))
    before = leaves(owned_part(live))
    merged = _merged(live, owned_part(config), ())
    changed = {path for path, value in wanted.items() if path in before and before[path] != value}
    others = {name: paths - changed for name, paths in owners.items() if name != manager}
    kept = frozenset().union(*others.values()) if others else frozenset()
    dropped = owners.get(manager, frozenset()) - wanted.keys()
    for path in sorted(dropped, key=len):  # an item as a whole before its fields, or it could not be found any more
        if not _is_merge_key(path) and not any(other[: len(path)] == path for other in kept):
            _remove(merged, path)
    after = {name: paths for name, paths in others.items() if paths}
    after[manager] = frozenset(wanted)
    return merged, after


def updated(live: Mapping[str, Any], new: Mapping[str, Any], owners: Owners) -> dict[str, frozenset[Path]]:
    """The owners after a write that was no apply: what it changed is taken from everybody else."""
    before, after = leaves(owned_part(live)), leaves(owned_part(new))
    changed = frozenset(path for path, value in after.items() if path not in before or before[path] != value)
    gone = before.keys() - after.keys()
    if not changed and not gone:
        return dict(owners)
    result = {name: paths - changed - gone for name, paths in owners.items()}
    result[UPDATES] = result.get(UPDATES, frozenset()) | changed
    return {name: paths for name, paths in result.items() if paths}


def _keys_of(field: Step, items: list[Any]) -> tuple[str, ...] | None:
    """The merge keys of a list; None where it is one value."""
    if not isinstance(field, str) or not all(isinstance(item, dict) for item in items):
        return None
    if field == "ports":  # a container's ports and a Service's differ in their key
        return ("containerPort", "protocol") if any("containerPort" in i for i in items) else ("port", "protocol")
    keys = KEYED.get(field)
    return keys if keys and all(key in item for key in keys for item in items) else None


def _is_merge_key(path: Path) -> bool:
    """Whether the path is the name of an item that somebody else still needs."""
    if len(path) < 2 or isinstance(path[-2], str):
        return False
    return any(key == path[-1] for key, _ in path[-2])


def _is_atomic(path: Path) -> bool:
    return bool(path) and path[-1] in ATOMIC


def _item_step(item: Mapping[str, Any], keys: tuple[str, ...]) -> Step:
    return tuple((key, item.get(key, "TCP" if key == "protocol" else None)) for key in keys)


def _collect_leaves(value: Any, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and value and not _is_atomic(path):
        for key, item in value.items():
            _collect_leaves(item, (*path, key), found)
        return
    if isinstance(value, list) and value and path:
        keys = _keys_of(path[-1], value)
        if keys:
            for item in value:
                step = (*path, _item_step(item, keys))
                found[step] = None
                _collect_leaves(item, step, found)
            return
        if path[-1] in SETS:
            for item in value:
                found[*path, (("", item),)] = None
            return
    if path:
        found[path] = value


def _merged(live: Any, config: Any, path: Path) -> Any:
    if isinstance(config, dict) and isinstance(live, dict) and not _is_atomic(path):
        result = dict(live)
        for key, value in config.items():
            result[key] = _merged(live.get(key), value, (*path, key))
        return result
    if isinstance(config, list) and isinstance(live, list) and path:
        if path[-1] in SETS:
            return live + [item for item in config if item not in live]
        keys = _keys_of(path[-1], live + config)
        if keys:
            return list(_merged_items(live, config, keys))
    return copied(config)


def _merged_items(live: list[Any], config: list[Any], keys: tuple[str, ...]) -> Iterator[Any]:
    wanted = {_item_step(item, keys): item for item in config}
    for item in live:
        step = _item_step(item, keys)
        yield _merged(item, wanted.pop(step), (step,)) if step in wanted else item
    yield from (copied(item) for item in wanted.values())


def _remove(value: Any, path: Path) -> bool:
    """Take one path out, copying nothing above it that is shared; True when `value` is empty afterwards."""
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        if not isinstance(head, str) or head not in value:
            return False
        if rest:
            value[head] = copied(value[head])
        if not rest or _remove(value[head], rest):
            del value[head]
        return not value
    if isinstance(value, list) and not isinstance(head, str):
        for index, item in enumerate(value):
            same = item == head[0][1] if head[0][0] == "" else _item_step(item, tuple(k for k, _ in head)) == head
            if same:
                if not rest or _remove(item, rest):
                    del value[index]
                break
        return not value
    return False
