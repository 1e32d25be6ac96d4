"""A frontier as sentences, drawings and sections: of a document of its own, and in the report."""

from collections.abc import Iterator, Sequence

from distill.findings import LONGER, Certificate, Difference, Frontier, FrontierCurve, FrontierPoint
from distill.reporting.budget_plots import flops_plot, time_plot
from distill.reporting.frontier_plots import accuracy_picture
from distill.reporting.frontier_tables import curves_table, nearest, points_table, told_falls
from distill.reporting.layout import Document, KeyFigure, Section, Words
from distill.reporting.sweep_tables import lost_points
from distill.reporting.text import (
    count,
    percent,
    plain,
    points,
    rounded,
    three_figures,
    told_difference,
)

TOLD = (0.5, 0.35)  # budgets that sentences are about, where they were measured


def frontier_document(found: Frontier, title: str) -> Document:
    """The frontier alone, as ``frontier.md`` and ``frontier.html`` show it."""
    rows = found.rows
    return Document(
        title=plain(title) or "Subspace distillation",
        subtitle=(
            f"{plain(found.nested)}, nested of {plain(found.teacher)} · {count(found.classes)} "
            f"classes · {count(rows.get('train', 0))} training rows, tested on "
            f"{count(rows.get('test', 0))}"
        ),
        figures=tuple(_key_figures(found)),
        words=Words(warnings=(), shows=tuple(shown(found)), limits=tuple(_limits(found))),
        sections=tuple(frontier_sections(found, told=())),
        kicker="What does accuracy cost?",
        footer="The figures behind this page are in frontier.json beside it, its tables in "
        "frontier.md.",
    )


def shown(found: Frontier) -> Iterator[str]:
    """What the frontier says, what to pick first."""
    yield picked(found)
    ours = found.curves[0]
    for budget in TOLD:
        point = _asked(ours, budget)
        if point is not None:
            yield _at(found, budget, point)
    yield from _areas(found)
    if ours.falls is not None and ours.falls.count:
        yield f"Accuracy does not always rise with the budget: {told_falls(ours.falls)[4:]}."
    elif ours.falls is not None:
        yield f"Accuracy never falls from one of its {len(ours.points)} budgets to the next."


def _asked(curve: FrontierCurve, budget: float) -> FrontierPoint | None:
    """The point that was measured for this budget: another may take far less than it pays for."""
    return next((point for point in curve.points if abs(point.budget - budget) < 1e-9), None)


def picked(found: Frontier) -> str:
    """What to pick, and what the test rows say of it."""
    one = found.picked
    tolerance = three_figures(100 * one.tolerance)
    aim = f"at most {tolerance} {_plural(tolerance)} worse than dense"
    if one.share is None:
        guess = (
            ""
            if one.estimated is None
            else f" By the mean alone it would be {percent(one.estimated)} % of dense FLOPs."
        )
        return (
            f"No budget is shown on validation rows to be {aim} with 95 % confidence: at "
            f"the largest {_loss(one.validation)}{_needed(one.validation)}.{guess}"
        )
    return (
        f"Picked on validation rows, with 95 % confidence {aim}: {percent(one.share)} % of dense "
        f"FLOPs ({_loss(one.validation)}). On test rows {_loss(one.test)}: {one.test.verdict}."
    )


def _plural(told: str) -> str:
    return "point" if told == "1" else "points"


def _loss(one: Certificate) -> str:
    return f"the loss is {lost_points(one.loss)} points, at most {lost_points(one.high)}"


def _needed(one: Certificate) -> str:
    return f"; about {rounded(one.rows_needed)} rows would decide" if one.rows_needed else ""


def _at(found: Frontier, budget: float, point: FrontierPoint) -> str:
    dense = {one.batch: one.seconds for one in found.dense.latencies}
    times = "; ".join(
        f"{three_figures(one.seconds / dense[one.batch])}× its time at batch {one.batch}"
        for one in point.latencies
        if one.batch in dense
    )
    taken = "" if budget - point.share < 0.001 else f", of which it takes {percent(point.share)} %"
    longer = _longer(found)
    taught = f"; dense, taught as long, has {percent(longer)} %" if longer is not None else ""
    return (
        f"A budget of {percent(budget)} % of dense FLOPs{taken}: "
        f"{told_difference(point.difference)} against dense"
        f"{f', in {times}' if times else ''}{taught}."
    )


def _longer(found: Frontier) -> float | None:
    """Accuracy of the dense network that was taught as all others; None where there is none."""
    return next((one.points[0].accuracy.mean for one in found.curves if one.name == LONGER), None)


