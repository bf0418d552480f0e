"""A front door that serves some namespaces only: what it has no right to ask for, it does not ask for."""

from typing import Any

from sightline_api.recorder import user_label
from sightline_kube.cluster import Cluster, Listing, Obj
from sightline_kube.errors import ForbiddenError
from sightline_kube.kinds import CAMERA, STREAM_SESSION, Kind
from sightline_model.base import API_VERSION
from sightline_model.names import USER_LABEL
from tests.api.world import ADMIN, PATTERN, VIEWER, World, camera, running_world


def session(name: str, namespace: str) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {"name": name, "namespace": namespace, "labels": {USER_LABEL: user_label("viewer")}},
        "spec": {"cameraRef": {"name": "front"}, "user": "viewer", "expiresAt": "2026-03-01T13:00:00Z"},
    }


def with_few_rights(world: World) -> None:
    """Let the cluster refuse what Roles in the namespaces default and doors do not give."""
    cluster: Cluster = world.cluster
    inner_list, inner_get = cluster.list, cluster.get

    def check(namespace: str | None) -> None:
        if namespace not in {"default", "doors"}:
            raise ForbiddenError("not in this namespace")

    async def list_(kind: Kind, namespace: str | None = None, **more: Any) -> Listing:
        check(namespace)
        return await inner_list(kind, namespace, **more)

    async def get(kind: Kind, namespace: str | None, name: str) -> Obj:
        check(namespace)
        return await inner_get(kind, namespace, name)

    cluster.list, cluster.get = list_, get  # type: ignore[method-assign]


async def test_it_serves_its_namespaces_and_knows_of_no_others() -> None:
    async with running_world(namespaces=["default", "doors"]) as world:
        await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doors"}})
        await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "else"}})
        await world.add(camera())
        for name, namespace in (("s-1", "default"), ("s-2", "doors"), ("s-3", "else")):
            await world.cluster.create(session(name, namespace))
        with_few_rights(world)

        listed = (await world.call("GET", "/v1/sessions", VIEWER)).json()["items"]
        assert [(item["namespace"], item["id"]) for item in listed] == [("default", "s-1"), ("doors", "s-2")]
        assert (await world.call("GET", "/v1/sessions?namespace=else", VIEWER)).json()["items"] == []
        assert (await world.call("GET", "/v1/sessions/default/s-1", VIEWER)).status_code == 200
        assert (await world.call("GET", "/v1/sessions/else/s-3", VIEWER)).status_code == 404

        assert (await world.call("GET", "/v1/namespaces/else/cameras/front", ADMIN)).status_code == 404
        for namespace, status in (("doors", 201), ("else", 404)):
            path = f"/v1/namespaces/{namespace}/cameras"
            assert (await world.call("POST", path, ADMIN, json={"name": "new", "spec": PATTERN})).status_code == status


async def test_cameras_of_other_namespaces_cannot_be_changed_either() -> None:
    """Not even where Kubernetes would let the front door, and the caller."""
    async with running_world(namespaces=["default"]) as world:
        await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "else"}})
        foreign = camera()
        foreign["metadata"]["namespace"] = "else"
        before = await world.cluster.create(foreign)
        path = "/v1/namespaces/else/cameras/front"
        for method, body in (("PUT", {"spec": PATTERN}), ("PATCH", {"labels": {"a": "b"}}), ("DELETE", None)):
            response = await world.call(method, path, ADMIN, json=body)
            assert (response.status_code, response.json()["code"]) == (404, "camera-not-found"), method
        assert await world.cluster.get(CAMERA, "else", "front") == before
        assert (await world.call("GET", "/v1/cameras", ADMIN)).json()["items"] == []


async def test_without_namespaces_it_asks_for_all_at_once() -> None:
    async with running_world() as world:
        await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "else"}})
        await world.cluster.create(session("s-3", "else"))
        listed = (await world.call("GET", "/v1/sessions", VIEWER)).json()["items"]
        assert [item["id"] for item in listed] == ["s-3"]
        assert len((await world.cluster.list(STREAM_SESSION)).items) == 1
