"""Who may do what with a camera: one pure function over the camera's own rules.

Kubernetes RBAC may allow more (the front door asks it when this says no); nothing else does.
"""

from dataclasses import dataclass
from datetime import datetime

from sightline_model.camera import Access, Grant, Role


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom an authenticator vouches for.

    `user` and `groups` are as the issuer spells them; `issuer` names the authenticator (an OIDC issuer's URL,
    `kubernetes`, `sightline` or `static`); `uid` is Kubernetes' own; a `guest` has not signed in.
    """

    user: str
    groups: tuple[str, ...] = ()
    issuer: str = ""
    uid: str = ""
    guest: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer with its reason, for logs, audit and the problem body."""

    allowed: bool
    reason: str


def decide(access: Access, identity: Identity, role: Role, now: datetime) -> Verdict:
    """May `identity` act in `role` now, by the camera's own rules? Denies unless a rule says yes."""
    if access.owner and not identity.guest and identity.user == access.owner:
        return Verdict(True, "owner")
    matching = [grant for grant in access.grants if role in grant.roles and _names(grant, identity)]
    if not matching:
        return Verdict(False, f"no grant gives the role {role} to {identity.user}")
    for grant in matching:
        if _in_force(grant, now):
            return Verdict(True, "grant")
    return Verdict(False, "the booking is not in force now")


def _names(grant: Grant, identity: Identity) -> bool:
    if "guest" in grant.subjects:
        return True
    if identity.guest:
        return False
    subjects = {"authenticated", f"user:{identity.user}", *(f"group:{group}" for group in identity.groups)}
    return not subjects.isdisjoint(grant.subjects)


def _in_force(grant: Grant, now: datetime) -> bool:
    return (grant.from_ is None or grant.from_ <= now) and (grant.until is None or now < grant.until)
