"""What the operator's tests on a real API server put into it, and how they read what it says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sightline_kube.cluster import Cluster, Obj
from sightline_kube.errors import AlreadyExistsError, NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.base import API_VERSION
from tests.helpers.apiserver import Apiserver

URL = "rtsp://camera.example/one"


@asynccontextmanager
async def connected(apiserver: Apiserver) -> AsyncIterator[RealCluster]:
    """The administrator's connection, open while the context lasts."""
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    try:
        yield cluster
    finally:
        await cluster.close()


async def new_namespace(cluster: Cluster, title: str) -> str:
    """A namespace that nobody else has; its name."""
    name = f"{title}-{names.random_suffix(6)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


async def default_class(cluster: Cluster, retention: str = "0s", drain: str = "1s") -> None:
    """The default CameraClass, unless the server has one already."""
    spec = {"sessions": {"retention": retention}, "rollout": {"drainTimeout": drain}}
    metadata = {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}}
    with suppress(AlreadyExistsError):
        await cluster.create({"apiVersion": API_VERSION, "kind": CAMERA_CLASS.kind, "metadata": metadata, "spec": spec})


def camera(namespace: str, name: str = "gate") -> Obj:
    """A camera that is pulled."""
    return {
        "apiVersion": API_VERSION,
        "kind": CAMERA.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"rtsp": {"url": URL}}},
    }


def session(namespace: str, name: str, watched: str = "gate") -> Obj:
    """Somebody watches it."""
    return {
        "apiVersion": API_VERSION,
        "kind": STREAM_SESSION.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"cameraRef": {"name": watched}, "user": "alice"},
    }


def source_of(number: str) -> dict[str, Any]:
    """The patch that gives a camera another address."""
    return {"spec": {"source": {"rtsp": {"url": f"rtsp://camera.example/{number}"}}}}


def condition(obj: Obj, type_: str) -> tuple[str, str]:
    """Status and reason of one condition; empty when it is not there."""
    for item in (obj.get("status") or {}).get("conditions") or []:
        if item["type"] == type_:
            return item["status"], item["reason"]
    return "", ""


async def is_ready(cluster: Cluster, namespace: str, name: str = "gate") -> bool:
    """Whether the camera is there, and Ready."""
    try:
        return condition(await cluster.get(CAMERA, namespace, name), "Ready")[0] == "True"
    except NotFoundError:
        return False


async def phase_of(cluster: Cluster, namespace: str, sid: str) -> str:
    """How far a session is; `absent` when it is not there."""
    try:
        found = await cluster.get(STREAM_SESSION, namespace, sid)
    except NotFoundError:
        return "absent"
    return str((found.get("status") or {}).get("phase", ""))
