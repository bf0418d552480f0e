"""The test pattern's letters."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.sources import glyphs


def test_a_letter_as_it_is_drawn() -> None:
    rows = glyphs.luma("L", 1, 100)
    drawn = ["".join(".#"[pixel > 100] for pixel in row) for row in rows]
    assert drawn == [".....", ".#...", ".#...", ".#...", ".#...", ".###.", "....."]


@given(st.text(max_size=64), st.integers(1, 8), st.integers(64, 4000))
def test_any_text_fits(text: str, scale: int, width: int) -> None:
    rows = glyphs.luma(text, scale, width)
    assert len(rows) == 7 * scale
    assert {len(row) for row in rows} == {min(glyphs.columns(text) * scale, width - width % 2)}
