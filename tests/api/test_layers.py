"""Qualities through the front door: asked for at the beginning, looked at, changed; and how they are shown."""

import json
from typing import Any

import pytest
from aiohttp import web

from sightline_kube.kinds import STREAM_SESSION
from tests.api.test_whep import path_of
from tests.api.world import ANSWER, OFFER, SDP, VIEWER, WHEP, World, camera, problem

RELATION = "urn:ietf:params:whep:ext:core:layer"
SD = {"name": "sd", "source": {"testPattern": {"width": 320, "height": 240}}}
SHOWN: dict[str, Any] = {
    "0": {
        "active": [{"encodingId": "main", "width": 1280, "height": 720, "bitrate": 900_000}],
        "inactive": [{"encodingId": "sd", "width": None, "height": None, "bitrate": None}],
        "selected": "main",
        "automatic": True,
    }
}


def answered(request: web.Request) -> web.Response:
    """What an agent with two qualities answers."""
    if request.path == "/whep":
        headers = {"ETag": '"abc"', "Link": f'</whep/s/layers>; rel="{RELATION}"'}
        return web.Response(status=201, text=ANSWER, content_type="application/sdp", headers=headers)
    return web.json_response(SHOWN)


async def opened(world: World, query: str = "") -> Any:
    await world.add_running(camera(profiles=[SD]))
    world.agent.reply = answered
    response = await world.call("POST", WHEP + query, VIEWER, content=OFFER, headers=SDP)
    assert response.status_code == 201, response.text
    return response


async def layers_of(world: World) -> str:
    return f"{path_of((await opened(world)).headers['Location'])}/layers"


async def test_a_quality_is_asked_for_and_written_down(world: World) -> None:
    queries: list[dict[str, str]] = []

    def reply(request: web.Request) -> web.Response:
        queries.append(dict(request.query))
        return answered(request)

    await world.add_running(camera(profiles=[SD]))
    world.agent.reply = reply
    for query in ("?profile=sd", ""):
        await world.call("POST", WHEP + query, VIEWER, content=OFFER, headers=SDP)
    assert queries == [{"profile": "sd"}, {}]
    specs = [obj["spec"] for obj in (await world.cluster.list(STREAM_SESSION)).items]
    assert sorted(str(spec.get("profile")) for spec in specs) == ["None", "sd"]


async def test_an_unknown_quality_is_refused_with_those_that_there_are(world: World) -> None:
    await world.add_running(camera(profiles=[SD]))
    world.agent.reply = lambda _: problem(
        "profile-not-found", 404, detail="the camera has no quality 'hd'; it has main, sd"
    )
    response = await world.call("POST", f"{WHEP}?profile=hd", VIEWER, content=OFFER, headers=SDP)
    assert (response.status_code, response.json()["code"]) == (404, "profile-not-found")
    assert "main, sd" in response.json()["detail"]
    assert (await world.call("POST", f"{WHEP}?profile=H%20D", VIEWER, content=OFFER, headers=SDP)).status_code == 400


async def test_the_answer_leads_to_the_qualities_of_the_session(world: World) -> None:
    response = await opened(world)
    assert response.headers["Link"] == f'<{response.headers["Location"]}/layers>; rel="{RELATION}"'


async def test_one_quality_is_no_choice(world: World) -> None:
    await world.add_running()
    response = await world.call("POST", WHEP, VIEWER, content=OFFER, headers=SDP)
    assert "Link" not in response.headers


async def test_the_qualities_of_a_session(world: World) -> None:
    response = await world.call("GET", await layers_of(world), VIEWER)
    assert (response.status_code, response.json()) == (200, SHOWN)
    assert (world.agent.calls[-1].method, world.agent.calls[-1].path.rpartition("/")[2]) == ("GET", "layers")


async def test_a_choice_reaches_the_agent(world: World) -> None:
    layers = await layers_of(world)
    wanted = {"mediaId": "0", "encodingId": "sd", "maxSpatialLayerId": 1}
    response = await world.call("POST", layers, VIEWER, json=wanted)
    assert (response.status_code, response.json()) == (200, SHOWN)
    assert json.loads(world.agent.calls[-1].body) == {"mediaId": "0", "encodingId": "sd"}
    await world.call("POST", layers, VIEWER, json={})
    assert json.loads(world.agent.calls[-1].body) == {}


@pytest.mark.parametrize("code", ["profile-not-found", "source-unreachable", "conflict", "session-not-found"])
async def test_what_the_agent_refuses_is_passed_on(world: World, code: str) -> None:
    layers = await layers_of(world)
    world.agent.reply = lambda _: problem(code, 404)
    assert (await world.call("POST", layers, VIEWER, json={"encodingId": "sd"})).json()["code"] == code


@pytest.mark.parametrize("answer", ["", "{", "[]", '{"0": {}}', '{"0": {"active": [{}]}}'])
async def test_an_answer_that_is_none(world: World, answer: str) -> None:
    layers = await layers_of(world)
    world.agent.reply = lambda _: web.Response(text=answer, content_type="application/json")
    assert (await world.call("GET", layers, VIEWER)).json()["code"] == "agent-unavailable"


async def test_a_choice_that_is_none_goes_nowhere(world: World) -> None:
    layers = await layers_of(world)
    calls = len(world.agent.calls)
    wrong: list[Any] = [{"encodingId": ""}, {"encodingId": 7}, [], {"mediaId": "x" * 65}]
    for body in wrong:
        assert (await world.call("POST", layers, VIEWER, json=body)).json()["code"] == "invalid-request"
    assert len(world.agent.calls) == calls


async def test_it_takes_the_sessions_address_and_a_token(world: World) -> None:
    layers = await layers_of(world)
    assert (await world.call("POST", layers, "", json={})).status_code == 401
    forged = layers.replace(".", ".x")
    assert (await world.call("GET", forged, VIEWER)).json()["code"] == "session-not-found"
    assert (await world.call("OPTIONS", layers, "")).headers["Allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_session_that_is_made_for_a_quality(world: World) -> None:
    await world.add_running(camera(profiles=[SD]))
    wanted = {"namespace": "default", "camera": "front"}
    made = (await world.call("POST", "/v1/sessions", VIEWER, json={**wanted, "profile": "sd"})).json()
    assert made["endpoint"] == f"http://door.test{WHEP}?profile=sd"
    refused = await world.call("POST", "/v1/sessions", VIEWER, json={**wanted, "profile": "hd"})
    assert (refused.status_code, refused.json()["code"]) == (404, "profile-not-found")
    assert "main, sd" in refused.json()["detail"]


async def test_the_status_has_them(world: World) -> None:
    sd = {"name": "sd", "state": "Unreachable", "lastError": "rtsp://root:hunter2@camera.lan refused"}
    await world.add_running(camera(profiles=[SD]), profiles=[sd])
    body = (await world.call("GET", "/v1/namespaces/default/cameras/front/status", VIEWER)).json()
    assert body["profiles"] == [
        {
            "name": "sd",
            "state": "Unreachable",
            "videoCodec": "",
            "audioCodec": "",
            "width": 0,
            "height": 0,
            "lastError": "rtsp://camera.lan refused",
        }
    ]
