"""The same as WHEP for programs that speak JSON: an RTCSessionDescription in, one out."""

from fastapi import APIRouter, Request

from sightline_api.door import AnyCaller, FrontDoor
from sightline_api.problems import describe, problem_error
from sightline_api.routes.common import CameraAt
from sightline_api.routes.whep import OPENING, ProfileQuery, session_url, watch
from sightline_api.schemas import AnswerBody, OfferBody
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["watch"])


@router.post(
    "/namespaces/{namespace}/cameras/{name}/webrtc/offer",
    response_model=AnswerBody,
    responses=describe(*OPENING, ProblemCode.INVALID_REQUEST),
)
async def post_offer(
    door: FrontDoor,
    caller: AnyCaller,
    camera: CameraAt,
    body: OfferBody,
    request: Request,
    profile: ProfileQuery = None,
) -> AnswerBody:
    """Send an SDP offer as JSON, get the answer as JSON. DELETE `sessionUrl` to hang up."""
    if not body.sdp.startswith("v=0"):
        raise problem_error(ProblemCode.INVALID_SDP, "An SDP offer starts with v=0.")
    opened = await watch(door, caller, camera, request, body.sdp, profile)
    return AnswerBody(
        sdp=opened.answer,
        session_id=opened.session_id,
        session_url=session_url(door, request, camera, opened.session_id),
    )
