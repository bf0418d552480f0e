"""Who may not see a camera cannot tell whether there is one: every answer is the same, after the same questions."""

from typing import Any

import pytest

from sightline_api.auth.caller import SessionRight
from sightline_api.auth.stream import mint
from sightline_kube.errors import UnavailableError
from sightline_kube.kinds import STREAM_SESSION
from sightline_model.names import USER_LABEL
from tests.api.world import ADMIN, OFFER, PATTERN, SDP, START, STRANGER, TRICKLE, VIEWER, World, camera, running_world

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/v1/namespaces/default/cameras/NAME", {}),
    ("HEAD", "/v1/namespaces/default/cameras/NAME", {}),
    ("PUT", "/v1/namespaces/default/cameras/NAME", {"json": {"spec": PATTERN}}),
    ("PATCH", "/v1/namespaces/default/cameras/NAME", {"json": {"labels": {"a": "b"}}}),
    ("DELETE", "/v1/namespaces/default/cameras/NAME", {"headers": {"If-Match": "*"}}),
    ("GET", "/v1/namespaces/default/cameras/NAME/status", {}),
    ("GET", "/v1/namespaces/default/cameras/NAME/combined", {}),
    ("POST", "/v1/namespaces/default/cameras/NAME/whep", {"content": OFFER, "headers": SDP}),
    ("GET", "/v1/namespaces/default/cameras/NAME/whep", {}),
    ("HEAD", "/v1/namespaces/default/cameras/NAME/whep", {}),
    ("OPTIONS", "/v1/namespaces/default/cameras/NAME/whep", {}),
    ("POST", "/v1/namespaces/default/cameras/NAME/webrtc/offer", {"json": {"type": "offer", "sdp": OFFER}}),
    ("GET", "/v1/namespaces/default/cameras/NAME/whep/s-x.y", {}),
    ("PATCH", "/v1/namespaces/default/cameras/NAME/whep/s-x.y", {"content": "x", "headers": TRICKLE}),
    ("DELETE", "/v1/namespaces/default/cameras/NAME/whep/s-x.y", {}),
    ("GET", "/v1/namespaces/default/cameras/NAME/whep/s-x.y/layers", {}),
    ("POST", "/v1/namespaces/default/cameras/NAME/whep/s-x.y/layers", {"json": {}}),
    ("POST", "/v1/namespaces/default/cameras/NAME/whep/s-x.y/report", {"json": {}}),
    ("GET", "/v1/webrtc/config?namespace=default&camera=NAME", {}),
    ("GET", "/v1/sessions?namespace=default&camera=NAME", {}),
    ("POST", "/v1/sessions", {"json": {"namespace": "default", "camera": "NAME"}}),
]
FOREIGN_TOKEN = "of a session of another camera"


def named(more: dict[str, Any], name: str) -> dict[str, Any]:
    """A body that names the camera."""
    return {"json": {**more["json"], "camera": name}} if "camera" in more.get("json", {}) else more


async def answer(world: World, name: str, token: str, asked: tuple[str, str, dict[str, Any]]) -> tuple[Any, ...]:
    """What comes back, with the camera's name taken out of it, and what RBAC was asked meanwhile."""
    method, path, more = asked
    world.asked.clear()
    world.time.move(60)
    response = await world.call(method, path.replace("NAME", name), token, **named(more, name))
    headers = {name: text for name, text in response.headers.items() if name not in {"x-request-id", "content-length"}}
    questions = [(query.verb, query.subresource, query.name.replace(name, "NAME")) for query in world.asked]
    return response.status_code, response.text.replace(name, "NAME"), headers, questions


@pytest.mark.parametrize("asked", ASKED, ids=[f"{method} {path}" for method, path, _ in ASKED])
@pytest.mark.parametrize("token", [STRANGER, FOREIGN_TOKEN])
async def test_absent_and_not_yours_are_one_answer(world: World, token: str, asked: tuple[str, str, Any]) -> None:
    await world.add_running()
    await world.add_running(camera("deleting"))
    if token == FOREIGN_TOKEN:
        obj = await world.add_running(camera("own"))
        right = SessionRight("default", "own", obj["metadata"]["uid"], "s-1")
        # `answer` moves the clock once for each question.
        there = await answer(world, "front", mint(world.signer, "v", right, START.replace(minute=1))[0], asked)
        absent = await answer(world, "no-such", mint(world.signer, "v", right, START.replace(minute=2))[0], asked)
    else:
        there = await answer(world, "front", token, asked)
        absent = await answer(world, "no-such", token, asked)
    assert there == absent
    assert there[0] in {403, 404} or (asked[0], there[0]) == ("GET", 200)
    assert world.agent.calls == []


async def test_while_kubernetes_is_away_neither_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_running()

    async def away(*_: Any) -> Any:
        raise UnavailableError("away")

    monkeypatch.setattr(world.cluster, "review_access", away)
    for asked in ASKED:
        there, absent = [await answer(world, name, STRANGER, asked) for name in ("front", "no-such")]
        assert there == absent, asked


async def test_who_has_the_right_is_told_that_there_is_none(world: World) -> None:
    world.access.add(("viewer", "get", "cameras/view"))
    for method, path, more in ASKED:
        token = ADMIN if method in {"PUT", "PATCH", "DELETE"} or path.endswith(("NAME", "combined")) else VIEWER
        response = await world.call(method, path.replace("NAME", "no-such"), token, **named(more, "no-such"))
        if "/sessions?" in path:
            assert response.json() == {"items": []}
        elif "s-x.y" in path:
            assert response.json()["code"] == "session-not-found"
        else:
            assert response.status_code == 404, (method, path)
            assert method == "HEAD" or response.json()["code"] == "camera-not-found"


async def test_the_holder_of_a_session_is_told_that_its_camera_is_gone(world: World) -> None:
    token, _ = mint(world.signer, "viewer", SessionRight("default", "front", "uid", "s-1"), START)
    response = await world.call("GET", "/v1/namespaces/default/cameras/front/whep", token)
    assert (response.status_code, response.json()["code"]) == (404, "camera-not-found")


async def test_of_namespaces_that_are_not_served_nothing_is_told() -> None:
    async with running_world(namespaces=["doors"]) as world:
        foreign = camera()
        await world.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doors"}})
        await world.cluster.create(foreign)
        for asked in ASKED:
            there, absent = [await answer(world, name, STRANGER, asked) for name in ("front", "no-such")]
            assert there == absent, asked
            assert there[0] == (200 if "/sessions?" in asked[1] else 404)
            assert world.asked == []


async def test_a_session_with_somebody_elses_label_is_not_shown(world: World) -> None:
    """Who writes StreamSessions with kubectl may label them as anybody's where no admission policy looks."""
    await world.add_running()
    made = await world.call("POST", "/v1/sessions", VIEWER, json={"namespace": "default", "camera": "front"})
    (session,) = (await world.cluster.list(STREAM_SESSION)).items
    label = session["metadata"]["labels"][USER_LABEL]
    foreign = {**session, "spec": {**session["spec"], "user": "ann"}}
    foreign["metadata"] = {"name": "s-forged", "namespace": "default", "labels": {**session["metadata"]["labels"]}}
    assert label in foreign["metadata"]["labels"].values()
    await world.cluster.create(foreign)
    for query in ("", "?namespace=default", "?namespace=default&camera=front"):
        listed = (await world.call("GET", f"/v1/sessions{query}")).json()["items"]
        assert [item["id"] for item in listed] == [made.json()["id"]], query
