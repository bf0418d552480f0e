"""What machines ask without a token: is the process there, does it serve, what has it counted, with which keys."""

from typing import Any

from fastapi import APIRouter, Response

from sightline_api.door import FrontDoor
from sightline_api.metrics import CONTENT_TYPE
from sightline_api.problems import describe, problem_error
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["own"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses=describe(ProblemCode.CLUSTER_UNAVAILABLE, guarded=False))
async def readyz(door: FrontDoor) -> dict[str, str]:
    """The cameras are known. Kubernetes may be away afterwards: viewers are served all the same."""
    if not door.cameras.synced():
        raise problem_error(ProblemCode.CLUSTER_UNAVAILABLE, "The cameras have not been listed yet.", 1)
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(door: FrontDoor) -> Response:
    """Counters in Prometheus' text format."""
    return Response(door.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})


@router.get("/.well-known/jwks.json")
async def jwks(door: FrontDoor) -> dict[str, list[dict[str, Any]]]:
    """The public keys of media and session tokens."""
    return {"keys": [signer.public_jwk() for signer in door.signers]}
