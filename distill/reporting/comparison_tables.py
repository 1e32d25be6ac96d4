"""The tables of a comparison: how well each way does, how it learned, what it costs."""

from distill.findings import Band, Chosen, Comparison, Versus, Way
from distill.reporting.sweep_tables import seed_interval
from distill.reporting.tables import NAME_LENGTH, Column, Table
from distill.reporting.text import (
    NOTHING,
    count,
    duration,
    percent,
    plain,
    points,
    rounded,
    size,
    three_figures,
)


def ways_table(found: Comparison) -> Table:
    """Test accuracy of every way and its difference to the reference."""
    columns = (
        Column("taught by", words=True),
        Column("accuracy %"),
        Column("95 %, seeds"),
        Column(f"against {plain(found.reference)}, points"),
        Column("p, Holm"),
        Column("verdict", words=True),
        Column("worst class %", words=True),
        Column("agreement %"),
        Column("recall@10 %"),
    )
    rows = tuple(
        (
            plain(way.name, most=NAME_LENGTH),
            mean_percent(way.accuracy),
            NOTHING if way.accuracy is None else seed_interval(way.accuracy),
            told_versus(way.versus),
            told_p(way.versus),
            told_verdict(found, way),
            worst(way),
            mean_percent(way.agreement),
            mean_percent(way.recall),
        )
        for way in found.ways
    )
    marked = tuple(at for at, way in enumerate(found.ways) if way.name == found.reference)
    return Table("ways to teach", columns, rows, marked)


def learning_table(found: Comparison) -> Table:
    """What was chosen, and how the search for weights went."""
    columns = (
        Column("taught by", words=True),
        Column("learns", words=True),
        Column("chosen on validation", words=True),
        Column("validation %"),
        Column("steps to 95 %"),
        Column("time to 95 %"),
        Column("last training loss"),
        Column("barrier of two seeds"),
    )
    rows = tuple(
        (
            plain(way.name, most=NAME_LENGTH),
            plain(way.about),
            f"trial {way.chosen.trial}: {told_settings(way.chosen)}",
            percent(way.chosen.accuracy),
            NOTHING if way.steps is None else count(way.steps.mean),
            NOTHING if way.seconds is None else duration(way.seconds.mean),
            NOTHING if way.loss is None else three_figures(way.loss.mean),
            barrier(way),
        )
        for way in found.ways
    )
    return Table("learning", columns, rows)


def shipped_table(found: Comparison) -> Table:
    """What a training example takes of the store, and what the student costs."""
    columns = (
        Column("taught by", words=True),
        Column("stored an example"),
        Column("parameters, folded"),
        Column("multiply-adds, folded"),
        Column("latency, batch 1"),
    )
    rows = tuple(
        (
            plain(way.name, most=NAME_LENGTH),
            size(way.shipped.stored_bytes),
            count(way.shipped.parameters),
            rounded(way.shipped.multiply_adds),
            duration(way.shipped.latency),
        )
        for way in found.ways
        if way.shipped is not None
    )
    return Table("costs", columns, rows)


def mean_percent(band: Band | None) -> str:
    """97.5, or nothing."""
    return NOTHING if band is None else percent(band.mean)


def told_versus(versus: Versus | None) -> str:
    """−1.2 (−2.5 to +0.1)."""
    if versus is None:
        return NOTHING
    low, high = points(versus.interval.low), points(versus.interval.high)
    return f"{points(versus.value)} ({low} to {high})"


def told_p(versus: Versus | None) -> str:
    """0.012, or below 0.001."""
    if versus is None:
        return NOTHING
    return "< 0.001" if versus.adjusted < 0.001 else f"{versus.adjusted:.3f}"


def told_verdict(found: Comparison, way: Way) -> str:
    """Ahead, behind, no difference shown, the reference, or tried out only."""
    if way.name == found.reference:
        return "the reference"
    return way.versus.verdict if way.versus else "no finalist"


def worst(way: Way) -> str:
    """60.0 (cat)."""
    if way.worst_class_accuracy is None:
        return NOTHING
    return f"{percent(way.worst_class_accuracy)} ({plain(way.worst_class, most=16)})"


def barrier(way: Way) -> str:
    """The rise of the validation loss between two seeds."""
    if way.shipped is None or way.shipped.barrier is None:
        return NOTHING
    return three_figures(way.shipped.barrier)


def told_settings(chosen: Chosen) -> str:
    """learning_rate 0.003, temperature 4."""
    shown = chosen.settings.items()
    return ", ".join(f"{plain(name)} {_short(value)}" for name, value in sorted(shown))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
