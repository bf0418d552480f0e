"""Line plots as SVG: a few panels side by side, both axes of each logarithmic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0b6e4f", "#6fb98f", "#d1495b", "#edae49", "#30638e", "#8d99ae")
_WIDTH, _HEIGHT = 330, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 34, 38
_LEGEND = 26
_TEXT = 'font-family="system-ui, sans-serif" font-size="11"'

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    across: str
    lines: Mapping[str, Points]


def render(panels: Sequence[Panel]) -> str:
    """The picture's text. A name has the same colour in all panels."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    width, height = _WIDTH * len(panels), _HEIGHT + _LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, panel in enumerate(panels):
        parts += [f'<g transform="translate({index * _WIDTH} 0)">', *_panel(panel, colours), "</g>"]
    step = width / max(1, len(names))
    for index, name in enumerate(names):
        x, y = index * step + 16, _HEIGHT + 12
        parts.append(f'<circle cx="{x:.0f}" cy="{y - 4}" r="4" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 9:.0f}" y="{y}" {_TEXT}>{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    if not points:
        return [_label(_WIDTH / 2, _HEIGHT / 2, "not measured", "middle")]
    xs = sorted({x for x, _y in points})
    ticks = _nice(min(y for _x, y in points), max(y for _x, y in points))
    parts = [
        f'<text x="{_LEFT}" y="18" {_TEXT} font-weight="600">{escape(panel.title)}</text>',
        _label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, panel.across, "middle"),
    ]
    for tick in ticks:
        y = _scale(tick, (ticks[0], ticks[-1]), (_HEIGHT - _BOTTOM, _TOP))
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#e3e3e3"/>')
        parts.append(_label(_LEFT - 6, y + 4, f"{tick:g}", "end"))
    parts += [_label(_across(value, xs), _HEIGHT - _BOTTOM + 16, f"{value:g}", "middle") for value in xs]
    for name, line in panel.lines.items():
        places = [
            (_across(x, xs), _scale(y, (ticks[0], ticks[-1]), (_HEIGHT - _BOTTOM, _TOP))) for x, y in sorted(line)
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[name]}"/>' for x, y in places]
    return parts


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {_TEXT} text-anchor="{anchor}" fill="#333333">{escape(text)}</text>'


def _across(x: float, xs: Sequence[float]) -> float:
    if xs[0] == xs[-1]:
        return (_LEFT + _WIDTH - _RIGHT) / 2
    return _scale(x, (xs[0], xs[-1]), (_LEFT + 8, _WIDTH - _RIGHT - 8))


def _scale(value: float, of: tuple[float, float], to: tuple[float, float]) -> float:
    """Logarithmic."""
    share = (math.log(value) - math.log(of[0])) / (math.log(of[1]) - math.log(of[0]))
    return to[0] + share * (to[1] - to[0])


def _nice(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... around what is shown."""
    steps = [base * 10.0**power for power in range(-3, 7) for base in (1, 2, 5)]
    first = max(index for index, step in enumerate(steps) if step <= max(low, steps[0]))
    last = min(index for index, step in enumerate(steps) if step >= min(high, steps[-1]))
    return steps[first : max(last, first + 1) + 1]
