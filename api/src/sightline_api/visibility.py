"""Which cameras somebody sees in lists, and with which rights.

For one camera RBAC is asked by name. For lists that would be a question per camera, so RBAC is asked about all
namespaces and then about each namespace, as Kubernetes itself does for lists: rules that name single cameras
(`resourceNames`) do not make them appear. Grants are looked at for each camera.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from sightline_api.auth.caller import Caller
from sightline_api.authorize import LISTS_DENIED_SECONDS, RULES, Action, Authorizer, Target
from sightline_api.cameras import CameraState
from sightline_kube.errors import ClusterError
from sightline_model.camera import Role

ACTIONS = {Role.VIEW: Action.VIEW, Role.PUBLISH: Action.PUBLISH, Role.MANAGE: Action.UPDATE}
MAX_QUESTIONS = 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rights:
    """What one caller may do in some namespaces."""

    caller: Caller
    authorizer: Authorizer
    everywhere: frozenset[Role]
    by_namespace: dict[str, frozenset[Role]]

    def of(self, camera: CameraState) -> list[Role]:
        """The caller's rights on a camera, in the order of `Role`."""
        return [role for role in ACTIONS if self._has(role, camera)]

    def sees(self, camera: CameraState) -> bool:
        """Whether lists show the camera to the caller."""
        return self._has(Role.VIEW, camera) or self._has(Role.MANAGE, camera)

    def _has(self, role: Role, camera: CameraState) -> bool:
        by_rbac = role in self.everywhere or role in self.by_namespace.get(camera.namespace, ())
        return by_rbac or self.authorizer.granted(self.caller, ACTIONS[role], camera.target).allowed


async def rights(authorizer: Authorizer, caller: Caller, namespaces: Collection[str]) -> Rights:
    """Ask RBAC. While Kubernetes cannot be asked, grants alone count."""
    gate = asyncio.Semaphore(MAX_QUESTIONS)

    async def ask(role: Role, namespace: str) -> bool:
        async with gate:
            try:
                rule = RULES[ACTIONS[role]]
                return await authorizer.by_rbac(caller, rule, Target(namespace), LISTS_DENIED_SECONDS)
            except ClusterError as error:
                _log.warning("rbac not asked", namespace=namespace, error=type(error).__name__)
                return False

    async def roles_in(namespace: str, roles: Collection[Role]) -> frozenset[Role]:
        answers = await asyncio.gather(*(ask(role, namespace) for role in roles))
        return frozenset(role for role, allowed in zip(roles, answers, strict=True) if allowed)

    everywhere = await roles_in("", tuple(ACTIONS))
    open_roles = tuple(role for role in ACTIONS if role not in everywhere)
    spaces = sorted(namespaces) if open_roles else []
    found = await asyncio.gather(*(roles_in(namespace, open_roles) for namespace in spaces))
    return Rights(caller, authorizer, everywhere, dict(zip(spaces, found, strict=True)))
