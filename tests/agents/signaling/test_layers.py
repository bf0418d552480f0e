"""WHEP's layer extension: what a viewer may choose from, and its choice."""

import json

import pytest

from tests.agents.signaling.test_whep import OFFER, Agent

JSON = {"content-type": "application/json"}
SDP = {"content-type": "application/sdp"}
LAYERS = "/whep/s-abc/layers"
LONG = json.dumps({"encodingId": "x" * 65})


async def opened(layered: bool = True) -> tuple[Agent, dict[str, str]]:
    agent = Agent()
    agent.sessions.layered = layered
    answer = await agent.call("POST", "/whep", SDP, OFFER)
    assert answer.status == 201
    return agent, answer.headers


async def test_the_answer_leads_there_if_there_is_a_choice() -> None:
    _, headers = await opened()
    assert headers["link"] == f'<{LAYERS}>; rel="urn:ietf:params:whep:ext:core:layer"'
    _, headers = await opened(layered=False)
    assert "link" not in headers


async def test_what_may_be_chosen() -> None:
    agent, _ = await opened()
    answer = await agent.call("GET", LAYERS)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "0": {
            "active": [{"encodingId": "main", "width": 1280, "height": 720, "bitrate": 900_000}],
            "inactive": [{"encodingId": "sd"}],
            "selected": "main",
            "automatic": True,
        }
    }


@pytest.mark.parametrize(
    ("body", "selected"),
    [
        ({"mediaId": "0", "encodingId": "sd"}, "sd"),
        ({"encodingId": "sd", "spatialLayerId": 1}, "sd"),
        ({"mediaId": "0"}, None),
        ({}, None),
    ],
)
async def test_a_choice(body: dict[str, object], selected: str | None) -> None:
    agent, _ = await opened()
    answer = await agent.call("POST", LAYERS, JSON, json.dumps(body))
    assert answer.status == 200
    assert agent.sessions.selected == [selected]
    assert json.loads(answer.body)["0"]["automatic"] is (selected is None)


@pytest.mark.parametrize(
    "body",
    ["", "no", "[]", '{"mediaId": "1"}', '{"encodingId": 7}', '{"encodingId": ""}', LONG],
)
async def test_a_choice_that_is_none(body: str) -> None:
    agent, _ = await opened()
    answer = await agent.call("POST", LAYERS, JSON, body)
    assert (answer.status, answer.problem) == (400, "invalid-request")
    assert agent.sessions.selected == []


async def test_other_refusals() -> None:
    agent, _ = await opened()
    assert (await agent.call("POST", LAYERS, SDP, "{}")).problem == "unsupported-media-type"
    assert (await agent.call("POST", LAYERS, JSON, "{" * 5000)).problem == "body-too-large"
    assert (await agent.call("GET", "/whep/s-other/layers")).problem == "session-not-found"
    assert (await agent.call("OPTIONS", LAYERS)).headers["allow"] == "OPTIONS, GET, POST"


async def test_a_quality_from_the_beginning() -> None:
    agent = Agent()
    await agent.call("POST", "/whep?profile=sd", SDP, OFFER)
    await agent.call("POST", "/whep", SDP, OFFER)
    assert [request.profile for request in agent.sessions.requests] == ["sd", None]
