"""``sweep``: how far features can be compressed, by which map, and how sure that is.

Cross-validation on train and validation makes every choice, and ``choices.json`` fixes them; only
then are the test rows read, once. Under ``<folder>/<fingerprint>/`` every finished cell is a file,
so that an interrupted sweep goes on and another tolerance, kind or factor makes what is new.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import Int64

from distill.config import HeadConfig, SweepConfig, fingerprint
from distill.findings import Diagnostics, FindingError, Recommended, Record, Sweep, SweptMap, Tested
from distill.labelled import SPLITS, class_names
from distill.machine import half_of_free
from distill.progress import Progress
from distill.sweeping.cells import Cell
from distill.sweeping.choosing import (
    Choice,
    Setting,
    choose,
    chosen_score,
    held_by_walk,
    recommend,
    swept_map,
)
from distill.sweeping.cost import break_even
from distill.sweeping.crossing import Work, cross_validate, full_margins
from distill.sweeping.diagnosing import diagnose, judged
from distill.sweeping.folds import FOLDS, fewest_to_fit
from distill.sweeping.maps import FULL, middle
from distill.sweeping.moments import train_moments
from distill.sweeping.rows import Rows
from distill.sweeping.scoring import Examined, certified, score_test
from distill.sweeping.widths import widths
from stores import FeatureStore

FORMAT = 2  # of cells: raised when the same settings would give others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices(Record):
    """Everything that is fixed before a test row is read."""

    choices: tuple[Choice, ...]
    best: Recommended
    families: tuple[Recommended, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scope:
    """The rows that choices are made on, and the widths that each kind is tried at."""

    rows: Rows  # train, then validation
    labels: Int64[np.ndarray, " rows"]
    classes: int
    dims: Mapping[str, tuple[int, ...]]
    notes: Sequence[str]  # what is left out or filled up


def scope(stores: Mapping[str, FeatureStore], settings: SweepConfig) -> Scope:
    """What a sweep of these stores works on; ``StageError`` as for ``sweep``."""
    classes = len(class_names(stores))
    limit = settings.memory_limit or half_of_free()
    rows = Rows([stores["train"], stores["validation"]], limit)
    labels = rows.labels()
    fewest = min(fewest_to_fit(labels, settings.seeds), stores["train"].spec.rows)
    dims, notes = widths(settings.kinds, settings.factors, rows, classes=classes, fewest=fewest)
    return Scope(rows=rows, labels=labels, classes=classes, dims=dims, notes=notes)


def fingerprint_of(
    stores: Mapping[str, FeatureStore], settings: SweepConfig, head: HeadConfig
) -> str:
    """What every cell of a sweep depends on; its folder is called so."""
    digests = {split: stores[split].digest for split in SPLITS}
    return fingerprint(
        FORMAT,
        digests,
        sorted(head.l2),
        head.max_iterations,
        settings.neighbours,
    )


def sweep(
    stores: Mapping[str, FeatureStore],
    *,
    folder: Path,
    moments: Path,
    settings: SweepConfig,
    head: HeadConfig,
    progress: Progress,
) -> Sweep:
    """Cross-validate every kind at every width, recommend, and certify on test.

    ``moments`` is the folder where those of the train split are kept, for whoever projects it
    later. Missing or unlabelled splits, a single class, too few rows and settings that leave
    nothing to do raise ``StageError``.
    """
    start = perf_counter()
    found = scope(stores, settings)
    rows, labels, classes, dims = found.rows, found.labels, found.classes, found.dims
    for note in found.notes:
        progress.say(note)
    work = Work(
        dims=dims,
        seeds=settings.seeds,
        classes=classes,
        l2=tuple(head.l2),
        max_iterations=head.max_iterations,
        neighbours=settings.neighbours,
    )
    digests = {split: stores[split].digest for split in SPLITS}
    known_as = fingerprint_of(stores, settings, head)
    place = folder / known_as
    cells = cross_validate(rows, labels, work, place / "cells", progress)
    setting = Setting(
        dim=rows.dim, classes=classes, tolerance=settings.tolerance, shipped=settings.shipped
    )
    choices = {name: choose(found) for name, found in cells.items()}
    full, maps = _swept(cells, choices, setting)
    families = {kind: [one for one in maps if one.kind == kind] for kind in dims}
    best, each = recommend(full, families, setting)
    fixed = Choices(choices=tuple(choices.values()), best=best, families=each)
    fixed.save(place / "choices.json")
    diagnostics = _diagnostics(rows, labels, place, work)
    why = judged(maps, diagnostics, dim=rows.dim, classes=classes, tolerance=settings.tolerance)

    warnings = _at_chance(full, labels)
    for note in warnings:
        progress.say(note)
    train = rows.store(0)
    examined = Examined(
        train=train,
        test=Rows([stores["test"]], rows.limit),
        labels=labels[: train.count],
        truth=stores["test"].labels(),
        moments=train_moments(train, labels[: train.count], classes=classes, folder=moments),
        classes=classes,
        middle_l2=middle(head.l2),
        max_iterations=head.max_iterations,
    )
    tested = certified(
        score_test(
            fixed.choices, examined, seeds=settings.seeds, folder=place / "test", progress=progress
        ),
        tolerance=settings.tolerance,
    )
    return Sweep(
        fingerprint=known_as,
        stores=digests,
        dim=rows.dim,
        classes=classes,
        rows={split: stores[split].spec.rows for split in SPLITS},
        tolerance=settings.tolerance,
        shipped=settings.shipped,
        seeds=settings.seeds,
        folds=FOLDS,
        l2=tuple(sorted(head.l2)),
        break_even=break_even(rows.dim, classes),
        best=_with_verdict(best, tested),
        families=tuple(_with_verdict(one, tested) for one in each),
        full=dataclasses.replace(full, tested=tested[FULL, rows.dim]),
        maps=tuple(dataclasses.replace(one, tested=tested[one.kind, one.dim_out]) for one in maps),
        diagnostics=diagnostics,
        verdict=why.verdict,
        sentence=why.sentence,
        cells=sum(len(found) for found in cells.values()),
        seconds=perf_counter() - start,
        notes=(*warnings, *found.notes),
    )


def _diagnostics(
    rows: Rows, labels: Int64[np.ndarray, " rows"], place: Path, work: Work
) -> Diagnostics:
    """What the validation rows are like, from disk where it was measured before."""
    path = place / f"diagnostics-{work.seeds}.json"
    if path.is_file():
        with suppress(FindingError):  # damaged: measured again
            return Diagnostics.load(path)
    validation = rows.store(1)
    found = diagnose(
        validation,
        labels[-validation.count :],
        full_margins(place / "cells", rows.dim, work.seeds),
        classes=work.classes,
    )
    found.save(path)
    return found


def _swept(
    cells: Mapping[tuple[str, int], Sequence[Cell]],
    choices: Mapping[tuple[str, int], Choice],
    setting: Setting,
) -> tuple[SweptMap, list[SweptMap]]:
    """The full head and every map, and which of them hold."""
    name = (FULL, setting.dim)
    reference = [chosen_score(cell, choices[name]) for cell in cells[name]]
    found = {
        other: swept_map(choices[other], those, reference, setting)
        for other, those in cells.items()
    }
    full = dataclasses.replace(found.pop(name), holds=True)
    holding = {
        (one.kind, one.dim_out)
        for kind in {kind for kind, _ in found}
        for one in held_by_walk(
            [swept for swept in found.values() if swept.kind == kind], setting.tolerance
        )
    }
    return full, [
        dataclasses.replace(one, holds=(one.kind, one.dim_out) in holding) for one in found.values()
    ]


def _at_chance(full: SweptMap, labels: Int64[np.ndarray, " rows"]) -> list[str]:
    """A warning where there is nothing to keep: a full head that has not learnt the classes."""
    share = float(np.bincount(labels).max()) / len(labels)
    spread = 2 * float(np.sqrt(share * (1 - share) / len(labels)))
    if full.accuracy.mean > share + spread:
        return []
    return [
        f"the full head is right on {100 * full.accuracy.mean:.1f} % of the held-out rows, and "
        f"naming the commonest class every time on {100 * share:.1f} %: these features do not tell "
        "the classes apart, and a map that loses nothing of that says nothing"
    ]


def _with_verdict(one: Recommended, tested: Mapping[tuple[str, int], Tested]) -> Recommended:
    found = tested.get((one.kind, one.dim_out))
    certificate = found.certificate if found else None
    return dataclasses.replace(one, verdict=certificate.verdict if certificate else "")
