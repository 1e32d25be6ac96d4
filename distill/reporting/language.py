"""A frontier of a language model as sentences, a table and drawings."""

import math
from collections.abc import Iterator

from distill.findings import Interval, LanguageCurve, LanguageFrontier, LanguagePoint
from distill.reporting.budget_plots import flops_plot, time_plot
from distill.reporting.frontier_tables import time_cells, time_columns
from distill.reporting.language_plots import MOST, perplexity_picture, shown
from distill.reporting.layout import Document, KeyFigure, Section, Words
from distill.reporting.tables import NAME_LENGTH, Column, Row, Table
from distill.reporting.text import (
    NOTHING,
    count,
    percent,
    plain,
    rounded,
    three_figures,
)


def language_document(found: LanguageFrontier, heading: str) -> Document:
    """What ``language.md`` and ``language.html`` show."""
    rows = found.rows
    return Document(
        title=plain(heading) or "A language model of any budget",
        subtitle=(
            f"{plain(found.name)}, nested of {plain(found.model)} · {count(found.layers)} layers "
            f"· windows of {count(found.tokens)} tokens: {count(rows['train'])} to learn from, "
            f"tested on {count(rows['test'])}"
        ),
        figures=tuple(_key_figures(found)),
        words=Words(warnings=(), shows=tuple(told(found)), limits=tuple(_limits(found))),
        sections=tuple(_sections(found)),
        kicker="What does perplexity cost?",
        footer="The figures behind this page are in language.json beside it, its table in "
        "language.md.",
    )


def told(found: LanguageFrontier) -> Iterator[str]:
    """What the frontier says, what to pick first."""
    one = found.picked
    aim = f"at most {three_figures(100 * one.tolerance)} % above dense's"
    if one.share is None:
        yield (
            f"No budget is shown on validation windows to have a perplexity {aim}: at the largest "
            f"it is {_times(one.validation)}."
        )
    else:
        yield (
            f"Picked on validation windows, with 95 % confidence of a perplexity {aim}: "
            f"{percent(one.share)} % of dense FLOPs. On test windows it is {_times(one.test)}."
        )
    for rival in found.curves[1:]:
        yield f"{plain(rival.name)}: {_beside(rival)}"


def _times(rise: Interval) -> str:
    """1.020 to 1.052 times dense's."""
    return f"{_ratio(rise.low)} to {_ratio(rise.high)} times dense's"


def _ratio(rise: float) -> str:
    """Of two perplexities, from the difference of their surprises."""
    value = math.exp(min(rise, math.log(MOST)))
    return f"{value:.3f}" if value < 10 else three_figures(value)


def _beside(rival: LanguageCurve) -> str:
    """At how many of its budgets the nested network is ahead of it, and where it is behind."""
    judged = [point for point in rival.points if point.behind is not None]
    better = [p for p in judged if p.behind and p.behind.low > 0]
    worse = [p for p in judged if p.behind and p.behind.high < 0]
    where = "".join(
        f", behind it at {', '.join(f'{percent(p.share)} %' for p in worse)}" if worse else ""
    )
    return (
        f"the nested network's perplexity is lower at {len(better)} of {len(judged)} budgets, at "
        f"no more FLOPs{where}."
    )


def _key_figures(found: LanguageFrontier) -> Iterator[KeyFigure]:
    one = found.picked
    yield KeyFigure(
        "none" if one.share is None else f"{percent(one.share)} %",
        "of dense FLOPs picked",
        f"perplexity at most {three_figures(100 * one.tolerance)} % above dense's",
    )
    yield KeyFigure(
        shown(found.dense.perplexity), "perplexity of the dense model", "on test windows"
    )


def _limits(found: LanguageFrontier) -> Iterator[str]:
    alone = [plain(one.name) for one in found.curves if one.seeds == 1 and one.trainings]
    if alone:
        yield f"Of one seed alone, whose spread over seeds is not known: {', '.join(alone)}."
    yield (
        "Windows of one text are not independent: intervals over windows are too narrow where "
        "texts are longer than a window."
    )
    if found.dense.latencies:
        where = f"{found.device} with {found.threads} threads" if found.threads else found.device
        yield (
            f"Times are of a whole window read at once, on {where}; tokens that are made one by "
            "one take other times."
        )
    for note in found.notes:
        yield plain(note)


def _sections(found: LanguageFrontier) -> Iterator[Section]:
    """Perplexity against FLOPs with the table, then against time where any was measured."""
    picture = perplexity_picture(found)
    yield Section(
        "What perplexity costs: budgets of a nested language model",
        (
            f"Shares of the dense model's {rounded(found.dense_flops)} FLOPs for a window of "
            f"{count(found.tokens)} tokens: all of it, attention and head included, two a "
            "multiply-add. Perplexity is of next tokens on test windows; KL is to the dense "
            "model, in nats a token.",
        ),
        _table(found),
        (flops_plot(picture),),
        caption="Full marks were taught, open ones not; bars are 95 % intervals over windows "
        "and seeds.",
        points=tuple(f"{plain(one.name)}: {plain(one.about)}" for one in found.curves),
    )
    if plot := time_plot(picture):
        yield Section(
            "What its time buys",
            ("Time is the median of repeated calls on prepared networks, all of them in turn.",),
            drawings=(plot,),
            caption="Networks that are not drawn have the layers, and so the time, of the nested "
            "one.",
        )


def _table(found: LanguageFrontier) -> Table:
    columns = (
        Column("network", words=True),
        Column("FLOPs %"),
        Column("parameters"),
        Column("perplexity"),
        Column("95 %"),
        Column("of dense"),
        Column("KL"),
        Column("next token right, %"),
        Column("as dense, %"),
        Column("trained", words=True),
        *time_columns(found.dense),
    )
    rows = [_row("dense", found.dense, found.dense)]
    for curve in found.curves:
        rows += [_row(curve.name, point, found.dense) for point in curve.points]
    return Table("points", columns, tuple(rows), marked=(0,))


def _row(name: str, point: LanguagePoint, dense: LanguagePoint) -> Row:
    ends = (point.interval.low, point.interval.high)
    low, high = (shown(math.exp(min(end, 700.0))) for end in ends)
    return (
        plain(name, most=NAME_LENGTH),
        percent(point.share),
        rounded(point.parameters),
        shown(point.perplexity),
        f"{low}–{high}",
        NOTHING if point is dense else _times(point.rise).removesuffix(" times dense's"),
        f"{abs(point.divergence):.3f}",
        percent(point.accuracy),
        percent(point.agreement),
        "yes" if point.trained else "no",
        *time_cells(point, dense),
    )
