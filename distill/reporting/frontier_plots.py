"""The drawings of a frontier: accuracy against share of dense FLOPs, and against measured time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from distill.findings import Frontier, FrontierCurve, FrontierPoint
from distill.reporting.frame import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, accuracy_grid
from distill.reporting.svg import (
    Scale,
    drawing,
    element,
    line,
    log_ticks,
    path,
    text,
    ticks,
    title,
)
from distill.reporting.text import duration, percent, plain, three_figures

COLOURS = 8  # further curves share the last
TOP = 74.0
BETWEEN = 34.0  # pixels between two panels
ROOM = 40.0  # pixels that the label of a tick needs
RADIUS = 4.2


@dataclass(frozen=True)
class Panel:
    """One frame: where it lies, what stands below it, and where a point is drawn in it."""

    x: Scale
    axis: str
    tick: Callable[[float], str]
    at: Callable[[FrontierPoint], float | None]


def flops_plot(found: Frontier) -> str:
    """Accuracy against share of dense FLOPs."""
    low = min(point.share for curve in found.curves for point in curve.points)
    x = Scale(max(low - 0.03, 0.0), 1.02, LEFT, RIGHT)
    panel = Panel(
        x=x,
        axis=f"share of the dense network's FLOPs at {plain(found.measured_at, most=40)}, %",
        tick=lambda share: three_figures(100 * share),
        at=lambda point: point.share,
    )
    label = "Accuracy against the share of dense FLOPs"
    return drawing(WIDTH, HEIGHT, label, *_drawn(found, [panel]), _picked(found, x))


def time_plot(found: Frontier) -> str:
    """Accuracy against the time of a call, a panel a batch size; "" where nothing was timed."""
    batches = sorted({one.batch for one in found.dense.latencies})
    if not batches:
        return ""
    width = (RIGHT - LEFT - BETWEEN * (len(batches) - 1)) / len(batches)
    panels = [
        _timed(found, batch, LEFT + at * (width + BETWEEN), width)
        for at, batch in enumerate(batches)
    ]
    return drawing(WIDTH, HEIGHT, "Accuracy against the time of a call", *_drawn(found, panels))


def _timed(found: Frontier, batch: int, start: float, width: float) -> Panel:
    def at(point: FrontierPoint) -> float | None:
        return next((one.seconds for one in point.latencies if one.batch == batch), None)

    times = [time for time in map(at, _points(found)) if time]
    x = Scale(min(times) / 1.15, max(times) * 1.15, start, start + width, log=True)
    return Panel(x=x, axis=f"time of a call of {batch}", tick=duration, at=at)


def _points(found: Frontier) -> Iterator[FrontierPoint]:
    yield found.dense
    for curve in found.curves:
        yield from curve.points


def _drawn(found: Frontier, panels: Sequence[Panel]) -> Iterator[str]:
    """Grid, axes, the dense network, all curves, and the legend."""
    y = _accuracies(found)
    yield accuracy_grid(y)
    for panel in panels:
        yield from _axis(panel)
        yield _dense(found.dense, panel, y)
        for number, curve in enumerate(found.curves):
            yield _curve(curve, panel, y, f"s{min(number, COLOURS - 1)}")
    yield _legend(found.curves)


def _accuracies(found: Frontier) -> Scale:
    reach = [_reach(point) for point in _points(found)]
    low, high = min(low for low, _ in reach), max(high for _, high in reach)
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), BOTTOM, TOP)


def _reach(point: FrontierPoint) -> tuple[float, float]:
    """The interval over seeds, and over rows of a single seed."""
    interval = point.accuracy.interval or point.interval
    return max(interval.low, 0.0), min(interval.high, 1.0)


def _axis(panel: Panel) -> Iterator[str]:
    x = panel.x
    yield line(x.start, BOTTOM, x.stop, BOTTOM, "frame")
    last = x.start - ROOM
    for value in log_ticks(x.low, x.high) if x.log else ticks(x.low, x.high, 8):
        at = x(value)
        if at - last < ROOM:
            continue
        last = at
        yield line(at, BOTTOM, at, BOTTOM + 5, "frame")
        yield text(at, BOTTOM + 20, panel.tick(value), "tick", "middle")
    yield text((x.start + x.stop) / 2, BOTTOM + 44, panel.axis, "axis", "middle")


def _dense(point: FrontierPoint, panel: Panel, y: Scale) -> str:
    at, height = panel.at(point), y(point.accuracy.mean)
    told = f"dense: {percent(point.accuracy.mean)} %"
    marks = [title(told), line(panel.x.start, height, panel.x.stop, height, "full")]
    if at is not None:
        cross = panel.x(at)
        marks.append(line(cross, height - 7, cross, height + 7, "full"))
    return element("g", *marks)


def _curve(curve: FrontierCurve, panel: Panel, y: Scale, color: str) -> str:
    """The line through the means; a full mark is a trained point, an open one is not."""
    placed = [(point, panel.x(at)) for point in curve.points if (at := panel.at(point)) is not None]
    corners = [(at, y(point.accuracy.mean)) for point, at in placed]
    marks = [path(corners, f"trace {color}")] if len(corners) > 1 else []
    for point, at in placed:
        low, high = _reach(point)
        bar = line(at, y(low), at, y(high), f"whisker {color}")
        marks.append(element("g", title(_told(curve, point)), bar, _mark(point, at, y, color)))
    return "".join(marks)


def _told(curve: FrontierCurve, point: FrontierPoint) -> str:
    low, high = _reach(point)
    return (
        f"{plain(curve.name)} at {percent(point.share)} % of FLOPs: "
        f"{percent(point.accuracy.mean)} % ({percent(low)} to {percent(high)})"
        f"{'' if point.trained else ', not trained'}"
    )


def _mark(point: FrontierPoint, at: float, y: Scale, color: str) -> str:
    kind = f"dot {color}" if point.trained else f"trace {color} open"
    return element("circle", cx=at, cy=y(point.accuracy.mean), r=RADIUS, class_=kind)


def _picked(found: Frontier, x: Scale) -> str:
    share = found.picked.share
    if share is None:
        return ""
    at = x(share)
    side, shift = ("end", -6) if at > (LEFT + RIGHT) / 2 else ("start", 6)
    told = text(at + shift, BOTTOM - 10, f"picked: {percent(share)} %", "note", side)
    return line(at, TOP, at, BOTTOM, "tolerance") + told


def _legend(curves: Sequence[FrontierCurve]) -> str:
    marks, at, height = [], LEFT, 14.0
    for number, curve in enumerate(curves):
        color, shown = f"s{min(number, COLOURS - 1)}", plain(curve.name, most=24)
        if at + 29 + 7.2 * len(shown) > RIGHT:
            at, height = LEFT, height + 20
        marks.append(line(at, height, at + 22, height, f"trace {color}"))
        marks.append(element("circle", cx=at + 11, cy=height, r=RADIUS, class_=f"dot {color}"))
        marks.append(text(at + 29, height + 4, shown, "key"))
        at += 29 + 7.2 * len(shown) + 22
    return "".join([*marks, _hint(at, height)])


def _hint(at: float, height: float) -> str:
    """What open marks and the dashed line are."""
    told = "dashed: dense; open: not trained"
    if at + 7.2 * len(told) > RIGHT:
        at, height = LEFT, height + 20
    return text(at, height + 4, told, "key faint")
