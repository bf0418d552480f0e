"""An OpenID Connect issuer on loopback, and tokens of every kind, good and bad."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE = "sightline-web"


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    """The same for every issuer of a run: making one takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """Discovery, a key set, and a private key of each kind."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": _rsa_key(),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.published = list(self.keys)
        self.url = ""
        self.key_requests = 0
        self.down = False
        self.discovered_issuer = ""
        self.hangs: asyncio.Event | None = None
        self.discoveries = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Issuer"]:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        async with TestServer(app, host="127.0.0.1") as server:
            self.url = f"http://127.0.0.1:{server.port}"
            yield self

    def jwk(self, key_id: str) -> dict[str, Any]:
        algorithm = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}[key_id]
        public = self.keys[key_id].public_key()
        made = jwt.get_algorithm_by_name(algorithm).to_jwk(public)
        return {**json.loads(str(made)), "kid": key_id, "use": "sig"}

    def claims(self, now: datetime, **more: Any) -> dict[str, Any]:
        seconds = int(now.timestamp())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "viewer", "iat": seconds, "exp": seconds + 300}
        return {name: value for name, value in {**claims, **more}.items() if value is not None}

    def token(self, now: datetime, key_id: str = "rsa", algorithm: str = "RS256", **more: Any) -> str:
        return jwt.encode(self.claims(now, **more), self.keys[key_id], algorithm=algorithm, headers={"kid": key_id})

    async def _discovery(self, _: web.Request) -> web.Response:
        self.discoveries += 1
        if self.hangs is not None:
            await self.hangs.wait()
        issuer = self.discovered_issuer or self.url
        return web.json_response({"issuer": issuer, "jwks_uri": f"{self.url}/keys"}, status=500 if self.down else 200)

    async def _keys(self, _: web.Request) -> web.Response:
        self.key_requests += 1
        keys = [self.jwk(key_id) for key_id in self.published]
        keys.append({"kty": "oct", "kid": "shared", "k": "c2VjcmV0", "alg": "HS256"})
        return web.json_response({"keys": keys}, status=500 if self.down else 200)


def segment(value: Any) -> str:
    """JSON as a part of a JWT."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A JWT whose signature is whatever is given."""
    return f"{segment(header)}.{segment(claims)}.{segment(signature)}"
