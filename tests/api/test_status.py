"""How cameras are, as programs read it."""

from typing import Any

from tests.api.world import ADMIN, STRANGER, VIEWER, World, camera, condition

STATUS = "/v1/namespaces/default/cameras/front/status"


async def test_a_running_camera(world: World) -> None:
    await world.add_running(
        phase="Streaming",
        live=True,
        viewers=2,
        source={
            "videoCodec": "H264",
            "width": 1280,
            "height": 720,
            "fps": 25,
            "bitrate": 2_000_000,
            "runningSince": "2026-03-01T11:59:00Z",
            "lastFrameTime": "2026-03-01T11:59:55Z",
            "reconnects": 1,
            "lastError": "rtsp://root:hunter2@camera.lan closed",
        },
        conditions=[condition("SourceReady", "True", "Streaming"), condition("Ready", "True", "Ready")],
    )
    body = (await world.call("GET", STATUS)).json()
    assert body["conditions"][0]["type"] == "SourceReady"
    del body["conditions"]
    assert body == {
        "namespace": "default",
        "name": "front",
        "phase": "Streaming",
        "ready": True,
        "running": True,
        "streamType": "webrtc",
        "viewers": 2,
        "peerConnections": 2,
        "uptimeSeconds": 60,
        "lastFrameTime": "2026-03-01T11:59:55Z",
        "live": True,
        "source": {
            "state": "Streaming",
            "message": "",
            "videoCodec": "H264",
            "audioCodec": "",
            "width": 1280,
            "height": 720,
            "fps": 25,
            "bitrate": 2_000_000,
            "reconnects": 1,
            "runningSince": "2026-03-01T11:59:00Z",
            "lastError": "rtsp://camera.lan closed",
        },
        "profiles": [],
    }


async def test_a_camera_that_fails_says_why_and_has_no_uptime(world: World) -> None:
    await world.add_running(
        phase="Degraded",
        source={"runningSince": "2026-03-01T11:00:00Z"},
        conditions=[condition("SourceReady", "False", "AuthenticationFailed", "the camera said 401")],
    )
    body = (await world.call("GET", STATUS)).json()
    assert (body["running"], body["ready"], body["uptimeSeconds"]) == (False, False, 0)
    assert body["source"]["state"] == "AuthenticationFailed"
    assert body["source"]["message"] == "the camera said 401"
    assert body["source"]["runningSince"] is None


async def test_a_camera_that_nobody_has_looked_at_yet(world: World) -> None:
    await world.add(camera())
    body = (await world.call("GET", STATUS)).json()
    assert (body["phase"], body["source"]["state"], body["lastFrameTime"]) == ("Pending", "Pending", None)


async def test_rights(world: World) -> None:
    managed = {"grants": [{"subjects": ["group:guards"], "roles": ["Manage"]}]}
    await world.add(camera())
    await world.add(camera("managed", access=managed))
    assert (await world.call("GET", STATUS, VIEWER)).status_code == 200
    assert (await world.call("GET", STATUS.replace("front", "managed"), VIEWER)).status_code == 200
    refused = await world.call("GET", STATUS, STRANGER)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    absent = await world.call("GET", STATUS.replace("front", "absent"), ADMIN)
    assert (absent.status_code, absent.json()["code"]) == (404, "camera-not-found")


async def test_all_statuses_with_filters_and_pages(world: World) -> None:
    await world.add(camera("a"), live=True)
    await world.add(camera("b"))
    await world.add(camera("hidden", access={}))

    async def read(**query: Any) -> Any:
        return (await world.call("GET", "/v1/cameras/status", params=query)).json()

    body = await read()
    assert ([item["name"] for item in body["items"]], body["continue"]) == (["a", "b"], None)
    assert [item["name"] for item in (await read(live="true"))["items"]] == ["a"]
    first = await read(limit="1")
    assert first["continue"]
    assert [item["name"] for item in (await read(limit="1", **{"continue": first["continue"]}))["items"]] == ["b"]


async def test_description_and_status_at_once(world: World) -> None:
    await world.add_running()
    path = "/v1/namespaces/default/cameras/front"
    combined = (await world.call("GET", f"{path}/combined", ADMIN)).json()
    assert combined["config"] == (await world.call("GET", path, ADMIN)).json()
    assert combined["status"] == (await world.call("GET", STATUS, ADMIN)).json()
