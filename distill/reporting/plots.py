"""Two drawings of the report: accuracy against factor, and the distortion of every map.

Each returns SVG text, or "" where the report holds too little to draw it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from distill.findings import Distortion, Head, Report, Validation
from distill.reporting.derived import dims_per_class
from distill.reporting.frame import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    accuracy_grid,
    accuracy_scale,
    told_score,
    whisker,
)
from distill.reporting.svg import (
    Scale,
    drawing,
    element,
    line,
    path,
    rect,
    text,
    ticks,
    title,
)
from distill.reporting.text import (
    count,
    factor,
    percent,
    percent_interval,
    plain,
    stored_kind,
    three_figures,
)

KINDS_DRAWN = 6  # colours there are; further kinds share the last
KIND_STEP = 7.0  # pixels between the marks of two kinds at one factor
TICK_ROOM = 38.0  # pixels that the label of a tick needs


def accuracy_plot(report: Report) -> str:
    """Accuracy against factor, one line a kind of map, with k/(C-1) along the top."""
    mapped = [head for head in report.heads if head.kind]
    if not mapped:
        return ""
    full = next((head for head in report.heads if not head.kind), None)
    top = 74.0
    at_classes = report.extracted.dim / max(report.classes - 1, 1)
    factors = sorted({head.factor for head in mapped})
    x = _factor_scale(factors, at_classes)
    y = accuracy_scale([head.test for head in (*mapped, *([full] if full else []))], top)
    parts = [accuracy_grid(y), *_factor_axis(x, factors, report, top)]
    if full is not None:
        parts.append(_full_line(full, y))
    if reaches_the_classes(report):
        parts.append(_classes_line(x(at_classes), report.classes, top))
    kinds = list(dict.fromkeys(_kind_of(head) for head in mapped))
    for number, kind in enumerate(kinds):
        beside = KIND_STEP * (number - (len(kinds) - 1) / 2)
        parts.append(_kind([h for h in mapped if _kind_of(h) == kind], x, y, number, beside))
    alone = len({(_kind_of(head), head.factor) for head in mapped}) == len(mapped)
    hint = "bars and band: 95 % intervals" if alone else "a dot a seed; the line is their mean"
    parts.append(_legend(kinds, hint, full=full is not None))
    label = f"Accuracy of {len(mapped)} compressed heads against the compression factor"
    return drawing(WIDTH, HEIGHT, label, *parts)


def reaches_the_classes(report: Report) -> bool:
    """Whether the line k = C - 1 is drawn: it is where it lies near the factors tried."""
    factors = sorted({head.factor for head in report.heads if head.kind})
    return bool(factors) and _is_near(report.extracted.dim / max(report.classes - 1, 1), factors)


def _is_near(at_classes: float, factors: Sequence[float]) -> bool:
    return at_classes >= 1 and factors[0] / 4 <= at_classes <= factors[-1] * 4


def _factor_scale(factors: Sequence[float], at_classes: float) -> Scale:
    low, high = factors[0], factors[-1]
    if _is_near(at_classes, factors):
        low, high = min(low, at_classes), max(high, at_classes)
    room = 1.25 if high > low else 2.0
    return Scale(low / room, high * room, LEFT, RIGHT, log=True)


def _factor_axis(x: Scale, factors: Sequence[float], report: Report, top: float) -> list[str]:
    marks = [line(LEFT, BOTTOM, RIGHT, BOTTOM, "frame"), line(LEFT, top, RIGHT, top, "frame")]
    last = -math.inf
    for value in factors:
        at = x(value)
        if at - last < TICK_ROOM:
            continue
        last = at
        k = report.extracted.dim / value
        marks += [
            line(at, BOTTOM, at, BOTTOM + 5, "frame"),
            line(at, top, at, top - 5, "frame"),
            text(at, BOTTOM + 20, factor(value), "tick", "middle"),
            text(at, BOTTOM + 36, f"k {count(k)}", "tick faint", "middle"),
            text(at, top - 11, three_figures(dims_per_class(round(k), report.classes)), "tick",
                 "middle"),
        ]  # fmt: skip
    middle = (LEFT + RIGHT) / 2
    marks.append(text(middle, BOTTOM + 57, "compression of the features, d / k", "axis", "middle"))
    marks.append(text(RIGHT, top - 30, "k / (C − 1)", "axis", "end"))
    return marks


def _kind_of(head: Head) -> str:
    return stored_kind(head.kind, head.dtype)


def _full_line(full: Head, y: Scale) -> str:
    high, low = y(full.test.interval.high), y(full.test.interval.low)
    at = y(full.test.accuracy)
    told = f"full head: {percent(full.test.accuracy)} % ({percent_interval(full.test.interval)})"
    band = rect(LEFT, high, RIGHT - LEFT, low - high, "band")
    return element("g", title(told), band, line(LEFT, at, RIGHT, at, "full"))


def _classes_line(at: float, classes: int, top: float) -> str:
    # the label stands at the side with more room: beyond the line the question becomes hard
    side, shift = ("end", -7) if at > (LEFT + RIGHT) / 2 else ("start", 7)
    label = text(at + shift, BOTTOM - 10, f"k = C − 1 = {classes - 1}", "note", side)
    return line(at, top, at, BOTTOM, "classes") + label


def _kind(heads: Sequence[Head], x: Scale, y: Scale, number: int, beside: float) -> str:
    """Draw the line through the means over seeds; whiskers where there is one seed only."""
    color = f"s{min(number, KINDS_DRAWN - 1)}"
    means: dict[float, list[float]] = {}
    for head in heads:
        means.setdefault(head.factor, []).append(head.test.accuracy)
    corners = [(x(at) + beside, y(sum(found) / len(found))) for at, found in sorted(means.items())]
    marks = [path(corners, f"trace {color}")] if len(corners) > 1 else []
    for head in heads:
        at, told = x(head.factor) + beside, f"{plain(head.name)}: {told_score(head.test)}"
        alone = len(means[head.factor]) == 1
        radius = 4.5 if alone else 3.2
        dot = element("circle", cx=at, cy=y(head.test.accuracy), r=radius, class_=f"dot {color}")
        bar = whisker(at, head.test, y, color) if alone else ""
        marks.append(element("g", title(told), bar, dot))
    return "".join(marks)


def _legend(kinds: Sequence[str], hint: str, *, full: bool) -> str:
    marks, at = [], LEFT
    for number, kind in enumerate(kinds):
        color = f"s{min(number, KINDS_DRAWN - 1)}"
        shown = plain(kind, most=24)
        marks.append(line(at, 16, at + 22, 16, f"trace {color}"))
        marks.append(element("circle", cx=at + 11, cy=16.0, r=4.5, class_=f"dot {color}"))
        marks.append(text(at + 29, 20, shown, "key"))
        at += 29 + 7.2 * len(shown) + 26
    if full:
        marks.append(rect(at, 10, 22, 12, "band"))
        marks.append(line(at, 16, at + 22, 16, "full"))
        marks.append(text(at + 29, 20, "full head", "key"))
        at += 29 + 7.2 * 9 + 26
    marks.append(text(at, 20, hint, "key faint"))
    return "".join(marks)


def distortion_plots(report: Report) -> list[str]:
    """One small histogram a validated map, all on one scale so that widths compare."""
    found = [made.validation for made in report.projected if made.validation]
    drawn = [v for v in found if _has_histogram(v.distortion)]
    if not drawn:
        return []
    reach = max(v.distortion.p99 + 0.6 * (v.distortion.p99 - 1) for v in drawn)
    high = min(max(reach, 1.2), 4.0)
    return [_histogram(v, high) for v in drawn]


def _has_histogram(found: Distortion) -> bool:
    edges, counts = found.histogram_edges, found.histogram_counts
    return len(edges) == len(counts) + 1 and max(counts, default=0) > 0


def _histogram(found: Validation, high: float) -> str:
    width, height, bottom, top, eps = 280.0, 168.0, 138.0, 34.0, found.distortion.eps
    x = Scale(0.0, high, 12.0, width - 12.0)
    spread = found.distortion
    bars = list(zip(pairwise(spread.histogram_edges), spread.histogram_counts, strict=True))
    densities = [many / max(right - left, 1e-12) for (left, right), many in bars]
    y = Scale(0.0, max(densities), bottom, top)
    steps = [
        (x(edge), y(density))
        for (edges, _), density in zip(bars, densities, strict=True)
        for edge in edges
        if edge <= high
    ]
    parts = [
        text(12, 16, f"k = {count(found.dim_out)}", "key strong"),
        text(width - 12, 16, f"{spread.mean:.2f} ± {spread.std:.2f}", "key faint", "end"),
        rect(x(1 - eps), top, x(1 + eps) - x(1 - eps), bottom - top, "band"),
    ]
    if steps:
        corners = [(steps[0][0], bottom), *steps, (steps[-1][0], bottom)]
        parts.append(path(corners, "bar", closed=True))
    parts.append(line(x(1.0), top, x(1.0), bottom, "full"))
    parts.append(line(12, bottom, width - 12, bottom, "frame"))
    for value in ticks(0.0, high, 4):
        parts.append(line(x(value), bottom, x(value), bottom + 4, "frame"))
        parts.append(text(x(value), bottom + 18, three_figures(value), "tick", "middle"))
    told = (
        f"{plain(found.candidate)}: squared distance after over before, over {spread.pairs} pairs; "
        f"1 % {spread.p01:.2f}, 99 % {spread.p99:.2f}"
    )
    return drawing(width, height, told, title(told), *parts)
