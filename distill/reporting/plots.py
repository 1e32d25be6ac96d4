"""The three drawings of the report: accuracy against factor, size against accuracy, distortion.

Each returns SVG text, or "" where the report holds too little to draw it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from distill.findings import Distortion, Head, Report, Score, Validation
from distill.reporting.derived import dims_per_class
from distill.reporting.svg import (
    Box,
    Scale,
    drawing,
    element,
    line,
    log_ticks,
    path,
    place_label,
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
    rounded,
    three_figures,
)

WIDTH, HEIGHT = 860.0, 430.0
LEFT, RIGHT, BOTTOM = 58.0, 836.0, 366.0
KINDS_DRAWN = 6  # colours there are; further kinds share the last
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
    y = _accuracy_scale([head.test for head in (*mapped, *([full] if full else []))], top)
    parts = [_accuracy_grid(y), *_factor_axis(x, factors, report, top)]
    if full is not None:
        parts.append(_full_line(full, y))
    if x.low <= at_classes <= x.high:
        parts.append(_classes_line(x(at_classes), report.classes, top))
    kinds = list(dict.fromkeys(head.kind for head in mapped))
    for number, kind in enumerate(kinds):
        parts.append(_kind([h for h in mapped if h.kind == kind], x, y, number))
    parts.append(_legend(kinds, full is not None))
    label = f"Accuracy of {len(mapped)} compressed heads against the compression factor"
    return drawing(WIDTH, HEIGHT, label, *parts)


def _factor_scale(factors: Sequence[float], at_classes: float) -> Scale:
    low, high = factors[0], factors[-1]
    if low / 4 <= at_classes <= high * 4 and at_classes >= 1:
        low, high = min(low, at_classes), max(high, at_classes)
    room = 1.25 if high > low else 2.0
    return Scale(low / room, high * room, LEFT, RIGHT, log=True)


def _accuracy_scale(scores: Sequence[Score], top: float, bottom: float = BOTTOM) -> Scale:
    low = min(score.interval.low for score in scores)
    high = max(score.interval.high for score in scores)
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), bottom, top)


def _accuracy_grid(y: Scale) -> str:
    marks = []
    for value in ticks(100 * y.low, 100 * y.high, 6):
        at = y(value / 100)
        marks.append(line(LEFT, at, RIGHT, at, "grid"))
        marks.append(text(LEFT - 9, at + 4, three_figures(value), "tick", "end"))
    marks.append(text(LEFT - 44, y.stop - 30, "accuracy, %", "axis"))
    return "".join(marks)


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


def _kind(heads: Sequence[Head], x: Scale, y: Scale, number: int) -> str:
    color = f"s{min(number, KINDS_DRAWN - 1)}"
    means: dict[float, list[float]] = {}
    for head in heads:
        means.setdefault(head.factor, []).append(head.test.accuracy)
    corners = [(x(at), y(sum(found) / len(found))) for at, found in sorted(means.items())]
    marks = [path(corners, f"trace {color}")] if len(corners) > 1 else []
    for head in heads:
        at, told = x(head.factor), f"{plain(head.name)}: {_told(head.test)}"
        dot = element("circle", cx=at, cy=y(head.test.accuracy), r=4.5, class_=f"dot {color}")
        marks.append(element("g", title(told), _whisker(at, head.test, y, color), dot))
    return "".join(marks)


def _told(score: Score) -> str:
    return f"{percent(score.accuracy)} % ({percent_interval(score.interval)})"


def _whisker(at: float, score: Score, y: Scale, color: str) -> str:
    low, high = y(score.interval.low), y(score.interval.high)
    ends = "".join(line(at - 3.5, end, at + 3.5, end, f"whisker {color}") for end in (low, high))
    return line(at, low, at, high, f"whisker {color}") + ends


def _legend(kinds: Sequence[str], full: bool) -> str:
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
    marks.append(text(at, 20, "bars and band: 95 % intervals", "key faint"))
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


def teacher_parameters(report: Report) -> int:
    """Backbone and full head; 0 where nobody knows, as with imported features."""
    measured = [cost.parameters for cost in report.costs if cost.role == "teacher"]
    beside = [student.teacher_parameters for student in report.students]
    taught = [report.taught.parameters] if report.taught else []
    return next((number for number in (*measured, *beside, *taught) if number), 0)


@dataclass(frozen=True)
class Mark:
    """One classifier in the drawing of size against accuracy."""

    parameters: float
    score: Score
    name: str
    shape: str


def size_plot(report: Report) -> str:
    """Accuracy against the parameters of the whole classifier, from raw input to class."""
    marks = _size_marks(report)
    if len({mark.parameters for mark in marks}) < 2:
        return ""
    top, bottom = 76.0, 376.0
    sizes = [mark.parameters for mark in marks]
    x = Scale(min(sizes) / 1.8, max(sizes) * 2.2, LEFT, RIGHT, log=True)
    y = _accuracy_scale([mark.score for mark in marks], top, bottom)
    parts = [_accuracy_grid(y), _size_axis(x, bottom), _size_legend(marks)]
    places = _side_by_side([x(mark.parameters) for mark in marks])
    parts += [_whole_mark(mark, at, y) for mark, at in zip(marks, places, strict=True)]
    parts += _mark_names(marks, places, y, Box(LEFT, 24, RIGHT - LEFT + 20, bottom - 24))
    return drawing(WIDTH, HEIGHT, "Size of the whole classifier against accuracy", *parts)


def _size_axis(x: Scale, bottom: float) -> str:
    marks = [line(LEFT, bottom, RIGHT, bottom, "frame")]
    for value in log_ticks(x.low, x.high):
        at = x(value)
        marks.append(line(at, bottom, at, bottom + 5, "frame"))
        marks.append(text(at, bottom + 20, rounded(value), "tick", "middle"))
    told = "parameters of the whole classifier, from raw input to class"
    return "".join([*marks, text((LEFT + RIGHT) / 2, bottom + 44, told, "axis", "middle")])


def _size_legend(marks: Sequence[Mark]) -> str:
    names = {
        "teacher": "teacher, full head",
        "head": "teacher, compressed head",
        "student": "student",
        "baseline": "baseline student",
    }
    drawn, at = [], LEFT + 6
    for shape, name in names.items():
        if any(mark.shape == shape for mark in marks):
            drawn += [_symbol(shape, at, 16), text(at + 13, 20, name, "key")]
            at += 13 + 7.2 * len(name) + 26
    return "".join(drawn)


def _side_by_side(places: Sequence[float], room: float = 17.0) -> list[float]:
    """Marks that would cover one another are drawn around the middle of their places."""
    order = sorted(range(len(places)), key=lambda at: places[at])
    groups: list[list[int]] = []
    for at in order:
        if groups and places[at] - places[groups[-1][0]] < room / 2:
            groups[-1].append(at)
        else:
            groups.append([at])
    moved = list(places)
    for group in groups:
        middle = sum(places[at] for at in group) / len(group)
        for number, at in enumerate(sorted(group)):
            moved[at] = middle + room * (number - (len(group) - 1) / 2)
    return moved


def _whole_mark(mark: Mark, at: float, y: Scale) -> str:
    told = f"{mark.name}: {rounded(mark.parameters)} parameters, {_told(mark.score)}"
    symbol = _symbol(mark.shape, at, y(mark.score.accuracy))
    return element("g", title(told), _whisker(at, mark.score, y, SHAPES[mark.shape]), symbol)


def _mark_names(marks: Sequence[Mark], places: Sequence[float], y: Scale, within: Box) -> list[str]:
    """Names where there is room for them; all are shown to a pointer."""
    taken = []
    for mark, at in zip(marks, places, strict=True):
        low, high = y(mark.score.interval.low), y(mark.score.interval.high)
        taken += [Box(at - 4, high, 8, low - high), Box(at - 7, y(mark.score.accuracy) - 7, 14, 14)]
    names = []
    for mark, at in zip(marks, places, strict=True):
        shown = plain(mark.name, most=34)
        spot = place_label(shown, _spots(mark.score, at, y), taken, within)
        if spot is not None:
            names.append(text(spot[0], spot[1], shown, "note", spot[2]))
    return names


def _spots(score: Score, x: float, y: Scale) -> list[tuple[float, float, str]]:
    """Beside the mark, at the ends of its whisker, and beside those ends."""
    middle, top, bottom = y(score.accuracy) + 4, y(score.interval.high), y(score.interval.low)
    return [
        (x + 10, middle, "start"),
        (x - 10, middle, "end"),
        (x, top - 6, "middle"),
        (x, bottom + 15, "middle"),
        (x + 8, top - 4, "start"),
        (x - 8, top - 4, "end"),
        (x + 8, bottom + 12, "start"),
        (x - 8, bottom + 12, "end"),
        (x, bottom + 30, "middle"),
    ]


SHAPES = {"teacher": "s3", "student": "s1", "baseline": "s2", "head": "s0"}


def _symbol(shape: str, x: float, y: float) -> str:
    color = f"dot {SHAPES[shape]}"
    if shape == "teacher":
        return rect(x - 5.5, y - 5.5, 11, 11, color)
    if shape == "head":
        return element("circle", cx=x, cy=y, r=4.5, class_=color)
    corners = {
        "student": ((0, -7.5), (7.5, 0), (0, 7.5), (-7.5, 0)),
        "baseline": ((0, -7), (6.5, 5), (-6.5, 5)),
    }[shape]
    points = " ".join(f"{x + dx:.2f},{y + dy:.2f}" for dx, dy in corners)
    return element("polygon", points=points, class_=color)


def _size_marks(report: Report) -> list[Mark]:
    """Students, then the teacher with its full head, then with each compressed head."""
    marks = []
    whole = teacher_parameters(report)
    names = {"labels": "from labels only", "logits": "from the teacher's logits"}
    for student in report.students:
        if student.parameters:
            shape = "student" if student.method == "subspace" else "baseline"
            told = names.get(student.method, f"k = {count(student.dim_out)}")
            marks.append(Mark(student.parameters, student.test, told, shape))
    for head in report.heads if whole else ():
        d, k, c = head.dim_in, head.dim_out, head.classes
        if not head.kind:
            marks.append(Mark(whole, head.test, "full head", "teacher"))
        else:
            backbone = max(whole - c * (d + 1), 0)
            charged = min(k * (d + c), d * c) + c
            marks.append(Mark(backbone + charged, head.test, factor(head.factor), "head"))
    return marks
