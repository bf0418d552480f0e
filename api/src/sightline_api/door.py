"""The parts of a running front door, and how handlers get at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from sightline_api.auth.caller import Caller
from sightline_api.auth.chain import Chain
from sightline_api.authorize import Action, Authorizer, Target
from sightline_api.cameras import CameraState, Directory, absent
from sightline_api.clock import Clock
from sightline_api.metrics import Metrics
from sightline_api.problems import problem_error
from sightline_api.quota import SessionQuota
from sightline_api.recorder import Recorder
from sightline_api.settings import Settings
from sightline_api.ttl import TtlCache
from sightline_api.turn import TurnSecrets
from sightline_api.watch import Watcher
from sightline_kube.cluster import Cluster
from sightline_model.problems import ProblemCode
from sightline_model.tokens import Signer


@dataclass(frozen=True, slots=True)
class Door:
    """Everything that a handler may use."""

    settings: Settings
    clock: Clock
    cluster: Cluster
    cameras: Directory
    signers: Sequence[Signer]
    chain: Chain
    authorizer: Authorizer
    quota: SessionQuota
    watcher: Watcher
    recorder: Recorder
    metrics: Metrics
    reported: TtlCache[str, None]
    """Sessions whose player reported a moment ago."""
    turn: TurnSecrets

    @property
    def signer(self) -> Signer:
        """The key that signs; further ones only verify."""
        return self.signers[0]

    @property
    def namespaces(self) -> Sequence[str | None]:
        """What has to be asked for to see everything that is served: all at once, or namespace by namespace."""
        return self.settings.namespaces or (None,)

    def serves(self, namespace: str) -> bool:
        """Whether cameras of a namespace are served here."""
        return not self.settings.namespaces or namespace in self.settings.namespaces

    async def camera(self, caller: Caller, action: Action, namespace: str, name: str, *others: Action) -> CameraState:
        """The camera, for somebody who may do `action`, or one of the others, to it.

        Whoever may not gets the same answer where there is none, after the same questions, as from Kubernetes: else
        names of cameras could be found out by trying.
        """
        found = self._served(namespace, name)
        target = found.target if found is not None else Target(namespace, name)
        await self.authorizer.require(caller, action, target, *others)
        if found is None:
            raise absent(namespace, name)
        return found

    async def watched(self, caller: Caller, namespace: str, name: str) -> CameraState:
        """The camera, for somebody who may watch it: by right, or because the session token is for it."""
        right = caller.session
        if right is None:
            return await self.camera(caller, Action.VIEW, namespace, name)
        found = self._served(namespace, name)
        own = (right.namespace, right.camera) == (namespace, name)
        if not own or (found is not None and found.uid != right.uid):
            raise problem_error(ProblemCode.FORBIDDEN, "The session token is for another camera.")
        if found is None:
            raise absent(namespace, name)
        return found

    def _served(self, namespace: str, name: str) -> CameraState | None:
        """The camera, if there is one; for all cameras of a namespace that is not served there is but one answer."""
        if not self.serves(namespace):
            raise absent(namespace, name)
        return self.cameras.find(namespace, name)


def _door(request: Request) -> Door:
    return cast("Door", request.app.state.door)


def _caller(request: Request) -> Caller:
    """Whoever `middleware.Gate` let in; a route that it does not guard has none, and then nobody gets in."""
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Caller):
        raise problem_error(ProblemCode.UNAUTHENTICATED)
    return caller


def _user(request: Request) -> Caller:
    caller = _caller(request)
    if caller.session is not None:
        raise problem_error(ProblemCode.FORBIDDEN, "A session token opens and ends its session, nothing else.")
    return caller


FrontDoor = Annotated[Door, Depends(_door)]
AnyCaller = Annotated[Caller, Depends(_caller)]
"""A user, or the holder of a session token."""
User = Annotated[Caller, Depends(_user)]
"""Somebody who signed in."""
