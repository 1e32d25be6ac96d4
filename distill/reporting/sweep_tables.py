"""The tables of a sweep: what is recommended, every map, its geometry, what the data has."""

from collections.abc import Callable

from distill.findings import Band, Interval, Sweep, SweptMap
from distill.reporting.tables import Column, Row, Table
from distill.reporting.text import (
    MINUS,
    NOTHING,
    count,
    factor,
    percent,
    percent_interval,
    plain,
    rounded,
    three_figures,
)

FULL = "full"
FIGURES = {  # of the diagnostics: how they are called, and what they say
    "two_nn": ("intrinsic dimension, TwoNN", "from the two nearest neighbours"),
    "levina_bickel": ("intrinsic dimension, Levina-Bickel", "from the nearest neighbours"),
    "participation_ratio": ("participation ratio", "directions that share the variance"),
    "effective_rank": ("effective rank", "exp of the entropy of the singular values (RankMe)"),
    "nc1": ("NC1", "within-class over between-class scatter; 0 is full collapse"),
    "scatter_ratio": ("within / between", "traces of the two scatters"),
    "cosine_mean": ("mean cosine of class means", "the simplex has −1/(C − 1)"),
    "norm_spread": ("spread of their lengths", "standard deviation over mean; the simplex has 0"),
    "margin_low": (
        "margin of the full head, 10 %",
        "share of the spread of the rows; below 0: wrong",
    ),
    "margin_middle": (
        "margin of the full head, median",
        "distance to the boundary over the spread",
    ),
}


def families_table(found: Sweep) -> Table:
    """The smallest width that holds of each kind, what it costs, and what the test says of it."""
    paid = "multiply-adds" if found.shipped == "head" else "numbers an example"
    columns = (
        Column("kind of map", words=True),
        Column("smallest k that holds"),
        Column("factor"),
        Column(paid),
        Column("share of full"),
        Column("stored numbers"),
        Column("loss, points"),
        Column("on test", words=True),
        Column("certified down to k ="),
    )
    whole = found.dim if found.shipped == "embedding" else found.full.multiply_adds
    certified = certified_down_to(found)
    rows = tuple(
        (
            plain(one.kind, most=24),
            count(one.dim_out) if one.dim_out < found.dim else "none",
            factor(one.factor),
            count(one.cost),
            f"{percent(one.cost / whole)} %",
            count(one.stored),
            lost_points(one.loss) if one.dim_out < found.dim else NOTHING,
            one.verdict or NOTHING,
            count(certified[one.kind]) if one.kind in certified else "none",
        )
        for one in found.families
    )
    marked = tuple(
        at
        for at, one in enumerate(found.families)
        if (one.kind, one.dim_out) == (found.best.kind, found.best.dim_out)
    )
    return Table("recommended", columns, rows, marked)


def certified_down_to(found: Sweep) -> dict[str, int]:
    """The smallest certified width of each kind that has one."""
    shown: dict[str, int] = {}
    for one in found.maps:
        certificate = one.tested.certificate if one.tested else None
        if certificate is not None and certificate.verdict == "within":
            shown[one.kind] = min(shown.get(one.kind, one.dim_out), one.dim_out)
    return shown


def maps_table(found: Sweep) -> Table:
    """Every map at every width: cross-validated accuracy, then the test."""
    columns = (
        Column("kind of map", words=True),
        Column("k"),
        Column("k/(C−1)"),
        Column("accuracy %"),
        Column("95 %, seeds"),
        Column("loss, points"),
        Column("at most"),
        Column("holds?", words=True),
        Column("test %"),
        Column("95 %, rows"),
        Column("test loss"),
        Column("at most"),
        Column("certified?", words=True),
        Column("multiply-adds"),
    )
    rows = tuple(_map_row(found, one) for one in (found.full, *found.maps))
    return Table("sweep", columns, rows, (0,))


def _map_row(found: Sweep, one: SweptMap) -> Row:
    is_full, tested = one.kind == FULL, one.tested
    certificate = tested.certificate if tested else None
    return (
        _name(one),
        count(one.dim_out),
        three_figures(one.dim_out / max(found.classes - 1, 1)),
        percent(one.accuracy.mean),
        seed_interval(one.accuracy),
        NOTHING if is_full else lost_points(one.loss.mean),
        NOTHING if is_full else lost_points(one.loss_bound),
        NOTHING if is_full else ("yes" if one.holds else "no"),
        NOTHING if tested is None else percent(tested.accuracy.mean),
        NOTHING if tested is None else percent_interval(tested.interval),
        NOTHING if certificate is None else lost_points(certificate.loss),
        NOTHING if certificate is None else lost_points(certificate.high),
        _verdict(one),
        count(one.multiply_adds),
    )


def details_table(found: Sweep) -> Table:
    """What accuracy does not say, each with half its 95 % interval over seeds."""
    columns = (
        Column("kind of map", words=True),
        Column("k"),
        Column("macro-F1 %"),
        Column("worst class %"),
        Column("ECE %"),
        Column("margin kept"),
        Column("separation kept"),
        Column("distance ratio, mean"),
        Column("its spread over pairs"),
        Column("recall of neighbours"),
        Column("l2"),
    )
    rows = tuple(
        (
            _name(one),
            count(one.dim_out),
            _within(one.macro_f1, percent),
            _within(one.worst_class_accuracy, percent),
            _within(one.calibration_error, percent),
            *(
                _within(figure, _three)
                for figure in (
                    one.margin_kept,
                    one.separation,
                    one.distortion,
                    one.distortion_std,
                    one.recall,
                )
            ),
            f"{one.l2:g}",
        )
        for one in (found.full, *found.maps)
    )
    return Table("sweep-details", columns, rows, (0,))


def diagnostics_table(found: Sweep) -> Table:
    """What the data has."""
    columns = (
        Column("measure", words=True),
        Column("value"),
        Column("what it says", words=True),
    )
    measured = found.diagnostics.figures if found.diagnostics else {}
    # in the order in which they explain one another, whatever file they were read from
    figures = {name: measured[name] for name in (*FIGURES, *measured) if name in measured}
    rows = tuple(
        (
            FIGURES.get(name, (plain(name), ""))[0],
            NOTHING if value is None else three_figures(value),
            FIGURES.get(name, ("", ""))[1],
        )
        for name, value in figures.items()
    )
    return Table("diagnostics", columns, rows)


def lost_points(loss: float) -> str:
    """A loss as it is: 1.20 points are lost, −0.30 are gained."""
    size = f"{abs(100 * loss):.2f}"
    return f"{MINUS}{size}" if loss < 0 and float(size) else size


def seed_interval(band: Band) -> str:
    """The interval over seeds of an accuracy, cut at 0 and 1."""
    if band.interval is None:
        return NOTHING
    low, high = max(band.interval.low, 0.0), min(band.interval.high, 1.0)
    return percent_interval(Interval(low=low, high=high))


def _within(band: Band | None, show: Callable[[float], str]) -> str:
    if band is None:
        return NOTHING
    if band.interval is None:
        return show(band.mean)
    return f"{show(band.mean)} ± {show(band.interval.high - band.mean)}"


def _three(value: float) -> str:
    return f"{value:.3f}"


def _name(one: SweptMap) -> str:
    return "full head" if one.kind == FULL else plain(one.kind, most=24)


def _verdict(one: SweptMap) -> str:
    certificate = one.tested.certificate if one.tested else None
    if certificate is None:
        return NOTHING
    needed = f" (≈ {rounded(certificate.rows_needed)} rows)" if certificate.rows_needed else ""
    return certificate.verdict + needed
