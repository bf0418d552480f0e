"""Keeps Python's garbage collector from looking at what the caches hold, again and again.

With ten thousand cameras there are millions of maps and lists; a full collection looks at each of them and nothing else
happens for a second. Nearly all of them live for as long as their object, and reference counts free them after that.
So what is there is set aside from time to time, after a collection of what has come since; now and then everything is
looked at, for cycles among what was set aside.
"""

import asyncio
import gc

YOUNG = 20_000
"""New containers before the youngest are looked at (Python: 700): a pass makes some thousands and drops them."""
SET_ASIDE_SECONDS = 20.0
EVERYTHING_EACH = 180
"""Rounds: an hour."""


async def keep_quiet() -> None:
    """Until cancelled."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG, *before[1:])
    try:
        while True:
            gc.unfreeze()
            for _ in range(EVERYTHING_EACH):
                gc.collect()
                gc.freeze()
                await asyncio.sleep(SET_ASIDE_SECONDS)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
