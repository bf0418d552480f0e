"""The installations that end-to-end tests share."""

from collections.abc import Iterator

import pytest

from tests.helpers.demo import Demo, running_demo


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """Sightline on the local node."""
    with running_demo() as running:
        yield running
