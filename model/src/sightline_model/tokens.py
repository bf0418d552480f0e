"""Media tokens and signed session URLs: how an agent trusts a viewer without asking anybody.

The operator and the front door hold the Ed25519 signing key; agents hold public keys only and verify offline. A media
token opens one session on one camera within a minute; what happens to the session afterwards is not its business.

A session URL carries `sid.signature`, keyed by a secret derived from the same signing key, so that any replica of the
front door serves the PATCH and DELETE of a session that another one opened, and nobody can name a session by guessing.

Time is a parameter everywhere. TokenError is the only error; its message holds no part of the token.
"""

import hashlib
import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALGORITHM = "EdDSA"
ISSUER = "sightline"
MAX_LIFETIME_SECONDS = 60
MAX_TOKEN_BYTES = 4096
CLOCK_SKEW_SECONDS = 30
"""How far ahead of ours the issuer's clock may be; expiry knows no mercy, because a token is used at once."""

TokenRole = Literal["View", "Publish", "Control"]

_ROLES = ("View", "Publish", "Control")
_CLAIMS = ["aud", "exp", "iat", "iss", "role", "sid", "sub"]
_SESSION_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MAX_PATH_TOKEN = 128


class TokenReason(StrEnum):
    """Why a token was refused."""

    TOO_LARGE = "TooLarge"
    MALFORMED = "Malformed"
    WRONG_ALGORITHM = "WrongAlgorithm"
    UNKNOWN_KEY = "UnknownKey"
    BAD_SIGNATURE = "BadSignature"
    WRONG_AUDIENCE = "WrongAudience"
    WRONG_ISSUER = "WrongIssuer"
    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"
    LIVES_TOO_LONG = "LivesTooLong"


