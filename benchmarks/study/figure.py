"""A line chart as one SVG file that needs no page around it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.study.common import RESULTS
from distill.reporting.svg import Scale, element, log_ticks, ticks

WIDTH, HEIGHT = 640.0, 380.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 500.0, 16.0, 330.0
COLOURS = ("#1f5fa8", "#3a9188", "#c75a1b", "#8a4fa0", "#b0892b", "#444444", "#c04070", "#6a8f2f")


@dataclass(frozen=True)
class Line:
    """A named line through points."""

    name: str
    points: Sequence[tuple[float, float]]


def chart(
    file: str, lines: list[Line], *, x: str, y: str, log: bool = False, mark: float | None = None
) -> None:
    """Draw the lines that have points; ``mark`` is a vertical line at that x."""
    lines = [line for line in lines if line.points]
    xs = [px for line in lines for px, _ in line.points]
    ys = [py for line in lines for _, py in line.points]
    across = Scale(min(xs), max(xs), LEFT, RIGHT, log=log)
    up = Scale(min(ys), max(ys), BOTTOM, TOP)
    parts = [_style(), element("rect", width=WIDTH, height=HEIGHT, fill="#ffffff")]
    for value in ticks(min(ys), max(ys)):
        parts += [_stroke(LEFT, up(value), RIGHT, up(value), "#e3e3e3")]
        parts += [_text(LEFT - 8, up(value) + 4, f"{value:g}", "end")]
    for value in log_ticks(min(xs), max(xs)) if log else ticks(min(xs), max(xs)):
        parts += [_stroke(across(value), BOTTOM, across(value), BOTTOM + 5, "#888888")]
        parts += [_text(across(value), BOTTOM + 19, f"{value:g}", "middle")]
    if mark is not None and min(xs) <= mark <= max(xs):
        parts += [_stroke(across(mark), TOP, across(mark), BOTTOM, "#c75a1b", dash="3 3")]
        parts += [_text(across(mark) + 4, TOP + 10, "k = C − 1", "start")]
    parts += [_stroke(LEFT, BOTTOM, RIGHT, BOTTOM, "#888888")]
    parts += [_text((LEFT + RIGHT) / 2, BOTTOM + 40, x, "middle"), _text(LEFT, TOP - 4, y, "start")]
    for number, line in enumerate(lines):
        parts += _line(line, number, across, up)
    svg = element(
        "svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 -8 {WIDTH:g} {HEIGHT:g}"
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / file).write_text(svg + "\n")


def _line(line: Line, number: int, across: Scale, up: Scale) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(across(px), up(py)) for px, py in sorted(line.points)]
    way = "M" + " L".join(f"{px:.1f} {py:.1f}" for px, py in places)
    drawn = [element("path", d=way, fill="none", stroke=colour)]
    drawn += [element("circle", cx=px, cy=py, r=3.0, fill=colour) for px, py in places]
    at = TOP + 14 + 20 * number
    drawn += [element("rect", x=RIGHT + 14, y=at - 9, width=10.0, height=10.0, fill=colour)]
    return [*drawn, _text(RIGHT + 30, at, line.name, "start")]


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "none") -> str:
    attributes: dict[str, str | float] = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element("line", stroke=colour, **attributes, **{"stroke-dasharray": dash})


def _text(x: float, y: float, content: str, anchor: str) -> str:
    from html import escape

    place: dict[str, str | float] = {"x": x, "y": y, "text-anchor": anchor}
    return element("text", escape(content), **place)


def _style() -> str:
    return element("style", "text { font: 12px sans-serif; fill: #333 }")
