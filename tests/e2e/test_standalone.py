"""The page that docs/standalone.md shows, served as it says, plays a standalone agent in real Chromium."""

import re

import pytest

from tests.helpers.agent import PATTERN, standalone
from tests.helpers.apiserver import ROOT
from tests.helpers.browser import new_page
from tests.helpers.http_server import Asked, Reply, serve
from tests.helpers.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

ADDRESS = "http://127.0.0.1:8080/whep"
(SHOWN,) = re.findall(r"```html\n(.*?)```", (ROOT / "docs/standalone.md").read_text(), re.DOTALL)


async def test_the_page_of_the_documentation_plays() -> None:
    assert ADDRESS in SHOWN
    port = free_port()

    def page_of(_: Asked) -> Reply:
        return Reply(200, SHOWN.replace(":8080/", f":{port}/").encode(), {"Content-Type": "text/html"})

    async with serve(page_of) as server:
        origin = server.url("")
        async with standalone(PATTERN, "--port", str(port), "--allowed-origin", origin), new_page() as page:
            await page.goto(f"{origin}/camera.html")
            await page.wait_for_function("document.querySelector('video').videoWidth === 640")
