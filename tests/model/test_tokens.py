"""Media tokens and session paths: what is accepted, and everything that must not be."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sightline_model.tokens import (
    MediaClaims,
    Signer,
    TokenError,
    TokenReason,
    TokenRole,
    generate_private_key_pem,
    open_session_path,
    sign_session_path,
    verify,
)

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
AUDIENCE = "default/door/0d3c"
PEM = generate_private_key_pem()
SIGNER = Signer.from_pem(PEM)
KEYS = [SIGNER.public_jwk()]
PRIVATE = serialization.load_pem_private_key(PEM, None)
assert isinstance(PRIVATE, Ed25519PrivateKey)


def token(lifetime_seconds: int = 60, role: TokenRole = "View") -> str:
    return SIGNER.sign(AUDIENCE, "alice", role, "s-1", NOW, lifetime_seconds)


def forged(key: Any = PRIVATE, algorithm: str = "EdDSA", kid: Any = SIGNER.key_id, **changes: Any) -> str:
    issued = int(NOW.timestamp())
    claims = {
        "iss": "sightline",
        "aud": AUDIENCE,
        "sub": "alice",
        "role": "View",
        "sid": "s-1",
        "iat": issued,
        "exp": issued + 60,
        **changes,
    }
    present = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def reason(given_token: str, audience: str = AUDIENCE, now: datetime = NOW) -> TokenReason:
    with pytest.raises(TokenError) as caught:
        verify(given_token, KEYS, audience, now)
    assert given_token not in str(caught.value) or not given_token
    return caught.value.reason


@pytest.mark.parametrize("role", ["View", "Publish", "Control"])
def test_a_token_says_what_was_signed(role: TokenRole) -> None:
    claims = verify(token(30, role), KEYS, AUDIENCE, NOW)
    expected = MediaClaims(AUDIENCE, "alice", role, "s-1", NOW + timedelta(seconds=30), SIGNER.key_id)
    assert claims == expected


def test_the_second_key_of_a_rotation_is_trusted_too() -> None:
    other = Signer.from_pem(generate_private_key_pem())
    keys = [other.public_jwk(), SIGNER.public_jwk()]
    assert verify(token(), keys, AUDIENCE, NOW).key_id == SIGNER.key_id


def test_the_public_key_holds_nothing_private() -> None:
    jwk = SIGNER.public_jwk()
    assert jwk.keys() == {"kty", "crv", "x", "kid", "alg", "use"}
    assert "d" not in jwk
    assert "PRIVATE" not in repr(SIGNER)


def test_the_key_id_is_the_rfc_7638_thumbprint() -> None:
    # RFC 8037, appendix A.3: the thumbprint of the key in A.2.
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    signer = Signer(Ed25519PrivateKey.from_private_bytes(seed))
    assert signer.public_jwk()["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert signer.key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("lifetime", [0, -1, 61])
def test_no_token_lives_longer_than_a_minute(lifetime: int) -> None:
    with pytest.raises(ValueError, match="60 seconds"):
        token(lifetime)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (59.999, None),
        (60, TokenReason.EXPIRED),
        (3600, TokenReason.EXPIRED),
        (-30, None),
        (-31, TokenReason.NOT_YET_VALID),
    ],
)
def test_times(after: float, expected: TokenReason | None) -> None:
    now = NOW + timedelta(seconds=after)
    if expected is None:
        verify(token(), KEYS, AUDIENCE, now)
    else:
        assert reason(token(), now=now) is expected


def test_another_cameras_token_is_refused() -> None:
    assert reason(token(), audience="default/garden/0d3c") is TokenReason.WRONG_AUDIENCE


def test_an_unsigned_token_is_refused() -> None:
    unsigned = jwt.encode({"aud": AUDIENCE}, "", algorithm="none", headers={"kid": SIGNER.key_id})
    assert reason(unsigned) is TokenReason.WRONG_ALGORITHM
    head, body, _ = token().split(".")
    stripped = json.loads(base64.urlsafe_b64decode(head + "=="))
    for algorithm in ("none", "None", "NONE", "nOnE"):
        header = json.dumps({**stripped, "alg": algorithm}).encode()
        fake = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
        assert reason(f"{fake}.{body}.") is TokenReason.WRONG_ALGORITHM


def test_a_public_key_is_no_hmac_secret() -> None:
    secret = SIGNER.public_jwk()["x"].encode()
    assert reason(forged(secret, "HS256")) is TokenReason.WRONG_ALGORITHM
    other = rsa.generate_private_key(65537, 2048)
    assert reason(forged(other, "RS256")) is TokenReason.WRONG_ALGORITHM


def test_a_foreign_key_is_refused_whatever_it_calls_itself() -> None:
    foreign = Ed25519PrivateKey.generate()
    assert reason(forged(foreign)) is TokenReason.BAD_SIGNATURE
    assert reason(forged(foreign, kid="another")) is TokenReason.UNKNOWN_KEY
    assert reason(forged(kid=None)) is TokenReason.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "somebody"}, TokenReason.WRONG_ISSUER),
        ({"aud": [AUDIENCE]}, TokenReason.WRONG_AUDIENCE),
        ({"aud": [AUDIENCE, "default/garden/1"]}, TokenReason.WRONG_AUDIENCE),
        ({"exp": int(NOW.timestamp()) + 61}, TokenReason.LIVES_TOO_LONG),
        ({"exp": int(NOW.timestamp()) + 10**9}, TokenReason.LIVES_TOO_LONG),
        ({"exp": int(NOW.timestamp())}, TokenReason.LIVES_TOO_LONG),
        ({"exp": NOW.timestamp() + 60.5}, TokenReason.MALFORMED),
        ({"iat": True}, TokenReason.MALFORMED),
        ({"role": "Admin"}, TokenReason.MALFORMED),
        ({"role": ["View"]}, TokenReason.MALFORMED),
        ({"sid": 1}, TokenReason.MALFORMED),
        *[({claim: ...}, None) for claim in ("iss", "aud", "sub", "role", "sid", "iat", "exp")],
    ],
)
def test_wrong_claims(changes: dict[str, Any], expected: TokenReason | None) -> None:
    found = reason(forged(**changes))
    assert expected is None or found is expected


def test_large_tokens_are_not_even_parsed() -> None:
    assert reason("a" * 5000) is TokenReason.TOO_LARGE


@given(st.text(max_size=60))
def test_garbage_is_refused_quietly(text: str) -> None:
    with pytest.raises(TokenError):
        verify(text, KEYS, AUDIENCE, NOW)


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_no_changed_character_goes_unnoticed(position: int, character: str) -> None:
    good = token()
    position %= len(good)
    if good[position] == character or position == len(good) - 1:  # the last one holds 4 unused bits
        return
    with pytest.raises(TokenError):
        verify(good[:position] + character + good[position + 1 :], KEYS, AUDIENCE, NOW)


@pytest.mark.parametrize("pem", [b"", b"no key", generate_private_key_pem()[:60]], ids=["empty", "text", "cut"])
def test_a_broken_key_file_is_told_without_its_content(pem: bytes) -> None:
    with pytest.raises(ValueError, match="signing key"):
        Signer.from_pem(pem)


def test_a_key_of_another_kind_is_told() -> None:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519"):
        Signer.from_pem(pem)


class TestSessionPaths:
    path = sign_session_path(SIGNER, "default", "door", "s-1")

    def test_any_replica_with_the_key_opens_it(self) -> None:
        assert open_session_path(Signer.from_pem(PEM), "default", "door", self.path) == "s-1"
        assert "/" not in self.path

    @pytest.mark.parametrize(("namespace", "camera"), [("default", "garden"), ("other", "door"), ("default/door", "")])
    def test_it_is_for_one_camera_only(self, namespace: str, camera: str) -> None:
        with pytest.raises(TokenError):
            open_session_path(SIGNER, namespace, camera, self.path)

    def test_another_key_makes_another_path(self) -> None:
        other = Signer.from_pem(generate_private_key_pem())
        with pytest.raises(TokenError):
            open_session_path(other, "default", "door", self.path)

    @pytest.mark.parametrize(
        "path",
        ["", ".", "s-1", "s-1.", f"s-2.{path.partition('.')[2]}", path + "x", "s-1.ä", "../x.y", "a" * 500],
        ids=["empty", "dot", "bare", "unsigned", "borrowed", "longer", "umlaut", "climbing", "long"],
    )
    def test_anything_else_is_refused(self, path: str) -> None:
        with pytest.raises(TokenError):
            open_session_path(SIGNER, "default", "door", path)

    def test_a_session_id_that_is_no_label_is_not_signed(self) -> None:
        with pytest.raises(ValueError, match="DNS label"):
            sign_session_path(SIGNER, "default", "door", "a/b")
