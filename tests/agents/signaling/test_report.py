"""Players' reports as HTTP."""

import json

import httpx2
import pytest
from starlette.applications import Starlette

from sightline_agent.control.problems import on_problem
from sightline_agent.errors import ProblemError
from sightline_agent.signaling.report import MAX_REPORT_BYTES, report_routes
from sightline_model.agent import PlayerReport

REPORT = {"freezes": 2, "frozenSeconds": 1.25, "framesPerSecond": 29.5, "decoder": "FFmpeg"}
JSON = {"Content-Type": "application/json"}


class Agent:
    def __init__(self) -> None:
        self.noted: list[tuple[str, PlayerReport]] = []
        app = Starlette(routes=report_routes(self.note), exception_handlers={ProblemError: on_problem})
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://agent.test")

    def note(self, sid: str, report: PlayerReport) -> bool:
        self.noted.append((sid, report))
        return sid == "s-1"

    async def post(self, body: bytes, sid: str = "s-1", headers: dict[str, str] = JSON) -> httpx2.Response:
        return await self.client.post(f"/whep/{sid}/report", content=body, headers=headers)


async def test_a_report_is_noted() -> None:
    agent = Agent()
    answer = await agent.post(json.dumps({**REPORT, "later": True}).encode())
    assert (answer.status_code, answer.content) == (204, b"")
    assert agent.noted == [
        ("s-1", PlayerReport(freezes=2, frozen_seconds=1.25, frames_per_second=29.5, decoder="FFmpeg"))
    ]


async def test_a_session_that_is_not_there() -> None:
    answer = await Agent().post(json.dumps(REPORT).encode(), sid="s-2")
    assert (answer.status_code, answer.json()["code"]) == (404, "session-not-found")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", JSON, 400),
        (b"{", JSON, 400),
        (b"[" * 2000, JSON, 400),
        (b"\xff", JSON, 400),
        (b'{"freezes": -1}', JSON, 400),
        (b'{"frozenSeconds": NaN}', JSON, 400),
        (b'{"framesPerSecond": 1e400}', JSON, 400),
        (b'{"decoder": "a\\u0000b"}', JSON, 400),
        (b" " * (MAX_REPORT_BYTES + 1), JSON, 413),
        (b"{}", {"Content-Type": "application/sdp"}, 415),
    ],
)
async def test_what_is_no_report_is_refused(body: bytes, headers: dict[str, str], status: int) -> None:
    agent = Agent()
    answer = await agent.post(body, headers=headers)
    assert answer.status_code == status
    assert agent.noted == []
