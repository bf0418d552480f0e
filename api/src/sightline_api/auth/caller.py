"""What an authenticator hands on: somebody it vouches for, or the reason why not."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sightline_kube.cluster import TokenUser
from sightline_model.access import Identity

MAX_USER = 256
MAX_GROUPS = 256


class RejectedError(Exception):
    """A credential that is not accepted. The text is for our logs, never for the caller, and holds no credential."""


@dataclass(frozen=True, slots=True)
class SessionRight:
    """What a Sightline session token is good for: this session of this camera and nothing else."""

    namespace: str
    camera: str
    uid: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is let in. With `session`, only to that session: whoever made the token had the right to view."""

    identity: Identity
    method: str
    extra: Mapping[str, list[str]] = field(default_factory=dict)
    session: SessionRight | None = None

    def token_user(self) -> TokenUser:
        """The caller as a SubjectAccessReview wants to see it."""
        identity = self.identity
        return TokenUser(identity.user, identity.uid, identity.groups, self.extra)


def check_names(user: str, groups: tuple[str, ...]) -> None:
    """Refuse names that an object could not carry or a log line would be broken by."""
    if not 0 < len(user) <= MAX_USER or not user.isprintable():
        raise RejectedError("the user's name is empty, too long or not printable")
    if len(groups) > MAX_GROUPS:
        raise RejectedError("too many groups")
