"""A comparison as sentences, drawing and sections: a document of its own, and in the report."""

from collections.abc import Iterator, Sequence

from distill.findings import Comparison, Way
from distill.reporting.bytes_plot import bytes_plot
from distill.reporting.comparison_tables import (
    learning_table,
    shipped_table,
    told_p,
    ways_table,
)
from distill.reporting.layout import Document, KeyFigure, Section, Words
from distill.reporting.text import count, percent, plain, points

AHEAD, BEHIND = "ahead", "behind"


def comparison_document(found: Comparison, title: str) -> Document:
    """The comparison alone, as ``compare.md`` and ``compare.html`` show it."""
    rows = found.rows
    return Document(
        title=plain(title) or "Subspace distillation",
        subtitle=(
            f"{plain(found.network)} · {count(found.classes)} classes · taught on "
            f"{count(rows.get('train', 0))} rows for {count(found.epochs)} epochs, tested on "
            f"{count(rows.get('test', 0))}"
        ),
        figures=tuple(_key_figures(found)),
        words=Words(warnings=(), shows=tuple(verdicts(found)), limits=tuple(_limits(found))),
        sections=tuple(comparison_sections(found)),
        kicker="Which way of teaching is ahead?",
        footer="The figures behind this page are in compare.json beside it, its tables in "
        "compare.md.",
    )


def verdicts(found: Comparison) -> Iterator[str]:
    """What the tests show, one sentence a difference, then those that showed none."""
    ours = plain(found.reference)
    for way in _with(found, AHEAD):
        yield f"{plain(way.name)} is ahead of {ours} by {_difference(way)}."
    for way in _with(found, BEHIND):
        yield f"{ours} is ahead of {plain(way.name)} by {_difference(way, turned=True)}."
    tested = [way for way in found.ways if way.versus is not None]
    open_ones = [way for way in tested if way.versus and way.versus.verdict not in (AHEAD, BEHIND)]
    if open_ones:
        yield f"No difference is shown between {ours} and {_listed(open_ones)}."
    if tested and not list(_with(found, BEHIND)):
        yield f"{ours} does not win here: it is ahead of none of the ways it was tested against."


def _with(found: Comparison, verdict: str) -> Iterator[Way]:
    return (way for way in found.ways if way.versus and way.versus.verdict == verdict)


def _difference(way: Way, *, turned: bool = False) -> str:
    """1.2 points (95 %: +0.3 to +2.1; p = 0.012)."""
    versus = way.versus
    if versus is None:
        return ""
    sign = -1 if turned else 1
    low, high = sorted((sign * versus.interval.low, sign * versus.interval.high))
    p = told_p(versus)
    return (
        f"{points(abs(versus.value)).lstrip('+')} points (95 %: {points(low)} to {points(high)}; "
        f"p {p if p.startswith('<') else f'= {p}'})"
    )


def _seeds(found: Comparison, fresh: str = "") -> str:
    return f"{count(found.seeds)} {fresh}seed{'' if found.seeds == 1 else 's'}"


def _listed(ways: Sequence[Way]) -> str:
    names = [plain(way.name) for way in ways]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _limits(found: Comparison) -> Iterator[str]:
    tested = [way.versus for way in found.ways if way.versus]
    if tested:
        widest = max((one.interval.high - one.interval.low) / 2 for one in tested)
        yield (
            f"With {_seeds(found)} and {count(found.rows.get('test', 0))} test rows, "
            f"a difference is known to {points(widest).lstrip('+')} points or better; smaller "
            "ones may not be shown."
        )
    yield (
        f"Every way got {count(found.trials)} trials of a random search, judged on validation; "
        "p-values are Holm's over all ways tested here. Another network, more epochs or other "
        "data may order them otherwise."
    )


def _key_figures(found: Comparison) -> Iterator[KeyFigure]:
    judged = [way for way in found.ways if way.accuracy is not None]
    reference = next((way for way in judged if way.name == found.reference), None)
    if reference is not None and reference.accuracy is not None:
        yield KeyFigure(
            f"{percent(reference.accuracy.mean)} %",
            plain(reference.name),
            f"the teacher's full head: {percent(found.teacher_accuracy)} %",
        )
    best = max(judged, key=lambda way: way.accuracy.mean if way.accuracy else 0.0, default=None)
    if best is not None and best.accuracy is not None and best is not reference:
        yield KeyFigure(f"{percent(best.accuracy.mean)} %", f"the highest: {plain(best.name)}", "")


def comparison_sections(found: Comparison) -> Iterator[Section]:
    """The verdicts with their table and drawing, then how each way learned and what it costs."""
    plot = bytes_plot(found)
    yield Section(
        "Ways to teach, side by side",
        (
            f"The same network, initial weights, data, views and epochs ({count(found.epochs)}), "
            f"tuned with {count(found.trials)} trials each on validation, then taught with "
            f"{_seeds(found, 'fresh ')}. Differences are paired over seeds and test rows; "
            "ahead and behind are said where Holm's p is below 0.05. Recall is of the teacher's "
            "ten nearest neighbours, for students that answer in its space.",
            *verdicts(found),
        ),
        ways_table(found),
        (plot,) if plot else (),
        caption="Accuracy against the bytes of a training example in the store; bars are 95 % "
        "intervals over the seeds. A teacher at hand stores nothing, and is not drawn.",
    )
    yield Section(
        "How they learned, and what they cost",
        (
            "Steps and time are those to 95 % of the final validation accuracy. The barrier is "
            "the largest rise of the validation loss on the straight line between two seeds' "
            "weights, above the line between their losses. Losses of two ways do not compare.",
            "Folded: matrices that follow one another are charged as one where that is less. "
            "Stored: the teacher's numbers for all views of an example, and 8 bytes of label "
            "where it is learned.",
        ),
        learning_table(found),
        more=(shipped_table(found),),
        points=tuple(plain(note) for note in found.notes),
    )
