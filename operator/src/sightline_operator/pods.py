"""Reading pods: small pure questions about the JSON that the kubelet and the scheduler write."""

from datetime import datetime
from typing import Any

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_operator.build import ATTEMPT_ANNOTATION, CONTAINER
from sightline_operator.clock import parse_time

SERVED_SECONDS = 3.0
"""An agent that ran for so long can start: something that passes, or somebody, has ended it."""
SERVED_MORE_SECONDS = 2.0
"""The proof is to be better by so much for each pod in a row: what ends soon after each start is no accident."""
SERVED_MOST_SECONDS = 10.0
_IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)


def name_of(obj: Obj) -> str:
    """The object's name."""
    return str(obj["metadata"]["name"])


def uid_of(obj: Obj) -> str:
    """The object's uid."""
    return str(obj["metadata"].get("uid") or "")


def created_at(obj: Obj) -> datetime | None:
    """When the API server made it."""
    return parse_time(obj["metadata"].get("creationTimestamp"))


def deleting(obj: Obj) -> bool:
    """True once somebody has deleted it and it is on its way out."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_uid(obj: Obj) -> str:
    """The uid of the controlling owner; empty when there is none."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((str(owner.get("uid")) for owner in owners if owner.get("controller")), "")


def annotation(obj: Obj, key: str) -> str:
    """The value of an annotation; empty when there is none."""
    return str((obj["metadata"].get("annotations") or {}).get(key, ""))


def desired_hash(obj: Obj) -> str:
    """The hash of what was desired when the operator applied it."""
    return annotation(obj, names.HASH_ANNOTATION)


def attempt(pod: Obj) -> int:
    """How many pods in a row failed before this one."""
    text = annotation(pod, ATTEMPT_ANNOTATION)
    return int(text) if text.isdecimal() else 0


def failed(pod: Obj) -> bool:
    """True when the pod will never run again: an agent has no reason to end, so Succeeded is a failure too."""
    return (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded", "Unknown"}


def live(pod: Obj) -> bool:
    """True for a pod that serves, or may still come to serve."""
    return not deleting(pod) and not failed(pod)


def address(pod: Obj) -> str:
    """The pod's IP; empty before it has one."""
    return str((pod.get("status") or {}).get("podIP") or "")


def node(pod: Obj) -> str:
    """The node it was bound to."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def condition(pod: Obj, type_: str) -> dict[str, Any]:
    """One of the pod's conditions; empty when it is not there."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item.get("type") == type_), {})


def kubelet_ready(pod: Obj) -> bool:
    """What the kubelet's readiness probe says."""
    return condition(pod, "Ready").get("status") == "True"


def container(pod: Obj) -> dict[str, Any]:
    """The agent container's status; empty before the kubelet has one."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return next((item for item in statuses if item.get("name") == CONTAINER), {})


def waiting(pod: Obj) -> dict[str, Any]:
    """Why the container does not run: reason and message; empty when it does."""
    return dict((container(pod).get("state") or {}).get("waiting") or {})


def image_missing(pod: Obj) -> bool:
    """True when the kubelet cannot get the image."""
    return waiting(pod).get("reason") in _IMAGE_REASONS


def crashing(pod: Obj) -> bool:
    """True when the container ends again and again."""
    return waiting(pod).get("reason") == "CrashLoopBackOff"


def given_up(pod: Obj) -> bool:
    """True when the container had served well and the kubelet makes its next start wait.

    The kubelet doubles that wait with each end, however long the container ran (10 s, 20 s, ... 5 min), and a watched
    camera need not: another pod starts at once. A container that ends soon after its start, or again and again not much
    later, is left to the kubelet.
    """
    if deleting(pod) or not crashing(pod):
        return False
    end = last_end(pod)
    started, ended = parse_time(end.get("startedAt")), parse_time(end.get("finishedAt"))
    enough = min(SERVED_SECONDS + SERVED_MORE_SECONDS * attempt(pod), SERVED_MOST_SECONDS)
    return started is not None and ended is not None and (ended - started).total_seconds() >= enough


def last_end(pod: Obj) -> dict[str, Any]:
    """How the container ended the last time: exitCode, reason, message, finishedAt; empty when it never did."""
    status = container(pod)
    for state in ("state", "lastState"):
        ended = (status.get(state) or {}).get("terminated")
        if ended:
            return dict(ended)
    return {}


def running_since(pod: Obj) -> datetime | None:
    """When the container that runs now was started; None when none runs."""
    if (pod.get("status") or {}).get("phase") != "Running":
        return None
    status = container(pod)
    if not status:
        return parse_time((pod.get("status") or {}).get("startTime")) or created_at(pod)
    return parse_time(((status.get("state") or {}).get("running") or {}).get("startedAt"))


def stuck_since(pod: Obj) -> datetime | None:
    """Since when a node has the pod and does not start its container; None when it does, or when the image or the
    container itself is the cause. A volume that is absent looks like this."""
    if not live(pod) or not node(pod) or running_since(pod) or image_missing(pod) or crashing(pod):
        return None
    ended = parse_time(last_end(pod).get("finishedAt"))
    bound = parse_time(condition(pod, "PodScheduled").get("lastTransitionTime"))
    return ended or bound or created_at(pod)


def failed_at(pod: Obj) -> datetime | None:
    """When a failed pod came to its end, as well as its status tells."""
    ended = parse_time(last_end(pod).get("finishedAt"))
    changed = parse_time(condition(pod, "Ready").get("lastTransitionTime"))
    return ended or changed or created_at(pod)
