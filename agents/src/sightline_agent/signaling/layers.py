"""WHEP's layer extension (`urn:ietf:params:whep:ext:core:layer`): a viewer looks at the qualities and chooses one.

    GET  /whep/sid/layers   200 {mediaId: {active: [...], inactive: [...], selected, automatic}}
    POST /whep/sid/layers   {"mediaId": "0", "encodingId": "sd"} -> 200 when it is done; without encodingId: automatic

Active are the qualities whose source runs; an inactive one may be chosen too, it then starts. What the draft has for
layers within one encoding (spatialLayerId and the like) means nothing here and is ignored. Like PATCH and DELETE this
asks for no token.
"""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sightline_agent.signaling.requests import problem, read_text, require_type
from sightline_agent.signaling.sessions import Layer, Layers, Sessions
from sightline_model.problems import ProblemCode

RELATION = "urn:ietf:params:whep:ext:core:layer"
JSON_TYPE = "application/json"
MAX_BODY_BYTES = 4096
_MAX_NAME = 64
_METHODS = ("OPTIONS", "GET", "POST")


def layer_routes(sessions: Sessions) -> list[BaseRoute]:
    """The route; errors are ProblemErrors for the application's handler."""

    async def layers(request: Request) -> Response:
        sid = request.path_params["sid"]
        if request.method == "OPTIONS":
            return Response(status_code=200, headers={"Allow": ", ".join(_METHODS), "Accept-Post": JSON_TYPE})
        known = sessions.layers(sid)
        if request.method == "POST":
            require_type(request, JSON_TYPE)
            await sessions.select(sid, parse_selection(await read_text(request, MAX_BODY_BYTES), known.media_id))
            known = sessions.layers(sid)
        return JSONResponse(describe(known), headers={"Cache-Control": "no-store"})

    return [Route("/whep/{sid}/layers", layers, methods=_METHODS, name="whep-layers")]


def link(sid: str) -> str:
    """The Link header that tells of it."""
    return f'</whep/{sid}/layers>; rel="{RELATION}"'


def parse_selection(text: str, media_id: str | None) -> str | None:
    """The quality that is asked for, None for automatic; ProblemError invalid-request."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise problem(ProblemCode.INVALID_REQUEST, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise problem(ProblemCode.INVALID_REQUEST, 'the body must be {"mediaId": "...", "encodingId": "..."}')
    given = body.get("mediaId")
    if given is not None and given != media_id:
        raise problem(ProblemCode.INVALID_REQUEST, f"mediaId must be {media_id!r}: there is no other track of pictures")
    name = body.get("encodingId")
    if name is None:
        return None
    # It is told again where nobody has it: half a surrogate pair could not be.
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not (name.isascii() and name.isprintable()):
        raise problem(ProblemCode.INVALID_REQUEST, "encodingId must be the name of a quality")
    return name


def describe(known: Layers) -> dict[str, Any]:
    """The answer's body."""
    return {
        known.media_id or "": {
            "active": [_layer(layer) for layer in known.layers if layer.running],
            "inactive": [_layer(layer) for layer in known.layers if not layer.running],
            "selected": known.selected,
            "automatic": known.automatic,
        }
    }


def _layer(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {"encodingId": layer.name}
    if layer.width and layer.height:
        found |= {"width": layer.width, "height": layer.height}
    if layer.running:
        found["bitrate"] = layer.bitrate
    return found
