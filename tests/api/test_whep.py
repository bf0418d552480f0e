"""Watching through the front door: the conformance list of WHEP, and what happens when parts are away."""

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web

from sightline_api import outbound
from sightline_api.auth.caller import SessionRight
from sightline_api.auth.stream import mint
from sightline_kube.errors import NotFoundError, UnavailableError
from sightline_kube.kinds import CAMERA, STREAM_SESSION
from sightline_model.names import CAMERA_LABEL
from sightline_model.tokens import Signer, generate_private_key_pem, sign_session_path
from tests.api.tokens import AUDIENCE, Issuer
from tests.api.world import (
    ADMIN,
    ANSWER,
    OFFER,
    SDP,
    START,
    STRANGER,
    TRICKLE,
    VIEWER,
    WHEP,
    FakeAgent,
    World,
    camera,
    condition,
    problem,
    running_world,
)
from tests.helpers.asgi import http_scope


async def watch(world: World, token: str = VIEWER, **more: Any) -> Any:
    return await world.call("POST", WHEP, token, content=OFFER, headers={**SDP, **more.pop("headers", {})}, **more)


def path_of(location: str) -> str:
    assert location.startswith("http://door.test/")
    return location.removeprefix("http://door.test")


async def test_an_offer_is_answered_with_a_session(world: World) -> None:
    obj = await world.add_running()
    response = await watch(world, headers={"User-Agent": "OBS/32"})
    assert response.status_code == 201
    assert response.text == ANSWER
    assert response.headers["Content-Type"].split(";")[0] == "application/sdp"
    assert response.headers["ETag"] == '"abc"'
    assert response.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(rf"http://door\.test{WHEP}/s-[a-z0-9]{{24}}\.[\w-]+", response.headers["Location"])
    assert world.agent.calls[0].body == OFFER
    audience = f"default/front/{obj['metadata']['uid']}"
    claims = world.agent.claims(world.signer, audience, world.time.now())
    assert (claims.user, claims.role) == ("viewer", "View")
    session = (await world.cluster.list(STREAM_SESSION, "default")).items[0]
    assert session["metadata"]["name"] == claims.session_id
    assert session["spec"]["cameraRef"] == {"name": "front"}
    assert session["spec"]["user"] == "viewer"
    assert session["spec"]["client"] == "OBS/32"
    assert session["metadata"]["labels"][CAMERA_LABEL] == "front"
    assert session["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"]
    assert world.metric("sightline_api_whep_total", outcome="created") == 1