class TokenError(Exception):
    """A token or a signed path that is not accepted."""

    def __init__(self, reason: TokenReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MediaClaims:
    """What a verified media token says."""

    audience: str
    user: str
    role: TokenRole
    session_id: str
    expires_at: datetime
    key_id: str


class Signer:
    """The private half: mints media tokens and signs session URLs. Never shows its key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = _public_jwk(key)
        raw = key.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        self._path_key = HKDF(SHA256(), length=32, salt=None, info=b"sightline session path v1").derive(raw)

    def __repr__(self) -> str:
        return f"Signer(key_id={self.key_id!r})"

    @classmethod
    def from_pem(cls, pem: bytes) -> "Signer":
        """Load a PKCS#8 PEM as `generate_private_key_pem` makes it; ValueError if it is none."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, ValueError) as error:
            raise ValueError("the signing key is no unencrypted PEM private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the signing key is not of type Ed25519")  # noqa: TRY004 - its content, not its type
        return cls(key)

    @property
    def key_id(self) -> str:
        """RFC 7638 thumbprint of the public key."""
        return self._public["kid"]

    def public_jwk(self) -> dict[str, Any]:
        """The public key as agents and `/.well-known/jwks.json` want it (RFC 8037)."""
        return dict(self._public)

    def sign(
        self,
        audience: str,
        user: str,
        role: TokenRole,
        session_id: str,
        now: datetime,
        lifetime_seconds: int = MAX_LIFETIME_SECONDS,
    ) -> str:
        """A media token that opens `session_id` on the camera `audience` until `now` + `lifetime_seconds`."""
        if not 0 < lifetime_seconds <= MAX_LIFETIME_SECONDS:
            raise ValueError(f"a media token lives 1 to {MAX_LIFETIME_SECONDS} seconds")
        issued = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": user,
            "role": role,
            "sid": session_id,
            "iat": issued,
            "exp": issued + lifetime_seconds,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def path_signature(self, namespace: str, camera: str, session_id: str) -> str:
        """128 bits of HMAC-SHA256 over the parts of a session URL."""
        message = "/".join((namespace, camera, session_id)).encode()
        digest = hmac.new(self._path_key, message, hashlib.sha256).digest()
        return _base64(digest[:16])


def generate_private_key_pem() -> bytes:
    """A fresh Ed25519 key as PKCS#8 PEM."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def verify(token: str, keys: Sequence[Mapping[str, Any]], audience: str, now: datetime) -> MediaClaims:
    """The claims of a media token signed by one of `keys` for `audience`; TokenError if there is any doubt."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(TokenReason.TOO_LARGE, "the token is too large")
    if not token.isascii():
        raise TokenError(TokenReason.MALFORMED, "this is no token")
    key_id = _key_id(token)
    jwk = next((key for key in keys if key.get("kid") == key_id), None)
    if jwk is None:
        raise TokenError(TokenReason.UNKNOWN_KEY, "the token was signed by a key that is not trusted here")
    claims = _decode(token, jwk, audience)
    expires_at = _check_times(claims, now)
    user, role, session_id = claims["sub"], claims["role"], claims["sid"]
    if not (isinstance(user, str) and isinstance(session_id, str) and role in _ROLES):
        raise TokenError(TokenReason.MALFORMED, "the token's claims are not those of a media token")
    return MediaClaims(audience, user, cast("TokenRole", role), session_id, expires_at, key_id)


def sign_session_path(signer: Signer, namespace: str, camera: str, sid: str) -> str:
    """The last segment of a session URL: `sid.signature`."""
    if not _SESSION_ID.fullmatch(sid):
        raise ValueError("a session id is a DNS label")
    return f"{sid}.{signer.path_signature(namespace, camera, sid)}"


def open_session_path(signer: Signer, namespace: str, camera: str, path: str) -> str:
    """The session id of a segment made by `sign_session_path` for the same camera; TokenError otherwise."""
    sid, _, signature = path.partition(".")
    if len(path) > _MAX_PATH_TOKEN or not path.isascii() or not _SESSION_ID.fullmatch(sid):
        raise TokenError(TokenReason.MALFORMED, "this is no session address")
    expected = signer.path_signature(namespace, camera, sid)
    if not hmac.compare_digest(expected, signature):
        raise TokenError(TokenReason.BAD_SIGNATURE, "this is no session address of this camera")
    return sid


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise TokenError(TokenReason.MALFORMED, "this is no token") from error
    if header.get("alg") != ALGORITHM:
        raise TokenError(TokenReason.WRONG_ALGORITHM, f"a media token is signed with {ALGORITHM}")
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise TokenError(TokenReason.UNKNOWN_KEY, "the token names no key")
    return key_id


def _decode(token: str, jwk: Mapping[str, Any], audience: str) -> dict[str, Any]:
    # Times are checked against our own `now`, so the library's clock is switched off.
    options: Any = {
        "require": _CLAIMS,
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
        "strict_aud": True,
    }
    try:
        key = jwt.PyJWK(dict(jwk), algorithm=ALGORITHM)
        decoded: dict[str, Any] = jwt.decode(
            token, key, algorithms=[ALGORITHM], audience=audience, issuer=ISSUER, options=options
        )
    except jwt.InvalidAudienceError as error:
        raise TokenError(TokenReason.WRONG_AUDIENCE, "the token is for another camera") from error
    except jwt.InvalidIssuerError as error:
        raise TokenError(TokenReason.WRONG_ISSUER, "the token has another issuer") from error
    except jwt.InvalidSignatureError as error:
        raise TokenError(TokenReason.BAD_SIGNATURE, "the token's signature is wrong") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise TokenError(TokenReason.MALFORMED, "this is no media token") from error
    return decoded


def _check_times(claims: Mapping[str, Any], now: datetime) -> datetime:
    issued, expires = claims["iat"], claims["exp"]
    if type(issued) is not int or type(expires) is not int:
        raise TokenError(TokenReason.MALFORMED, "the token's times are no whole seconds")
    if not 0 < expires - issued <= MAX_LIFETIME_SECONDS:
        raise TokenError(TokenReason.LIVES_TOO_LONG, "the token lives longer than a media token may")
    if issued > now.timestamp() + CLOCK_SKEW_SECONDS:
        raise TokenError(TokenReason.NOT_YET_VALID, "the token was issued in the future")
    if expires <= now.timestamp():
        raise TokenError(TokenReason.EXPIRED, "the token has expired")
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=expires)


def _public_jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    required = {"crv": "Ed25519", "kty": "OKP", "x": _base64(raw)}
    canonical = json.dumps(required, sort_keys=True, separators=(",", ":"))
    thumbprint = _base64(hashlib.sha256(canonical.encode()).digest())
    return {**required, "kid": thumbprint, "alg": ALGORITHM, "use": "sig"}


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
