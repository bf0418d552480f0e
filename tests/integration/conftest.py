"""One real API server for each module: what a test leaves behind is nobody else's affair."""

from collections.abc import Iterator

import pytest

from tests.helpers.apiserver import ROOT, Apiserver, running_apiserver


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """With our kinds, and the controllers that collect garbage and count disruptions."""
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server
