"""Writes docs/benchmarks.md and its plot out of the recorded series."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench import clip, figures, plot
from tests.bench.series import flaws
from tests.bench.servers import SERVERS, Server

Result = dict[str, Any]

PLOT = "benchmarks/servers.svg"
_BESIDE = {
    "benchmarks/scale.md": "[what it measured](benchmarks/scale.md)",
    "benchmarks/by-hand.md": "[what was measured by hand](benchmarks/by-hand.md)",
}
"""Pages that are linked if they are there."""
_INTRODUCTION = f"""# Benchmarks

Written by `make bench` (`python -m tests.bench`), which also builds or installs the servers that it compares with.
Nothing here is typed by hand; each section names the command that measures it alone.
The operator has a benchmark of its own, `make bench-scale`. Beside this page: {{beside}}.

One machine, loopback only, everything side by side: single values move by some 15 %, ratios by less. On a real network
card part of the kernel's share is replaced by the driver's.

## Method

* **Clip**: {clip.WIDTH}x{clip.HEIGHT}, {clip.RATE} frames/s, x264 constrained baseline, zerolatency,
  {clip.BIT_RATE / 1e6:g} Mbit/s, a key frame every {clip.GOP / clip.RATE:g} s, some 436 packets/s. A synthetic camera
  sends it by RTSP over TCP (to Janus as RTP over UDP, which is what it takes) and logs when each frame left.
* **Cores**: the server is on core 0, camera and viewers are on core 1; nothing else should run. As root all is in a
  network namespace of its own, away from the machine's firewall and connection tracking. Sightline runs with the
  packages of its agent's image and no others.
* **Viewers** are real ICE and DTLS sessions (aiortc) with SRTP AES-128-GCM for all servers. After the handshake a
  native receiver drains their sockets every 4 ms and counts packets, bytes and sequence gaps; each viewer sends one
  receiver report per second. Buffers are 8 MB and the kernel's drop counters are read. One more viewer stays plain
  aiortc: it decrypts, checks that sequence numbers are continuous, decodes, and reads the number in each picture.
* **CPU** is user and system time of all threads of the server by the kernel's CPU clock. The kernel charges the
  receiving half of the loopback to the sender, for all alike.
* **Latency** is from the camera's write of a frame to the arrival of its last packet at the viewer's socket, by the
  kernel's time stamp; frames are matched by their sizes, and a viewer whose frames do not match clearly is left out
  and reported.
* **Rounds**: servers take turns, each round begins with another one; figures are medians over the rounds.
  A measurement in which some viewer got fewer than 29 frames/s counts only where no other round has a better one.
* **Join cost** is the server's CPU from the first offer to the last handshake, less what the streams themselves cost.
"""

_FIRST_FRAME = """
Viewers per core: 1000 divided by the milliseconds per viewer-second. First frame: from the offer's POST to the first
decoded picture of a single aiortc viewer that joins a running source at a random moment (aiortc hands a picture out
when the next one begins, 33 ms later, whoever sends it). Before the first viewer Sightline and go2rtc are idle without
a source, the others with it."""
_LOAD_HEAD = (
    "| viewers | ms CPU per viewer-second | us per packet | of the core | latency p50 / p95 / p99, ms | memory, MB"
    " | packets lost | dropped at receivers | fewest frames/s | not connected, ended |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)
_OTHERS = 0.1
"""Share of the server's core that others may use unremarked."""

Column = tuple[str, Callable[[str, int], str]]


def write(recorded: dict[str, Any], docs: Path) -> Path:
    """The page, and the plot beside it."""
    page, picture = docs / "benchmarks.md", docs / PLOT
    picture.parent.mkdir(parents=True, exist_ok=True)
    series = {name: part["results"] for name, part in recorded.items()}
    picture.write_text(plot.render(list(_panels(series.get("servers", [])))))
    beside = [words for name, words in _BESIDE.items() if (docs / name).exists()]
    page.write_text("\n".join(_page(recorded, series, beside)) + "\n")
    return page


def _page(recorded: dict[str, Any], series: dict[str, Any], beside: Sequence[str]) -> Iterator[str]:
    yield _INTRODUCTION.format(beside=", ".join(beside))
    yield "## Targets\n"
    yield from _targets(series)
    for name, (title, lines) in _SECTIONS.items():
        if name in recorded:
            yield f"\n## {title}\n"
            yield from _origin(recorded[name])
            yield from lines(recorded[name])


def _origin(part: dict[str, Any]) -> Iterator[str]:
    yield f"`{part['command']}`, {part['date']}, {part['seconds']:.0f} s. {part['machine']}\n"


