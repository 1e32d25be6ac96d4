"""Findings -> plain sentences: what went wrong, what this run shows, what it does not show.

Every sentence follows from a figure in the report; none is said where its figure is missing.
Sentences are plain text; whoever writes them into a format escapes them there.
"""

from collections.abc import Iterator

from distill.findings import Head, Report, Student
from distill.reporting.derived import (
    REFERENCE,
    STORED_BYTES,
    UNDECIDED,
    Derived,
    HeadRow,
    smallest_within,
)
from distill.reporting.layout import Words
from distill.reporting.sweeps import recommendation
from distill.reporting.text import (
    count,
    factor,
    percent,
    percent_interval,
    plain,
    points,
    rounded,
    size,
    three_figures,
    told_difference,
)


def words(report: Report, derived: Derived) -> Words:
    """All that is said in sentences."""
    return Words(
        warnings=tuple(_warnings(report)),
        shows=tuple(_shows(report, derived)),
        limits=tuple(_limits(report, derived)),
    )


def _warnings(report: Report) -> Iterator[str]:
    for made in report.projected:
        found = made.validation
        if found is not None and not found.passed:
            failed = [check for check in found.checks if not check.passed]
            said = "; ".join(f"{plain(check.name)}: {plain(check.detail)}" for check in failed)
            yield (
                f"The map {plain(made.name)} failed its validation ({said}). "
                "Do not rely on anything computed from it."
            )
    for head in report.heads:
        if not head.converged:
            name = plain(head.name) if head.kind else "full"
            yield (
                f"The head {name} stopped before it converged; "
                "raise head.max_iterations and train it again."
            )
    for split in report.extracted.splits:
        if split.skipped:
            yield (
                f"{_inputs(len(split.skipped))} of the {plain(split.split)} split could not "
                f"be read, left out: {_some(split.skipped)}."
            )


def _inputs(number: int) -> str:
    return "1 input" if number == 1 else f"{count(number)} inputs"


