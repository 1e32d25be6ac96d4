"""A sweep as sentences, tables and sections: of a document of its own, and within the report."""

from collections.abc import Iterator

from distill.certify import allowed_discordance
from distill.findings import Recommended, Sweep, SweptMap
from distill.reporting.curves import classes_shown, sweep_plot
from distill.reporting.layout import Document, KeyFigure, Section, Words
from distill.reporting.sweep_tables import (
    FULL,
    certified_down_to,
    details_table,
    diagnostics_table,
    families_table,
    lost_points,
    maps_table,
    seed_interval,
)
from distill.reporting.text import (
    NOTHING,
    count,
    factor,
    percent,
    plain,
    rounded,
    three_figures,
)


def sweep_document(found: Sweep, title: str) -> Document:
    """The sweep alone, as ``sweep.md`` and ``sweep.html`` show it."""
    rows = found.rows
    return Document(
        title=plain(title) or "Subspace distillation",
        subtitle=(
            f"{count(found.dim)} features · {count(found.classes)} classes · cross-validated on "
            f"{count(rows['train'] + rows['validation'])} rows, tested on {count(rows['test'])}"
        ),
        figures=tuple(_key_figures(found)),
        words=Words(warnings=(), shows=tuple(sentences(found)), limits=tuple(_limits(found))),
        sections=tuple(sweep_sections(found)),
        kicker="How far can it be compressed?",
        footer="The figures behind this page are in sweep.json beside it, its tables in sweep.md.",
    )


def sentences(found: Sweep) -> Iterator[str]:
    """What the sweep says, the recommendation first."""
    yield recommendation(found)
    if found.sentence:
        yield plain(found.sentence)
    certified = certified_down_to(found)
    if certified:
        told = "; ".join(f"{plain(kind)} down to k = {count(k)}" for kind, k in certified.items())
        yield (
            f"Shown on the {count(found.rows['test'])} test rows, with 95 % confidence, to be at "
            f"most {_tolerance(found)} worse than the full head: {told}."
        )
    else:
        yield (
            f"On the {count(found.rows['test'])} test rows no map is shown to be at most "
            f"{_tolerance(found)} worse than the full head."
        )


def recommendation(found: Sweep) -> str:
    """The recommendation, why, and what the test says beside it."""
    best = found.best
    if best.kind == FULL and any(one.holds for one in found.maps):
        return (
            f"Keep all {count(found.dim)} features: of the widths that stay within "
            f"{_tolerance(found)} of the full head none costs less, as map and head fold into one "
            "matrix. Where the k numbers are stored or sent, ask with --shipped embedding."
        )
    if best.kind == FULL:
        return (
            f"Keep all {count(found.dim)} features: no map of the kinds tried stays within "
            f"{_tolerance(found)} of the full head in cross-validation."
        )
    return (
        f"Recommended: {plain(best.kind)} at k = {count(best.dim_out)} ({factor(best.factor)} "
        f"fewer numbers): {plain(best.why)}. {_verdict_sentence(found, best)}"
    )


def _verdict_sentence(found: Sweep, best: Recommended) -> str:
    swept = _map_of(found, best)
    tested = swept.tested if swept else None
    if tested is None or tested.certificate is None:
        return "It was not scored on test rows."
    certificate = tested.certificate
    reach = (
        f"the loss is {lost_points(certificate.loss)} points, and with 95 % confidence at most "
        f"{lost_points(certificate.high)}"
    )
    told = {
        "within": f"The test rows agree: {reach}.",
        "worse": f"The test rows contradict it: {reach}, at least {lost_points(certificate.low)}.",
        "undecided": f"The test rows leave it open: {reach}"
        + (
            f"; about {rounded(certificate.rows_needed)} test rows would decide."
            if certificate.rows_needed
            else "; no number of test rows alone would decide."
        ),
        "not tested": f"It is not certified, as a larger width was not; {reach}.",
    }
    return told[certificate.verdict]


def _tolerance(found: Sweep) -> str:
    number = three_figures(100 * found.tolerance)
    return f"{number} point" if number == "1" else f"{number} points"


