"""Letters for the test pattern, because FFmpeg's own need font libraries that are not everywhere. Pure.

A glyph is three pixels wide and five high; each octal digit is one row of it, from the top.
"""

_ROWS, _COLUMNS = 5, 3
_DARK, _LIGHT = 16, 235
"""Black and white of video luma (ITU-R BT.601)."""

_FONT = (
    "A25755 B65656 C34443 D65556 E74647 F74644 G34553 H55755 I72227 J11152 K55655 L44447 M57755 N65555 "
    "O25552 P65644 Q25563 R65655 S34216 T72222 U55557 V55552 W55775 X55255 Y55222 Z71247 "
    "075557 126227 261247 361216 455711 574616 634757 771222 875757 975716 "
    "-00700 .00002 ,00024 :02020 /11244 _00007 !22202 ?61202 +02720 =07070 (12221 )42224 #57575 '22000 "
    '"55000 %51245 *52500'
)
_GLYPHS = {" ": "00000", **{glyph[0]: glyph[1:] for glyph in _FONT.split()}}
_UNKNOWN = _GLYPHS["?"]


def columns(text: str) -> int:
    """How many pixels wide `text` is at scale 1."""
    return (_COLUMNS + 1) * len(text) + 1


def luma(text: str, scale: int, width: int) -> list[bytes]:
    """Rows of luma that show `text`, white on black with a border, at most `width` pixels wide (an even number)."""
    # Letter by letter: what grows longer in capitals (ß) must not.
    glyphs = [_GLYPHS.get(letter.upper(), _UNKNOWN) for letter in text]
    rows = [[False] * columns(text)]
    for row in range(_ROWS):
        line = [False]
        for glyph in glyphs:
            bits = int(glyph[row])
            line += [bool(bits & 4), bool(bits & 2), bool(bits & 1), False]
        rows.append(line)
    rows.append(rows[0])
    shades = (bytes([_DARK]) * scale, bytes([_LIGHT]) * scale)
    painted = [b"".join([shades[pixel] for pixel in line])[: width - width % 2] for line in rows]
    return [line for line in painted for _ in range(scale)]