def _targets(series: dict[str, Any]) -> Iterator[str]:
    found = figures.targets(series)
    yield "| what | target | measured | reached |\n|---|---|---|---|"
    for target in found:
        reached = "not measured" if target.reached is None else "yes" if target.reached else "**no**"
        yield f"| {target.what} | {target.bar} | {target.measured} | {reached} |"
    ideas: dict[str, list[str]] = {}
    for target in found:
        if target.reached is False:
            ideas.setdefault(target.idea, []).append(target.what)
    if ideas:
        yield "\nNot reached, and what would be tried next:\n"
        yield from (f"* {'; '.join(missed)}: {idea}." for idea, missed in ideas.items())


def _servers(part: Result) -> Iterator[str]:
    runs = part["results"]
    yield f"![CPU, latency and memory by number of viewers]({PLOT})\n"
    counts = sorted({step["wanted"] for run in runs for step in run["steps"]})
    present = [server for server in SERVERS if any(run["server"] == server.name for run in runs)]
    columns = _columns(runs)
    yield "| server | viewers | " + " | ".join(name for name, _cell in columns) + " |"
    yield "|---|---|" + "---|" * len(columns)
    for server in present:
        for count in counts:
            if figures.steps(runs, server.name, count):
                cells = " | ".join(cell(server.name, count) for _name, cell in columns)
                yield f"| {server.title} | {count} | {cells} |"
    yield "\n| server | version | memory idle, MB | memory per viewer, MB | first frame p50 / p90, ms | joins |"
    yield "|---|---|---|---|---|---|"
    for server in present:
        yield _server(server, part["versions"].get(server.name, ""), runs)
    yield _FIRST_FRAME
    if (receiving := figures.receiver_cost(runs)) is not None:
        yield f"\nThe receivers' own cost: {receiving:.2f} ms of CPU per counted viewer-second, on their own core."
    if part["missing"]:
        yield "\nLeft out:\n"
        yield from (f"* {name}: {reason}" for name, reason in part["missing"].items())
    yield from _remarks(runs, present)


def _columns(runs: list[Result]) -> list[Column]:
    def column(pick: Callable[[Result], float | None], form: str = ".2f") -> Callable[[str, int], str]:
        def cell(server: str, count: int) -> str:
            value = figures.middle(figures.steps(runs, server, count), pick)
            return "-" if value is None else format(value, form)

        return cell

    def latency(server: str, count: int) -> str:
        return _times(figures.steps(runs, server, count))

    def lost(server: str, count: int) -> str:
        return str(sum(step["missing"] for step in figures.steps(runs, server, count)))

    return [
        ("ms CPU per viewer-second", column(lambda step: step["ms_per_viewer_second"])),
        ("us per packet", column(lambda step: step["us_per_packet"])),
        ("viewers per core", column(lambda step: 1000 / step["ms_per_viewer_second"], ".0f")),
        ("latency p50 / p95 / p99, ms", latency),
        ("memory, MB", column(lambda step: step["memory_mb"], ".0f")),
        ("ms CPU per join", column(lambda step: step["join"]["ms_per_join"], ".1f")),
        ("packets lost", lost),
    ]


def _server(server: Server, version: str, runs: list[Result]) -> str:
    idle, more = figures.idle(runs, server.name), figures.memory_per_viewer(runs, server.name)
    times = figures.first_frames(runs, server.name)
    first = figures.quantiles(times)
    cells = [
        server.title,
        version,
        "-" if idle is None else f"{idle:.0f}",
        "-" if more is None else f"{more:.2f}",
        "-" if first is None else f"{first[0]:.0f} / {first[1]:.0f}",
        str(len(times)),
    ]
    return f"| {' | '.join(cells)} |"


def _remarks(runs: list[Result], present: Sequence[Server]) -> Iterator[str]:
    titles = {server.name: server.title for server in present}
    found: list[str] = []
    others: list[float] = []
    for run in runs:
        where = f"* {titles[run['server']]}, round {run['round'] + 1}"
        if "error" in run:
            found.append(f"{where}: {run['error'].splitlines()[0]}")
        found += [f"{where}, {step['wanted']} viewers{remark}" for step in run["steps"] if (remark := flaws(step))]
        others += [step["core_busy"] - step["cpu"] / step["seconds"] for step in run["steps"]]
    if many := sum(share > _OTHERS for share in others):
        found.append(
            f"* in {many} of {len(others)} measurements other programs used more than {_OTHERS:.0%} of the server's"
            f" core ({max(others):.0%} at most)"
        )
    if found:
        yield "\nWhat was not as it should be while measuring:\n"
        yield from found


def _times(found: Sequence[Result]) -> str:
    """Latencies of all frames of a measurement, as a cell."""

    def cell(name: str) -> str:
        value = figures.middle(found, lambda step: step["latency"][name])
        return "-" if value is None else f"{value:.1f}"

    return " / ".join(map(cell, ("p50", "p95", "p99")))


