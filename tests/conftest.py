"""What holds for every test: chance is the same at every run, and Hypothesis never judges how long something took."""

import random

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("sightline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sightline")


@pytest.fixture(autouse=True)
def _same_chance(request: pytest.FixtureRequest) -> None:
    """Jitter that nobody injected comes out alike at every run of a test, whatever ran before it."""
    random.seed(request.node.nodeid)
