"""The transcoder as a process of its own: it works, it is watched, and it never outlives its parent's interest."""

import asyncio
import os
import sys
import time

import pytest
import structlog

from sightline_agent.sources.base import SourceError
from sightline_agent.transcode import process, worker
from sightline_agent.transcode.process import Outside, Transcoder
from sightline_agent.transcode.records import Kind, Record, Splitter, Tally, pack
from sightline_model.reasons import SourceReason
from tests.helpers.coded import B_FRAMES, coded, seen

pytestmark = pytest.mark.stacks


async def test_pictures_go_through() -> None:
    made: list[tuple[int, bytes]] = []
    enough = asyncio.Event()

    def deliver(ticks: int, unit: bytes) -> None:
        made.append((ticks, unit))
        if len(made) == 30:
            enough.set()

    # By a clock that is ahead of the process's nothing ever comes too late, however long its start takes.
    transcoder = Transcoder("h264", deliver, Outside(clock=lambda: time.monotonic() + 600.0))
    running = asyncio.create_task(transcoder.run())
    for unit in coded(B_FRAMES, 40):
        transcoder.feed(unit.ticks, unit.data, unit.key)
    await asyncio.wait({running, asyncio.ensure_future(enough.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert [picture.digit for picture in seen(made)][:30] == [*range(10)] * 3
    pid = transcoder.pid
    assert pid is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) >= worker.NICE
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def python(code: str) -> Outside:
    return Outside((sys.executable, "-I", "-c", code))


ENDS = "raise SystemExit(3)"
NONSENSE = "import sys; sys.stdout.write('nonsense, and then some more'); sys.stdout.flush(); sys.stdin.read()"
SILENT = "import sys; sys.stdin.read()"


@pytest.mark.parametrize(
    ("outside", "words"),
    [
        (python(ENDS), "ended unexpectedly"),
        (python(NONSENSE), "nonsense"),
        (python(SILENT), "no picture"),
        (Outside(("/nonexistent/program",)), "cannot be started"),
    ],
    ids=["ends", "nonsense", "silent", "missing"],
)
async def test_why_it_fails(outside: Outside, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STALL_SECONDS", 0.5 if words == "no picture" else 30.0)
    transcoder = Transcoder("h264", lambda ticks, unit: None, outside)
    transcoder.feed(0, b"unit", key=True)
    with pytest.raises(SourceError, match=words) as caught:
        await transcoder.run()
    assert caught.value.reason is SourceReason.STALLED


async def test_a_process_that_reads_nothing_does_not_make_us_grow() -> None:
    transcoder = Transcoder("h264", lambda ticks, unit: None, python("import time; time.sleep(600)"))
    running = asyncio.create_task(transcoder.run())
    while transcoder.pid is None:
        await asyncio.sleep(0)
    for number in range(500):
        transcoder.feed(number, bytes(100_000), key=number == 0)
        await asyncio.sleep(0)
    assert transcoder.left_out >= 300
    running.cancel()
    await asyncio.wait({running})


async def test_the_log_tells_a_wanted_end_from_another() -> None:
    with structlog.testing.capture_logs() as lines:
        transcoder = Transcoder("h264", lambda ticks, unit: None, python(SILENT))
        running = asyncio.create_task(transcoder.run())
        while transcoder.pid is None:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        with pytest.raises(SourceError):
            await Transcoder("h264", lambda ticks, unit: None, python(ENDS)).run()
    told = [(line["event"], line["log_level"], line.get("code")) for line in lines]
    assert told == [
        ("transcoder started", "info", None),
        ("transcoder stopped", "info", None),
        ("transcoder started", "info", None),
        ("transcoder failed", "warning", 3),
    ]


async def test_one_that_is_just_ending_is_left_to_end_with_its_own_code() -> None:
    """Its output has ended, and it has not yet."""
    last_words = "import os, sys; os.close(1); sys.stdin.read(); raise SystemExit(3)"
    with structlog.testing.capture_logs() as lines, pytest.raises(SourceError, match="ended unexpectedly"):
        await Transcoder("h264", lambda ticks, unit: None, python(last_words)).run()
    assert [line["code"] for line in lines if "code" in line] == [3]


async def test_the_environment_stays_with_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_SECRET", "hunter2")
    seen: list[bytes] = []
    code = (
        "import os, sys, struct; body = '|'.join(os.environ).encode(); "
        "sys.stdout.buffer.write(struct.pack('!BqdI', 1, 0, 0.0, len(body)) + body)"
    )
    with pytest.raises(SourceError):
        await Transcoder("h264", lambda ticks, unit: seen.append(unit), python(code)).run()
    assert b"PATH" in seen[0]
    assert b"SECRET" not in seen[0]


def test_the_worker_tells_what_it_left_out() -> None:
    units = coded(B_FRAMES, 20)
    written: list[bytes] = []
    now = iter(range(0, 10_000, 2))
    pieces = [pack(Record(Kind.CODEC, body=b"h264")), pack(Record(Kind.KEY_FRAME))]
    pieces += [pack(Record(Kind.UNIT, unit.ticks, -100.0, unit.data)) for unit in units]
    worker.work(iter(pieces), written.append, lambda: float(next(now)))
    records = list(Splitter().feed(b"".join(written)))
    made = [record for record in records if record.kind is Kind.UNIT]
    tally = Tally.unpack(next(record.body for record in reversed(records) if record.kind is Kind.TALLY))
    assert (len(made), tally.encoded) == (1, 1)  # the key frame that was asked for; the others had waited too long
    assert tally.late >= 15


def test_the_worker_wants_to_know_the_codec_first() -> None:
    with pytest.raises(ValueError, match="codec"):
        worker.work(iter([pack(Record(Kind.UNIT))]), lambda data: None, lambda: 0.0)
