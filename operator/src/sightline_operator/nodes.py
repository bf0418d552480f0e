"""Reading nodes: may agents stay there?"""

from typing import Any

from sightline_kube.cluster import Obj

CORDON_TAINT = "node.kubernetes.io/unschedulable"


def lost(node: Obj) -> bool:
    """True when the node's kubelet has not been heard of for a while."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") != "True" for item in conditions)


def cordoned(node: Obj) -> bool:
    """True when somebody wants no pods there: `kubectl drain` begins with it."""
    return bool((node.get("spec") or {}).get("unschedulable"))


def stays(pod: Obj) -> bool:
    """True for a pod that does not mind a cordon: its successor could come to the same node."""
    return any(_tolerates_cordon(toleration) for toleration in (pod.get("spec") or {}).get("tolerations") or [])


def to_leave(node: Obj, pod: Obj) -> bool:
    """Whether the pod should have a successor elsewhere."""
    return (lost(node) or cordoned(node)) and not stays(pod)


def _tolerates_cordon(toleration: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", "NoSchedule"):
        return False
    key = toleration.get("key")
    if not key:
        return toleration.get("operator") == "Exists"
    return bool(key == CORDON_TAINT)
