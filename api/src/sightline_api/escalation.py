"""What a change of a camera gives away, and whether its author has it to give.

A camera sends the content of the Secrets that it names to the addresses that it names, and its rules give rights to
others. So whoever writes either must be let by Kubernetes to read that Secret, or to do himself what he grants. The
chart's admission policy asks the same of those who write cameras without the front door, and one table of cases is
held against both. Who manages a camera by its own rules may use what it already has: its Secrets, and its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline_api.auth.caller import Caller
from sightline_api.authorize import READ_SECRET, RULES, Action, Authorizer, Target
from sightline_api.cameras import read_spec
from sightline_api.problems import problem_error
from sightline_model.base import Model
from sightline_model.camera import CameraSpec, Role
from sightline_model.problems import ProblemCode

Spec = Mapping[str, Any]
"""A camera's spec as Kubernetes has it."""
_STANDS_FOR = {
    Role.VIEW: (Action.VIEW,),
    Role.PUBLISH: (Action.PUBLISH,),
    Role.MANAGE: (Action.UPDATE, Action.DELETE),
}


@dataclass(frozen=True, slots=True)
class Given:
    """What a change gives away."""

    secrets: frozenset[str]
    """Secrets whose content may go elsewhere than before."""
    actions: frozenset[Action]
    """What others may do then."""


def given(before: CameraSpec | None, after: CameraSpec) -> Given:
    """What is given by the change; a camera that was not there, or could not be read, had nothing."""
    roles = _new_roles(before, after)
    # A manager may change where the camera's Secrets are sent.
    known = [] if before is None or Role.MANAGE in roles else _places(before)
    secrets = (secrets_of(place.to_wire()) for place in _places(after) if place not in known)
    return Given(frozenset().union(*secrets), frozenset(action for role in roles for action in _STANDS_FOR[role]))


def secrets_of(value: Any) -> frozenset[str]:
    """Names of the Secrets that a spec refers to."""
    if isinstance(value, Mapping):
        names: set[str] = set()
        for key, item in value.items():
            is_reference = key in {"credentialsRef", "tokenRef", "secretRef"} and isinstance(item, Mapping)
            names |= {str(item.get("name"))} if is_reference else secrets_of(item)
        return frozenset(names)
    if isinstance(value, list):
        return frozenset().union(*(secrets_of(item) for item in value))
    return frozenset()


async def require(authorizer: Authorizer, caller: Caller, target: Target, old: Spec | None, new: Spec) -> None:
    """ProblemError 403 unless the caller has what the change from one spec to the other gives away; `target` has the
    rules from before."""
    if old == new:
        return
    before = read_spec(old or {})
    what = given(before, CameraSpec.model_validate(new))
    secrets, actions = what.secrets, what.actions
    if authorizer.granted(caller, Action.UPDATE, target).allowed:
        named = frozenset[str]() if before is None else secrets_of(before.to_wire())
        secrets, actions = secrets - named, frozenset()
    for secret in sorted(secrets):
        if not await authorizer.by_rbac(caller, READ_SECRET, Target(target.namespace, secret)):
            detail = f"To have a camera use the Secret {secret} you need the RBAC right to get it."
            raise problem_error(ProblemCode.FORBIDDEN, detail)
    for action in sorted(actions):
        if not await authorizer.by_rbac(caller, RULES[action], target):
            detail = f"To let others {action} this camera you need the RBAC right to {action} it yourself."
            raise problem_error(ProblemCode.FORBIDDEN, detail)


def _places(spec: CameraSpec) -> list[Model]:
    """Everything that may name a Secret, each with the address that gets its content."""
    return [spec.source, *(profile.source for profile in spec.profiles), *spec.outputs]


def _new_roles(before: CameraSpec | None, after: CameraSpec) -> set[Role]:
    old = [] if before is None else before.access.grants
    roles = {role for grant in after.access.grants if grant not in old for role in grant.roles}
    owner = after.access.owner
    if owner and (before is None or owner != before.access.owner):
        roles |= set(Role)
    return roles
