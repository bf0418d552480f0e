"""Python's collector: what is there is set aside, and everything is as it was afterwards."""

import asyncio
import gc
import weakref
from contextlib import suppress

from sightline_operator.garbage import EVERYTHING_EACH, SET_ASIDE_SECONDS, YOUNG, keep_quiet
from tests.helpers.virtual_time import run


class Knot:
    """Something that only the collector frees."""

    def __init__(self) -> None:
        self.self = self


def test_what_is_there_is_set_aside_and_given_back() -> None:
    async def main() -> None:
        before = gc.get_threshold()
        task = asyncio.ensure_future(keep_quiet())
        await asyncio.sleep(1)
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == YOUNG
        aside = Knot()
        await asyncio.sleep(SET_ASIDE_SECONDS)
        knot = weakref.ref(aside)
        del aside
        gc.collect()
        assert knot() is not None
        await asyncio.sleep(EVERYTHING_EACH * SET_ASIDE_SECONDS)
        assert knot() is None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)

    run(main())