async def test_content_types_may_have_parameters_and_others_are_refused(world: World) -> None:
    await world.add_running()
    assert (await watch(world, headers={"Content-Type": "application/sdp; charset=utf-8"})).status_code == 201
    refused = await watch(world, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported-media-type")


@pytest.mark.parametrize("body", [b"", b"hello", b"\xff\xfe"])
async def test_what_is_no_sdp_is_refused(world: World, body: bytes) -> None:
    await world.add_running()
    response = await world.call("POST", WHEP, content=body, headers=SDP)
    assert (response.status_code, response.json()["code"]) == (400, "invalid-sdp")
    assert world.agent.calls == []


async def test_large_bodies_are_refused_whether_announced_or_not(world: World) -> None:
    await world.add_running()
    large = b"v=0" + b"a" * 65536

    async def in_parts() -> Any:
        for start in range(0, len(large), 4096):
            yield large[start : start + 4096]

    for body in (large, in_parts()):
        response = await world.call("POST", WHEP, content=body, headers=SDP)
        assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


async def test_get_head_and_options_answer_without_content(world: World) -> None:
    await world.add_running()
    get = await world.call("GET", WHEP)
    assert (get.status_code, get.content) == (204, b"")
    head = await world.call("HEAD", WHEP)
    assert (head.status_code, head.headers["Content-Type"], head.content) == (200, "application/sdp", b"")
    options = await world.call("OPTIONS", WHEP, token=None)
    assert options.status_code == 204
    assert options.headers["Accept-Post"] == "application/sdp"
    assert "PATCH" in options.headers["Access-Control-Allow-Methods"]


async def test_a_preflight_needs_no_token_and_opens_what_players_need(world: World) -> None:
    asked = {"Origin": "https://page.test", "Access-Control-Request-Method": "POST"}
    response = await world.call("OPTIONS", WHEP, token=None, headers=asked)
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert {"Authorization", "Content-Type", "If-Match"} <= set(
        response.headers["Access-Control-Allow-Headers"].split(", ")
    )
    allowed = set(response.headers["Access-Control-Allow-Methods"].split(", "))
    assert {"OPTIONS", "GET", "HEAD", "POST", "PATCH", "DELETE"} <= allowed
    await world.add_running()
    answered = await watch(world, headers={"Origin": "https://page.test"})
    exposed = set(answered.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "ETag", "Link", "Accept-Post", "Retry-After", "X-Request-Id"} <= exposed


async def test_ice_servers_are_told_one_by_one_to_those_who_may_watch() -> None:
    servers = [
        {"urls": ["stun:stun.test:3478"]},
        {"urls": ["turn:turn.test"], "username": "u", "credential": 'p"w'},
    ]
    async with running_world(ice_servers=servers) as world:
        await world.add_running()
        lines = (await watch(world)).headers.get_list("Link")
        assert lines == [
            '<stun:stun.test:3478>; rel="ice-server"',
            '<turn:turn.test>; rel="ice-server"; username="u"; credential="p\\"w"; credential-type="password"',
        ]
        assert "Link" not in (await world.call("OPTIONS", WHEP, token=None)).headers
        assert len((await world.call("OPTIONS", WHEP)).headers.get_list("Link")) == 2
        assert (await world.call("OPTIONS", WHEP, STRANGER)).status_code == 403
        config = (await world.call("GET", "/v1/webrtc/config")).json()
        assert config["iceServers"][1] == {"urls": ["turn:turn.test"], "username": "u", "credential": 'p"w'}


async def test_candidates_and_hangup_reach_the_agent(world: World) -> None:
    await world.add_running()
    session = path_of((await watch(world)).headers["Location"])
    fragment = "a=ice-ufrag:x\r\na=mid:0\r\n"
    patch = await world.call("PATCH", session, content=fragment, headers={**TRICKLE, "If-Match": "*"})
    assert (patch.status_code, patch.content) == (204, b"")
    call = world.agent.calls[-1]
    assert (call.method, call.body, call.headers["If-Match"]) == ("PATCH", fragment, "*")
    assert re.fullmatch(r"/whep/s-[a-z0-9]{24}", call.path)
    missing = await world.call("PATCH", session, content=fragment, headers=TRICKLE)
    assert (missing.status_code, missing.json()["code"]) == (428, "precondition-required")
    wrong = await world.call("PATCH", session, content=fragment, headers=SDP)
    assert wrong.status_code == 415
    assert (await world.call("GET", session)).status_code == 204
    assert (await world.call("OPTIONS", session, token=None)).status_code == 204
    assert (await world.call("DELETE", session, headers={"If-Match": '"x"'})).status_code == 200
    again = await world.call("DELETE", session)
    assert (again.status_code, again.json()["code"]) == (404, "session-not-found")


async def test_an_ice_restart_is_passed_back_with_its_new_tag(world: World) -> None:
    await world.add_running()
    session = path_of((await watch(world)).headers["Location"])
    world.agent.reply = lambda _: web.Response(
        status=200, text="a=ice-ufrag:new", content_type="application/trickle-ice-sdpfrag", headers={"ETag": '"2"'}
    )
    response = await world.call("PATCH", session, content="x", headers={**TRICKLE, "If-Match": "*"})
    assert (response.status_code, response.text, response.headers["ETag"]) == (200, "a=ice-ufrag:new", '"2"')


async def test_an_agent_that_is_full_is_told_with_its_retry_after(world: World) -> None:
    await world.add_running()
    world.agent.reply = lambda _: problem("agent-overloaded", 503, retryAfterSeconds=10)
    response = await watch(world)
    assert (response.status_code, response.json()["code"]) == (503, "agent-overloaded")
    assert response.headers["Retry-After"] == "10"
    assert world.metric("sightline_api_whep_total", outcome="agent-overloaded") == 1


@pytest.mark.parametrize("method", ["PATCH", "DELETE", "GET"])
async def test_a_session_address_that_we_did_not_sign_is_none(world: World, method: str) -> None:
    await world.add_running()
    await world.add_running(camera("other"))
    location = path_of((await watch(world)).headers["Location"])
    asked = len(world.agent.calls)
    forged = [
        location[:-2] + ("BA" if location.endswith("AA") else "AA"),
        location.split(".")[0],
        f"{WHEP}/..%2Fv1%2Fstatus",
        location.replace("front", "other"),
    ]
    for address in forged:
        response = await world.call(method, address, headers=TRICKLE)
        assert response.status_code == 404, address
    assert len(world.agent.calls) == asked


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PATCH", "DELETE"])
async def test_everything_but_options_needs_a_token(world: World, method: str) -> None:
    await world.add_running()
    for path in (WHEP, f"{WHEP}/s-x.y"):
        response = await world.call(method, path, token=None)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_missing_right_is_403_and_a_missing_camera_404(world: World) -> None:
    await world.add_running()
    refused = await watch(world, STRANGER)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await watch(world, ADMIN)).status_code == 201
    absent = await world.call("POST", WHEP.replace("front", "absent"), ADMIN, content=OFFER, headers=SDP)
    assert (absent.status_code, absent.json()["code"]) == (404, "camera-not-found")
    for outcome in ("forbidden", "camera-not-found", "created"):
        assert world.metric("sightline_api_whep_total", outcome=outcome) == 1


