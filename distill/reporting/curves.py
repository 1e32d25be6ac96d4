"""The drawing of a sweep: accuracy against k, one line a kind of map with its band."""

import math
from collections.abc import Sequence

from distill.findings import Sweep, SweptMap
from distill.reporting.frame import BOTTOM, LEFT, RIGHT, WIDTH, accuracy_grid
from distill.reporting.svg import (
    Scale,
    drawing,
    element,
    line,
    path,
    rect,
    text,
    title,
)
from distill.reporting.text import count, factor, percent, plain, points

COLOURS = 8  # further kinds share the last
HEIGHT = 424.0
TICK_ROOM = 40.0  # pixels that the label of a tick needs
KEY_ROOM = 23.0  # pixels of a line of the legend
UNDER = 60.0  # pixels from its last line to the frame, the name of the axis between them


def sweep_plot(found: Sweep) -> str:
    """Cross-validated accuracy against k; "" where no map was swept."""
    if not found.maps:
        return ""
    kinds = list(dict.fromkeys(one.kind for one in found.maps))
    legend, top = _legend(kinds)
    x = _width_scale(found)
    y = _accuracy_scale(found, top)
    parts = [accuracy_grid(y), *_width_axis(x, found, top), _full(found, y), _tolerance(found, y)]
    if classes_shown(found):
        parts.append(_classes_line(x(found.classes - 1), found.classes, top))
    for number, kind in enumerate(kinds):
        family = sorted(
            (one for one in found.maps if one.kind == kind), key=lambda one: one.dim_out
        )
        parts.append(_family(family, x, y, number))
    parts.append(legend)
    label = f"Cross-validated accuracy of {len(kinds)} kinds of map against their width k"
    return drawing(WIDTH, HEIGHT, label, *parts)


def classes_shown(found: Sweep) -> bool:
    """Whether the line k = C - 1 lies near the widths that were tried."""
    widths = [one.dim_out for one in found.maps]
    return bool(widths) and min(widths) / 2 <= found.classes - 1 <= max(*widths, found.dim)


def _width_scale(found: Sweep) -> Scale:
    widths = [one.dim_out for one in found.maps]
    low = min(widths)
    if classes_shown(found):
        low = min(low, found.classes - 1)
    return Scale(low / 1.15, found.dim * 1.15, LEFT, RIGHT, log=True)


def _accuracy_scale(found: Sweep, top: float) -> Scale:
    """Fit all bands, with some room, and never leave 0 to 1."""
    reach = [_reach(one) for one in (found.full, *found.maps)]
    low = min(low for low, _ in reach)
    high = max(high for _, high in reach)
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), BOTTOM, top)


def _reach(one: SweptMap) -> tuple[float, float]:
    """The band of accuracy; the mean twice where there is one seed."""
    interval = one.accuracy.interval
    if interval is None:
        return one.accuracy.mean, one.accuracy.mean
    return max(interval.low, 0.0), min(interval.high, 1.0)


def _width_axis(x: Scale, found: Sweep, top: float) -> list[str]:
    marks = [line(LEFT, BOTTOM, RIGHT, BOTTOM, "frame"), line(LEFT, top, RIGHT, top, "frame")]
    last = math.inf
    for k in sorted({found.dim, *(one.dim_out for one in found.maps)}, reverse=True):
        at = x(k)
        if last - at < TICK_ROOM:
            continue
        last = at
        marks += [
            line(at, BOTTOM, at, BOTTOM + 5, "frame"),
            text(at, BOTTOM + 20, count(k), "tick", "middle"),
            text(at, BOTTOM + 36, factor(found.dim / k), "tick faint", "middle"),
        ]
    marks.append(
        text((LEFT + RIGHT) / 2, BOTTOM + 55, "width k, and factor d / k", "axis", "middle")
    )
    return marks


def _full(found: Sweep, y: Scale) -> str:
    low, high = _reach(found.full)
    mean = found.full.accuracy.mean
    told = f"full head: {percent(mean)} % ({percent(low)} to {percent(high)})"
    band = rect(LEFT, y(high), RIGHT - LEFT, y(low) - y(high), "band")
    return element("g", title(told), band, line(LEFT, y(mean), RIGHT, y(mean), "full"))


def _tolerance(found: Sweep, y: Scale) -> str:
    at = y(found.full.accuracy.mean - found.tolerance)
    told = f"{points(-found.tolerance)} points"
    return element(
        "g",
        title(f"the tolerance: {told} from the full head"),
        line(LEFT, at, RIGHT, at, "tolerance"),
        text(RIGHT - 4, at + 13, told, "note", "end"),
    )


def _classes_line(at: float, classes: int, top: float) -> str:
    side, shift = ("end", -7) if at > (LEFT + RIGHT) / 2 else ("start", 7)
    label = text(at + shift, BOTTOM - 10, f"k = C − 1 = {count(classes - 1)}", "note", side)
    return line(at, top, at, BOTTOM, "classes") + label


def _family(family: Sequence[SweptMap], x: Scale, y: Scale, number: int) -> str:
    """The band behind, the line through the means, a mark a width with its figures."""
    color = f"s{min(number, COLOURS - 1)}"
    marks = []
    if len(family) > 1:
        upper = [(x(one.dim_out), y(_reach(one)[1])) for one in family]
        lower = [(x(one.dim_out), y(_reach(one)[0])) for one in reversed(family)]
        marks.append(path([*upper, *lower], f"spread {color}", closed=True))
        means = [(x(one.dim_out), y(one.accuracy.mean)) for one in family]
        marks.append(path(means, f"trace {color}"))
    for one in family:
        low, high = _reach(one)
        told = (
            f"{plain(one.kind)}, k = {count(one.dim_out)}: {percent(one.accuracy.mean)} % "
            f"({percent(low)} to {percent(high)})"
        )
        dot = element(
            "circle", cx=x(one.dim_out), cy=y(one.accuracy.mean), r=3.6, class_=f"dot {color}"
        )
        marks.append(element("g", title(told), dot))
    return "".join(marks)


def _legend(kinds: Sequence[str]) -> tuple[str, float]:
    """The legend in as many lines as it takes, and where the frame below it begins."""
    marks, at, line_at = [], LEFT, 14.0
    entries = [(plain(kind, most=24), f"s{min(n, COLOURS - 1)}") for n, kind in enumerate(kinds)]
    for shown, color in [*entries, ("full head", "full")]:
        room = 29 + 7.2 * len(shown) + 22
        if at + room > RIGHT:
            at, line_at = LEFT, line_at + KEY_ROOM
        if color == "full":
            marks.append(rect(at, line_at - 6, 22, 12, "band"))
            marks.append(line(at, line_at, at + 22, line_at, "full"))
        else:
            marks.append(line(at, line_at, at + 22, line_at, f"trace {color}"))
            marks.append(element("circle", cx=at + 11, cy=line_at, r=3.6, class_=f"dot {color}"))
        marks.append(text(at + 29, line_at + 4, shown, "key"))
        at += room
    return "".join(marks), line_at + UNDER
