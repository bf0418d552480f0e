"""First frames of cameras that rest: from the POST to the first decoded picture, with spare agents and without.

    python -m tests.bench.waking [--warm 2] [--rounds 8] [--gop 2]

`sightline dev` runs the whole house: operator, front door, agents as processes. An RTSP camera of our own, with user
name and password, plays 1080p30 with a key frame every so many seconds and, as most do, begins each connection with
one. Each round wakes another camera that has given its agent back, watched by aiortc, which decodes in software.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.first_frame import RATE, access_units
from tests.helpers.dev import Dev, running
from tests.helpers.door_viewer import PATIENCE_SECONDS, let_rest, resting, visit
from tests.helpers.rtsp_server import Habits, serve

PAUSE_SECONDS = 5.0
"""Between two rounds: the pool fills up again."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--gop", type=int, default=2)
    parser.add_argument("--clips", type=Path, default=Path(".build/bench"))
    options = parser.parse_args()
    units = access_units(options.clips, options.gop)
    times = asyncio.run(measure(units, options.warm, options.rounds))
    for name, values in zip(("answered", "first frame"), zip(*times, strict=True), strict=True):
        print(
            f"{options.warm} spares, {options.rounds} rounds, {name}: p50 {statistics.median(values):.2f} s, "
            f"min {min(values):.2f} s, max {max(values):.2f} s"
        )


async def measure(units: Sequence[tuple[bytes, ...]], warm: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds from the POST to the answer, and to the first picture, of each round."""
    habits = Habits(fps=RATE, access_units=tuple(units), username="admin", password="right")
    async with serve(habits) as camera:
        url = camera.url.replace("rtsp://", "rtsp://admin:right@")
        names = [f"c-{number}" for number in range(rounds)]
        arguments = [f"--camera={name}={url}" for name in names]
        with tempfile.TemporaryDirectory() as state:
            async with running(Path(state), f"--warm-agents={warm}", *arguments) as dev:
                return await _rounds(dev, names, warm)


async def _rounds(dev: Dev, names: list[str], warm: int) -> list[tuple[float, float]]:
    for name in ("test-pattern", *names):
        await let_rest(dev, name)
    times = []
    for name in names:
        await resting(dev, name)
        await _agents(dev, warm)
        times.append(await visit(dev, name))
        await asyncio.sleep(PAUSE_SECONDS)
        await resting(dev, name)
    return times


async def _agents(dev: Dev, count: int) -> None:
    """Wait until so many agents run."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(dev.agents()) != count:
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    main()