def _limits(found: Sweep) -> Iterator[str]:
    for note in found.notes:
        yield plain(note)
    yield (
        f"Choices were made by {found.folds}-fold cross-validation over {found.seeds} seeds, by "
        "mean losses: a recommendation is an estimate, and the certificate beside it is the claim."
    )
    if any(not one.seeded for one in found.maps):
        yield (
            "A map fitted on data has no seed: its band over seeds is that of the folds, its "
            "certificate draws rows only. A map drawn from a seed carries both."
        )
    yield (
        "Certificates hold each kind's error at 5 %, from the largest width down; over all kinds "
        "together it is larger. A second look at the same test rows, after other settings, is no "
        "longer the first."
    )
    yield _allowed(found.rows["test"], found.tolerance)
    yield (
        f"A classifier is charged min(k (d + C), d C) multiply-adds; below k* = d C / (d + C) = "
        f"{three_figures(found.break_even)} a map and a head kept apart are cheaper than the full "
        "head. Where the k numbers are what is stored or sent, k itself is the cost."
    )


def _allowed(rows: int, tolerance: float) -> str:
    share = allowed_discordance(rows, tolerance)
    many = f"With {count(rows)} test rows a map that loses nothing is certified"
    if not share:
        return f"{many} at no discordance at all: more rows are needed."
    return (
        f"{many} only if at most {percent(share)} % of its predictions are right where the full "
        "head's are wrong or the other way round."
    )


def _key_figures(found: Sweep) -> Iterator[KeyFigure]:
    best = found.best
    yield KeyFigure(
        factor(best.factor) if best.kind != FULL else "none",
        "recommended compression",
        f"{plain(best.kind, most=24)}, k = {count(best.dim_out)}",
    )
    swept = _map_of(found, best)
    certificate = swept.tested.certificate if swept and swept.tested else None
    if certificate is not None:
        yield KeyFigure(
            certificate.verdict,
            f"say the test rows: at most {_tolerance(found)} worse?",
            f"loss {lost_points(certificate.loss)}, at most {lost_points(certificate.high)} points",
        )
    full = found.full
    yield KeyFigure(
        f"{percent(full.accuracy.mean)} %",
        "full head, cross-validated",
        f"{seed_interval(full.accuracy)}; on test "
        + (f"{percent(full.tested.accuracy.mean)} %" if full.tested else NOTHING),
    )
    yield KeyFigure(
        three_figures(found.break_even),
        "break-even width k*",
        "below it, map and head kept apart are cheaper",
    )


def sweep_sections(found: Sweep) -> Iterator[Section]:
    """The sections that both documents show."""
    plot = sweep_plot(found)
    beyond = (
        " The upright line is k = C − 1, all that the logits of C classes can need."
        if classes_shown(found)
        else ""
    )
    yield Section(
        "How far can it be compressed?",
        (recommendation(found),),
        families_table(found),
        (plot,) if plot else (),
        caption="Cross-validated accuracy; bands are 95 % intervals over seeds and their folds. "
        f"Dashed: the full head, and {_tolerance(found)} below it.{beyond}",
        more=(maps_table(found), details_table(found)),
        points=(
            "Loss: accuracy of the full head minus this one's, on the same held-out rows; at most: "
            "its one-sided 95 % bound. A width holds while its mean loss, and that of every "
            "larger one, is within the tolerance.",
            "Test: map and head of the train split alone, scored once after every choice was made; "
            "within, worse or undecided by a bootstrap over rows and seeds, from the largest width "
            "down to the first that is not within.",
        ),
    )
    if found.diagnostics is not None:
        yield Section(
            "What the data has",
            (
                plain(found.sentence),
                f"Measured on the {count(found.diagnostics.rows)} validation rows: a teacher's "
                "training rows are drawn together more than any it will meet.",
            ),
            diagnostics_table(found),
        )


def _map_of(found: Sweep, one: Recommended) -> SweptMap | None:
    return next(
        (swept for swept in found.maps if (swept.kind, swept.dim_out) == (one.kind, one.dim_out)),
        None,
    )
