"""What every frontier draws: a figure against share of dense FLOPs, and against measured time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from distill.findings import FrontierPoint, LanguagePoint, Latency
from distill.reporting.frame import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
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

TOP = 86.0  # below two lines of a legend and the name of the figure
COLOURS = 8  # further curves share the last
BETWEEN = 34.0  # pixels between two panels
ROOM = 40.0  # pixels that the label of a tick needs
RADIUS = 4.2


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point: its figure with the ends of the interval, what it costs, and what is said of it.

    ``seconds`` are of a call, by batch size; none where it was not timed.
    """

    share: float
    figure: float
    low: float
    high: float
    seconds: Mapping[int, float]
    trained: bool
    told: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Curves by name beside the dense network. ``grid`` is that of the scale of the figure."""

    figure: str  # "Accuracy"
    measured_at: str  # the input whose FLOPs are counted
    dense: Mark
    curves: Sequence[tuple[str, Sequence[Mark]]]
    y: Scale
    grid: str
    picked: float | None = None  # share of dense FLOPs


@dataclass(frozen=True)
class _Panel:
    """One frame: where it lies, what stands below it, and where a point is drawn in it."""

    x: Scale
    axis: str
    tick: Callable[[float], str]
    at: Callable[[Mark], float | None]


def mark_of(
    point: FrontierPoint | LanguagePoint, *, figure: float, ends: tuple[float, float], told: str
) -> Mark:
    """A point of a curve, with its figure and the ends of its interval as they are drawn."""
    low, high = ends
    return Mark(
        share=point.share,
        figure=figure,
        low=low,
        high=high,
        seconds=by_batch(point.latencies),
        trained=point.trained,
        told=told,
    )


def by_batch(latencies: Sequence[Latency]) -> dict[int, float]:
    """Seconds of a call by batch size."""
    return {one.batch: one.seconds for one in latencies}


def flops_plot(picture: Picture) -> str:
    """The figure against share of dense FLOPs."""
    low = min(mark.share for mark in _marks(picture))
    x = Scale(max(low - 0.03, 0.0), 1.02, LEFT, RIGHT)
    panel = _Panel(
        x=x,
        axis=f"share of the dense network's FLOPs at {plain(picture.measured_at, most=40)}, %",
        tick=lambda share: three_figures(100 * share),
        at=lambda mark: mark.share,
    )
    label = f"{picture.figure} against the share of dense FLOPs"
    return drawing(WIDTH, HEIGHT, label, *_drawn(picture, [panel]), _picked(picture.picked, x))


def time_plot(picture: Picture) -> str:
    """The figure against the time of a call, a panel a batch size; "" where nothing was timed."""
    batches = sorted(picture.dense.seconds)
    if not batches:
        return ""
    width = (RIGHT - LEFT - BETWEEN * (len(batches) - 1)) / len(batches)
    panels = [
        _timed(picture, batch, LEFT + at * (width + BETWEEN), width)
        for at, batch in enumerate(batches)
    ]
    label = f"{picture.figure} against the time of a call"
    return drawing(WIDTH, HEIGHT, label, *_drawn(picture, panels))


def _timed(picture: Picture, batch: int, start: float, width: float) -> _Panel:
    times = [mark.seconds[batch] for mark in _marks(picture) if batch in mark.seconds]
    x = Scale(min(times) / 1.15, max(times) * 1.15, start, start + width, log=True)
    return _Panel(
        x=x, axis=f"time of a call of {batch}", tick=duration, at=lambda m: m.seconds.get(batch)
    )


def _marks(picture: Picture) -> Iterator[Mark]:
    yield picture.dense
    for _, marks in picture.curves:
        yield from marks


def _drawn(picture: Picture, panels: Sequence[_Panel]) -> Iterator[str]:
    """Grid, axes, the dense network, all curves, and the legend."""
    yield picture.grid
    for panel in panels:
        yield from _axis(panel)
        yield _dense(picture.dense, panel, picture.y)
        for number, (_, marks) in enumerate(picture.curves):
            yield _curve(marks, panel, picture.y, _color(number))
    yield _legend([name for name, _ in picture.curves])


def _color(number: int) -> str:
    return f"s{min(number, COLOURS - 1)}"


def _axis(panel: _Panel) -> Iterator[str]:
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


def _dense(mark: Mark, panel: _Panel, y: Scale) -> str:
    at, height = panel.at(mark), y(mark.figure)
    parts = [title(mark.told), line(panel.x.start, height, panel.x.stop, height, "full")]
    if at is not None:
        cross = panel.x(at)
        parts.append(line(cross, height - 7, cross, height + 7, "full"))
    return element("g", *parts)


def _curve(marks: Sequence[Mark], panel: _Panel, y: Scale, color: str) -> str:
    """The line through the figures; a full mark is a trained point, an open one is not."""
    placed = [(mark, panel.x(at)) for mark in marks if (at := panel.at(mark)) is not None]
    corners = [(at, y(mark.figure)) for mark, at in placed]
    parts = [path(corners, f"trace {color}")] if len(corners) > 1 else []
    for mark, at in placed:
        kind = f"dot {color}" if mark.trained else f"trace {color} open"
        dot = element("circle", cx=at, cy=y(mark.figure), r=RADIUS, class_=kind)
        bar = line(at, y(mark.low), at, y(mark.high), f"whisker {color}")
        parts.append(element("g", title(mark.told), bar, dot))
    return "".join(parts)


def _picked(share: float | None, x: Scale) -> str:
    if share is None:
        return ""
    at = x(share)
    side, shift = ("end", -6) if at > (LEFT + RIGHT) / 2 else ("start", 6)
    told = text(at + shift, BOTTOM - 10, f"picked: {percent(share)} %", "note", side)
    return line(at, TOP, at, BOTTOM, "tolerance") + told


def _legend(names: Sequence[str]) -> str:
    marks, at, height = [], LEFT, 14.0
    for number, name in enumerate(names):
        color, shown = _color(number), plain(name, most=24)
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
