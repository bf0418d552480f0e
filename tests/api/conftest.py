"""The front door under test."""

from collections.abc import AsyncIterator

import pytest

from tests.api.world import World, running_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A front door with the default settings of tests."""
    async with running_world() as made:
        yield made
