"""The keys of one OIDC issuer, fetched without blocking and kept.

A token with an unknown key id may mean that the issuer rotated its keys, or nothing at all: so a miss fetches at most
once in REFRESH_SECONDS, whatever is thrown at us. Keys stay in use while the issuer cannot be asked, for
MAX_AGE_SECONDS beyond the last success. It is asked by a task of its own, so that an issuer that hangs keeps only those
waiting for whom there is no key yet.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import structlog

from sightline_api import outbound
from sightline_api.settings import OidcIssuer

REFRESH_SECONDS = 30.0
FRESH_SECONDS = 3600.0
PATIENCE_SECONDS = 1.0
"""For newer keys where the old ones would do: so long, and not at all after a question that failed."""
MAX_AGE_SECONDS = 24 * 3600.0
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 64
FETCH_TIMEOUT = aiohttp.ClientTimeout(total=5.0)

_log = structlog.get_logger(__name__)

FetchJson = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Gets a JSON object from a URL; raises KeysUnavailableError."""


class KeysUnavailableError(Exception):
    """The issuer's keys cannot be had now."""


class KeySet:
    """Public keys by key id."""

    def __init__(self, issuer: OidcIssuer, fetch: FetchJson, monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._away = False
        self._closed = False
        self._asking: asyncio.Task[None] | None = None
        self.fetches = 0
        """How often the issuer was asked."""

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key to verify with; a token without a key id is accepted only where there is but one key."""
        if self._older_than(MAX_AGE_SECONDS):
            await self._refresh(None)
        elif self._older_than(FRESH_SECONDS):
            await self._refresh(0.0 if self._away else PATIENCE_SECONDS)
        key = self._pick(key_id, algorithm)
        if key is None and key_id is not None and key_id not in self._keys:
            await self._refresh(None)
            key = self._pick(key_id, algorithm)
        if self._older_than(MAX_AGE_SECONDS):
            raise KeysUnavailableError(f"the keys of {self._issuer.name} cannot be fetched")
        return key

    async def close(self) -> None:
        """Ask no longer, whatever requests that are still there want."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _older_than(self, age: float) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at > age

    def _pick(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if key_id is None:
            key = next(iter(self._keys.values())) if len(self._keys) == 1 else None
        else:
            key = self._keys.get(key_id)
        return key if key is not None and key.algorithm_name == algorithm else None

    async def _refresh(self, patience: float | None) -> None:
        """Have the issuer asked, unless it was a moment ago, and wait for the outcome: without end by None."""
        now = self._monotonic()
        rested = self._tried_at is None or now - self._tried_at >= REFRESH_SECONDS
        if rested and not self._closed and (self._asking is None or self._asking.done()):
            self._tried_at = now
            self._asking = asyncio.create_task(self._ask(now))
        if self._asking is not None and patience != 0:
            await asyncio.wait({self._asking}, timeout=patience)

    async def _ask(self, now: float) -> None:
        self.fetches += 1
        self._away = True
        try:
            self._keys = await self._load()
        except KeysUnavailableError as error:
            _log.warning("oidc keys not fetched", issuer=self._issuer.name, error=str(error))
        except Exception:
            # A bug of ours, which nobody awaits: the keys from before stay good.
            _log.exception("oidc keys not understood", issuer=self._issuer.name)
        else:
            self._fetched_at, self._away = now, False

    async def _load(self) -> dict[str, jwt.PyJWK]:
        uri = str(self._issuer.jwks_uri or "") or await self._discover()
        entries = (await self._fetch(uri)).get("keys")
        if not isinstance(entries, list):
            raise KeysUnavailableError("the key set has no keys")
        return _usable(entries[:MAX_KEYS], self._issuer.algorithms)

    async def _discover(self) -> str:
        base = str(self._issuer.issuer).rstrip("/")
        document = await self._fetch(f"{base}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer.name:
            raise KeysUnavailableError("the discovery document is of another issuer")
        uri = document.get("jwks_uri")
        # An issuer that is asked over TLS must not send us to a place without.
        if not isinstance(uri, str) or urlsplit(uri).scheme not in {"https", self._issuer.issuer.scheme}:
            raise KeysUnavailableError("the discovery document has no usable jwks_uri")
        return uri


def _usable(entries: Sequence[object], algorithms: Sequence[str]) -> dict[str, jwt.PyJWK]:
    """Signature keys of accepted algorithms; symmetric, private and unreadable ones are left out."""
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        algorithm = entry.get("alg") or _default_algorithm(entry)
        if algorithm not in algorithms:
            continue
        public = {name: value for name, value in entry.items() if name not in {"d", "p", "q", "dp", "dq", "qi"}}
        try:
            key = jwt.PyJWK(public, algorithm=str(algorithm))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        keys[str(entry.get("kid") or "")] = key
    return keys


def _default_algorithm(entry: Mapping[str, Any]) -> str:
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
    return "RS256" if entry.get("kty") == "RSA" else curves.get(str(entry.get("crv")), "")


def fetcher(session: aiohttp.ClientSession, issuer: OidcIssuer) -> FetchJson:
    """A FetchJson over HTTP: bounded in time and size, no redirects."""
    context = ssl.create_default_context(cafile=str(issuer.ca_file)) if issuer.ca_file else True

    async def fetch(url: str) -> Mapping[str, Any]:
        try:
            async with session.get(url, timeout=FETCH_TIMEOUT, allow_redirects=False, ssl=context) as response:
                if response.status != 200:
                    raise KeysUnavailableError(f"the issuer answered with status {response.status}")
                body = await outbound.read(response.content, MAX_DOCUMENT_BYTES)
            document = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KeysUnavailableError(f"the issuer cannot be reached: {type(error).__name__}") from error
        except outbound.TooLargeError as error:
            raise KeysUnavailableError("the issuer's answer is too large") from error
        except ValueError as error:
            raise KeysUnavailableError("the issuer's answer is no JSON") from error
        if not isinstance(document, dict):
            raise KeysUnavailableError("the issuer's answer is no JSON object")
        return document

    return fetch
