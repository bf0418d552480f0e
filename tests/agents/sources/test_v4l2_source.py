"""The source of a video device. There is none on every machine, so containers take its place."""

import asyncio
import io
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import av
import pytest

from sightline_agent.sources import v4l2
from sightline_agent.sources.base import KeyFrameSource
from sightline_agent.sources.v4l2 import V4l2Source, open_device
from sightline_model.camera import V4l2Source as V4l2Spec
from sightline_model.reasons import SourceReason
from tests.helpers.recording import HEIGHT, WIDTH, Recorder, add_video, decode, failing, pictures, record, thread_ends

SPEC = V4l2Spec(device="/dev/video0")


def coded(options: dict[str, str] | None = None, frames: int = 120) -> Any:
    """A device that makes H.264 by itself."""
    data = io.BytesIO()
    with av.open(data, "w", format="mpegts") as container:
        stream = add_video(container, options=options)
        for frame in pictures(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data.seek(0)
    return av.open(data, "r", "mpegts")


def raw(filter_: str) -> Any:
    """A device that makes pictures."""
    return av.open(filter_, "r", "lavfi")


class Sleepy:
    """A container that has nothing yet whenever it is asked twice."""

    def __init__(self, inner: Any, naps: int) -> None:
        self._inner = inner
        self._naps = naps
        self.streams = inner.streams
        self.asked = threading.Event()

    def __enter__(self) -> "Sleepy":
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.close()

    def demux(self, stream: Any) -> Iterator[Any]:
        for packet in self._inner.demux(stream):
            self.asked.set()
            if self._naps:
                self._naps -= 1
                raise BlockingIOError
            yield packet


async def test_what_a_device_has_coded_is_passed_on() -> None:
    recorder = Recorder(12)
    await record(V4l2Source(SPEC, lambda device: coded()), recorder)
    assert [chunk.key for chunk in recorder.chunks][:12] == ([True] + [False] * 5) * 2
    assert recorder.steps == {1500}
    assert decode(recorder.chunks) == [(WIDTH, HEIGHT)] * len(recorder.chunks)


@pytest.mark.parametrize("format_", ["yuyv422", "rgb24", "gray"])
async def test_what_a_device_has_not_coded_is_encoded(format_: str) -> None:
    recorder = Recorder(12)
    opened: list[str] = []

    def open_(device: str) -> Any:
        opened.append(device)
        return raw(f"testsrc2=size=65x49:rate=25,format={format_}")

    await record(V4l2Source(SPEC, open_), recorder)
    assert opened == ["/dev/video0"]
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (64, 48)
    assert recorder.chunks[0].key
    assert recorder.steps == {3600}
    assert set(decode(recorder.chunks)) == {(64, 48)}


async def test_a_key_frame_is_made_on_request() -> None:
    source = V4l2Source(SPEC, lambda device: raw("testsrc2=size=64x48:rate=25"))
    assert isinstance(source, KeyFrameSource)
    source.want_key_frame()
    recorder = Recorder(100)
    recorder.on_chunk = lambda number: source.want_key_frame() if number == 5 else None
    await record(source, recorder)
    assert [chunk.key for chunk in recorder.chunks][:49].count(True) == 2


async def test_a_device_that_has_nothing_yet_is_asked_again() -> None:
    recorder = Recorder(8)
    await record(V4l2Source(SPEC, lambda device: Sleepy(coded(), 3)), recorder)
    assert len(recorder.chunks) >= 8


async def test_silence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "FIRST_FRAME_SECONDS", 0.05)
    error = await failing(V4l2Source(SPEC, lambda device: Sleepy(raw("testsrc2"), 1_000_000)))
    assert error.reason is SourceReason.NO_FRAMES
    monkeypatch.undo()
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    class Stalls(Sleepy):
        def demux(self, stream: Any) -> Iterator[Any]:
            if not self.asked.is_set():
                self.asked.set()
                yield from (packet for packet, _ in zip(self._inner.demux(stream), range(3), strict=False))
            raise BlockingIOError

    error = await failing(V4l2Source(SPEC, lambda device: Stalls(coded(), 0), clock))
    assert error.reason is SourceReason.STALLED


def raising(error: BaseException) -> Any:
    def open_(device: str) -> Any:
        raise error

    return open_


async def test_what_is_told_when_it_fails() -> None:
    cases: list[tuple[Any, SourceReason]] = [
        (raising(av.error.FileNotFoundError(2, "", "/dev/video0")), SourceReason.NOT_FOUND),
        (raising(av.error.PermissionError(13, "", "/dev/video0")), SourceReason.AUTHENTICATION_FAILED),
        (raising(av.error.OSError(16, "", "/dev/video0")), SourceReason.UNREACHABLE),
        (raising(PermissionError()), SourceReason.AUTHENTICATION_FAILED),
        (lambda device: coded(frames=12), SourceReason.UNREACHABLE),  # it was unplugged
        (lambda device: raw("sine"), SourceReason.CODEC_UNSUPPORTED),
    ]
    for open_, reason in cases:
        error = await failing(V4l2Source(SPEC, open_))
        assert error.reason is reason, str(error)
    error = await failing(V4l2Source(V4l2Spec(device="/dev/nothing-here")))
    assert error.reason is SourceReason.NOT_FOUND


def test_the_device_is_opened_so_that_it_cannot_block(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def open_(device: str, mode: str, format_: str, options: dict[str, str], timeout: object) -> Any:
        asked.append(options)
        if "input_format" in options:
            raise av.error.ArgumentError(22, "")
        return SimpleNamespace()

    monkeypatch.setattr(av, "open", open_)
    open_device("/dev/video0")
    assert asked == [{"fflags": "+4", "input_format": "h264"}, {"fflags": "+4"}]
    monkeypatch.undo()
    with av.open("testsrc2", "r", "lavfi", options={"fflags": "+4"}) as container:
        assert container.flags & 4


async def test_the_thread_ends_when_it_is_cancelled() -> None:
    silent = Sleepy(raw("testsrc2"), 1_000_000)
    running = asyncio.create_task(V4l2Source(SPEC, lambda device: silent).run(Recorder(1)))
    await asyncio.to_thread(silent.asked.wait)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    await thread_ends("v4l2")
