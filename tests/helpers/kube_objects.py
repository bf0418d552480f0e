"""Objects for tests that need some, as small as Kubernetes takes them."""

from collections.abc import Mapping
from typing import Any

from sightline_kube.cluster import Obj
from sightline_model.base import API_VERSION


def camera(name: str, namespace: str = "default", **spec: Any) -> Obj:
    """A Camera with a test pattern."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"testPattern": {}}, **spec},
    }


def camera_class(name: str) -> Obj:
    """A CameraClass of defaults."""
    return {"apiVersion": API_VERSION, "kind": "CameraClass", "metadata": {"name": name}, "spec": {}}


def session(name: str, namespace: str = "default", user: str = "alice") -> Obj:
    """A StreamSession."""
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"cameraRef": {"name": "front"}, "user": user, "expiresAt": "2030-01-01T00:00:00Z"},
    }


def secret(name: str, namespace: str = "default", **data: str) -> Obj:
    """A Secret with text."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }


def pod(name: str, namespace: str = "default", env: Mapping[str, str] | None = None) -> Obj:
    """A Pod with one container that passes the Pod Security level "restricted"."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: dict[str, Any] = {"name": "agent", "image": "example/agent:1", "securityContext": security}
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


def owned_by(obj: Obj, *owners: Obj) -> Obj:
    """The object with owner references to these."""
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
        for owner in owners
    ]
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": references}}


def labelled(obj: Obj, **labels: str) -> Obj:
    """The object with these labels and no others."""
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}
