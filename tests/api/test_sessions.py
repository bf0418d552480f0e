"""Sessions as resources, and what their tokens are good for."""

from typing import Any

import pytest

from sightline_kube.errors import UnavailableError
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from tests.api.world import ADMIN, OFFER, SDP, STRANGER, TRICKLE, VIEWER, WHEP, World, camera, problem, running_world

SESSIONS = "/v1/sessions"
WANTED = {"namespace": "default", "camera": "front"}


async def ticket(world: World, token: str = VIEWER) -> Any:
    response = await world.call("POST", SESSIONS, token, json=WANTED)
    assert response.status_code == 201, response.text
    return response.json()


async def test_a_session_is_made_for_somebody_who_has_nothing_but_its_token(world: World) -> None:
    await world.add_running()
    response = await world.call("POST", SESSIONS, json=WANTED)
    made = response.json()
    assert response.headers["Location"] == f"http://door.test/v1/sessions/default/{made['id']}"
    assert made["endpoint"] == f"http://door.test{WHEP}"
    assert (made["iceServers"], made["expiresAt"]) == ([], "2026-03-01T12:01:00Z")
    assert [s["metadata"]["name"] for s in (await world.cluster.list(STREAM_SESSION)).items] == [made["id"]]

    opened = await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)
    assert opened.status_code == 201
    assert f"/{made['id']}." in opened.headers["Location"]
    audience = f"default/front/{world.cache.list(CAMERA)[0]['metadata']['uid']}"
    claims = world.agent.claims(world.signer, audience, world.time.now())
    assert (claims.session_id, claims.user) == (made["id"], "viewer")
    assert len((await world.cluster.list(STREAM_SESSION)).items) == 1

    # Its token opens within a minute; whoever opened may go on and hang up for longer.
    world.time.move(61)
    session = opened.headers["Location"].removeprefix("http://door.test")
    patched = await world.call("PATCH", session, made["token"], content="x", headers={**TRICKLE, "If-Match": "*"})
    assert patched.status_code == 204
    assert (await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)).status_code == 401
    assert (await world.call("DELETE", session, made["token"])).status_code == 200
    world.time.move(86_401)
    assert (await world.call("DELETE", session, made["token"])).status_code == 401


async def test_a_session_token_is_good_for_its_session_only(world: World) -> None:
    await world.add_running()
    await world.add_running(camera("other"))
    first, second = await ticket(world), await ticket(world)
    own = await world.call("POST", WHEP, VIEWER, content=OFFER, headers=SDP)
    theirs = own.headers["Location"].removeprefix("http://door.test")
    for method, path in (
        ("GET", "/v1/me"),
        ("GET", "/v1/cameras"),
        ("GET", SESSIONS),
        ("POST", SESSIONS),
        ("GET", "/v1/namespaces/default/cameras/front"),
        ("GET", "/v1/namespaces/default/cameras/front/status"),
        ("DELETE", "/v1/namespaces/default/cameras/front"),
        ("DELETE", f"{SESSIONS}/default/{second['id']}"),
        ("DELETE", theirs),
        ("POST", WHEP.replace("front", "other")),
    ):
        body: dict[str, Any] = {"content": OFFER, "headers": SDP} if path.endswith("/whep") else {}
        response = await world.call(method, path, first["token"], **body)
        assert response.status_code in {400, 403}, (method, path)
        if response.status_code == 400:
            assert path == SESSIONS
    assert (await world.call("GET", "/v1/webrtc/config", first["token"])).status_code == 200


async def test_a_camera_made_anew_is_another_camera(world: World) -> None:
    await world.add_running()
    made = await ticket(world)
    assert (await world.call("DELETE", "/v1/namespaces/default/cameras/front", ADMIN)).status_code == 204
    await world.feed.stop()
    world.feed.start()
    await world.add_running()
    response = await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


async def test_a_deleted_session_cannot_be_opened_any_more(world: World) -> None:
    await world.add_running()
    made = await ticket(world)
    assert (await world.call("DELETE", f"{SESSIONS}/default/{made['id']}")).status_code == 204
    assert (await world.cluster.list(STREAM_SESSION)).items == []
    response = await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)
    assert (response.status_code, response.json()["code"]) == (404, "session-not-found")


