"""What no well-meaning client sends: half a request, an odd host, text that is none. Nothing of it is a bug of ours."""

import asyncio
import json
from typing import Any

import pytest

import sightline_api.middleware as middleware
from sightline_api.problems import CLIENT_CLOSED_REQUEST
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from tests.api.world import ADMIN, CAMERAS, FRONT, MERGE, OFFER, SDP, VIEWER, WHEP, World
from tests.helpers.asgi import http_scope


async def half(world: World, method: str, path: str, headers: dict[str, str], then: Any) -> tuple[int, dict[str, Any]]:
    """Send the beginning of a body, and then whatever `then` gives; status and body of the answer."""
    parts = iter([{"type": "http.request", "body": b"v=0", "more_body": True}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(parts, None) or await then()

    async def send(message: Any) -> None:
        sent.append(message)

    await world.app(http_scope(method, path, headers), receive, send)
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {**(json.loads(text) if text else {}), "headers": dict(sent[0]["headers"])}


HALVES = pytest.mark.parametrize(
    ("method", "path", "media"),
    [
        ("POST", WHEP, "application/sdp"),
        ("PATCH", FRONT, "application/merge-patch+json"),
        ("POST", f"{FRONT}/webrtc/offer", "application/json"),
        ("POST", CAMERAS, "application/json"),
    ],
)


@HALVES
async def test_who_hangs_up_in_the_middle_of_a_body_is_no_bug(
    world: World, capsys: pytest.CaptureFixture[str], method: str, path: str, media: str
) -> None:
    await world.add_running()

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    headers = {"Host": "door.test", "Authorization": f"Bearer {ADMIN}", "Content-Type": media}
    status, _ = await half(world, method, path, headers, gone)
    assert status == CLIENT_CLOSED_REQUEST
    assert "Traceback" not in capsys.readouterr().out
    assert world.agent.calls == []


@HALVES
async def test_who_is_slow_with_a_body_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, path: str, media: str
) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.0)
    await world.add_running()

    async def never() -> Any:
        await asyncio.Event().wait()

    headers = {"Host": "door.test", "Authorization": f"Bearer {ADMIN}", "Content-Type": media}
    async with asyncio.timeout(10):
        status, body = await half(world, method, path, headers, never)
    assert (status, body["code"]) == (400, "invalid-request")
    assert body["headers"][b"connection"] == b"close"


async def test_the_time_for_a_body_ends_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the camera is not waiting for the client."""
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.0)
    await world.add_running()

    async def takes_its_time(request: Any) -> Any:
        await asyncio.sleep(0)
        world.agent.reply = None
        return await world.agent._handle(request)

    world.agent.reply = takes_its_time
    assert (await world.call("POST", WHEP, content=OFFER, headers=SDP)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        '{"\\ud800": 1}',
        '{"labels": {"floor": "\\ud800"}}',
        '{"annotations": {"\\udfff": "a"}}',
        '{"resourceVersion": "\\ud800"}',
        '{"spec": ' + '{"a": ' * 940 + "1" + "}" * 941,
        '{"labels": {"floor": ' + "9" * 5000 + "}}",
        "",
        "[]",
        "\xff",
    ],
)
async def test_a_patch_that_is_no_text_is_refused(world: World, body: str) -> None:
    before = await world.add_running()
    response = await world.call("PATCH", FRONT, ADMIN, content=body.encode("latin-1"), headers=MERGE)
    assert (response.status_code, response.json()["code"]) == (400, "invalid-request")
    assert await world.cluster.get(CAMERA, "default", "front") == before


@pytest.mark.parametrize("host", ["door.test:port", "a b", "door.test/x", "[::1", "user@door.test"])
async def test_an_odd_host_is_refused_before_anything_is_done(world: World, host: str) -> None:
    await world.add_running()
    body = {"name": "made", "spec": {"source": {"testPattern": {}}}}
    answers = [
        await world.call("POST", CAMERAS, ADMIN, json=body, headers={"Host": host}),
        await world.call("POST", WHEP, content=OFFER, headers={**SDP, "Host": host}),
        await world.call("POST", f"{FRONT}/webrtc/offer", json={"type": "offer", "sdp": OFFER}, headers={"Host": host}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(400, "invalid-request")] * 3
    assert (await world.call("GET", f"{CAMERAS}/made", ADMIN)).status_code == 404
    assert world.agent.calls == []
    assert (await world.cluster.list(STREAM_SESSION)).items == []


@pytest.mark.parametrize("host", ["sightline_api:8080", "[::1]:8080", "[fd00::7]", "127.0.0.1", "door.test."])
async def test_a_host_that_people_have_is_taken(world: World, host: str) -> None:
    await world.add_running()
    response = await world.call("POST", WHEP, VIEWER, content=OFFER, headers={**SDP, "Host": host})
    assert response.status_code == 201
    assert response.headers["Location"].startswith(f"http://{host}/v1/")