async def test_viewers_of_an_agent_that_hangs_leave_connections_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(outbound, "MAX_PER_HOST", 2)
    go = asyncio.Event()

    async def hangs(_: web.Request) -> web.Response:
        await go.wait()
        return problem("source-not-ready", 409)

    async with (
        Issuer().running() as issuer,
        FakeAgent().running() as other,
        running_world(oidc=[{"issuer": issuer.url, "audiences": [AUDIENCE]}]) as world,
    ):
        await world.add_running()
        await world.add(camera("back"), agent={"address": other.address, "port": other.port})
        world.agent.reply = hangs
        waiting = [asyncio.create_task(watch(world)) for _ in range(4)]
        async with asyncio.timeout(8):
            while len(world.agent.calls) < 2:
                await asyncio.sleep(0)
            back: dict[str, Any] = {
                "method": "POST",
                "path": WHEP.replace("front", "back"),
                "content": OFFER,
                "headers": SDP,
            }
            assert (await world.call(**back)).status_code == 201
            other.reply = hangs
            waiting.append(asyncio.create_task(world.call(**back)))
            while len(other.calls) < 2:
                await asyncio.sleep(0)
            assert (await world.call("GET", "/v1/me", issuer.token(START))).status_code == 200
        go.set()
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {409}


async def test_who_still_waits_when_the_front_door_closes_leaves_no_session(world: World) -> None:
    """The server cancels those requests and closes at once; an object that stayed would wake its camera for nobody."""
    await world.add_running()
    never = asyncio.Event()

    async def parked(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    world.agent.reply = parked
    offer = asyncio.create_task(watch(world))
    while not world.agent.calls:
        await asyncio.sleep(0)
    assert len((await world.cluster.list(STREAM_SESSION)).items) == 1
    offer.cancel()
    await world.app.state.door.recorder.close(5)
    assert (await world.cluster.list(STREAM_SESSION)).items == []
    never.set()
    await asyncio.gather(offer, return_exceptions=True)


async def test_what_the_agent_says_is_read_as_a_sentence(world: World) -> None:
    await world.add_running()
    said = {
        "the camera refuses the password": "The camera refuses the password.",
        "camera.lan:554 is away.": "camera.lan:554 is away.",
        "": "",
    }
    details = iter(said)
    world.agent.reply = lambda _: problem("source-unreachable", 409, detail=next(details))
    assert [(await watch(world)).json()["detail"] for _ in said] == list(said.values())


async def test_what_the_agent_refuses_is_passed_on_and_leaves_no_session(world: World) -> None:
    await world.add_running()
    world.agent.reply = lambda _: problem(
        "source-authentication-failed",
        409,
        reason="AuthenticationFailed",
        detail="rtsp://user:secret@10.0.0.9/ said 401",
        retryAfterSeconds=5,
    )
    response = await watch(world)
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "5"
    body = response.json()
    assert (body["code"], body["reason"]) == ("source-authentication-failed", "AuthenticationFailed")
    assert body["detail"] == "rtsp://10.0.0.9/ said 401."
    await world.app.state.door.recorder.idle()
    assert (await world.cluster.list(STREAM_SESSION)).items == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: problem("unauthenticated", 401),
        lambda _: web.Response(status=500, text="<html>oops"),
        lambda _: web.Response(status=307, headers={"Location": "http://169.254.169.254/"}),
        lambda _: web.Response(status=201, text="not sdp", content_type="application/sdp"),
        lambda _: web.Response(status=201, text=ANSWER, content_type="text/plain"),
        lambda _: web.Response(status=201, text=ANSWER + "a" * 70_000, content_type="application/sdp"),
    ],
)
async def test_an_agent_that_makes_no_sense_is_unavailable(world: World, answer: Any) -> None:
    await world.add_running()
    world.agent.reply = answer
    response = await watch(world)
    assert (response.status_code, response.json()["code"]) == (503, "agent-unavailable")
    assert response.headers["Retry-After"] == "1"
    assert len(world.agent.calls) == 1


