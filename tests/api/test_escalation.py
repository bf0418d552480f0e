"""Nobody gets by way of a camera what Kubernetes would not let him have, nor gives it to others."""

import pytest

from sightline_api import escalation
from sightline_model.camera import CameraSpec
from tests.api.world import ADMIN, CAMERAS, FRONT, VIEWER, World, camera
from tests.helpers.given_away import CASES, Case, Spec

ME = "admin"
RBAC = {"view": (ME, "get", "cameras/view"), "publish": (ME, "create", "cameras/publish")}


def parsed(spec: Spec | None) -> CameraSpec | None:
    return None if spec is None else CameraSpec.model_validate(spec)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_a_change_gives_away(case: Case) -> None:
    found = escalation.given(parsed(case.before), CameraSpec.model_validate(case.after))
    assert set(found.secrets) == case.secrets
    assert {str(action) for action in found.actions} == case.actions


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_who_changes_a_camera_has_what_it_gives_away(world: World, case: Case) -> None:
    async def attempt() -> int:
        if case.before is None:
            body = {"name": "front", "spec": case.after}
            return (await world.call("POST", CAMERAS, ADMIN, json=body)).status_code
        return (await world.call("PUT", FRONT, ADMIN, json={"spec": case.after})).status_code

    if case.before is not None:
        await world.add({**camera(), "spec": case.before})
    rights = {RBAC.get(action, (ME, action, "cameras")) for action in case.actions}
    rights |= {(ME, "get", "secrets")} if case.secrets else set()
    done = 201 if case.before is None else 200
    all_of_them = set(world.access) | rights
    for right in sorted(rights):
        world.access.clear()
        world.access.update(all_of_them - {right})
        world.time.move(60)  # answers of Kubernetes are kept for a while
        assert await attempt() == 403, right
    world.access.update(all_of_them)
    world.time.move(60)
    assert await attempt() == done


async def test_a_refusal_names_what_is_missing(world: World) -> None:
    spec = {"source": {"rtsp": {"url": "rtsp://a.lan/s", "credentialsRef": {"name": "theirs"}}}}
    refused = await world.call("POST", CAMERAS, ADMIN, json={"name": "front", "spec": spec})
    assert "Secret theirs" in refused.json()["detail"]
    world.access.add(("admin", "get", "secrets"))
    granting = {**spec, "access": {"grants": [{"subjects": ["user:ann"], "roles": ["Publish"]}]}}
    world.time.move(60)
    refused = await world.call("POST", CAMERAS, ADMIN, json={"name": "front", "spec": granting})
    assert "to publish it yourself" in refused.json()["detail"]


async def test_a_manager_by_the_camera_s_rules_may_use_what_it_has(world: World) -> None:
    manages = {"grants": [{"subjects": ["user:viewer"], "roles": ["Manage"]}]}
    source = {"rtsp": {"url": "rtsp://camera.lan/s", "credentialsRef": {"name": "mine"}}}
    await world.add(camera(source=source, access=manages))
    moved = {"rtsp": {**source["rtsp"], "url": "rtsp://camera2.lan/s"}}
    shared = {"owner": "viewer", "grants": [{"subjects": ["guest"], "roles": ["View", "Publish"]}]}
    put = await world.call("PUT", FRONT, VIEWER, json={"spec": {"source": moved, "access": shared}})
    assert put.status_code == 200
