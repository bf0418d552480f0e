"""JWTs of one OpenID Connect issuer.

Checked in this order, each against our own configuration and never against what the token says of itself: algorithm in
the allow-list, key of that algorithm in the issuer's set, signature, issuer, audience, times by our clock with leeway,
names. Names that start with `system:` are Kubernetes' own: an issuer that could make them would make cluster admins.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import jwt

from sightline_api.auth.caller import Caller, RejectedError, check_names
from sightline_api.auth.jwks import KeySet
from sightline_api.settings import OidcIssuer
from sightline_model.access import Identity

RESERVED_PREFIX = "system:"
MAX_KEY_ID = 256


class OidcAuthenticator:
    """Verifies the tokens of one issuer."""

    def __init__(self, issuer: OidcIssuer, keys: KeySet, now: Callable[[], datetime]) -> None:
        self._issuer = issuer
        self._keys = keys
        self._now = now

    async def close(self) -> None:
        """Ask the issuer no longer."""
        await self._keys.close()

    async def authenticate(self, token: str, header: Mapping[str, Any]) -> Caller:
        """The token's user; RejectedError, or KeysUnavailableError when the keys cannot be had."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._issuer.algorithms:
            raise RejectedError("the token's algorithm is not accepted")
        if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= MAX_KEY_ID):
            raise RejectedError("the token's key id is not valid")
        key = await self._keys.find(key_id, str(algorithm))
        if key is None:
            raise RejectedError("the token was signed by a key that the issuer does not name")
        return self._caller(self._verify(token, key))

    def _verify(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        # Times are checked against our own clock, so the library's is switched off.
        options: Any = {
            "require": ["exp", "iss", "aud", self._issuer.user_claim],
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "enforce_minimum_key_length": True,
        }
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._issuer.algorithms,
                audience=self._issuer.audiences,
                issuer=self._issuer.name,
                options=options,
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise RejectedError(f"the token is not valid: {type(error).__name__}") from error
        check_times(claims, self._now().timestamp(), self._issuer.leeway_seconds)
        return claims

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        user = claims.get(self._issuer.user_claim)
        if not isinstance(user, str) or not user:
            raise RejectedError("the token's user claim is no text")
        if self._issuer.user_claim == "email" and claims.get("email_verified", True) is not True:
            raise RejectedError("the token's email address is not verified")
        groups = claims.get(self._issuer.groups_claim) or []
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise RejectedError("the token's groups claim is no list of texts")
        name = self._issuer.user_prefix + user
        names = tuple(self._issuer.groups_prefix + group for group in groups)
        if name.startswith(RESERVED_PREFIX):
            raise RejectedError("the user's name is reserved")
        names = tuple(group for group in names if group and not group.startswith(RESERVED_PREFIX))
        check_names(name, names)
        return Caller(Identity(name, names, issuer=self._issuer.name), "oidc")


def check_times(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    """`exp` must lie ahead, `nbf` and `iat` behind, give or take `leeway`."""
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
        if value is not None and not number:
            raise RejectedError(f"the token's {name} is no time")
    if claims["exp"] <= now - leeway:
        raise RejectedError("the token has expired")
    if max(claims.get("nbf") or 0, claims.get("iat") or 0) > now + leeway:
        raise RejectedError("the token is not valid yet")
