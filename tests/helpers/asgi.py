"""What a server hands to an ASGI application, for tests that play the server: it hangs up, or sends half a body."""

from collections.abc import Mapping
from typing import Any

CLIENT = ("127.0.0.1", 50000)


def http_scope(
    method: str, target: str, headers: Mapping[str, str] | None = None, client: tuple[str, int] = CLIENT
) -> dict[str, Any]:
    """The scope of a request; `target` is path and query."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": client,
        "server": ("server.test", 80),
    }
