"""The web page: files of one folder, if it is there. Names stay the same over releases: browsers ask again."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

METHODS = ("GET", "HEAD")


class Page(StaticFiles):
    """Static files that are kept by browsers, but checked each time."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304."""
        if scope["method"] not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def page(root: Path | None) -> Page | None:
    """The page, or None where there is no folder with an index."""
    if root is None or not (root / "index.html").is_file():
        return None
    return Page(directory=root, html=True)
