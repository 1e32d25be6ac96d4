"""The drawing of size against accuracy: whole classifiers, from raw input to class.

A compressed head does not run without the backbone before it, so it stands at the teacher's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.findings import Report, Score
from distill.reporting.frame import (
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
    Box,
    Scale,
    drawing,
    element,
    line,
    log_ticks,
    place_label,
    rect,
    text,
    title,
)
from distill.reporting.text import count, factor, plain, rounded


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
    y = accuracy_scale([mark.score for mark in marks], top, bottom)
    parts = [accuracy_grid(y), _size_axis(x, bottom), _size_legend(marks)]
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
    told = f"{mark.name}: {rounded(mark.parameters)} parameters, {told_score(mark.score)}"
    symbol = _symbol(mark.shape, at, y(mark.score.accuracy))
    return element("g", title(told), whisker(at, mark.score, y, SHAPES[mark.shape]), symbol)


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
            shape = "student" if student.native else "baseline"
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
