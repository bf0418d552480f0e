"""Cameras over REST: list, read, make, change, delete."""

from typing import Any

import pytest

from sightline_api.authorize import LISTS_DENIED_SECONDS
from sightline_kube.errors import NotFoundError, UnavailableError
from sightline_kube.kinds import CAMERA
from tests.api.world import ADMIN, CAMERAS, FRONT, MERGE, STRANGER, VIEWER, World, camera, condition

RTSP = {"source": {"rtsp": {"url": "rtsp://camera.lan/stream"}}}


async def stored(world: World, name: str = "front") -> Any:
    return await world.cluster.get(CAMERA, "default", name)


async def names(world: World, token: str = VIEWER, **query: Any) -> list[str]:
    response = await world.call("GET", "/v1/cameras", token, params=query)
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["items"]]


async def test_a_camera_is_made_read_changed_and_deleted(world: World) -> None:
    body = {"name": "front", "labels": {"site": "harbour"}, "spec": RTSP}
    made = await world.call("POST", CAMERAS, ADMIN, json=body)
    assert made.status_code == 201
    assert made.headers["Location"] == f"http://door.test{FRONT}"
    config = made.json()
    assert config["spec"]["source"] == {"rtsp": {"url": "rtsp://camera.lan/stream", "transport": "Auto"}}
    assert (config["name"], config["labels"], config["generation"]) == ("front", {"site": "harbour"}, 1)
    assert (await world.call("GET", FRONT, ADMIN)).json() == config
    assert (await world.call("POST", CAMERAS, ADMIN, json=body)).json()["code"] == "already-exists"

    replaced = await world.call("PUT", FRONT, ADMIN, json={"spec": {"source": {"testPattern": {}}}})
    assert replaced.status_code == 200
    assert list(replaced.json()["spec"]["source"]) == ["testPattern"]
    assert replaced.json()["labels"] == {"site": "harbour"}
    patch = {"spec": {"presentation": {"title": "Harbour"}}, "labels": {"site": None, "floor": "2"}}
    patched = await world.call("PATCH", FRONT, ADMIN, json=patch, headers=MERGE)
    assert patched.status_code == 200
    assert (await world.call("GET", FRONT, ADMIN)).json() == patched.json()
    assert patched.json()["labels"] == {"floor": "2"}
    assert patched.json()["spec"]["presentation"]["title"] == "Harbour"

    assert (await world.call("DELETE", FRONT, ADMIN)).status_code == 204
    with pytest.raises(NotFoundError):
        await stored(world)


async def test_conflicts_are_told_and_avoided_ones_are_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await world.add(camera())
    version = before["metadata"]["resourceVersion"]
    spec = {"source": {"testPattern": {"fps": 5}}}
    first = await world.call("PUT", FRONT, ADMIN, json={"spec": spec, "resourceVersion": version})
    assert first.status_code == 200
    second = await world.call("PUT", FRONT, ADMIN, json={"spec": RTSP, "resourceVersion": version})
    assert (second.status_code, second.json()["code"]) == (409, "conflict")
    patch = {"spec": {"audio": "Auto"}, "resourceVersion": version}
    assert (await world.call("PATCH", FRONT, ADMIN, json=patch, headers=MERGE)).status_code == 409
    # Without a version, somebody who writes in between is no reason to refuse.
    replace = world.cluster.replace
    interfering = 2

    async def interfered(obj: Any) -> Any:
        nonlocal interfering
        if interfering:
            interfering -= 1
            await world.cluster.merge_patch(
                CAMERA, "default", "front", {"metadata": {"labels": {"n": str(interfering)}}}
            )
        return await replace(obj)

    monkeypatch.setattr(world.cluster, "replace", interfered)
    last = await world.call("PUT", FRONT, ADMIN, json={"spec": RTSP})
    assert last.status_code == 200
    assert last.json()["labels"] == {"n": "0"}


