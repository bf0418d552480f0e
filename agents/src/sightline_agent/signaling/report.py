"""POST /whep/{sid}/report: a player tells how its picture is (`sightline_model.agent.PlayerReport`, JSON).

Like the session's PATCH and DELETE it asks for no token: only who opened the session knows its id. The answer is 204;
a report that comes too soon after another is not counted, and fields that we do not know are passed over.
"""

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sightline_agent.errors import ProblemError
from sightline_agent.players import NoteReport
from sightline_agent.signaling.requests import problem, read_text, require_type
from sightline_model.agent import PlayerReport
from sightline_model.problems import Problem, ProblemCode

JSON_TYPE = "application/json"
MAX_REPORT_BYTES = 2048


def report_routes(note: NoteReport) -> list[BaseRoute]:
    """The route; errors are ProblemErrors for the application's handler."""

    async def take(request: Request) -> Response:
        require_type(request, JSON_TYPE)
        report = parse_report(await read_text(request, MAX_REPORT_BYTES))
        if not note(request.path_params["sid"], report):
            raise ProblemError(Problem(code=ProblemCode.SESSION_NOT_FOUND))
        return Response(status_code=204)

    return [Route("/whep/{sid}/report", take, methods=["POST"], name="whep-report")]


def parse_report(text: str) -> PlayerReport:
    """ProblemError for everything that is no report."""
    try:
        return PlayerReport.model_validate_json(text)
    except ValidationError:
        raise problem(ProblemCode.INVALID_REQUEST, "the body is no player's report") from None
