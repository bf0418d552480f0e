"""Players' reports through the front door: checked, paced, handed to the agent of their session."""

import json
from typing import Any

import pytest
from aiohttp import web

from tests.api.test_whep import path_of, watch
from tests.api.world import ADMIN, STRANGER, VIEWER, World, problem

REPORT: dict[str, Any] = {
    "freezes": 2,
    "frozenSeconds": 1.25,
    "framesDropped": 7,
    "framesDecoded": 900,
    "framesPerSecond": 29.5,
    "jitterBufferMs": 41.2,
    "decoder": "FFmpeg",
}


async def opened(world: World) -> str:
    """The address to report to, of a session that was opened."""
    await world.add_running()
    session = path_of((await watch(world)).headers["Location"])
    world.agent.reply = lambda _: web.Response(status=204)
    return f"{session}/report"


async def test_a_report_reaches_the_agent_as_it_is(world: World) -> None:
    report = await opened(world)
    answer = await world.call("POST", report, json={**REPORT, "zoom": "of a later player"})
    assert (answer.status_code, answer.content) == (204, b"")
    call = world.agent.calls[-1]
    assert call.path == f"/whep/{_sid(report)}/report"
    assert call.headers["Content-Type"] == "application/json"
    assert json.loads(call.body) == REPORT


def _sid(report: str) -> str:
    return report.split("/whep/")[1].split(".")[0]


async def test_reports_are_paced_by_session(world: World) -> None:
    report = await opened(world)
    assert (await world.call("POST", report, json=REPORT)).status_code == 204
    soon = await world.call("POST", report, json=REPORT)
    assert (soon.status_code, soon.json()["code"]) == (429, "too-many-requests")
    assert soon.headers["Retry-After"] == "2"
    assert len(world.agent.calls) == 2
    world.time.move(2)
    assert (await world.call("POST", report, json=REPORT)).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        json.dumps({"freezes": -1}).encode(),
        json.dumps({"frozenSeconds": "long"}).encode(),
        b'{"frozenSeconds": NaN}',
        b'{"jitterBufferMs": 1e999}',
        json.dumps({"decoder": "x" * 65}).encode(),
        json.dumps({"decoder": "line\nbreak"}).encode(),
    ],
)
async def test_what_is_no_report_stops_here(world: World, body: bytes) -> None:
    report = await opened(world)
    answer = await world.call("POST", report, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    assert len(world.agent.calls) == 1


async def test_who_may_report(world: World) -> None:
    report = await opened(world)
    assert (await world.call("POST", report, token=None, json=REPORT)).status_code == 401
    forged = report.replace("/report", "x/report")
    assert (await world.call("POST", forged, json=REPORT)).status_code == 404
    for token in (STRANGER, ADMIN, VIEWER):  # as with PATCH: the signed address is the right
        assert (await world.call("POST", report, token, json=REPORT)).status_code == 204
        world.time.move(2)


async def test_the_token_that_opened_the_session_reports_after_it_has_expired(world: World) -> None:
    await world.add_running()
    made = await world.call("POST", "/v1/sessions", json={"namespace": "default", "camera": "front"})
    ticket = made.json()
    answer = await watch(world, ticket["token"])
    assert answer.status_code == 201
    world.agent.reply = lambda _: web.Response(status=204)
    world.time.move(3600)
    report = path_of(answer.headers["Location"]) + "/report"
    assert (await world.call("POST", report, ticket["token"], json=REPORT)).status_code == 204
    assert (await watch(world, ticket["token"])).status_code == 401


async def test_a_session_that_is_over_is_told(world: World) -> None:
    report = await opened(world)
    world.agent.reply = lambda _: problem("session-not-found", 404)
    answer = await world.call("POST", report, json=REPORT)
    assert (answer.status_code, answer.json()["code"]) == (404, "session-not-found")
