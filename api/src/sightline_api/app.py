"""Builds the front door from its parts. Nothing is global: one process may hold several."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
from fastapi import FastAPI, Request, Response

from sightline_api import problems
from sightline_api.agent_proxy import AgentClient
from sightline_api.auth.chain import Authenticators, Chain
from sightline_api.auth.jwks import KeySet, fetcher
from sightline_api.auth.kubernetes import KubernetesAuthenticator
from sightline_api.auth.oidc import OidcAuthenticator
from sightline_api.auth.static import StaticAuthenticator
from sightline_api.auth.stream import SessionTokenAuthenticator
from sightline_api.authorize import Authorizer
from sightline_api.cameras import Directory
from sightline_api.clock import Clock
from sightline_api.door import Door
from sightline_api.methods import Methods
from sightline_api.metrics import Metrics
from sightline_api.middleware import BodyLimit, Cors, Gate, Observe, page_policy
from sightline_api.openapi import describe_api
from sightline_api.outbound import new_session
from sightline_api.quota import SessionQuota
from sightline_api.recorder import Recorder
from sightline_api.routes import cameras, health, layers, me, offer, report, sessions, status, web, whep
from sightline_api.settings import Settings
from sightline_api.ttl import TtlCache
from sightline_api.turn import TurnSecrets
from sightline_api.watch import AbandonedError, Rules, Watcher
from sightline_api.whereabouts import Whereabouts
from sightline_kube.cache import Cache
from sightline_kube.cluster import Cluster
from sightline_model.tokens import Signer

CLOSING_SECONDS = 3.0
MAX_REPORTING = 20_000
"""Sessions whose last report is remembered, to pace the next; forgetting one is only generous."""


def create_app(
    settings: Settings,
    cluster: Cluster,
    cache: Cache,
    signer: Signer,
    *,
    previous_signer: Signer | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """The ASGI application. The caller feeds `cache` (kind Camera) and closes `cluster`."""
    signers = (signer,) if previous_signer is None else (signer, previous_signer)
    parts = _Parts(settings, cluster, Directory(cache), signers, clock or Clock())
    app = FastAPI(
        title="Sightline",
        version="v1alpha1",
        description="Watch cameras that Kubernetes runs.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=parts.lifespan(),
        generate_unique_id_function=lambda route: route.name,
    )
    # /cameras/status before anything that could take "status" for a name. Not by way of a router of their own:
    # FastAPI works out every route of a nested router once more, 25 ms at each start.
    for module in (status, cameras, whep, layers, report, offer, sessions, me):
        app.include_router(module.router, prefix="/v1")
    app.include_router(health.router)
    problems.install(app)
    app.add_exception_handler(AbandonedError, _abandoned)
    # The last one added is the outermost.
    app.add_middleware(Gate)
    app.add_middleware(BodyLimit)
    app.add_middleware(Methods)
    app.add_middleware(Cors, origins=settings.cors_origins)
    app.state.metrics = parts.metrics
    app.add_middleware(Observe, metrics=parts.metrics, page_policy=page_policy(settings.frame_ancestors))
    describe_api(app)
    page = web.page(settings.web_root)
    if page is not None:
        app.mount("/", page, name="page")
    return app


async def _abandoned(_: Request, __: Exception) -> Response:
    return Response(status_code=problems.CLIENT_CLOSED_REQUEST)


class _Parts:
    """What is there before the event loop runs; the rest is made when the application starts."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        cameras: Directory,
        signers: tuple[Signer, ...],
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.cameras = cameras
        self.signers = signers
        self.clock = clock
        self.metrics = Metrics()

    def lifespan(self) -> Callable[[Any], AbstractAsyncContextManager[None]]:
        """Opens the connections to agents and issuers, and closes them after what is on its way."""

        @asynccontextmanager
        async def run(app: FastAPI) -> AsyncIterator[None]:
            recorder = Recorder(self.cluster, self.metrics)
            # A pool of their own: cameras that hang must not keep anybody from signing in.
            async with new_session() as http, new_session() as issuers:
                app.state.door = door = self._door(http, issuers, recorder)
                yield
                await recorder.close(CLOSING_SECONDS)
                await door.chain.close()

        return run

    def _door(self, http: aiohttp.ClientSession, issuers: aiohttp.ClientSession, recorder: Recorder) -> Door:
        settings, clock = self.settings, self.clock
        authorizer = Authorizer(self.cluster, clock.now, clock.monotonic, self.metrics)
        quota = SessionQuota(settings.quota, clock.monotonic)
        agents = AgentClient(http, settings.agent_connect_timeout)
        rules = Rules(quota, settings.agent_timeout_margin)
        return Door(
            settings=settings,
            clock=clock,
            cluster=self.cluster,
            cameras=self.cameras,
            signers=self.signers,
            chain=Chain(self._authenticators(issuers), clock.now, self.metrics),
            authorizer=authorizer,
            quota=quota,
            watcher=Watcher(rules, agents, Whereabouts(self.cameras), recorder, self.signers, clock),
            recorder=recorder,
            metrics=self.metrics,
            reported=TtlCache(MAX_REPORTING, clock.monotonic),
            turn=TurnSecrets(settings.turn_directory),
        )

    def _authenticators(self, http: aiohttp.ClientSession) -> Authenticators:
        settings, clock = self.settings, self.clock
        kubernetes = settings.kubernetes
        return Authenticators(
            session=SessionTokenAuthenticator([signer.public_jwk() for signer in self.signers]),
            oidc={
                issuer.name: OidcAuthenticator(
                    issuer, KeySet(issuer, fetcher(http, issuer), clock.monotonic), clock.now
                )
                for issuer in settings.oidc
            },
            kubernetes=KubernetesAuthenticator(self.cluster, kubernetes.audiences, clock.now, clock.monotonic)
            if kubernetes.enabled
            else None,
            static=StaticAuthenticator(settings.static_users) if settings.static_users else None,
        )
