"""Every choice of a sweep, from its cells alone: l2, what holds, what is recommended.

No test row is known here. A width holds while the mean cross-validated loss against the full head
is within the tolerance, from the largest width down to the first that is not. The walk goes by the
mean and not by its bound, which stands beside it: a choice claims nothing, and on few rows a bound
would choose nothing at all; what is claimed is what the test rows certify afterwards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from distill.certify import fold_bound
from distill.findings import Recommended, Record, SweptMap
from distill.metrics import band, some_band
from distill.sweeping import cost
from distill.sweeping.cells import Cell, CellScore, unpacked
from distill.sweeping.maps import FULL, is_seeded, needs_data

EQUAL = 1e-9  # losses this near to the tolerance are within it: sums of shares are not exact


@dataclass(frozen=True, kw_only=True)
class Choice(Record):
    """What is fixed for one kind at one width before the test rows are read."""

    kind: str
    dim_out: int
    l2: float
    temperature: float

    @property
    def name(self) -> tuple[str, int]:
        """Kind and width."""
        return self.kind, self.dim_out


@dataclass(frozen=True, kw_only=True)
class Setting(Record):
    """What costs and tolerances are counted by."""

    dim: int
    classes: int
    tolerance: float
    shipped: str


def choose(cells: Sequence[Cell]) -> Choice:
    """The l2 of the best mean accuracy over the seeds, of equals the largest.

    Its temperature is the geometric mean of the seeds'.
    """
    strengths = [score.l2 for score in cells[0].scores]  # largest first
    means = [np.mean([cell.scores[at].accuracy for cell in cells]) for at in range(len(strengths))]
    best = int(np.argmax(np.round(means, 12)))
    logs = [math.log(cell.scores[best].temperature) for cell in cells]
    return Choice(
        kind=cells[0].kind,
        dim_out=cells[0].dim_out,
        l2=strengths[best],
        temperature=math.exp(float(np.mean(logs))),
    )


def swept_map(
    choice: Choice, cells: Sequence[Cell], full: Sequence[CellScore], setting: Setting
) -> SweptMap:
    """What one kind at one width does over its seeds; ``full`` are the full head's of each seed."""
    scores = [chosen_score(cell, choice) for cell in cells]
    lost = [
        unpacked(reference.correct, cell.held_rows).astype(np.int8)
        - unpacked(score.correct, cell.held_rows).astype(np.int8)
        for cell, score, reference in zip(cells, scores, full, strict=True)
    ]
    dim, k, aware = setting.dim, choice.dim_out, needs_data(choice.kind)
    seeded = is_seeded(choice.kind)
    return SweptMap(
        kind=choice.kind,
        data_aware=aware,
        seeded=seeded,
        dim_out=k,
        factor=dim / k,
        l2=choice.l2,
        temperature=choice.temperature,
        accuracy=band([score.accuracy for score in scores]),
        loss=band([float(one.mean()) for one in lost]),
        loss_bound=fold_bound(lost),
        holds=False,  # decided by the walk
        macro_f1=band([score.macro_f1 for score in scores]),
        worst_class_accuracy=band([score.worst_class_accuracy for score in scores]),
        calibration_error=band([score.calibration_error for score in scores]),
        margin_kept=some_band([score.margin_kept for score in scores]),
        distortion=some_band([cell.distortion for cell in cells]),
        distortion_std=some_band([cell.distortion_std for cell in cells]),
        recall=some_band([cell.recall for cell in cells]),
        separation=some_band([cell.separation for cell in cells]),
        multiply_adds=cost.multiply_adds(k, dim, setting.classes),
        stored=cost.stored(k, dim, setting.classes, from_seed=not aware),
    )


def chosen_score(cell: Cell, choice: Choice) -> CellScore:
    """The score of the chosen l2."""
    return next(score for score in cell.scores if score.l2 == choice.l2)


def held_by_walk(family: Sequence[SweptMap], tolerance: float) -> list[SweptMap]:
    """Those maps of one kind that hold, largest width first."""
    ordered = sorted(family, key=lambda one: -one.dim_out)
    return list(takewhile(lambda one: one.loss.mean <= tolerance + EQUAL, ordered))


def recommend(
    full: SweptMap, families: Mapping[str, Sequence[SweptMap]], setting: Setting
) -> tuple[Recommended, tuple[Recommended, ...]]:
    """The best of all, and the smallest width that holds of each family, in their order.

    Best is what costs least; of equals what takes fewer stored numbers, then the smaller width,
    then what needs no data, then what loses less. What saves neither is no better than the full
    width, which a family of which nothing holds keeps.
    """
    found = tuple(_of_family(kind, full, family, setting) for kind, family in families.items())
    keep = _keep(FULL, full, setting, "no smaller width holds and saves anything")
    smaller = [one for one in found if (one.cost, one.stored) < (keep.cost, keep.stored)]
    best = min(
        [*smaller, keep],
        key=lambda one: (one.cost, one.stored, one.dim_out, needs_data(one.kind), one.loss),
    )
    return best, found


def _of_family(
    kind: str, full: SweptMap, family: Sequence[SweptMap], setting: Setting
) -> Recommended:
    holding = held_by_walk(family, setting.tolerance)
    ordered = sorted(family, key=lambda one: -one.dim_out)
    stop = "no smaller k was tried"
    if len(holding) < len(ordered):
        failed = ordered[len(holding)]
        stop = (
            f"k = {failed.dim_out} {_lost(failed.loss.mean)}, more than the "
            f"{100 * setting.tolerance:g} allowed"
        )
    if not holding:
        return _keep(kind, full, setting, stop)
    last = holding[-1]
    charged = _charged(last.dim_out, setting)
    folded = (
        ""
        if charged < _charged(setting.dim, setting)
        else ("; folded into one matrix it costs what the full head costs")
    )
    return Recommended(
        kind=kind,
        dim_out=last.dim_out,
        factor=last.factor,
        cost=charged,
        stored=last.stored,
        loss=last.loss.mean,
        verdict="",
        why=f"it {_lost(last.loss.mean)} in cross-validation; {stop}{folded}",
    )


def _lost(loss: float) -> str:
    points = 100 * loss
    return f"gains {-points:.2f} points" if points < 0 else f"loses {points:.2f} points"


def _keep(kind: str, full: SweptMap, setting: Setting, why: str) -> Recommended:
    return Recommended(
        kind=kind,
        dim_out=setting.dim,
        factor=1.0,
        cost=_charged(setting.dim, setting),
        stored=full.stored,
        loss=0.0,
        verdict="",
        why=why,
    )


def _charged(dim_out: int, setting: Setting) -> int:
    return cost.shipped_cost(dim_out, setting.dim, setting.classes, shipped=setting.shipped)
