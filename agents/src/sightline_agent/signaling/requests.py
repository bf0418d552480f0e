"""What WHEP and the JSON offer have in common: who asks, the body within bounds, and a session that nobody waits for.

An offer is looked at before a session is opened for it: nonsense shall neither wake a camera nor use up a session id.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.requests import ClientDisconnect, Request

from sightline_agent.bodies import read_body
from sightline_agent.errors import ProblemError
from sightline_agent.signaling.answer import offered
from sightline_agent.signaling.sdp import MAX_SDP_BYTES, SdpError, parse_offer
from sightline_agent.signaling.sessions import Opened, OpenRequest, Sessions
from sightline_model.problems import Problem, ProblemCode
from sightline_model.session import SessionRole, Transport

_MAX_CLIENT = 256


class Claims(Protocol):
    """Who a request comes from, verified (`sightline_model.tokens.MediaClaims`)."""

    @property
    def user(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def session_id(self) -> str: ...


Authenticate = Callable[[Request], Claims]
"""Raises ProblemError 401 or 403."""


def problem(code: ProblemCode, detail: str) -> ProblemError:
    """An error answer."""
    return ProblemError(Problem(code=code, detail=detail))


def require_type(request: Request, *accepted: str) -> str:
    """The request's media type without its parameters; 415 unless it is accepted."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        raise problem(ProblemCode.UNSUPPORTED_MEDIA_TYPE, f"this takes {' or '.join(accepted)}")
    return given


async def read_text(request: Request, limit: int = MAX_SDP_BYTES) -> str:
    """The body as UTF-8; 413 as soon as it is longer than `limit`, 400 when it is not text."""
    try:
        return (await read_body(request, limit)).decode()
    except UnicodeDecodeError:
        raise SdpError("the body is not UTF-8") from None


async def watch(request: Request, sessions: Sessions, claims: Claims, offer: str) -> Opened:
    """Open a viewer's session; ClientDisconnect when the client hung up while it was parked, and nothing stays."""
    if claims.role != SessionRole.VIEW:
        raise problem(ProblemCode.FORBIDDEN, "this token is not for watching")
    codecs = offered(parse_offer(offer))
    opening = asyncio.ensure_future(
        sessions.open(
            OpenRequest(
                sid=claims.session_id,
                user=claims.user,
                role=SessionRole.VIEW,
                transport=Transport.WHEP,
                offer=offer,
                client=request.headers.get("user-agent", "")[:_MAX_CLIENT],
                profile=request.query_params.get("profile"),
                codecs=codecs,
            )
        )
    )
    hang_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((opening, hang_up), return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Cancelling what is done already changes nothing.
        hang_up.cancel()
        opening.cancel()
        await asyncio.wait((opening, hang_up))
    if not hang_up.cancelled():
        hang_up.exception()
    if opening.cancelled():
        raise ClientDisconnect
    return opening.result()


async def _hang_up(request: Request) -> None:
    """Wait until the client is gone. The body has been read, so the next message says that."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
