"""Sightline's own session tokens: made by `POST /v1/sessions`, good for one session of one camera.

They are signed like media tokens but for another audience, so an agent refuses them, and a media token is refused here.
Expiry gates opening only: whoever holds a session's token may end it later, too (design: a live session ends by its own
end, not by its token's), so for anything but opening an expired token is judged as of its last second.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sightline_api.auth.caller import Caller, RejectedError, SessionRight, check_names
from sightline_model.access import Identity
from sightline_model.tokens import MAX_LIFETIME_SECONDS, Signer, TokenError, TokenReason, verify

AUDIENCE = "sightline-front-door"
OLDEST = timedelta(days=1)
"""How long after its expiry a token may still end its session."""


def audience(right: SessionRight) -> str:
    """The `aud` of a session token."""
    return f"{AUDIENCE}:{right.namespace}/{right.camera}/{right.uid}"


def mint(signer: Signer, user: str, right: SessionRight, now: datetime) -> tuple[str, datetime]:
    """A token that opens the session within a minute, and when it expires."""
    token = signer.sign(audience(right), user, "View", right.session_id, now)
    return token, now.replace(microsecond=0) + timedelta(seconds=MAX_LIFETIME_SECONDS)


class SessionTokenAuthenticator:
    """Verifies session tokens against our own public keys."""

    def __init__(self, keys: Sequence[Mapping[str, Any]]) -> None:
        self._keys = tuple(keys)

    def authenticate(self, token: str, claims: Mapping[str, Any], now: datetime, *, opening: bool) -> Caller:
        """The caller that the token stands for; `claims` are its unverified claims, which choose the audience."""
        named = claims.get("aud")
        if not isinstance(named, str) or not named.startswith(f"{AUDIENCE}:"):
            raise RejectedError("the Sightline token is not one for the front door")
        parts = named.removeprefix(f"{AUDIENCE}:").split("/")
        if len(parts) != 3:
            raise RejectedError("the Sightline token names no camera")
        try:
            verified = verify(token, self._keys, named, now if opening else _last_second(claims, now))
        except TokenError as error:
            raise RejectedError(f"Sightline token: {error.reason}") from error
        check_names(verified.user, ())
        right = SessionRight(parts[0], parts[1], parts[2], verified.session_id)
        return Caller(Identity(verified.user, issuer="sightline"), "sightline", session=right)


def _last_second(claims: Mapping[str, Any], now: datetime) -> datetime:
    expires = claims.get("exp")
    if type(expires) is not int or not 0 < expires < 2**33:
        raise RejectedError(f"Sightline token: {TokenReason.MALFORMED}")
    last = datetime.fromtimestamp(expires, UTC) - timedelta(seconds=1)
    if now - last > OLDEST:
        raise RejectedError(f"Sightline token: {TokenReason.EXPIRED}")
    return min(now, last)
