"""A frontier of a language model as a picture of perplexities, on a logarithmic scale."""

import math
from collections.abc import Iterator

from distill.findings import LanguageCurve, LanguageFrontier, LanguagePoint
from distill.reporting.budget_plots import TOP, Mark, Picture, mark_of
from distill.reporting.frame import BOTTOM, LEFT, RIGHT
from distill.reporting.svg import Scale, line, log_ticks, text
from distill.reporting.text import count, percent, plain, rounded, three_figures

MOST = 1e6  # perplexity that is drawn and told in figures; above it a guess is no worse


def perplexity_picture(found: LanguageFrontier) -> Picture:
    """All its curves beside the dense model, as far as they are no guesses, and the pick."""
    points = [found.dense, *(point for curve in found.curves for point in curve.points)]
    highest = min(max(point.interval.high for point in points), math.log(MOST))
    lowest = min(point.interval.low for point in points)
    y = Scale(math.exp(lowest) / 1.1, math.exp(highest) * 1.1, BOTTOM, TOP, log=True)
    return Picture(
        figure="Perplexity",
        measured_at=f"{count(found.tokens)} tokens",
        dense=_marked(found.dense, f"dense: {shown(found.dense.perplexity)}", y),
        curves=[(curve.name, list(_marks(curve, y))) for curve in found.curves],
        y=y,
        grid="".join(_grid(y)),
        picked=found.picked.share,
    )


def shown(perplexity: float) -> str:
    """Three figures, or that it is above what is told."""
    return three_figures(perplexity) if perplexity < MOST else f"above {rounded(MOST)}"


def _grid(y: Scale) -> Iterator[str]:
    for value in log_ticks(y.low, y.high):
        told = three_figures(value) if value < 1000 else rounded(value)
        yield line(LEFT, y(value), RIGHT, y(value), "grid")
        yield text(LEFT - 9, y(value) + 4, told, "tick", "end")
    yield text(LEFT - 44, TOP - 30, "perplexity", "axis")


def _marks(curve: LanguageCurve, y: Scale) -> Iterator[Mark]:
    for point in curve.points:
        if point.perplexity < y.high:
            at = f"{plain(curve.name)} at {percent(point.share)} % of FLOPs"
            told = f"{at}: {shown(point.perplexity)}{'' if point.trained else ', not trained'}"
            yield _marked(point, told, y)


def _marked(point: LanguagePoint, told: str, y: Scale) -> Mark:
    low, high = (
        min(math.exp(min(end, 700.0)), y.high) for end in (point.interval.low, point.interval.high)
    )
    return mark_of(point, figure=point.perplexity, ends=(low, high), told=told)