async def test_an_agent_that_cannot_be_reached_or_never_answers_is_unavailable(world: World) -> None:
    await world.add(camera("gone"), agent={"address": "127.0.0.1", "port": 1})
    gone = await world.call("POST", WHEP.replace("front", "gone"), content=OFFER, headers=SDP)
    assert (gone.status_code, gone.json()["code"]) == (503, "agent-unavailable")

    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    await world.add_running(camera(lifecycle={"startTimeout": "100ms"}))
    world.agent.reply = never
    assert (await watch(world)).json()["code"] == "agent-unavailable"


async def test_a_camera_without_an_agent_says_why(world: World) -> None:
    await world.add(camera("new"))
    await world.add(
        camera("refused"),
        conditions=[condition("Accepted", "False", "NotSupportedYet", "rtmp comes later")],
    )
    await world.add(
        camera("broken"),
        conditions=[condition("SourceReady", "False", "Unreachable", "no route to the camera")],
    )
    expected = {
        "new": (503, "camera-not-ready"),
        "refused": (422, "not-supported-yet"),
        "broken": (409, "source-unreachable"),
    }
    for name, (status, code) in expected.items():
        response = await world.call("POST", WHEP.replace("front", name), content=OFFER, headers=SDP)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert ("Retry-After" in response.headers) is (status != 422)


async def test_an_agent_address_that_is_none_is_never_dialled(world: World) -> None:
    for number, address in enumerate(["evil@127.0.0.1", "127.0.0.1/x", "a b", ""]):
        await world.add(camera(f"c{number}"), agent={"address": address, "port": world.agent.port})
        response = await world.call("POST", WHEP.replace("front", f"c{number}"), content=OFFER, headers=SDP)
        assert response.json()["code"] == "camera-not-ready"
    assert world.agent.calls == []


async def test_viewers_are_let_in_while_kubernetes_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_running()

    async def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("away")

    monkeypatch.setattr(world.cluster, "create", away)
    monkeypatch.setattr(world.cluster, "review_access", away)
    assert (await watch(world)).status_code == 201
    assert world.metric("sightline_api_session_records_total", outcome="failed") == 1
    # Without a grant only Kubernetes could tell.
    response = await watch(world, STRANGER)
    assert (response.status_code, response.json()["code"]) == (503, "cluster-unavailable")


async def test_a_slow_api_server_does_not_keep_a_viewer_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add_running()
    hung = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> Any:
        await hung.wait()

    monkeypatch.setattr(world.cluster, "create", slow)
    assert (await watch(world)).status_code == 201
    hung.set()