async def test_a_session_can_be_opened_while_kubernetes_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_running()
    made = await ticket(world)

    async def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("away")

    monkeypatch.setattr(world.cluster, "get", away)
    assert (await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)).status_code == 201
    monkeypatch.setattr(world.cluster, "create", away)
    refused = await world.call("POST", SESSIONS, json=WANTED)
    assert (refused.status_code, refused.json()["code"]) == (503, "cluster-unavailable")


async def test_ending_a_session_that_runs_is_the_agents_business(world: World) -> None:
    await world.add_running()
    made = await ticket(world)
    await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)
    assert (await world.call("DELETE", f"{SESSIONS}/default/{made['id']}")).status_code == 204
    assert world.agent.live == set()
    # The operator writes how it ended; the object stays for its retention.
    assert len((await world.cluster.list(STREAM_SESSION)).items) == 1
    world.agent.reply = lambda _: problem("unauthenticated", 401)
    failed = await world.call("DELETE", f"{SESSIONS}/default/{made['id']}")
    assert (failed.status_code, failed.json()["code"]) == (503, "agent-unavailable")


async def test_one_sees_ones_own_sessions_and_those_of_cameras_one_manages(world: World) -> None:
    await world.add_running()
    world.access.add(("stranger", "get", "cameras/view"))
    mine, theirs = await ticket(world), await ticket(world, STRANGER)

    async def ids(token: str, **query: str) -> list[str]:
        response = await world.call("GET", SESSIONS, token, params=query)
        return sorted(item["id"] for item in response.json()["items"])

    assert await ids(VIEWER) == [mine["id"]]
    assert await ids(ADMIN) == []
    assert await ids(VIEWER, namespace="default", camera="front") == [mine["id"]]
    assert await ids(ADMIN, namespace="default", camera="front") == sorted([mine["id"], theirs["id"]])
    assert (await world.call("GET", SESSIONS, params={"camera": "front"})).status_code == 400

    path = f"{SESSIONS}/default/{mine['id']}"
    body = (await world.call("GET", path)).json()
    assert (body["user"], body["camera"], body["phase"], body["transport"]) == ("viewer", "front", "Requested", "WHEP")
    assert (await world.call("GET", path, ADMIN)).status_code == 200
    for method in ("GET", "DELETE"):
        hidden = await world.call(method, path, STRANGER)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "session-not-found")
    assert (await world.call("DELETE", path, ADMIN)).status_code == 204
    assert (await world.call("GET", path)).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"role": "Publish"}, 422, "not-supported-yet"),
        ({"transport": "HLS"}, 422, "not-supported-yet"),
        ({"role": "Rule"}, 400, "invalid-request"),
        ({"camera": "absent"}, 403, "forbidden"),
        ({"camera": "starting"}, 503, "camera-not-ready"),
        ({"extra": 1}, 400, "invalid-request"),
    ],
)
async def test_what_cannot_be_made(world: World, change: dict[str, Any], status: int, code: str) -> None:
    await world.add_running()
    await world.add(camera("starting"))
    response = await world.call("POST", SESSIONS, json={**WANTED, **change})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await world.cluster.list(STREAM_SESSION)).items == []


async def test_rights_and_quota() -> None:
    async with running_world(quota={"burst": 1, "rate_per_second": 1}) as world:
        await world.add_running()
        assert (await world.call("POST", SESSIONS, STRANGER, json=WANTED)).json()["code"] == "forbidden"
        assert (await world.call("POST", SESSIONS, json=WANTED)).status_code == 201
        assert (await world.call("POST", SESSIONS, json=WANTED)).json()["code"] == "too-many-requests"


async def test_a_refused_offer_leaves_the_made_session_to_the_operator(world: World) -> None:
    await world.add_running()
    made = await ticket(world)
    world.agent.reply = lambda _: problem("source-stalled", 409, reason="Stalled")
    response = await world.call("POST", WHEP, made["token"], content=OFFER, headers=SDP)
    assert response.json()["code"] == "source-stalled"
    await world.app.state.door.recorder.idle()
    assert len((await world.cluster.list(STREAM_SESSION)).items) == 1
