"""Who may do what: the whole decision as one table."""

from datetime import UTC, datetime

import pytest

from sightline_model.access import Identity, decide
from sightline_model.camera import Access, Role

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ALICE = Identity("alice")
BOB = Identity("bob", groups=("guards", "staff"))
GUEST = Identity("guest-7", guest=True)
# A guest who took the owner's name, and a signed-in user who calls himself a guest.
FALSE_ALICE = Identity("alice", groups=("guards",), guest=True)


def access(*subjects: str, roles: tuple[str, ...] = ("View",), begin: str = "", until: str = "") -> Access:
    times = {"from": begin or None, "until": until or None}
    grant = {"subjects": list(subjects), "roles": list(roles), **times}
    return Access.model_validate({"owner": "alice", "grants": [grant]})


@pytest.mark.parametrize(
    ("rules", "identity", "role", "allowed"),
    [
        (Access(), ALICE, Role.VIEW, False),
        (Access(owner=""), Identity(""), Role.VIEW, False),
        (Access(owner="alice"), ALICE, Role.VIEW, True),
        (Access(owner="alice"), ALICE, Role.PUBLISH, True),
        (Access(owner="alice"), ALICE, Role.MANAGE, True),
        (Access(owner="alice"), BOB, Role.VIEW, False),
        (Access(owner="alice"), FALSE_ALICE, Role.VIEW, False),
        (access("user:bob"), BOB, Role.VIEW, True),
        (access("user:bob"), BOB, Role.PUBLISH, False),
        (access("user:bob", roles=("Publish",)), BOB, Role.VIEW, False),
        (access("user:bob", roles=("View", "Publish")), BOB, Role.PUBLISH, True),
        (access("user:Bob"), BOB, Role.VIEW, False),
        (access("user:carol", "user:bob"), BOB, Role.VIEW, True),
        (access("group:guards"), BOB, Role.VIEW, True),
        (access("group:staff"), BOB, Role.VIEW, True),
        (access("group:bob"), BOB, Role.VIEW, False),
        (access("user:guards"), BOB, Role.VIEW, False),
        (access("group:guards"), GUEST, Role.VIEW, False),
        (access("group:guards"), FALSE_ALICE, Role.VIEW, False),
        (access("user:guest-7"), GUEST, Role.VIEW, False),
        (access("authenticated"), BOB, Role.VIEW, True),
        (access("authenticated"), GUEST, Role.VIEW, False),
        (access("guest"), GUEST, Role.VIEW, True),
        (access("guest"), BOB, Role.VIEW, True),
        (access("guest"), GUEST, Role.MANAGE, False),
        (access("user:bob", begin="2026-05-04T12:00:00Z"), BOB, Role.VIEW, True),
        (access("user:bob", begin="2026-05-04T12:00:01Z"), BOB, Role.VIEW, False),
        (access("user:bob", until="2026-05-04T12:00:01Z"), BOB, Role.VIEW, True),
        (access("user:bob", until="2026-05-04T12:00:00Z"), BOB, Role.VIEW, False),
        (access("user:bob", begin="2026-05-04T13:59:59+02:00"), BOB, Role.VIEW, True),
        (access("user:bob", begin="2026-05-04T14:00:01+02:00"), BOB, Role.VIEW, False),
        (access("user:alice", until="2026-05-04T11:00:00Z"), ALICE, Role.VIEW, True),
    ],
)
def test_decide(rules: Access, identity: Identity, role: Role, allowed: bool) -> None:
    assert decide(rules, identity, role, NOW).allowed is allowed


@pytest.mark.parametrize(
    ("rules", "identity", "reason"),
    [
        (Access(owner="alice"), ALICE, "owner"),
        (access("user:bob"), BOB, "grant"),
        (access("user:carol"), BOB, "no grant gives the role View to bob"),
        (access("user:bob", until="2026-05-04T11:00:00Z"), BOB, "the booking is not in force now"),
    ],
)
def test_the_reason_is_given(rules: Access, identity: Identity, reason: str) -> None:
    assert decide(rules, identity, Role.VIEW, NOW).reason == reason


def test_one_grant_in_force_is_enough() -> None:
    grants = [
        {"subjects": ["user:bob"], "roles": ["View"], "until": "2026-05-04T11:00:00Z"},
        {"subjects": ["group:staff"], "roles": ["View"]},
    ]
    assert decide(Access.model_validate({"grants": grants}), BOB, Role.VIEW, NOW).allowed
