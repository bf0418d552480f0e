"""Users by fixed tokens, for development: settings refuse them unless dev mode is on."""

import hashlib
import hmac
from collections.abc import Sequence

from sightline_api.auth.caller import Caller
from sightline_api.settings import StaticUser
from sightline_model.access import Identity


class StaticAuthenticator:
    """Compares digests in constant time; every user is looked at, so time tells nothing about which one matched."""

    def __init__(self, users: Sequence[StaticUser]) -> None:
        self._users = [
            (
                hashlib.sha256(user.token.get_secret_value().encode()).digest(),
                Caller(Identity(user.user, tuple(user.groups), issuer="static"), "static"),
            )
            for user in users
        ]

    def authenticate(self, token: str) -> Caller | None:
        """The user with that token."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for expected, caller in self._users:
            if hmac.compare_digest(expected, digest):
                found = caller
        return found
