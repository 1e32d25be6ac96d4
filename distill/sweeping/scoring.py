"""The one look at the test rows, once every choice is fixed: maps and heads of the train split.

No validation row is fitted on, so that what is certified is what ``distill project`` and
``distill train-head`` make. Temperatures were chosen by cross-validation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Float32, Int64

from distill.certify import certify, fixed_sequence, losses
from distill.findings import Certificate, FindingError, Record, Tested
from distill.metrics import (
    accuracy,
    band,
    expected_calibration_error,
    macro_f1,
    wilson_interval,
    worst_class,
)
from distill.progress import Progress
from distill.side_by_side import side_by_side
from distill.sweeping.cells import cell_name, digest_of, packed, probabilities, unpacked
from distill.sweeping.choosing import Choice
from distill.sweeping.full import full_heads, logits_of
from distill.sweeping.maps import FULL, TRUNCATED, Part, is_seeded, maps_of
from distill.sweeping.rows import Rows
from projections import Moments, Projection
from students import FittedHead, fit_path


@dataclass(frozen=True, kw_only=True)
class TestCell(Record):
    """One kind, width and seed on the test rows."""

    __test__ = False  # pytest takes it for tests

    kind: str
    dim_out: int
    seed: int
    l2: float
    temperature: float
    rows: int
    accuracy: float
    macro_f1: float
    worst_class_accuracy: float
    calibration_error: float
    converged: bool
    map_digest: str  # "" for the features as they are
    head_digest: str
    correct: str  # which rows were hit: bits, in hexadecimal
    full_l2: float  # of the full head that the map truncates; 0 of a map that begins with none


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """What is fitted on and what is scored."""

    train: Rows
    test: Rows
    labels: Int64[np.ndarray, " train"]
    truth: Int64[np.ndarray, " test"]
    moments: Moments  # of the train split
    classes: int
    middle_l2: float  # of the learned kind, as in cross-validation
    max_iterations: int


def score_test(
    choices: Sequence[Choice],
    examined: Examined,
    *,
    seeds: int,
    folder: Path,
    progress: Progress,
) -> dict[tuple[str, int], list[TestCell]]:
    """Every chosen head on the test rows, by kind and width; the full head's choice comes first.

    A map without a seed of its own is scored once. Cells on disk with the same choice are kept.
    """
    wanted = [
        (choice, seed)
        for choice in choices
        for seed in range(seeds if is_seeded(choice.kind) else 1)
    ]
    scorer = _Scorer(examined, choices, folder)
    found: dict[tuple[str, int], list[TestCell]] = {}
    with progress.task("score test", total=len(wanted), unit="cells") as advance:
        for seed in range(seeds):
            here = [choice for choice, other in wanted if other == seed]
            kept = {
                choice.name: cell
                for choice in here
                if (cell := _read(folder, choice, seed, full_l2=scorer.full_l2(choice.kind)))
            }
            advance(len(kept))
            missing = [choice for choice in here if choice.name not in kept]
            for cell in scorer.score(missing, seed):
                kept[cell.kind, cell.dim_out] = cell
                advance(1)
            for name, cell in kept.items():
                found.setdefault(name, []).append(cell)
    return {choice.name: found[choice.name] for choice in choices}


def _read(folder: Path, choice: Choice, seed: int, *, full_l2: float) -> TestCell | None:
    path = folder / f"{cell_name(choice.kind, choice.dim_out, seed)}.json"
    if not path.is_file():
        return None
    try:
        cell = TestCell.load(path)
    except FindingError:
        return None
    wanted = (choice.l2, choice.temperature, full_l2)
    return cell if (cell.l2, cell.temperature, cell.full_l2) == wanted else None


@final
class _Scorer:
    """Fits on train, scores on test; the full head is fitted once."""

    def __init__(self, examined: Examined, choices: Sequence[Choice], folder: Path) -> None:
        self.examined = examined
        self.folder = folder
        self.full_choice = choices[0]
        self.widest = {
            kind: max(choice.dim_out for choice in choices if choice.kind == kind)
            for kind in {choice.kind for choice in choices}
        }
        self._full: FittedHead | None = None

    def score(self, choices: Sequence[Choice], seed: int) -> Iterator[TestCell]:
        """Cells of one seed, written as they are done."""
        examined = self.examined
        for kind in dict.fromkeys(choice.kind for choice in choices):
            family = [choice for choice in choices if choice.kind == kind]
            head = self._full_head()
            if kind == FULL:
                everything = np.arange(examined.test.count)
                (logits,) = logits_of([head], examined.test, everything)
                yield self._cell(family[0], seed, None, head, logits)
                continue
            part = Part(
                moments=examined.moments,
                weight=head.weight,
                bias=head.bias,
                rows=examined.train,
                labels=examined.labels,
                chosen=np.arange(examined.train.count),
            )
            maps = maps_of(
                kind, [choice.dim_out for choice in family], part,
                widest=self.widest[kind], seed=seed,
                l2=examined.middle_l2, max_iterations=examined.max_iterations,
            )  # fmt: skip
            pairs = list(zip(family, maps, strict=True))
            if examined.train.fits and examined.test.fits:
                yield from side_by_side(
                    lambda pair: self._mapped_cell(*pair, seed),
                    pairs,
                    workers=examined.train.workers(examined.classes),
                )
                continue
            for (choice, projection), fitted_on, scored_on in zip(
                pairs, examined.train.mapped(maps), examined.test.mapped(maps), strict=True
            ):
                head = self._fit(fitted_on, choice)
                yield self._cell(choice, seed, projection, head, head.logits(scored_on))

    def _mapped_cell(self, choice: Choice, projection: Projection, seed: int) -> TestCell:
        (fitted_on,) = self.examined.train.mapped([projection])
        head = self._fit(fitted_on, choice)
        (scored_on,) = self.examined.test.mapped([projection])
        return self._cell(choice, seed, projection, head, head.logits(scored_on))

    def full_l2(self, kind: str) -> float:
        """The l2 of the full head that maps of this kind truncate, as those that are shipped do."""
        return self.full_choice.l2 if kind in TRUNCATED else 0.0

    def _full_head(self) -> FittedHead:
        if self._full is None:
            examined = self.examined
            (self._full,) = full_heads(
                examined.train, examined.labels, np.arange(examined.train.count),
                examined.moments,
                l2=[self.full_choice.l2], max_iterations=examined.max_iterations,
            )  # fmt: skip
        return self._full

    def _fit(self, mapped: Float32[np.ndarray, "train k"], choice: Choice) -> FittedHead:
        (head,) = fit_path(
            mapped, self.examined.labels,
            classes=self.examined.classes, l2=[choice.l2],
            max_iterations=self.examined.max_iterations,
        )  # fmt: skip
        return head

    def _cell(
        self,
        choice: Choice,
        seed: int,
        projection: Projection | None,
        head: FittedHead,
        logits: Float32[np.ndarray, "test classes"],
    ) -> TestCell:
        truth = self.examined.truth
        predicted = logits.argmax(axis=1)
        cell = TestCell(
            kind=choice.kind,
            dim_out=choice.dim_out,
            seed=seed,
            l2=choice.l2,
            temperature=choice.temperature,
            rows=len(truth),
            accuracy=accuracy(truth, predicted),
            macro_f1=macro_f1(truth, predicted),
            worst_class_accuracy=worst_class(truth, predicted)[1],
            calibration_error=expected_calibration_error(
                probabilities(logits, choice.temperature), truth
            ),
            converged=head.converged,
            map_digest=str(projection.describe()["digest"]) if projection else "",
            head_digest=digest_of([head]),
            correct=packed(predicted == truth),
            full_l2=self.full_l2(choice.kind),
        )
        cell.save(self.folder / f"{cell_name(choice.kind, choice.dim_out, seed)}.json")
        return cell


def certified(
    cells: Mapping[tuple[str, int], Sequence[TestCell]], *, tolerance: float
) -> dict[tuple[str, int], Tested]:
    """What the test rows say of every map; of each kind from its largest width to its smallest."""
    full_name = next(name for name in cells if name[0] == FULL)
    full = _hits(cells[full_name])[0]
    found = {full_name: _tested(cells[full_name], None)}
    for kind in dict.fromkeys(kind for kind, _ in cells if kind != FULL):
        widths = sorted((k for other, k in cells if other == kind), reverse=True)
        lost = [losses(full, _hits(cells[kind, k])) for k in widths]
        tests = [lambda one=one: certify(one, tolerance=tolerance) for one in lost]
        for k, certificate in zip(widths, fixed_sequence(tests), strict=True):
            found[kind, k] = _tested(cells[kind, k], certificate)
    return found


def _hits(cells: Sequence[TestCell]) -> Bool[np.ndarray, "seeds rows"]:
    return np.stack([unpacked(cell.correct, cell.rows) for cell in cells])


def _tested(cells: Sequence[TestCell], certificate: Certificate | None) -> Tested:
    rows = cells[0].rows
    mean = float(np.mean([cell.accuracy for cell in cells]))
    return Tested(
        accuracy=band([cell.accuracy for cell in cells]),
        interval=wilson_interval(round(mean * rows), rows),
        macro_f1=band([cell.macro_f1 for cell in cells]),
        worst_class_accuracy=band([cell.worst_class_accuracy for cell in cells]),
        calibration_error=band([cell.calibration_error for cell in cells]),
        certificate=certificate,
    )
