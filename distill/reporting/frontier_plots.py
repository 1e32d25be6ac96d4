"""A frontier as a picture of accuracies."""

from distill.findings import Frontier, FrontierCurve, FrontierPoint
from distill.reporting.budget_plots import TOP, Mark, Picture, mark_of
from distill.reporting.frame import BOTTOM, accuracy_grid
from distill.reporting.svg import Scale
from distill.reporting.text import percent, plain


def accuracy_picture(found: Frontier) -> Picture:
    """All its curves beside the dense network, and the budget picked."""
    curves = [
        (curve.name, [_mark(curve, point) for point in curve.points]) for curve in found.curves
    ]
    dense = _dense(found.dense)
    y = _accuracies([dense, *(mark for _, marks in curves for mark in marks)])
    return Picture(
        figure="Accuracy",
        measured_at=found.measured_at,
        dense=dense,
        curves=curves,
        y=y,
        grid=accuracy_grid(y),
        picked=found.picked.share,
    )


def _accuracies(marks: list[Mark]) -> Scale:
    low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
    room = max(0.05 * (high - low), 0.01)
    return Scale(max(low - room, 0.0), min(high + room, 1.0), BOTTOM, TOP)


def _dense(point: FrontierPoint) -> Mark:
    return _marked(point, f"dense: {percent(point.accuracy.mean)} %")


def _mark(curve: FrontierCurve, point: FrontierPoint) -> Mark:
    low, high = _reach(point)
    return _marked(
        point,
        f"{plain(curve.name)} at {percent(point.share)} % of FLOPs: "
        f"{percent(point.accuracy.mean)} % ({percent(low)} to {percent(high)})"
        f"{'' if point.trained else ', not trained'}",
    )


def _marked(point: FrontierPoint, told: str) -> Mark:
    return mark_of(point, figure=point.accuracy.mean, ends=_reach(point), told=told)


def _reach(point: FrontierPoint) -> tuple[float, float]:
    """The interval over seeds, and over rows of a single seed."""
    interval = point.accuracy.interval or point.interval
    return max(interval.low, 0.0), min(interval.high, 1.0)