def _some(names: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(plain(name, most=120) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {count(len(names) - most)} more"


def _shows(report: Report, derived: Derived) -> Iterator[str]:
    if report.sweep is not None:
        yield recommendation(report.sweep)
    full = full_head(report)
    if full is not None:
        yield (
            f"On the full {count(full.dim_out)} features, a linear head gets "
            f"{percent(full.test.accuracy)} % of {count(full.test.rows)} test rows right "
            f"(95 % interval {percent_interval(full.test.interval)} %)."
        )
    yield from _compression(report, derived)
    yield from _below_the_classes(report, derived)
    yield from _students(report)


def full_head(report: Report) -> Head | None:
    """The head on all features, if there is one."""
    return next((head for head in report.heads if not head.kind), None)


def _compression(report: Report, derived: Derived) -> Iterator[str]:
    pairs = [
        (head, row)
        for head, row in zip(report.heads, derived.heads, strict=True)
        if row.kind and row.verdict != REFERENCE
    ]
    if not pairs:
        return
    best = smallest_within(derived)
    if best is not None:
        head = next(head for head, row in pairs if row == best)
        yield (
            f"The smallest features shown to be at most one point worse have k = "
            f"{count(best.dim_out)} ({factor(best.factor)} fewer, {plain(head.kind)}): "
            f"{percent(head.test.accuracy)} %{_against(head)}."
        )
    else:
        yield "No compressed head is shown to be at most one point worse than the full one."
    undecided = sum(row.verdict == UNDECIDED for _, row in pairs)
    if undecided:
        yield (
            f"{_of(undecided, len(pairs))} undecided: the paired interval reaches to both sides "
            "of one point. The number beside such a verdict is how many test rows would settle it."
        )
    yield _strongest(pairs)


def _strongest(pairs: list[tuple[Head, HeadRow]]) -> str:
    head, row = min(pairs, key=lambda pair: pair[1].dim_out)
    narrow = [other for other, _ in pairs if other.dim_out == head.dim_out]
    rivals = [other.test.accuracy for other in narrow]
    maps = len({(other.kind, other.seed) for other in narrow})  # one in two types is one
    if maps > 1:
        return (
            f"At the strongest compression, k = {count(row.dim_out)} ({factor(row.factor)}), "
            f"{percent(min(rivals))} to {percent(max(rivals))} % are left over {maps} maps."
        )
    return (
        f"At the strongest compression, k = {count(row.dim_out)} ({factor(row.factor)}), "
        f"{percent(head.test.accuracy)} % are left{_against(head)}; "
        f"the worst class, {plain(head.test.worst_class, most=60)}, "
        f"has {percent(head.test.worst_class_accuracy)} %."
    )


def _against(head: Head) -> str:
    return f", {told_difference(head.difference)} against the full head" if head.difference else ""


def _of(some: int, every: int) -> str:
    if some == every:
        return "The one compressed head is" if every == 1 else f"All {every} compressed heads are"
    return f"{some} of {every} compressed heads {'is' if some == 1 else 'are'}"


def _below_the_classes(report: Report, derived: Derived) -> Iterator[str]:
    mapped = [row for row in derived.heads if row.kind]
    wide = [row for row in mapped if row.dims_per_class >= 1]
    if not wide:
        return
    needed = max(report.classes - 1, 1)
    told = (
        f"{len(wide)} of the {len(mapped)} compressed configurations"
        if len(wide) < len(mapped)
        else ("The only compressed configuration" if len(mapped) == 1 else "All compressed ones")
    )
    verb = "has" if len(wide) == 1 else "have"
    yield (
        f"{told} {verb} k ≥ C − 1 = {needed}. Telling {report.classes} classes apart takes "
        f"{needed} dimension{'s' if needed > 1 else ''} at most, so being on a par there is to be "
        f"expected and is weak evidence; {_informative(mapped)}"
    )


def _informative(mapped: list[HeadRow]) -> str:
    narrow = sorted({row.dim_out for row in mapped if row.dims_per_class < 1}, reverse=True)
    if not narrow:
        return "no configuration here lies below it, where the question becomes hard."
    return f"the informative rows are those below it: k = {', '.join(map(count, narrow))}."


def _students(report: Report) -> Iterator[str]:
    for student in report.students:
        if not student.native:
            continue
        yield _one_student(student)
        rivals = [
            other
            for other in report.students
            if not other.native and other.network == student.network
        ]
        if rivals:
            told = "; ".join(_rival(student, other) for other in rivals)
            yield f"The same network at the same budget, taught otherwise: {told}."


def fewer(student: Student) -> str:
    """How many times fewer parameters than its teacher a student has, both being known."""
    times = student.teacher_parameters / student.parameters
    return f"{factor(times)} fewer" if times > 1 else "no fewer"


def _one_student(student: Student) -> str:
    known = student.teacher_parameters > 0
    smaller = (
        f", {fewer(student)} than the teacher's {rounded(student.teacher_parameters)}"
        if known and student.parameters
        else ""
    )
    against = (
        f", {told_difference(student.difference)} against the teacher's full head"
        if student.difference
        else ""
    )
    return (
        f"The student {plain(student.name, most=80)} emits {count(student.dim_out)} numbers, has "
        f"{rounded(student.parameters)} parameters{smaller}, and gets "
        f"{percent(student.test.accuracy)} % right{against}."
    )


def _rival(student: Student, other: Student) -> str:
    taught = {"labels": "labels only", "logits": "the teacher's logits"}
    ahead = points(student.test.accuracy - other.test.accuracy)
    ours, theirs = student.test.interval, other.test.interval
    overlap = ours.low <= theirs.high and theirs.low <= ours.high
    verdict = "their intervals overlap, so this run does not separate the two"
    return (
        f"{taught.get(other.method, plain(other.method))} {percent(other.test.accuracy)} % "
        f"(the subspace student is at {ahead} points; "
        f"{verdict if overlap else 'their intervals do not overlap'})"
    )


def _limits(report: Report, derived: Derived) -> Iterator[str]:
    if report.data_note:
        yield f"About the data: {plain(report.data_note)}"
    yield from _lemma(report)
    if any(row.kind for row in derived.heads):
        yield _cost_of_the_map(report, derived)
        yield from _one_seed(derived)
    if report.taught is not None:
        yield (
            "The teacher was taught this very task. Its features then gather around the class "
            "means, which is much of why a random map loses so little; on a frozen, general "
            "teacher the same factors usually cost far more."
        )
    tried = [made.data_aware for made in report.projected]
    tried += [one.data_aware for one in report.sweep.maps] if report.sweep else []
    if report.projected and not any(tried):
        yield (
            "Only maps drawn from a seed were tried. Maps computed from the data (PCA, "
            "discriminants, a truncated head) usually keep more at equal k and are the ones to "
            "beat wherever fitting a map is possible."
        )
    if report.students and not any(not s.native for s in report.students):
        yield (
            "No baseline student was trained, so nothing here says that the projected features "
            "are what makes the student good; distill train-student --baselines trains them."
        )
    if report.heads:
        yield (
            "Intervals speak of which test rows were drawn, not of retraining: a second run of "
            "the same training with another seed may differ by more."
        )


def _lemma(report: Report) -> Iterator[str]:
    found = [made.validation for made in report.projected if made.validation]
    empty = sorted({v.dim_out for v in found if v.promise.lemma_eps is None}, reverse=True)
    if not empty:
        return
    example = next(v for v in found if v.promise.lemma_eps is None)
    yield (
        f"The Johnson-Lindenstrauss lemma does not explain these results. For "
        f"{count(example.rows)} rows and distances kept within 1 ± "
        f"{three_figures(example.distortion.eps)} it asks for k ≥ "
        f"{count(example.promise.lemma_dim)}; at k = {', '.join(map(count, empty))} it promises "
        "nothing at all. What counts is the distortion measured on these features."
    )


def _cost_of_the_map(report: Report, derived: Derived) -> str:
    dim, classes = derived.dim, report.classes
    stored = STORED_BYTES[report.extracted.dtype] * dim
    return (
        f"A map of {count(dim)} × k and a head of k × {count(classes)} are one linear map and fold "
        f"into {count(dim * classes)} numbers. A classifier is therefore charged min(k (d + C), "
        f"d C) multiply-adds; keeping the two apart pays only below k* = d C / (d + C) = "
        f"{three_figures(derived.break_even)}. The factor itself is saved only where the k "
        f"numbers are stored or sent instead of the {count(dim)} "
        f"({size(stored)} an example), or where a student emits them directly."
    )


def _one_seed(derived: Derived) -> Iterator[str]:
    drawn = any(row.kind and row.seed_bytes is not None for row in derived.heads)
    if drawn and not derived.spreads:
        yield (
            "Each random map was drawn once. Another seed gives another map; at small k that "
            "alone can move accuracy by points (set project.seeds to several to see it)."
        )
