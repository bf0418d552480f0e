"""Methods that are the same for every address: HEAD wherever there is GET, OPTIONS everywhere, and what `Allow` says.

The framework knows of one route at a time: it has no HEAD for a GET, names the methods of the first route that fits,
and leaves the rest of an address to the page, where there is one. Routes with a HEAD or OPTIONS of their own keep it.
"""

from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ROUTED = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def allowed(scope: Scope) -> list[str]:
    """What may be sent to an address; empty for one that is none of the routes'."""
    if _match(scope, "") is Match.NONE:
        return []
    routed = {method for method in _ROUTED if _match(scope, method) is Match.FULL}
    return sorted(routed | {"OPTIONS"} | ({"HEAD"} if "GET" in routed else set()))


class Methods:
    """Answers HEAD as GET without the content (RFC 9110, section 9.3.2), and OPTIONS with `Allow`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["type"] == "http" else ""
        if method == "HEAD":
            await self._head(scope, receive, send)
        elif method == "OPTIONS" and _match(scope, method) is Match.PARTIAL:
            await Response(status_code=204, headers={"Allow": ", ".join(allowed(scope))})(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_content(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        borrowed = _match(scope, "HEAD") is Match.PARTIAL
        inner = {**scope, "method": "GET" if borrowed else "HEAD"}
        try:
            await self.app(inner, receive, without_content)
        finally:
            scope.update({**inner, "method": "HEAD"})  # the route that was found, for whoever counts requests


def _match(scope: Scope, method: str) -> Match:
    """The best that the routes have for this method at the address."""
    routes = [route for route in scope["app"].router.routes if not isinstance(route, Mount)]
    found = (route.matches({**scope, "method": method})[0] for route in routes)
    return max(found, key=lambda match: match.value, default=Match.NONE)
