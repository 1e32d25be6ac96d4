"""The tables of a frontier: every kind of network in a line, and each of its points."""

from collections.abc import Sequence

from distill.findings import Falls, Frontier, FrontierCurve, FrontierPoint
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
    batches = [one.batch for one in found.dense.latencies]
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
        *(Column(f"time, batch {batch}") for batch in batches),
        *(Column(f"of dense, batch {batch}") for batch in batches),
    )
    rows = [_row("dense", found.dense, found.dense)]
    for curve in found.curves:
        rows += [_row(curve.name, point, found.dense) for point in curve.points]
    return Table("points", columns, tuple(rows), marked=(0,))


def _row(name: str, point: FrontierPoint, dense: FrontierPoint) -> Row:
    times = {one.batch: one.seconds for one in point.latencies}
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
        *(_time(times.get(one.batch)) for one in dense.latencies),
        *(_ratio(times.get(one.batch), one.seconds) for one in dense.latencies),
    )


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _ratio(seconds: float | None, dense: float) -> str:
    return NOTHING if seconds is None else f"{three_figures(seconds / dense)}×"


def nearest(curve: FrontierCurve, budget: float) -> FrontierPoint | None:
    """The dearest point that a budget pays for; None below the first."""
    paid: Sequence[FrontierPoint] = [p for p in curve.points if p.share <= budget + 1e-9]
    return paid[-1] if paid else None
