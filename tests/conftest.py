"""What holds for every test: chance is the same at every run, and Hypothesis never judges how long something took.

`--hypothesis-profile=search` looks elsewhere at every run: for who hunts, not for who has to pass.
"""

import gc
import random

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("check", settings.get_profile("full"), max_examples=25)
settings.register_profile("search", settings.get_profile("full"), derandomize=False, max_examples=1000, print_blob=True)
settings.load_profile("full")


@pytest.fixture(autouse=True, scope="module")
def _set_aside() -> None:
    """What modules before left is collected, and what stays is not walked through again at each full collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_chance(request: pytest.FixtureRequest) -> None:
    """Jitter that nobody injected comes out alike at every run of a test, whatever ran before it."""
    random.seed(request.node.nodeid)
