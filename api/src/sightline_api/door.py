"""The parts of a running front door, and how handlers get at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from sightline_api.auth.caller import Caller
from sightline_api.auth.chain import Chain
from sightline_api.authorize import Authorizer
from sightline_api.cameras import Directory
from sightline_api.clock import Clock
from sightline_api.metrics import Metrics
from sightline_api.problems import problem_error
from sightline_api.quota import SessionQuota
from sightline_api.recorder import Recorder
from sightline_api.settings import Settings
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

    @property
    def signer(self) -> Signer:
        """The key that signs; further ones only verify."""
        return self.signers[0]


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