async def test_a_viewer_who_leaves_while_waiting_ends_the_request_to_the_agent(world: World) -> None:
    await world.add_running()
    arrived, broken_off = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            broken_off.set()
        raise AssertionError

    world.agent.reply = wait
    sent: list[Any] = []
    body = [{"type": "http.request", "body": OFFER.encode(), "more_body": False}]

    async def receive() -> Any:
        if body:
            return body.pop()
        await arrived.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"Host": "door.test", "Authorization": f"Bearer {VIEWER}", **SDP}
    await world.app(http_scope("POST", WHEP, headers), receive, send)
    assert sent[0]["status"] == 499
    assert world.metric("sightline_api_whep_total", outcome="abandoned") == 1
    await world.app.state.door.recorder.idle()
    assert (await world.cluster.list(STREAM_SESSION)).items == []


async def test_too_many_requests_of_one_user_are_told_when_to_come_again() -> None:
    async with running_world(quota={"burst": 2, "rate_per_second": 0.5}) as world:
        await world.add_running()
        assert [(await watch(world)).status_code for _ in range(3)] == [201, 201, 429]
        refused = await watch(world)
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("too-many-requests", "2")
        assert (await watch(world, ADMIN)).status_code == 201
        world.time.move(2)
        assert (await watch(world)).status_code == 201


async def test_the_json_offer_is_the_same_thing(world: World) -> None:
    await world.add_running()
    path = "/v1/namespaces/default/cameras/front/webrtc/offer"
    response = await world.call("POST", path, json={"sdp": OFFER, "type": "offer"})
    assert response.status_code == 200
    body = response.json()
    assert (body["sdp"], body["type"]) == (ANSWER, "answer")
    assert body["sessionUrl"].startswith(f"http://door.test{WHEP}/{body['sessionId']}.")
    assert (await world.call("DELETE", path_of(body["sessionUrl"]))).status_code == 200
    wrong = await world.call("POST", path, json={"sdp": "x", "type": "answer"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-request")


async def test_the_camera_takes_its_sessions_with_it(world: World) -> None:
    await world.add_running()
    await watch(world)
    session = (await world.cluster.list(STREAM_SESSION)).items[0]
    await world.cluster.delete(CAMERA, "default", "front")
    for _ in range(50):
        await asyncio.sleep(0)
    with pytest.raises(NotFoundError):
        await world.cluster.get(STREAM_SESSION, "default", session["metadata"]["name"])


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        ([], "http://door.test/"),
        (["127.0.0.0/8"], "https://cameras.example.com/"),
        (["10.0.0.0/8"], "http://door.test/"),
    ],
)
async def test_forwarded_headers_count_from_trusted_proxies_only(trusted: list[str], expected: str) -> None:
    async with running_world(trusted_proxies=trusted) as world:
        await world.add_running()
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "cameras.example.com"}
        response = await watch(world, headers=forwarded)
        assert response.headers["Location"].startswith(expected + "v1/")


async def test_a_configured_address_wins() -> None:
    async with running_world(public_url="https://public.example.com/sightline/") as world:
        await world.add_running()
        location = (await watch(world)).headers["Location"]
        assert location.startswith("https://public.example.com/sightline/v1/")


async def test_addresses_and_tokens_of_the_key_before_stay_good_while_keys_are_rotated() -> None:
    old = Signer.from_pem(generate_private_key_pem())
    async with running_world(previous_signer=old) as world:
        obj = await world.add_running()
        world.agent.live.add("s-old")
        right = SessionRight("default", "front", obj["metadata"]["uid"], "s-old")
        token, _ = mint(old, "viewer", right, START)
        address = f"{WHEP}/{sign_session_path(old, 'default', 'front', 's-old')}"
        assert (await world.call("DELETE", address, token)).status_code == 200
        keys = (await world.call("GET", "/.well-known/jwks.json", token=None)).json()["keys"]
        assert [key["kid"] for key in keys] == [world.signer.key_id, old.key_id]
