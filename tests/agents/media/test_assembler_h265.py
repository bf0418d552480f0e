"""Chunks of H.265, and streams that are held back until it is known whether they have B-frames."""

import pytest

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import MAX_PAYLOAD, Chunk, VideoFormat
from sightline_agent.media.grammar import GRAMMARS, H264, H265
from sightline_agent.transcode.units import Units
from tests.helpers.coded import B_FRAMES, H265_B_FRAMES, PLAIN, Coded, coded
from tests.helpers.coded import H265 as H265_PICTURES

Kind = tuple[str, dict[str, str]]


def fed(assembler: Assembler, codec: str, units: list[Coded]) -> list[Chunk]:
    made = []
    for unit in units:
        payloads = [p for nal in h264.split_annex_b(unit.data) for p in GRAMMARS[codec].fragment(nal)]
        for payload in payloads:
            assembler.push(payload, unit.ticks, marker=payload is payloads[-1])
        made += assembler.take()
    return made


@pytest.mark.parametrize(
    ("kind", "codec", "b_frames"),
    [(PLAIN, H264, False), (B_FRAMES, H264, True), (H265_PICTURES, H265, False), (H265_B_FRAMES, H265, True)],
    ids=["H.264", "H.264 with B-frames", "H.265", "H.265 with B-frames"],
)
def test_nothing_is_lost_and_the_format_is_known_before_the_first_chunk(kind: Kind, codec: str, b_frames: bool) -> None:
    assembler, units = Assembler(codec=codec), coded(kind, 40, gop=40)
    chunks, formats = list[Chunk](), set[VideoFormat]()
    for unit in units:
        new = fed(assembler, codec, [unit])
        chunks += new
        formats |= {assembler.format} if new else set()
    assert formats == {assembler.format}
    assert assembler.format.b_frames is b_frames
    assert (assembler.format.codec, assembler.format.width, assembler.format.height) == (codec, 160, 120)
    assert [chunk.key for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert all(len(payload) <= MAX_PAYLOAD for chunk in chunks for payload in chunk.payloads)
    whole = Units(GRAMMARS[codec])
    found = [ticks for chunk in chunks for ticks, _, _ in whole.add(chunk)]
    assert found == [unit.ticks for unit in units]


def test_sets_lead_each_key_frame_of_h265() -> None:
    units = coded(H265_PICTURES, 20, gop=5)
    sets = [nal for nal in h264.split_annex_b(units[0].data) if nal[0] >> 1 in GRAMMARS[H265].sets]
    assembler = Assembler(sets, H265)
    bare = [
        unit._replace(data=b"".join(b"\0\0\1" + nal for nal in h264.split_annex_b(unit.data) if nal not in sets))
        for unit in units
    ]
    keys = [chunk for chunk in fed(assembler, H265, bare) if chunk.key]
    assert len(keys) == 4
    for key in keys:
        assert [nal[0] >> 1 for nal in GRAMMARS[H265].reassemble(key.payloads)][:3] == [32, 33, 34]


def test_a_picture_whose_end_was_lost_is_ended() -> None:
    assembler, units = Assembler(codec=H265), coded(H265_PICTURES, 3)
    for unit in units:
        for nal in h264.split_annex_b(unit.data):
            assembler.push(nal, unit.ticks, marker=False)
    chunks = [chunk for chunk in assembler.take() if chunk.last]
    assert [chunk.timestamp for chunk in chunks] == [unit.ticks for unit in units[:2]]
