"""What browsers do not show is told from what they do, by what a stream does and not by what it might do."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.frames import VideoFormat
from sightline_agent.media.h264 import is_b_slice
from sightline_agent.media.playable import Playability, refusal

# Slice headers begin with first_mb_in_slice = 0 (one bit) and slice_type as Exp-Golomb code.
P, B, B_OF_ALL, I_PICTURE = b"\x41\xc0", b"\x01\xa0", b"\x01\x9c", b"\x61\xb0"


def watched(
    timestamps: Iterable[int], reorder: int | None = None, payload: bytes = P, interlaced: bool = False
) -> Playability:
    playable = Playability()
    playable.parameters(interlaced, reorder)
    for timestamp in timestamps:
        playable.frame(timestamp % (1 << 32))
        playable.slice(is_b_slice(payload))
    return playable


FORWARD = range((1 << 32) - 90_000, (1 << 32) + 900_000, 3000)


def test_ordinary_streams_play() -> None:
    assert not watched(FORWARD).b_frames
    assert not watched(FORWARD, 0, I_PICTURE).b_frames


def test_b_slices_are_found_whole_or_in_fragments() -> None:
    for payload in (B, B_OF_ALL, b"\x1c\x81" + B[1:]):
        assert watched(FORWARD, None, payload).b_frames
    assert not watched(FORWARD, None, b"\x1c\x01" + B[1:]).b_frames


def test_b_slices_in_order_are_no_harm() -> None:
    assert not watched(FORWARD, 0, B).b_frames


def test_time_that_keeps_going_back_is_another_order() -> None:
    shown = [number * 3 + step for number in range(10) for step in (0, 3, 1, 2)[1:]]
    assert watched(number * 3000 for number in shown).b_frames


def test_a_clock_that_was_set_is_forgiven() -> None:
    assert not watched([*range(0, 90_000, 3000), *range(45_000, 180_000, 3000)]).b_frames
    assert not watched([*range(900_000, 990_000, 3000), *range(0, 90_000, 3000)]).b_frames


def test_fields() -> None:
    playable = watched(FORWARD, 0, interlaced=True)
    assert playable.interlaced
    playable.parameters(interlaced=False, max_reorder=0)
    assert not playable.interlaced


def test_who_announces_b_frames_is_watched_for_a_while() -> None:
    assert not watched(range(0, 6000, 3000), None).doubtful
    assert not watched(range(0, 6000, 3000), 0).doubtful
    assert watched(range(0, 6000, 3000), 2).doubtful
    assert not watched(range(0, 6000, 3000), 2, B).doubtful
    assert not watched(range(0, 90_000, 3000), 2).doubtful


def test_every_refusal_is_worded() -> None:
    assert refusal(VideoFormat("H264")) == ""
    assert "B-frames" in refusal(VideoFormat("H264", b_frames=True))
    assert "interlaced" in refusal(VideoFormat("H265", interlaced=True))
    assert refusal(VideoFormat("H265")).startswith("H265")


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_noise_breaks_nothing(payloads: list[bytes]) -> None:
    for payload in payloads:
        watched([0], None, payload)
