"""The same as WHEP for programs that speak JSON: an RTCSessionDescription in, one out."""

from fastapi import APIRouter

from sightline_api.problems import describe, problem_error
from sightline_api.routes.whep import OPENING, Watching
from sightline_api.schemas import AnswerBody, OfferBody
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["watch"])


@router.post(
    "/namespaces/{namespace}/cameras/{name}/webrtc/offer",
    response_model=AnswerBody,
    responses=describe(*OPENING, ProblemCode.INVALID_REQUEST),
)
async def post_offer(attempt: Watching, body: OfferBody) -> AnswerBody:
    """Send an SDP offer as JSON, get the answer as JSON. DELETE `sessionUrl` to hang up."""
    if not body.sdp.startswith("v=0"):
        raise problem_error(ProblemCode.INVALID_SDP, "An SDP offer starts with v=0.")
    opened = await attempt.watch(body.sdp)
    return AnswerBody(
        sdp=opened.answer,
        session_id=opened.session_id,
        session_url=attempt.session_url(opened.session_id),
    )
