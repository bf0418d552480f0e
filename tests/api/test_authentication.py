"""Who gets in: every kind of token, good, bad and hostile."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sightline_api.auth import jwks, kubernetes
from sightline_kube.errors import UnavailableError
from sightline_model.tokens import Signer, generate_private_key_pem
from tests.api.tokens import AUDIENCE, Issuer, segment, unsigned
from tests.api.world import START, VIEWER, World, running_world

ROBOT = "robot.jwt.token"


@asynccontextmanager
async def oidc_world(**issuer_settings: Any) -> AsyncIterator[tuple[World, Issuer]]:
    async with Issuer().running() as issuer:
        described = {"issuer": issuer.url, "audiences": [AUDIENCE], **issuer_settings}
        async with running_world(oidc=[described]) as world:
            yield world, issuer


async def me(world: World, token: str | None) -> Any:
    return await world.call("GET", "/v1/me", token)


async def refused(world: World, token: str) -> None:
    """401, and nothing that helps an attacker."""
    response = await me(world, token)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == "unauthenticated"
    assert set(body) == {"type", "title", "status", "detail", "code"}
    assert body["detail"] == "Send a valid token: Authorization: Bearer <token>."
    assert token not in response.text


async def test_a_static_user_gets_in(world: World) -> None:
    response = await me(world, VIEWER)
    assert response.json() == {"user": "viewer", "groups": ["guards"], "issuer": "static"}
    assert world.metric("sightline_api_authentications_total", method="static", result="accepted") == 1


@pytest.mark.parametrize("token", ["", "x", "viewer-tokem", "a.b.c", "....", "é", "x" * 20_000, "a b"])
async def test_anything_else_does_not(world: World, token: str) -> None:
    response = await world.client.get("/v1/me", headers={b"Authorization": f"Bearer {token}".encode()})
    assert response.status_code == 401


@pytest.mark.parametrize("header", ["Basic dmlld2VyOng=", "viewer-token", "Bearer", "bearer  "])
async def test_other_schemes_do_not(world: World, header: str) -> None:
    assert (await world.client.get("/v1/me", headers={"Authorization": header})).status_code == 401


async def test_two_headers_do_not(world: World) -> None:
    headers = [("Authorization", f"Bearer {VIEWER}"), ("Authorization", "Bearer other")]
    assert (await world.client.get("/v1/me", headers=headers)).status_code == 401


async def test_unknown_addresses_under_v1_tell_nothing_without_a_token(world: World) -> None:
    assert (await world.call("GET", "/v1/nothing", token=None)).status_code == 401
    assert (await world.call("GET", "/v1/nothing")).json()["code"] == "not-found"


@pytest.mark.parametrize(("key_id", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
async def test_an_oidc_token_gets_in(key_id: str, algorithm: str) -> None:
    async with oidc_world() as (world, issuer):
        token = issuer.token(START, key_id, algorithm, groups=["guards", "system:masters"], aud=["other", AUDIENCE])
        body = (await me(world, token)).json()
        assert body == {"user": "viewer", "groups": ["guards"], "issuer": issuer.url}
        assert issuer.key_requests == 1
        await me(world, token)
        assert issuer.key_requests == 1


async def test_claims_and_prefixes_are_configurable() -> None:
    names = {"user_claim": "email", "user_prefix": "corp:", "groups_claim": "roles", "groups_prefix": "corp/"}
    async with oidc_world(**names) as (world, issuer):
        body = (await me(world, issuer.token(START, email="a@x", roles=["g"]))).json()
        assert (body["user"], body["groups"]) == ("corp:a@x", ["corp/g"])
        await refused(world, issuer.token(START, email="a@x", email_verified=False))


def _none(issuer: Issuer) -> str:
    return unsigned({"alg": "none"}, issuer.claims(START))


def _none_with_signature(issuer: Issuer) -> str:
    return unsigned({"alg": "None", "kid": "rsa"}, issuer.claims(START), b"x" * 256)


def _hs256_with_public_key(issuer: Issuer) -> str:
    public = issuer.keys["rsa"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    start = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{segment(issuer.claims(START))}"
    return f"{start}.{segment(hmac.new(pem, start.encode(), hashlib.sha256).digest())}"


def _hs256_with_published_secret(issuer: Issuer) -> str:
    start = f"{segment({'alg': 'HS256', 'kid': 'shared'})}.{segment(issuer.claims(START))}"
    return f"{start}.{segment(hmac.new(b'secret', start.encode(), hashlib.sha256).digest())}"


def _foreign_key(issuer: Issuer) -> str:
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(START), foreign, algorithm="RS256", headers={"kid": "rsa"})


def _own_key_in_header(issuer: Issuer) -> str:
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(str(jwt.get_algorithm_by_name("RS256").to_jwk(foreign.public_key())))
    return jwt.encode(issuer.claims(START), foreign, algorithm="RS256", headers={"kid": "mine", "jwk": jwk})


def _changed(issuer: Issuer) -> str:
    header, _, signature = issuer.token(START).split(".")
    return f"{header}.{segment(issuer.claims(START, sub='admin'))}.{signature}"


BAD: dict[str, Callable[[Issuer], str]] = {
    "alg none": _none,
    "alg None with a signature": _none_with_signature,
    "HS256 with the public key": _hs256_with_public_key,
    "HS256 with a published secret": _hs256_with_published_secret,
    "foreign key": _foreign_key,
    "key in the header": _own_key_in_header,
    "changed claims": _changed,
    "algorithm of another key": lambda i: unsigned({"alg": "ES256", "kid": "rsa"}, i.claims(START), b"x" * 64),
    "unlisted algorithm": lambda i: i.token(START, algorithm="RS384"),
    "expired": lambda i: i.token(START, exp=int(START.timestamp()) - 31),
    "no expiry": lambda i: i.token(START, exp=None),
    "expiry is no number": lambda i: i.token(START, exp="tomorrow"),
    "expiry without end": lambda i: i.token(START, exp=10**400),
    "not yet valid": lambda i: i.token(START, nbf=int(START.timestamp()) + 31),
    "issued in the future": lambda i: i.token(START, iat=int(START.timestamp()) + 31),
    "wrong audience": lambda i: i.token(START, aud="another"),
    "no audience": lambda i: i.token(START, aud=None),
    "no user": lambda i: i.token(START, sub=None),
    "user is no text": lambda i: unsigned({"alg": "RS256", "kid": "rsa"}, i.claims(START, sub=7)),
    "reserved user": lambda i: i.token(START, sub="system:admin"),
    "user with a line break": lambda i: i.token(START, sub="a\nb"),
    "endless user": lambda i: i.token(START, sub="a" * 257),
    "groups are no texts": lambda i: i.token(START, groups=[1]),
    "unknown issuer": lambda i: i.token(START, iss="http://127.0.0.1:1"),
    "issuer with a slash more": lambda i: i.token(START, iss=i.url + "/"),
    "endless key id": lambda i: unsigned({"alg": "RS256", "kid": "k" * 300}, i.claims(START), b"x"),
    "no key id": lambda i: unsigned({"alg": "RS256"}, i.claims(START), b"x"),
    "header is no object": lambda i: f"{segment([])}.{segment(i.claims(START))}.{segment(b'x')}",
    "claims are no object": lambda _: f"{segment({'alg': 'RS256'})}.{segment(b'[[[')}.x",
    "deep nesting": lambda i: f"{segment(b'[' * 5000)}.{segment(i.claims(START))}.x",
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
async def test_a_bad_oidc_token_is_refused(make: Callable[[Issuer], str]) -> None:
    async with oidc_world() as (world, issuer):
        await refused(world, make(issuer))


async def test_the_clocks_may_differ_by_the_leeway() -> None:
    async with oidc_world() as (world, issuer):
        now = int(START.timestamp())
        assert (await me(world, issuer.token(START, exp=now - 29))).status_code == 200
        assert (await me(world, issuer.token(START, nbf=now + 29, iat=now + 29))).status_code == 200


async def test_a_flood_of_unknown_keys_asks_the_issuer_once_per_half_minute() -> None:
    async with oidc_world() as (world, issuer):
        for number in range(20):
            await refused(world, unsigned({"alg": "RS256", "kid": f"k{number}"}, issuer.claims(START), b"x"))
        assert issuer.key_requests == 1
        world.time.move(31)
        for number in range(20):
            await refused(world, unsigned({"alg": "RS256", "kid": f"m{number}"}, issuer.claims(START), b"x"))
        assert issuer.key_requests == 2


async def test_rotated_keys_are_found_and_withdrawn_ones_forgotten() -> None:
    async with oidc_world() as (world, issuer):
        issuer.published = ["rsa"]
        assert (await me(world, issuer.token(START))).status_code == 200
        issuer.published = ["ec"]
        world.time.move(31)
        assert (await me(world, issuer.token(START, "ec", "ES256"))).status_code == 200
        await refused(world, issuer.token(START))


async def test_keys_are_used_while_the_issuer_is_away_but_not_for_ever() -> None:
    async with oidc_world() as (world, issuer):
        assert (await me(world, issuer.token(START))).status_code == 200
        issuer.down = True
        world.time.move(7200)
        assert (await me(world, issuer.token(world.time.now()))).status_code == 200
        world.time.move(24 * 3600)
        response = await me(world, issuer.token(world.time.now()))
        assert (response.status_code, response.json()["code"]) == (503, "issuer-unavailable")


async def test_an_issuer_that_hangs_keeps_nobody_waiting_whose_key_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "PATIENCE_SECONDS", 0.01)
    async with oidc_world() as (world, issuer):
        assert (await me(world, issuer.token(START))).status_code == 200
        issuer.hangs = asyncio.Event()
        world.time.move(jwks.FRESH_SECONDS + 1)
        async with asyncio.timeout(4.5):
            for _ in range(3):
                assert (await me(world, issuer.token(world.time.now()))).status_code == 200
        issuer.hangs.set()


async def test_closing_ends_a_question_to_the_issuer() -> None:
    async with oidc_world() as (world, issuer):
        issuer.hangs = asyncio.Event()
        asking = asyncio.create_task(me(world, issuer.token(START)))
        async with asyncio.timeout(4.5):
            while issuer.discoveries == 0:
                await asyncio.sleep(0)
            await world.app.state.door.chain.close()
            response = await asking
        assert (response.status_code, response.json()["code"]) == (503, "issuer-unavailable")
        # Nor does a request that is still there when everything else has ended ask again.
        issuer.hangs.set()
        world.time.move(jwks.REFRESH_SECONDS)
        assert (await me(world, issuer.token(START))).status_code == 503
        assert issuer.discoveries == 1


async def test_an_issuer_that_was_never_reached_is_no_reason_to_sign_in_again() -> None:
    async with oidc_world() as (world, issuer):
        issuer.discovered_issuer = "https://someone.else"
        response = await me(world, issuer.token(START))
        assert (response.status_code, response.json()["code"]) == (503, "issuer-unavailable")
        assert response.headers["Retry-After"] == "5"


async def test_a_kubernetes_token_gets_in_and_is_asked_about_at_most_every_15_seconds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    review = world.cluster.review_token

    async def counted(token: str, audiences: Any) -> Any:
        asked.append(audiences)
        return await review(token, audiences)

    monkeypatch.setattr(world.cluster, "review_token", counted)
    for _ in range(3):
        body = (await me(world, ROBOT)).json()
    assert body == {"user": "system:serviceaccount:default:robot", "groups": ["system:sa"], "issuer": "kubernetes"}
    assert asked == [("sightline",)]
    world.time.move(15)
    await me(world, ROBOT)
    assert len(asked) == 2
    for seconds, questions in ((0, 3), (1, 3), (1.5, 4)):
        world.time.move(seconds)
        await refused(world, "made.up.token")
        assert len(asked) == questions


async def test_made_up_tokens_do_not_push_out_those_that_were_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "CACHE_SIZE", 4)
    async with running_world() as world:
        await me(world, ROBOT)
        for number in range(8):
            await refused(world, f"made.up.{number}")

        async def away(*_: Any) -> Any:
            raise UnavailableError("away", 3)

        monkeypatch.setattr(world.cluster, "review_token", away)
        assert (await me(world, ROBOT)).status_code == 200


async def test_a_flood_of_tokens_waits_in_a_queue_that_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "MAX_WAITING", 20)
    asked, go = 0, asyncio.Event()

    async def slow(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        await go.wait()
        return None

    monkeypatch.setattr(world.cluster, "review_token", slow)
    calls = [asyncio.create_task(me(world, f"made.up.{number}")) for number in range(40)]
    async with asyncio.timeout(60):
        while asked < kubernetes.MAX_REVIEWS or sum(call.done() for call in calls) < 4:
            await asyncio.sleep(0)
    go.set()
    responses = await asyncio.gather(*calls)
    turned_away = [response for response in responses if response.status_code == 503]
    assert len(turned_away) == 40 - kubernetes.MAX_REVIEWS - 20
    assert {response.headers["Retry-After"] for response in turned_away} == {"1"}
    assert {response.status_code for response in responses if response not in turned_away} == {401}
    assert world.metric("sightline_api_authentications_total", method="kubernetes", result="unavailable") == 4


async def test_requests_with_one_token_share_its_review(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "MAX_SHARING", 30)
    asked, go = 0, asyncio.Event()
    review = world.cluster.review_token

    async def slow(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        await go.wait()
        return await review(*arguments)

    monkeypatch.setattr(world.cluster, "review_token", slow)
    calls = [asyncio.create_task(me(world, ROBOT)) for _ in range(40)]
    async with asyncio.timeout(60):
        while sum(call.done() for call in calls) < 10:
            await asyncio.sleep(0)
    go.set()
    statuses = [response.status_code for response in await asyncio.gather(*calls)]
    assert (asked, statuses.count(200), statuses.count(503)) == (1, 30, 10)


async def test_a_review_that_fails_fails_for_all_and_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go = 0, asyncio.Event()
    review = world.cluster.review_token

    async def away_once(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 1:
            return await review(*arguments)
        await go.wait()
        raise UnavailableError("away", 3)

    monkeypatch.setattr(world.cluster, "review_token", away_once)
    calls = [asyncio.create_task(me(world, ROBOT)) for _ in range(3)]
    async with asyncio.timeout(60):
        while world.metric("sightline_api_requests_in_progress") < 3 or not asked:
            await asyncio.sleep(0)
    go.set()
    assert [response.status_code for response in await asyncio.gather(*calls)] == [503] * 3
    assert (await me(world, ROBOT)).status_code == 200
    assert asked == 2


async def test_an_expired_kubernetes_token_is_not_even_asked_about(world: World) -> None:
    await refused(world, unsigned({"alg": "RS256"}, {"iss": "kubernetes", "exp": int(START.timestamp())}))


async def test_while_kubernetes_is_away_its_tokens_cannot_be_judged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise UnavailableError("away", 3)

    monkeypatch.setattr(world.cluster, "review_token", away)
    response = await me(world, ROBOT)
    assert (response.status_code, response.json()["code"]) == (503, "cluster-unavailable")
    assert response.headers["Retry-After"] == "3"


async def test_kubernetes_tokens_can_be_switched_off() -> None:
    async with running_world(kubernetes={"enabled": False}) as world:
        await refused(world, ROBOT)


async def test_media_tokens_and_foreign_session_tokens_open_nothing(world: World) -> None:
    obj = await world.add_running()
    uid = obj["metadata"]["uid"]
    foreign = Signer.from_pem(generate_private_key_pem())
    for signer, audience in (
        (world.signer, f"default/front/{uid}"),
        (world.signer, "sightline-front-door:default/front"),
        (foreign, f"sightline-front-door:default/front/{uid}"),
    ):
        await refused(world, signer.sign(audience, "viewer", "View", "s-1", START))


async def test_tokens_are_not_logged(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await refused(world, "secret.token.text")
    await me(world, VIEWER)
    out = capsys.readouterr()
    assert "secret.token.text" not in out.out + out.err
    assert VIEWER not in out.out + out.err
    assert "not authenticated" in out.out
