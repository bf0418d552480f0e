"""A short run of each fuzz target, the same each time. The long one is `make fuzz`."""

from random import Random

import pytest

from tests.fuzz.engine import corpus
from tests.fuzz.runner import Budget, Target, run
from tests.fuzz.targets import TARGETS

INPUTS = 1200
SEED = 20


@pytest.mark.thorough
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_breaks(target: Target) -> None:
    report = run(target, SEED, Budget(round(INPUTS * target.share)))
    assert report.crashes == {}
    assert report.inputs > 0


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_corpus_itself_is_fine(target: Target) -> None:
    """Examples, and what was found before."""
    fuzzed = target.make()
    try:
        for data in corpus(target.name):
            fuzzed.feed(data, Random(SEED))
        fuzzed.check()
    finally:
        fuzzed.close()


def test_a_crash_is_reported_and_the_run_goes_on() -> None:
    class Breaks:
        def feed(self, data: bytes, random: Random) -> None:
            if len(data) % 7 == 3:
                raise ZeroDivisionError("broken")

        def check(self) -> None: ...

        def close(self) -> None: ...

    report = run(Target("rtcp", Breaks, (), 2048), SEED, Budget(500))
    assert report.inputs == 500
    assert [kind.split()[0] for kind in report.crashes] == ["ZeroDivisionError"]
