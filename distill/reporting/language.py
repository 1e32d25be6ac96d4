"""A frontier of a language model as sentences, a table and a drawing."""

import math
from collections.abc import Iterator

from distill.findings import Interval, LanguageCurve, LanguageFrontier, LanguagePoint
from distill.reporting.frame import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from distill.reporting.layout import Document, KeyFigure, Section, Words
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
from distill.reporting.tables import NAME_LENGTH, Column, Row, Table
from distill.reporting.text import (
    NOTHING,
    count,
    duration,
    percent,
    plain,
    rounded,
    three_figures,
)

COLOURS = 8  # further curves share the last
TOP = 74.0
RADIUS = 4.2
MOST = 1e6  # perplexity that is drawn and told in figures; above it a guess is no worse


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
        sections=(_section(found),),
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
    yield KeyFigure(_perplexity(found.dense), "perplexity of the dense model", "on test windows")


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


def _section(found: LanguageFrontier) -> Section:
    return Section(
        "What perplexity costs: budgets of a nested language model",
        (
            f"Shares of the dense model's {rounded(found.dense_flops)} FLOPs for a window of "
            f"{count(found.tokens)} tokens: all of it, attention and head included, two a "
            "multiply-add. Perplexity is of next tokens on test windows; KL is to the dense "
            "model, in nats a token.",
        ),
        _table(found),
        (_plot(found),),
        caption="Full marks were taught, open ones not; bars are 95 % intervals over windows.",
        points=tuple(f"{plain(one.name)}: {plain(one.about)}" for one in found.curves),
    )


def _table(found: LanguageFrontier) -> Table:
    batches = [one.batch for one in found.dense.latencies]
    columns = (
        Column("network", words=True),
        Column("FLOPs %"),
        Column("parameters"),
        Column("perplexity"),
        Column("95 %, windows"),
        Column("of dense"),
        Column("KL"),
        Column("next token right, %"),
        Column("as dense, %"),
        Column("trained", words=True),
        *(Column(f"time, batch {batch}") for batch in batches),
        *(Column(f"of dense, batch {batch}") for batch in batches),
    )
    rows = [_row("dense", found.dense, found.dense)]
    for curve in found.curves:
        rows += [_row(curve.name, point, found.dense) for point in curve.points]
    return Table("points", columns, tuple(rows), marked=(0,))


def _row(name: str, point: LanguagePoint, dense: LanguagePoint) -> Row:
    times = {one.batch: one.seconds for one in point.latencies}
    ends = (point.interval.low, point.interval.high)
    low, high = (_shown(math.exp(min(end, 700.0))) for end in ends)
    taken = [(times.get(one.batch), one.seconds) for one in dense.latencies]
    return (
        plain(name, most=NAME_LENGTH),
        percent(point.share),
        rounded(point.parameters),
        _perplexity(point),
        f"{low}–{high}",
        NOTHING if point is dense else _times(point.rise).removesuffix(" times dense's"),
        f"{abs(point.divergence):.3f}",
        percent(point.accuracy),
        percent(point.agreement),
        "yes" if point.trained else "no",
        *(NOTHING if mine is None else duration(mine) for mine, _ in taken),
        *(NOTHING if mine is None else f"{three_figures(mine / full)}×" for mine, full in taken),
    )


def _perplexity(point: LanguagePoint) -> str:
    return _shown(point.perplexity)


def _shown(value: float) -> str:
    return three_figures(value) if value < MOST else f"above {rounded(MOST)}"


# --- the drawing ----------------------------------------------------------------------------------


def _plot(found: LanguageFrontier) -> str:
    """Perplexity against share of dense FLOPs, the former on a logarithmic scale."""
    points = [found.dense, *(point for curve in found.curves for point in curve.points)]
    x = Scale(max(min(p.share for p in points) - 0.03, 0.0), 1.02, LEFT, RIGHT)
    highest = min(max(p.interval.high for p in points), math.log(MOST))
    lowest = min(p.interval.low for p in points)
    y = Scale(math.exp(lowest) / 1.1, math.exp(highest) * 1.1, BOTTOM, TOP, log=True)
    marks = [*_axes(found, x, y)]
    level = y(found.dense.perplexity)
    marks.append(element("g", title("dense"), line(LEFT, level, RIGHT, level, "full")))
    for number, curve in enumerate(found.curves):
        marks += _curve(curve, x, y, f"s{min(number, COLOURS - 1)}")
    marks.append(_legend(found.curves))
    return drawing(WIDTH, HEIGHT, "Perplexity against the share of dense FLOPs", *marks)


def _axes(found: LanguageFrontier, x: Scale, y: Scale) -> Iterator[str]:
    for value in log_ticks(y.low, y.high):
        yield line(LEFT, y(value), RIGHT, y(value), "grid")
        yield text(LEFT - 9, y(value) + 4, _tick(value), "tick", "end")
    yield text(LEFT - 44, TOP - 30, "perplexity", "axis")
    yield line(LEFT, BOTTOM, RIGHT, BOTTOM, "frame")
    for value in ticks(x.low, x.high, 8):
        yield line(x(value), BOTTOM, x(value), BOTTOM + 5, "frame")
        yield text(x(value), BOTTOM + 20, three_figures(100 * value), "tick", "middle")
    told_of = f"share of the dense model's FLOPs at {count(found.tokens)} tokens, %"
    yield text((LEFT + RIGHT) / 2, BOTTOM + 44, told_of, "axis", "middle")


def _tick(value: float) -> str:
    return three_figures(value) if value < 1000 else rounded(value)


def _curve(curve: LanguageCurve, x: Scale, y: Scale, color: str) -> Iterator[str]:
    drawn = [point for point in curve.points if point.perplexity < y.high]
    if len(drawn) > 1:
        yield path([(x(p.share), y(p.perplexity)) for p in drawn], f"trace {color}")
    for point in drawn:
        low, high = (
            min(math.exp(end), y.high) for end in (point.interval.low, point.interval.high)
        )
        at, height = x(point.share), y(point.perplexity)
        said = f"{plain(curve.name)} at {percent(point.share)} % of FLOPs: {_perplexity(point)}"
        kind = f"dot {color}" if point.trained else f"trace {color} open"
        yield element(
            "g",
            title(said),
            line(at, y(low), at, y(high), f"whisker {color}"),
            element("circle", cx=at, cy=height, r=RADIUS, class_=kind),
        )


def _legend(curves: tuple[LanguageCurve, ...]) -> str:
    marks, at = [], LEFT
    for number, curve in enumerate(curves):
        color, name = f"s{min(number, COLOURS - 1)}", plain(curve.name, most=24)
        marks.append(line(at, 14.0, at + 22, 14.0, f"trace {color}"))
        marks.append(text(at + 29, 18.0, name, "key"))
        at += 29 + 7.2 * len(name) + 22
    return "".join(marks)