def _areas(found: Frontier) -> Iterator[str]:
    ours = found.curves[0]
    if ours.area is None:
        return
    yield (
        f"Mean accuracy over budgets from {percent(found.floor)} % to 100 % of dense FLOPs: "
        f"{percent(ours.area.mean)} %."
    )
    for curve in found.curves[1:]:
        if curve.behind is not None:
            yield f"{plain(curve.name)}: {_verdict(curve.behind, 'in area')}"
        elif len(curve.points) == 1 and (behind := curve.points[0].behind):
            share = curve.points[0].share
            beside = nearest(ours, share)
            theirs = f" (nested: {percent(beside.share)} %)" if beside else ""
            where = f"at {percent(share)} % of dense FLOPs{theirs}"
            yield f"{plain(curve.name)}: {_verdict(behind, where)}"


def _verdict(behind: Difference, where: str) -> str:
    told = told_difference(behind)
    if behind.interval.high < 0:
        return f"behind the nested network {where}, {told}."
    if behind.interval.low > 0:
        return f"ahead of the nested network {where}, {told}."
    return f"no difference to the nested network is shown {where}, {told}."


def _key_figures(found: Frontier) -> Iterator[KeyFigure]:
    one = found.picked
    yield KeyFigure(
        "none" if one.share is None else f"{percent(one.share)} %",
        "of dense FLOPs picked",
        f"at most {(told := three_figures(100 * one.tolerance))} {_plural(told)} worse, 95 % "
        "confidence",
    )
    point = _asked(found.curves[0], TOLD[0])
    if point is not None:
        yield KeyFigure(
            f"{points(point.difference.value)} points",
            f"at {percent(TOLD[0])} % of dense FLOPs",
            f"{percent(point.accuracy.mean)} % against {percent(found.dense.accuracy.mean)} %",
        )
    area = found.curves[0].area
    if area is not None:
        yield KeyFigure(
            f"{percent(area.mean)} %",
            "mean accuracy over budgets",
            f"from {percent(found.floor)} % to 100 % of dense FLOPs",
        )


def _limits(found: Frontier) -> Iterator[str]:
    alone = [plain(curve.name) for curve in found.curves if curve.seeds == 1 and curve.trainings]
    if alone:
        yield f"Of one seed alone, whose spread over seeds is not known: {', '.join(alone)}."
    updates = max((curve.updates for curve in found.curves), default=0)
    if updates:
        beside = "" if _longer(found) is None else f", as {LONGER} had, which is dense too"
        yield (
            f"The dense network is as it was: all that were taught had {count(updates)} updates "
            f"more{beside}."
        )
    yield (
        f"Areas begin at {percent(found.floor)} % of dense FLOPs, where the last of the curves "
        "begins: what a network does below that does not count in them."
    )
    if found.dense.latencies:
        where = f"{found.device} with {found.threads} threads" if found.threads else found.device
        yield f"Times are of {where}; another machine may order the networks otherwise."
    yield (
        "Test rows were read once for each network and all its budgets; intervals are for one "
        "point at a time."
    )
    for note in found.notes:
        yield plain(note)


def frontier_sections(found: Frontier, *, told: Sequence[str] | None = None) -> Iterator[Section]:
    """Accuracy against FLOPs with the tables, then against time.

    What it says is ``told`` before the tables; None: all that is ``shown``.
    """
    picture = accuracy_picture(found)
    yield Section(
        "What accuracy costs: budgets of a nested network",
        (
            f"Shares of the dense network's {rounded(found.dense_flops)} FLOPs at "
            f"{plain(found.measured_at)}: all of it, attention and head included, two a "
            "multiply-add. The area is the mean accuracy over budgets, by trapezoids. Every rival "
            "that was trained got the same distillation and as many updates.",
            *(shown(found) if told is None else told),
        ),
        curves_table(found),
        (flops_plot(picture),),
        caption="Bars are 95 % intervals over seeds, over test rows where there is one seed.",
        points=tuple(f"{plain(curve.name)}: {plain(curve.about)}" for curve in found.curves),
    )
    plot = time_plot(picture)
    yield Section(
        "Every budget, and its time",
        (
            "Time is the median of repeated calls on prepared networks, all of them in turn."
            if plot
            else "Nothing was timed.",
        ),
        points_table(found),
        (plot,) if plot else (),
        caption="Networks that are not drawn have the layers, and so the time, of the nested one.",
    )
