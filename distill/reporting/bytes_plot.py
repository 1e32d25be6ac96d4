"""The drawing of a comparison: test accuracy against what a training example takes of the store."""

from collections.abc import Sequence

from distill.findings import Comparison, Way
from distill.reporting.frame import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, accuracy_grid
from distill.reporting.svg import (
    Box,
    Scale,
    drawing,
    element,
    line,
    log_ticks,
    place_label,
    text,
    title,
)
from distill.reporting.text import percent, plain, size

TOP = 50.0


def bytes_plot(found: Comparison) -> str:
    """Accuracy against stored bytes of an example; "" where fewer than two sizes are known."""
    ways = [way for way in found.ways if way.accuracy and way.shipped and way.shipped.stored_bytes]
    sizes = [_bytes(way) for way in ways]
    if len(set(sizes)) < 2:
        return ""
    x = Scale(min(sizes) / 1.6, max(sizes) * 2.2, LEFT, RIGHT, log=True)
    y = _accuracy_scale(ways, found.teacher_accuracy)
    parts = [accuracy_grid(y), _axis(x), _teacher(found.teacher_accuracy, y)]
    taken: list[Box] = []
    for way in ways:
        low, high = _reach(way)
        at = x(_bytes(way))
        taken.append(Box(at - 6, y(high), 12, max(y(low) - y(high), 10)))
    names = []
    for way in ways:
        parts.append(_mark(way, x(_bytes(way)), y, "s1" if way.name == found.reference else "s0"))
        names.append(_name(way, x, y, taken))
    return drawing(
        WIDTH, HEIGHT, "Test accuracy against stored bytes of an example", *parts, *names
    )


def _accuracy_scale(ways: Sequence[Way], teacher: float) -> Scale:
    low = min(_reach(way)[0] for way in ways)
    high = max(teacher, *(_reach(way)[1] for way in ways))
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), BOTTOM, TOP)


def _reach(way: Way) -> tuple[float, float]:
    """The interval over seeds; the mean twice of a single one."""
    if way.accuracy is None:
        return 0.0, 0.0
    interval, mean = way.accuracy.interval, way.accuracy.mean
    if interval is None:
        return mean, mean
    return max(interval.low, 0.0), min(interval.high, 1.0)


def _bytes(way: Way) -> int:
    return way.shipped.stored_bytes if way.shipped else 0


def _axis(x: Scale) -> str:
    marks = [line(LEFT, BOTTOM, RIGHT, BOTTOM, "frame")]
    for value in log_ticks(x.low, x.high):
        at = x(value)
        marks.append(line(at, BOTTOM, at, BOTTOM + 5, "frame"))
        marks.append(text(at, BOTTOM + 20, size(value), "tick", "middle"))
    told = "stored for a training example, all its views"
    return "".join([*marks, text((LEFT + RIGHT) / 2, BOTTOM + 44, told, "axis", "middle")])


def _teacher(accuracy: float, y: Scale) -> str:
    at = y(accuracy)
    told = f"the teacher's full head: {percent(accuracy)} %"
    return element(
        "g",
        title(told),
        line(LEFT, at, RIGHT, at, "full"),
        text(RIGHT - 4, at - 5, "teacher", "note", "end"),
    )


def _mark(way: Way, at: float, y: Scale, color: str) -> str:
    low, high = _reach(way)
    mean = way.accuracy.mean if way.accuracy else 0.0
    told = (
        f"{plain(way.name)}: {percent(mean)} % ({percent(low)} to {percent(high)}), "
        f"{size(_bytes(way))} an example"
    )
    bar = line(at, y(low), at, y(high), f"whisker {color}")
    dot = element("circle", cx=at, cy=y(mean), r=4.5, class_=f"dot {color}")
    return element("g", title(told), bar, dot)


def _name(way: Way, x: Scale, y: Scale, taken: list[Box]) -> str:
    """The name where there is room; a pointer is shown it anyway."""
    low, high = _reach(way)
    at, middle = x(_bytes(way)), y(way.accuracy.mean if way.accuracy else 0.0) + 4
    spots = [
        (at + 9, middle, "start"),
        (at - 9, middle, "end"),
        (at, y(high) - 7, "middle"),
        (at, y(low) + 16, "middle"),
        (at + 9, middle - 13, "start"),
        (at - 9, middle - 13, "end"),
        (at + 9, middle + 13, "start"),
        (at - 9, middle + 13, "end"),
    ]
    shown = plain(way.name, most=24)
    spot = place_label(shown, spots, taken, Box(LEFT, 20, RIGHT - LEFT, BOTTOM - 20))
    return "" if spot is None else text(spot[0], spot[1], shown, "note", spot[2])
