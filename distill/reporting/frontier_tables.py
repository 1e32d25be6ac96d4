"""The tables of a frontier: every kind of network in a line, and each of its points."""

from collections.abc import Iterator, Sequence

from distill.findings import Falls, Frontier, FrontierCurve, FrontierPoint, LanguagePoint
from distill.reporting.budget_plots import by_batch
from distill.reporting.sweep_tables import seed_interval
from distill.reporting.tables import NAME_LENGTH, Column, Row, Table
from distill.reporting.text import (
    NOTHING,
    count,
    difference,
    duration,
    percent,
    percent_interval,
    plain,
    points,
    rounded,
    three_figures,
)


def curves_table(found: Frontier) -> Table:
    """Area, falls and cost of training of every kind of network."""
    columns = (
        Column("network", words=True),
        Column("area, %"),
        Column("95 %, seeds"),
        Column("behind nested, points"),
        Column("monotone", words=True),
        Column("from % of FLOPs"),
        Column("seeds"),
        Column("trainings"),
        Column("updates each"),
    )
    rows = tuple(
        (
            plain(curve.name, most=NAME_LENGTH),
            NOTHING if curve.area is None else percent(curve.area.mean),
            NOTHING if curve.area is None else seed_interval(curve.area),
            difference(curve.behind),
            told_falls(curve.falls),
            percent(curve.points[0].share),
            count(curve.seeds),
            count(curve.trainings),
            count(curve.updates) if curve.trainings else NOTHING,
        )
        for curve in found.curves
    )
    return Table("networks", columns, rows, marked=(0,))


def told_falls(found: Falls | None) -> str:
    """Yes; no: 2 of 11 steps, at most 0.4 points at 35.0 %."""
    if found is None:
        return NOTHING
    if not found.count:
        return "yes"
    return (
        f"no: {found.count} of {found.of} steps, at most {points(found.largest).lstrip('+')} "
        f"points at {percent(found.share)} %"
    )


def points_table(found: Frontier) -> Table:
    """Every point of every curve; the dense network first."""
    columns = (
        Column("network", words=True),
        Column("budget %"),
        Column("FLOPs %"),
        Column("parameters"),
        Column("accuracy %"),
        Column("95 %"),
        Column("against dense, points"),
        Column("against nested, points"),
        Column("trained", words=True),
        *time_columns(found.dense),
    )
    rows = [_row("dense", found.dense, found.dense)]
    for curve in found.curves:
        rows += [_row(curve.name, point, found.dense) for point in curve.points]
    return Table("points", columns, tuple(rows), marked=(0,))


def _row(name: str, point: FrontierPoint, dense: FrontierPoint) -> Row:
    interval = point.accuracy.interval or point.interval
    return (
        plain(name, most=NAME_LENGTH),
        percent(point.budget),
        percent(point.share),
        rounded(point.parameters),
        percent(point.accuracy.mean),
        percent_interval(interval),
        NOTHING if point is dense else difference(point.difference),
        difference(point.behind),
        "yes" if point.trained else "no",
        *time_cells(point, dense),
    )


def time_columns(dense: FrontierPoint | LanguagePoint) -> Iterator[Column]:
    """Columns of the times of calls, and of what share of dense's they are."""
    yield from (Column(f"time, batch {one.batch}") for one in dense.latencies)
    yield from (Column(f"of dense, batch {one.batch}") for one in dense.latencies)


def time_cells(
    point: FrontierPoint | LanguagePoint, dense: FrontierPoint | LanguagePoint
) -> Iterator[str]:
    """What stands in them."""
    times = by_batch(point.latencies)
    yield from (_time(times.get(one.batch)) for one in dense.latencies)
    yield from (_ratio(times.get(one.batch), one.seconds) for one in dense.latencies)


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _ratio(seconds: float | None, dense: float) -> str:
    return NOTHING if seconds is None else f"{three_figures(seconds / dense)}×"


def nearest(curve: FrontierCurve, budget: float) -> FrontierPoint | None:
    """The dearest point that a budget pays for; None below the first."""
    paid: Sequence[FrontierPoint] = [p for p in curve.points if p.share <= budget + 1e-9]
    return paid[-1] if paid else None
