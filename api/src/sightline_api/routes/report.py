"""Players tell how their picture is: freezes, dropped frames, what nobody but they can see.

Under the session's address and with its credential, like PATCH and DELETE. The front door checks and paces what comes
and hands it to the agent, which shows it with the session and sums it up in its metrics; nothing is kept here.
"""

from fastapi import APIRouter, Response

from sightline_api.agent_proxy import JSON
from sightline_api.door import AnyCaller, FrontDoor
from sightline_api.problems import describe, problem_error
from sightline_api.routes.common import SESSION_PROBLEMS, SessionAt
from sightline_api.routes.whep import SESSION
from sightline_model.agent import PlayerReport
from sightline_model.problems import ProblemCode

router = APIRouter(tags=["watch"])

_C = ProblemCode
LEAST_SECONDS = 2


@router.post(
    SESSION + "/report",
    status_code=204,
    responses=describe(
        *SESSION_PROBLEMS,
        _C.INVALID_REQUEST,
        _C.BODY_TOO_LARGE,
        _C.TOO_MANY_REQUESTS,
    ),
)
async def report_whep_session(door: FrontDoor, caller: AnyCaller, session: SessionAt, report: PlayerReport) -> Response:
    """Tell how the picture is. Every ten seconds is often enough, and only when something changed."""
    if door.reported.get(session.id) is not None:
        raise problem_error(_C.TOO_MANY_REQUESTS, "A report every ten seconds is enough.", LEAST_SECONDS)
    door.reported.put(session.id, None, LEAST_SECONDS)
    body = report.model_dump_json(by_alias=True)
    await door.watcher.tell(caller, session.camera, session.id, ("POST", body, {"Content-Type": JSON}), "/report")
    return Response(status_code=204)
