"""Real coded pictures of every kind, made into what browsers play: the right pictures, in order, at their own times."""

import itertools

import pytest

from sightline_agent.media.assembler import Assembler
from sightline_agent.media.grammar import GRAMMARS, H264
from sightline_agent.media.h264 import split_annex_b
from sightline_agent.media.playable import refusal
from sightline_agent.transcode.conversion import LATE_SECONDS, Conversion
from tests.helpers.coded import B_FRAMES, FPS, H265, H265_B_FRAMES, INTERLACED, PLAIN, SIZE, Coded, Seen, coded, seen

Kind = tuple[str, dict[str, str]]
STEP = 90_000 // FPS


def right(pictures: list[Seen]) -> bool:
    """Each picture has the time of the picture it shows."""
    return all(picture.ticks // STEP % 10 == picture.digit for picture in pictures)


def through(conversion: Conversion, units: list[Coded], waited: float = 0.0) -> list[tuple[int, bytes]]:
    return [made for unit in units for made in conversion.convert(unit.data, unit.ticks, waited)]


@pytest.mark.parametrize(
    ("kind", "decoder", "behind"),
    [(B_FRAMES, "h264", 3), (INTERLACED, "h264", 2), (H265, "hevc", 1), (H265_B_FRAMES, "hevc", 4), (PLAIN, "h264", 1)],
    ids=["B-frames", "interlaced", "H.265", "H.265 with B-frames", "plain"],
)
def test_every_picture_arrives_once_in_order(kind: Kind, decoder: str, behind: int) -> None:
    frames = 40
    pictures = seen(through(Conversion(decoder), coded(kind, frames)))
    assert len(pictures) >= frames - behind
    assert [picture.ticks for picture in pictures] == [number * STEP for number in range(len(pictures))]
    assert right(pictures)
    assert {picture.size for picture in pictures} == {SIZE}


def test_the_result_is_what_every_browser_plays() -> None:
    assembler = Assembler()
    for ticks, data in through(Conversion("h264"), coded(B_FRAMES)):
        for nal in split_annex_b(data):
            for payload in GRAMMARS[H264].fragment(nal):
                assembler.push(payload, ticks, marker=False)
    assert assembler.format.profile_level_id.startswith("42c0")
    assert refusal(assembler.format) == ""


def test_a_key_frame_is_made_when_it_is_wanted_and_every_two_seconds() -> None:
    conversion = Conversion("h264")
    units = coded(PLAIN, 3 * FPS, gop=3 * FPS)
    made = through(conversion, units[:10])
    conversion.want_key_frame()
    made += through(conversion, units[10:])
    keys = [picture.ticks // STEP for picture in seen(made) if picture.key]
    assert keys[:2] == [0, 10]
    assert all(after - before <= 2 * FPS for before, after in itertools.pairwise([*keys, 3 * FPS]))


def test_what_came_too_late_is_left_out_and_the_rest_is_right() -> None:
    conversion = Conversion("h264")
    units = coded(B_FRAMES)
    made = through(conversion, units[:12])
    shown = len(made)
    made += through(conversion, units[12:24], LATE_SECONDS * 2)
    assert len(made) == shown
    made += through(conversion, units[24:])
    assert conversion.late == 12
    assert right(seen(made))


def test_a_group_that_was_under_way_is_decoded_and_not_shown() -> None:
    conversion = Conversion("h264")
    units = coded(B_FRAMES, 30, gop=30)
    for unit in units[:20]:
        conversion.prepare(unit.data, unit.ticks)
    pictures = seen(through(conversion, units[20:]))
    assert right(pictures)
    assert pictures[0].key
    assert pictures[0].ticks >= 15 * STEP


def test_damage_is_counted_and_survived() -> None:
    conversion = Conversion("hevc")
    units = coded(H265, 45)
    made = through(conversion, units[:5])
    made += list(conversion.convert(b"\0\0\0\1\x28\x01" + b"\xff" * 40, units[5].ticks, 0.0))
    made += through(conversion, units[15:])  # the next group begins at 15
    pictures = seen(made)
    assert right(pictures[:5] + pictures[-20:])
    assert [picture.ticks // STEP for picture in pictures[-20:]] == list(range(25, 45))


def test_another_size_in_the_middle() -> None:
    conversion = Conversion("h264")
    made = through(conversion, coded(PLAIN, 10))
    later = [unit._replace(ticks=unit.ticks + 10 * STEP) for unit in coded(PLAIN, 10, (192, 128))]
    made += through(conversion, later)
    assert [picture.size for picture in seen(made)] == [SIZE] * 10 + [(192, 128)] * 10


def test_larger_pictures_are_made_smaller() -> None:
    (first, *_) = seen(through(Conversion("h264"), coded(PLAIN, 2, (2560, 1440))))
    assert first.size == (1920, 1080)


def test_a_clock_that_goes_back_waits() -> None:
    conversion = Conversion("h264")
    made = through(conversion, coded(PLAIN, 10))
    made += through(conversion, coded(PLAIN, 20))
    assert [ticks for ticks, _ in made] == [number * STEP for number in range(20)]
    assert conversion.broken == 10