async def test_who_says_what_was_read_changes_only_that(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world.call("POST", CAMERAS, ADMIN, json={"name": "front", "spec": RTSP})
    read = await world.call("GET", FRONT, ADMIN)
    old = read.headers["ETag"]
    assert made.headers["ETag"] == old == f'"{read.json()["resourceVersion"]}"'
    calls: list[tuple[str, Any]] = [("PUT", {"spec": RTSP}), ("PATCH", {"labels": {"floor": "3"}}), ("DELETE", None)]

    first = await world.call("PATCH", FRONT, ADMIN, json={"labels": {"floor": "2"}}, headers={"If-Match": old})
    assert (first.status_code, first.json()["labels"]) == (200, {"floor": "2"})
    before = await stored(world)
    for tags in (old, '"0", "1"', f"W/{old}", f'W/"{first.json()["resourceVersion"]}"', '""'):
        for method, body in calls:
            refused = await world.call(method, FRONT, ADMIN, json=body, headers={"If-Match": tags})
            assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed"), (method, tags)
    assert await stored(world) == before

    new = (await world.call("GET", FRONT, ADMIN)).headers["ETag"]
    for method, tags in (("PUT", f'"0" ,, {new}'), ("PATCH", "*")):
        body = {"spec": {"source": {"testPattern": {}}}} if method == "PUT" else {"labels": {"floor": "4"}}
        done = await world.call(method, FRONT, ADMIN, json=body, headers={"If-Match": tags})
        assert done.status_code == 200, (method, tags)
    # Both ways of saying it: each must hold.
    stale = {"labels": {"floor": "5"}, "resourceVersion": new.strip('"')}
    assert (await world.call("PATCH", FRONT, ADMIN, json=stale, headers={"If-Match": "*"})).status_code == 409
    last = f'"{done.json()["resourceVersion"]}"'
    assert (await world.call("DELETE", FRONT, ADMIN, headers={"If-Match": last})).status_code == 204
    for method, body in calls:
        gone = await world.call(method, FRONT, ADMIN, json=body, headers={"If-Match": "*"})
        assert gone.json()["code"] == "camera-not-found"


async def test_a_precondition_holds_when_it_is_written_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is faster between the look and the write."""
    await world.add(camera())
    replace, delete = world.cluster.replace, world.cluster.delete

    async def interfere() -> None:
        labels = {"n": str((await stored(world))["metadata"]["resourceVersion"])}
        await world.cluster.merge_patch(CAMERA, "default", "front", {"metadata": {"labels": labels}})

    async def replaced(obj: Any) -> Any:
        await interfere()
        return await replace(obj)

    async def deleted(*arguments: Any, **more: Any) -> Any:
        await interfere()
        return await delete(*arguments, **more)

    monkeypatch.setattr(world.cluster, "replace", replaced)
    monkeypatch.setattr(world.cluster, "delete", deleted)
    for method, body in (("PUT", {"spec": RTSP}), ("PATCH", {"labels": {"a": "b"}}), ("DELETE", None)):
        tag = f'"{(await stored(world))["metadata"]["resourceVersion"]}"'
        refused = await world.call(method, FRONT, ADMIN, json=body, headers={"If-Match": tag})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed"), method
    assert (await world.call("DELETE", FRONT, ADMIN, headers={"If-Match": "*"})).status_code == 204


async def test_rights_come_before_preconditions(world: World) -> None:
    await world.add(camera())
    for method, body in (("PUT", {"spec": RTSP}), ("PATCH", {"labels": {"a": "b"}}), ("DELETE", None)):
        for tags in ('"0"', "*"):
            response = await world.call(method, FRONT, STRANGER, json=body, headers={"If-Match": tags})
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize("tags", ["", "1234", '"12', "*, *", '"1" "2"', "W/1", ","])
async def test_an_if_match_that_is_none_is_refused(world: World, tags: str) -> None:
    await world.add(camera())
    response = await world.call("DELETE", FRONT, ADMIN, headers={"If-Match": tags})
    assert (response.status_code, response.json()["code"]) == (400, "invalid-request")
    assert await stored(world)


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"name": "a", "spec": {"source": {"rtsp": {}}}}, 422, "invalid-camera", "spec.source.rtsp.url"),
        ({"name": "a" * 70, "spec": RTSP}, 422, "invalid-camera", "name"),
        ({"name": "A", "spec": RTSP}, 422, "invalid-camera", "name"),
        ({"name": "a", "spec": {**RTSP, "sauce": 1}}, 422, "invalid-camera", "spec.sauce"),
        ({"name": "a", "spec": {**RTSP, "lifecycle": {"idleTimeout": "soon"}}}, 422, "invalid-camera", None),
        (
            {"name": "a", "spec": {"source": {"rtsp": RTSP["source"]["rtsp"], "testPattern": {}}}},
            422,
            "invalid-camera",
            None,
        ),
        ({"name": "a", "spec": {"source": {}}}, 422, "invalid-camera", None),
        ({"name": "a"}, 400, "invalid-request", "spec"),
        ([], 400, "invalid-request", None),
    ],
)
async def test_a_bad_description_is_refused_with_the_field(
    world: World, body: Any, status: int, code: str, field: str | None
) -> None:
    response = await world.call("POST", CAMERAS, ADMIN, json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    if field is not None:
        assert field in [error["field"] for error in response.json()["errors"]]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_credentials_in_addresses_are_refused_and_never_echoed(world: World, method: str) -> None:
    await world.add(camera())
    spec = {"source": {"testPattern": None, "rtsp": {"url": "rtsp://root:hunter2@camera.lan/stream"}}}
    body = {"spec": spec} if method != "POST" else {"name": "b", "spec": spec}
    response = await world.call(method, CAMERAS if method == "POST" else FRONT, ADMIN, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-camera")
    assert "credentialsRef" in response.text
    assert "hunter2" not in response.text


async def test_a_body_that_is_no_json_is_refused(world: World) -> None:
    for method, path in (("POST", CAMERAS), ("PUT", FRONT), ("PATCH", FRONT)):
        headers = {"Content-Type": "application/json"}
        response = await world.call(method, path, ADMIN, content=b'{"a": "hunter2', headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-request")
        assert "hunter2" not in response.text


async def test_a_patch_has_its_own_media_type_and_known_members(world: World) -> None:
    await world.add(camera())
    plain = await world.call("PATCH", FRONT, ADMIN, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (plain.status_code, plain.json()["code"]) == (415, "unsupported-media-type")
    bad: list[dict[str, Any]] = [
        {"status": {"live": True}},
        {"metadata": {}},
        {"labels": {"a": 1}},
        {"labels": "x"},
    ]
    for patch in bad:
        response = await world.call("PATCH", FRONT, ADMIN, json=patch, headers=MERGE)
        assert (response.status_code, response.json()["code"]) == (422, "invalid-camera"), patch
    assert (await world.call("PATCH", FRONT, ADMIN, json=[1], headers=MERGE)).status_code == 400


async def test_what_kubectl_keeps_is_neither_shown_nor_lost(world: World) -> None:
    obj = camera()
    kept = "kubectl.kubernetes.io/last-applied-configuration"
    obj["metadata"]["annotations"] = {kept: "{}", "note": "old"}
    await world.add(obj)
    assert (await world.call("GET", FRONT, ADMIN)).json()["annotations"] == {"note": "old"}
    body = {"spec": RTSP, "annotations": {"note": "new"}}
    assert (await world.call("PUT", FRONT, ADMIN, json=body)).json()["annotations"] == {"note": "new"}
    assert (await stored(world))["metadata"]["annotations"] == {kept: "{}", "note": "new"}


async def test_what_kubectl_keeps_cannot_be_set(world: World) -> None:
    kept = "kubectl.kubernetes.io/last-applied-configuration"
    given = {kept: "not by kubectl", "note": "mine"}
    await world.call("POST", CAMERAS, ADMIN, json={"name": "front", "spec": RTSP, "annotations": given})
    assert (await stored(world))["metadata"]["annotations"] == {"note": "mine"}
    for method, body in (("PUT", {"spec": RTSP, "annotations": given}), ("PATCH", {"annotations": given})):
        assert (await world.call(method, FRONT, ADMIN, json=body)).status_code == 200
        assert (await stored(world))["metadata"]["annotations"] == {"note": "mine"}, method


async def test_rights_are_checked_before_anything_is_told_or_done(world: World) -> None:
    await world.add(camera())
    calls = [
        ("GET", FRONT, None),
        ("PUT", FRONT, {"spec": RTSP}),
        ("PATCH", FRONT, {"labels": {"a": "b"}}),
        ("DELETE", FRONT, None),
        ("GET", f"{FRONT}/combined", None),
        ("POST", CAMERAS, {"name": "mine", "spec": RTSP}),
    ]
    before = await stored(world)
    for token in (VIEWER, STRANGER):
        for method, path, body in calls:
            response = await world.call(method, path, token, json=body)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden"), (method, path)
    assert await stored(world) == before
    for method, path, body in calls[:5]:
        absent = await world.call(method, path.replace("front", "absent"), ADMIN, json=body)
        assert (absent.status_code, absent.json()["code"]) == (404, "camera-not-found"), (method, path)
    missing = await world.call("POST", CAMERAS.replace("default", "absent"), ADMIN, json=calls[5][2])
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")


async def test_what_was_known_of_a_camera_does_not_let_anybody_delete_what_it_is_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await world.add(camera(access={"grants": [{"subjects": ["user:viewer"], "roles": ["Manage"]}]}))
    monkeypatch.setattr(world.cache, "get", lambda *_: known)  # a watch that has stood still
    await world.cluster.delete(CAMERA, "default", "front")
    await world.cluster.create(camera())
    before = await stored(world)
    for headers in ({}, {"If-Match": "*"}):
        refused = await world.call("DELETE", FRONT, VIEWER, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert await stored(world) == before
    assert (await world.call("DELETE", FRONT, ADMIN)).status_code == 204
    absent = await world.call("DELETE", FRONT, ADMIN)
    assert (absent.status_code, absent.json()["code"]) == (404, "camera-not-found")


async def test_a_manager_by_grant_cannot_reach_for_other_secrets(world: World) -> None:
    grants = [{"subjects": ["user:viewer"], "roles": ["Manage"]}]
    source = {"rtsp": {"url": "rtsp://camera.lan/s", "credentialsRef": {"name": "mine"}}}
    await world.add(camera(source=source, access={"grants": grants}))
    stolen = {"spec": {"source": {"rtsp": {"credentialsRef": {"name": "others"}}}}}
    refused = await world.call("PATCH", FRONT, json=stolen, headers=MERGE)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    replaced = {"spec": {"source": {"rtsp": {"url": "rtsp://x/s", "credentialsRef": {"name": "others"}}}}}
    assert (await world.call("PUT", FRONT, json=replaced)).status_code == 403
    moved = {"spec": {"source": {"rtsp": {"url": "rtsp://camera2.lan/s"}}}}
    assert (await world.call("PATCH", FRONT, json=moved, headers=MERGE)).status_code == 200
    world.access.add(("admin", "get", "secrets"))
    assert (await world.call("PATCH", FRONT, ADMIN, json=stolen, headers=MERGE)).status_code == 200


async def test_a_list_shows_what_the_caller_may_view_or_manage(world: World) -> None:
    await world.add(camera("a"))
    await world.add(camera("b", access={"grants": [{"subjects": ["group:guards"], "roles": ["Manage"]}]}))
    await world.add(camera("c", access={"grants": [{"subjects": ["user:viewer"], "roles": ["Publish"]}]}))
    await world.add(camera("d", access={}))
    assert await names(world) == ["a", "b"]
    assert await names(world, STRANGER) == []
    assert await names(world, ADMIN) == ["a", "b", "c", "d"]
    world.access.add(("stranger", "get", "cameras/view"))
    world.time.move(LISTS_DENIED_SECONDS)
    assert await names(world, STRANGER) == ["a", "b", "c", "d"]
    rights = {item["name"]: item["rights"] for item in (await world.call("GET", "/v1/cameras")).json()["items"]}
    assert rights == {"a": ["View"], "b": ["Manage"]}


async def test_rbac_of_one_namespace_shows_that_namespace_only(world: World) -> None:
    await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "yard"}})
    other = camera("gate", access={})
    other["metadata"]["namespace"] = "yard"
    await world.add(other)
    await world.add(camera("front", access={}))

    def only_yard(query: Any) -> bool:
        return bool(query.namespace == "yard" and query.subresource == "view")

    world.cluster._access = only_yard
    assert await names(world, STRANGER) == ["gate"]


async def test_lists_are_filtered(world: World) -> None:
    first = camera("a", presentation={"title": "Nordhafen", "description": "the quay"})
    first["metadata"]["labels"] = {"site": "harbour", "floor": "2"}
    await world.add(first, live=True)
    await world.add(camera("b"))
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"q": "HAFEN"}, ["a"]),
        ({"q": "quay"}, ["a"]),
        ({"q": "nothing"}, []),
        ({"live": "true"}, ["a"]),
        ({"live": "false"}, ["b"]),
        ({"labelSelector": "site=harbour"}, ["a"]),
        ({"labelSelector": "site!=harbour"}, ["b"]),
        ({"labelSelector": "site in (harbour, yard),floor"}, ["a"]),
        ({"namespace": "kube-system"}, []),
        ({"namespace": "default"}, ["a", "b"]),
    ]
    for query, expected in cases:
        assert await names(world, **query) == expected, query
    for bad in ({"labelSelector": "=,"}, {"limit": "501"}, {"limit": "0"}, {"continue": "x"}, {"live": "perhaps"}):
        response = await world.call("GET", "/v1/cameras", params=bad)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-request"), bad


async def test_lists_come_in_pages_that_neither_repeat_nor_skip(world: World) -> None:
    for number in range(5):
        await world.add(camera(f"c{number}"))
    seen, more, pages = [], None, 0
    while pages == 0 or more:
        query = {"limit": "2"} | ({"continue": more} if more else {})
        body = (await world.call("GET", "/v1/cameras", params=query)).json()
        seen += [item["name"] for item in body["items"]]
        more, pages = body["continue"], pages + 1
        if pages == 1:
            await world.add(camera("c00"))
    assert seen == ["c0", "c1", "c2", "c3", "c4"]
    assert pages == 3


async def test_a_summary_says_what_a_wall_of_cameras_needs(world: World) -> None:
    await world.add_running(
        camera(presentation={"title": "Front door"}),
        phase="Streaming",
        live=True,
        viewers=3,
        source={"videoCodec": "H264", "width": 1920, "height": 1080, "fps": 30},
        conditions=[
            condition("Ready", "True", "Ready", "It can be watched."),
            condition("SourceReady", "True", "Streaming", "it sends"),
        ],
    )
    await world.add(camera("new"))
    first, second = (await world.call("GET", "/v1/cameras")).json()["items"]
    assert first == {
        "namespace": "default",
        "name": "front",
        "title": "Front door",
        "description": "",
        "labels": {},
        "phase": "Streaming",
        "ready": True,
        "message": "",
        "live": True,
        "viewers": 3,
        "source": {
            "reason": "Streaming",
            "message": "it sends",
            "videoCodec": "H264",
            "width": 1920,
            "height": 1080,
            "fps": 30,
        },
        "rights": ["View"],
        "whep": "/v1/namespaces/default/cameras/front/whep",
    }
    assert (second["title"], second["phase"], second["ready"], second["source"]["reason"]) == (
        "new",
        "Pending",
        False,
        "Pending",
    )


async def test_a_summary_says_why_a_camera_is_not_ready(world: World) -> None:
    refused = condition("Ready", "False", "NotAccepted", "Change rtsp://root:hunter2@camera.lan/stream.")
    await world.add_running(camera(), phase="Refused", conditions=[refused])
    (item,) = (await world.call("GET", "/v1/cameras")).json()["items"]
    assert (item["ready"], item["message"]) == (False, "Change rtsp://camera.lan/stream.")


async def test_reading_asks_kubernetes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_running()

    async def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked")

    for verb in ("get", "list"):
        monkeypatch.setattr(world.cluster, verb, fail)
    for path in ("/v1/cameras", "/v1/cameras/status", FRONT, f"{FRONT}/status", f"{FRONT}/combined"):
        assert (await world.call("GET", path, ADMIN)).status_code == 200


async def test_lists_by_grant_work_while_kubernetes_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add(camera())

    async def away(*_: Any) -> Any:
        raise UnavailableError("away")

    monkeypatch.setattr(world.cluster, "review_access", away)
    assert await names(world) == ["front"]
    response = await world.call("POST", CAMERAS, ADMIN, json={"name": "x", "spec": RTSP})
    assert (response.status_code, response.json()["code"]) == (503, "cluster-unavailable")


async def test_a_camera_that_another_version_wrote_gives_no_rights_and_breaks_nothing(world: World) -> None:
    await world.add(camera())
    strange = camera("strange")
    strange["metadata"] |= {"uid": "u", "resourceVersion": "999999"}
    strange["spec"]["novelty"] = True
    strange["status"] = {"phase": "Dancing"}
    world.cache.observe(CAMERA, None, strange)
    assert await names(world) == ["front"]
    assert await names(world, ADMIN) == ["front", "strange"]
