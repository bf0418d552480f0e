"""An agent that begins without a camera, adopted over its control port and watched by a stock client."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from sightline_agent.errors import SettingsError
from sightline_agent.runtime import Runtime
from sightline_agent.spare import Spare, parse_start
from sightline_agent.standalone import parse_source
from sightline_model.agent import (
    SPARE_VARIABLE,
    Adoption,
    AgentConfig,
    AgentReport,
    CameraIdentity,
    SourceCredentials,
    SpareStart,
    spare_identity,
)
from sightline_model.camera import Profile
from sightline_model.camera import Source as SourceSpec
from sightline_model.reasons import SourceReason
from sightline_model.sealing import SealingKey, seal
from sightline_model.tokens import Signer, TokenRole, generate_private_key_pem
from tests.agents.test_runtime import PATTERN, agent, real_pictures, watch
from tests.helpers.rtsp_server import Habits, serve

SIGNER = Signer.from_pem(generate_private_key_pem())
NEXT = Signer.from_pem(generate_private_key_pem())
SPARE = spare_identity("site", "spare-one")
DOOR = CameraIdentity(namespace="site", name="door", uid="u-1")
YARD = CameraIdentity(namespace="site", name="yard", uid="u-2")


def start_of(*signers: Signer) -> str:
    keys = [signer.public_jwk() for signer in signers]
    return json.dumps(SpareStart(identity=SPARE, token_keys=keys).to_wire())


def config(camera: CameraIdentity = DOOR, url: str = PATTERN, **changes: Any) -> AgentConfig:
    source, _ = parse_source(url)
    base = AgentConfig(camera=camera, source=source, token_keys=[SIGNER.public_jwk()], revision="one")
    return base.model_copy(update=changes)


def bearer(audience: str = SPARE.audience, role: TokenRole = "Control", sid: str = "", by: Signer = SIGNER) -> Any:
    return {"Authorization": f"Bearer {by.sign(audience, 'somebody', role, sid, datetime.now(UTC))}"}


@asynccontextmanager
async def spare(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient, AgentReport]]:
    monkeypatch.setenv("POD_IP", "127.0.0.1")
    monkeypatch.setenv("SIGHTLINE_AGENT_CONTROL_PORT", "0")
    monkeypatch.setenv("SIGHTLINE_AGENT_MEDIA_PORT", "0")
    monkeypatch.setenv(SPARE_VARIABLE, start_of(SIGNER))
    async with agent([]) as (runtime, client):
        yield runtime, client, await status(client)


async def status(client: httpx2.AsyncClient) -> AgentReport:
    answer = await client.get("/v1/status", headers=bearer())
    return AgentReport.model_validate(answer.json())


def sealed(adoption: Adoption, key: str, purpose: str = SPARE.audience) -> dict[str, str]:
    return {"sealed": seal(json.dumps(adoption.to_wire()).encode(), key, purpose)}


async def put(client: httpx2.AsyncClient, body: Any, headers: Any = None) -> httpx2.Response:
    return await client.put("/v1/config", json=body, headers=headers or bearer())


@pytest.mark.stacks
async def test_a_spare_waits_and_is_watched_once_it_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spare(monkeypatch) as (runtime, client, report):
        assert (report.camera, report.revision, report.source.reason) == (SPARE, "", SourceReason.IDLE)
        assert (await client.get("/readyz")).status_code == 200
        ticket = SIGNER.sign(SPARE.audience, "mallory", "View", "s-0", datetime.now(UTC))
        with pytest.raises(AssertionError, match="agent-unavailable"):
            await watch(client, 1, ticket)
        assert not runtime.renditions.report().verified
        answer = await put(client, sealed(Adoption(config=config()), report.sealing_key))
        assert answer.status_code == 200
        adopted = AgentReport.model_validate(answer.json())
        assert (adopted.camera, adopted.revision, adopted.instance) == (DOOR, "one", report.instance)
        ticket = SIGNER.sign(DOOR.audience, "alice", "View", "s-1", datetime.now(UTC))
        assert await watch(client, 5, ticket) == "/whep/s-1"
        # Orders come under the name that its pod was born with, viewers under its camera's.
        assert (await client.get("/v1/status", headers=bearer(DOOR.audience))).status_code == 401
        ticket = SIGNER.sign(SPARE.audience, "mallory", "View", "s-2", datetime.now(UTC))
        with pytest.raises(AssertionError, match="unauthenticated"):
            await watch(client, 1, ticket)


@pytest.mark.stacks
async def test_who_listens_hears_of_the_adoption(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spare(monkeypatch) as (_, client, report):
        async with client.stream("GET", "/v1/events", headers=bearer()) as response:
            cameras: list[str] = []
            async for line in response.aiter_lines():
                event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if event.get("type") != "snapshot":
                    continue
                cameras.append(event["report"]["camera"]["name"])
                if len(cameras) == 2:
                    break
                await put(client, sealed(Adoption(config=config()), report.sealing_key))
        assert cameras == ["spare-one", "door"]


@pytest.mark.stacks
async def test_who_may_not_adopt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spare(monkeypatch) as (runtime, client, report):
        good = sealed(Adoption(config=config()), report.sealing_key)
        nobody: dict[str, str] = {}
        for headers in (nobody, bearer(by=NEXT), bearer(DOOR.audience)):
            answer = await client.put("/v1/config", json=good, headers=headers)
            assert answer.status_code == 401
        viewer = bearer(role="View", sid="s-1")
        assert (await put(client, good, viewer)).status_code == 403
        wrong = [
            config().to_wire(),
            {"sealed": ""},
            {"sealed": b64encode(b"x" * 80).decode()},
            sealed(Adoption(config=config()), SealingKey().public),
            sealed(Adoption(config=config()), report.sealing_key, "site/spare-two/spare"),
            sealed(Adoption(config=config(token_keys=[])), report.sealing_key),
            {"sealed": seal(b"{}", report.sealing_key, SPARE.audience)},
        ]
        for body in wrong:
            answer = await put(client, body)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request"), body
        assert (await status(client)).camera == SPARE
        assert runtime.agent.config.camera == SPARE


@pytest.mark.stacks
async def test_the_first_camera_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with spare(monkeypatch) as (_, client, report):
        key = report.sealing_key
        assert (await put(client, sealed(Adoption(config=config()), key))).status_code == 200
        assert (await put(client, sealed(Adoption(config=config(YARD)), key))).status_code == 409
        changed = config(revision="two", profiles=[Profile(name="sd", source=parse_source(PATTERN)[0])])
        answer = await put(client, sealed(Adoption(config=changed), key))
        assert answer.json()["revision"] == "two"
        assert [said["profile"] for said in answer.json()["profiles"]] == ["sd"]
        # A rotated key is told like everything else.
        turned = config(revision="three", token_keys=[NEXT.public_jwk()])
        assert (await put(client, sealed(Adoption(config=turned), key))).status_code == 200
        assert (await put(client, sealed(Adoption(config=turned), key))).status_code == 401
        assert (await put(client, sealed(Adoption(config=turned), key), bearer(by=NEXT))).status_code == 200


@pytest.mark.stacks
async def test_the_credentials_that_came_with_the_config_open_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    habits = Habits(access_units=real_pictures(), username="admin", password="hunter2")
    async with serve(habits) as camera, spare(monkeypatch) as (runtime, client, report):
        wanted = config(url=camera.url)
        wrong = Adoption(config=wanted, credentials={"main": SourceCredentials(username="admin", password="old")})
        right = Adoption(config=wanted, credentials={"main": SourceCredentials(username="admin", password="hunter2")})
        assert "hunter2" not in repr(right)
        states: list[SourceReason] = []
        runtime.renditions.subscribe(lambda said: states.append(said.reason))
        assert (await put(client, sealed(wrong, report.sealing_key))).status_code == 200
        ticket = SIGNER.sign(DOOR.audience, "alice", "View", "s-1", datetime.now(UTC))
        with pytest.raises(AssertionError, match="source-authentication-failed"):
            await watch(client, 1, ticket)
        answer = await put(client, sealed(right, report.sealing_key))
        assert "hunter2" not in answer.text
        while not runtime.renditions.report().verified:  # the next attempt
            await asyncio.sleep(0.01)
        ticket = SIGNER.sign(DOOR.audience, "alice", "View", "s-2", datetime.now(UTC))
        assert await watch(client, 5, ticket)
        assert SourceReason.AUTHENTICATION_FAILED in states


def test_what_a_spare_knows_of_credentials() -> None:
    one = Spare(SpareStart(identity=SPARE, token_keys=[SIGNER.public_jwk()]))
    read = one.credentials_of("main")
    assert read(None) is None
    one.adopt(Adoption(config=config(), credentials={"main": SourceCredentials(token="t")}))
    found = read(None)
    assert found is not None
    assert (found.username, found.password, found.token) == ("", "", "t")
    assert one.credentials_of("sd")(None) is None
    assert one.config().source == SourceSpec.model_validate({"testPattern": {}})


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"identity": {"namespace": "a"}}', start_of()])
def test_what_is_no_start(text: str) -> None:
    with pytest.raises(SettingsError, match="SIGHTLINE_AGENT_SPARE"):
        parse_start(text)