def _load(part: Result) -> Iterator[str]:
    yield _LOAD_HEAD
    for step in part["results"]:
        times = _times([step])
        share = step["cpu"] / step["seconds"] * 100
        yield (
            f"| {step['viewers']} | {step['ms_per_viewer_second']:.2f} | {step['us_per_packet']:.2f} | {share:.0f} % |"
            f" {times} | {step['memory_mb']:.0f} | {step['missing']} | {step['dropped_by_kernel']} |"
            f" {step['fps'][0]:.1f} | {step['join']['failed']}, {step['gone']} |"
        )


def _churn(part: Result) -> Iterator[str]:
    for result in part["results"]:
        memory = result["memory_mb"]
        values = ", ".join(f"{value:.1f}" for value in memory)
        yield (
            f"{result['count']} viewers joined and left beside one that stayed, {result['failed']} failed;"
            f" {result['cpu'] / result['count'] * 1e3:.1f} ms of CPU each, the one viewer's stream included."
            f" Resident memory at the start and after each tenth: {values} MB."
        )


def _chromium(recorded: Result) -> Iterator[str]:
    yield (
        "From the offer's POST, source running, joins spread evenly over the group of pictures; minimum / p50 / p90 /"
        " maximum.\n"
    )
    yield "| key frames each | visits | first frame, ms | at live, ms | lost | NACKed | freezes |"
    yield "|---|---|---|---|---|---|---|"
    for part in recorded["results"]:
        visits = part["visits"]
        spans = [_span([visit[name] for visit in visits]) for name in ("first", "live")]
        counts = [str(sum(visit[name] for visit in visits)) for name in ("lost", "nacks", "freezes")]
        yield f"| {part['gop']} s | {len(visits)} | {' | '.join([*spans, *counts])} |"


def _loss(recorded: Result) -> Iterator[str]:
    yield (
        "1080p30, a key frame each two seconds, one viewer behind a relay that loses packets of both directions by"
        " chance. Freezes are counted by the browser; the longest gap is between two pictures that were shown.\n"
    )
    yield (
        "| lost | seconds | frames/s | freezes | frozen, s | longest gap, ms | NACK messages | PLI"
        " | packets lost on the way | packets that came again |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for part in recorded["results"]:
        note = " (the browser was starved)" if part["starved"] else ""
        cells = [
            f"{part['share']:.0%}{note}",
            f"{part['seconds']:.0f}",
            f"{part['decoded'] / part['seconds']:.1f}",
            str(part["freezes"]),
            f"{part['frozen']:.2f}",
            f"{part['longest']:.0f}",
            str(part["nacks"]),
            str(part["plis"]),
            f"{part['dropped']} of {part['sent']}",
            str(part["again"]),
        ]
        yield f"| {' | '.join(cells)} |"


def _outage(recorded: Result) -> Iterator[str]:
    yield (
        "The camera's connections end and its port is closed; later it listens there again. The viewer keeps its one"
        " connection.\n"
    )
    yield "| away, s | first picture after its return, s | frames/s then | offers sent | connection |"
    yield "|---|---|---|---|---|"
    for part in recorded["results"]:
        cells = [f"{part['away']:.0f}", f"{part['back']:.2f}", f"{part['fps']:.1f}", str(part["posts"]), part["state"]]
        yield f"| {' | '.join(cells)} |"


def _embedded(part: Result) -> Iterator[str]:
    yield "| what | minimum | median | maximum |\n|---|---|---|---|"
    for name, values in part["results"].items():
        yield f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} |"


def _span(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.0f}" for value in (min(values), *(figures.quantiles(values) or ()), max(values)))


def _panels(runs: list[Result]) -> Iterator[plot.Panel]:
    def lines(pick: Callable[[Result], float | None]) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {}
        for server in SERVERS:
            counts = sorted({s["wanted"] for run in runs if run["server"] == server.name for s in run["steps"]})
            values = [(count, figures.middle(figures.steps(runs, server.name, count), pick)) for count in counts]
            if points := [(float(count), value) for count, value in values if value]:
                found[server.title] = points
        return found

    yield plot.Panel("CPU, ms per viewer-second", "viewers", lines(lambda step: step["ms_per_viewer_second"]))
    yield plot.Panel("latency p95, ms", "viewers", lines(lambda step: step["latency"]["p95"]))
    yield plot.Panel("memory, MB", "viewers", lines(lambda step: step["memory_mb"]))


_SECTIONS: dict[str, tuple[str, Callable[[Result], Iterator[str]]]] = {
    "servers": ("Servers", _servers),
    "load": ("Many viewers on one core", _load),
    "churn": ("Joins and leaves", _churn),
    "chromium": ("First frame in Chromium", _chromium),
    "loss": ("Packet loss in Chromium", _loss),
    "outage": ("A camera that goes away", _outage),
    "embedded": ("Embedded mode in Chromium", _embedded),
}
"""Series and what is written of them, in the page's order."""
