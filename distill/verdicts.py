"""The plain sentence of a sweep: compressible, only by a data-aware map, or not, and why."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from distill.errors import StageError

COMPRESSIBLE = "compressible"
DATA_AWARE_ONLY = "compressible only by a data-aware map"
NOT_COMPRESSIBLE = "not compressible at the asked tolerance"
EQUAL = 1e-9  # a loss this near to the tolerance is the tolerance


@final
@dataclass(frozen=True, kw_only=True)
class MapLoss:
    """What one kind of map costs at one width, on rows that it was not fitted on."""

    kind: str
    data_aware: bool
    dim_out: int
    loss: float  # accuracy of the full head minus that on these dimensions, mean or upper bound
    separation: float | None = None  # mean share retained of the class pairs'; None: not known


@final
@dataclass(frozen=True, kw_only=True)
class Compressibility:
    """One of the three verdicts, and a sentence that opens with it and says why."""

    verdict: str
    sentence: str


def compressibility(
    maps: Sequence[MapLoss],
    *,
    dim: int,
    classes: int,
    effective_rank: float | None,
    tolerance: float,
) -> Compressibility:
    """Judge maps of one width, or of a whole sweep, by what they lose.

    A map holds when its loss is within ``tolerance`` at its width and at every larger one measured
    of its kind; the smallest that holds speaks for its side, data-independent or data-aware. Maps
    to ``dim`` dimensions compress nothing and are passed over. Effective rank (None: not defined),
    classes and retained separation explain the verdict and do not enter it. ``StageError`` where
    nothing is left to judge, and for a tolerance outside (0, 1).
    """
    if not 0 < tolerance < 1:
        raise StageError(f"the tolerance must lie strictly between 0 and 1, got {tolerance}")
    maps = [one for one in maps if one.dim_out < dim]
    if not maps:
        raise StageError(
            f"no map to fewer than {dim} dimensions was measured: ask for a factor above 1"
        )
    random = [one for one in maps if not one.data_aware]
    fitted = [one for one in maps if one.data_aware]
    held, held_fitted = (_smallest_holding(side, tolerance) for side in (random, fitted))
    if held:
        further = [held_fitted] if held_fitted and held_fitted.dim_out < held.dim_out else []
        verdict, shown = COMPRESSIBLE, [held, *further]
        more = [f"fitted to the data, {_cost(one, dim)}" for one in further]
    elif held_fitted:
        verdict, rival = DATA_AWARE_ONLY, _nearest(random, held_fitted.dim_out)
        shown, more = [held_fitted, *rival], _rivalry(rival, "data-independent", dim)
    else:
        best = min(maps, key=_by_loss)
        side, word = (random, "data-independent") if best.data_aware else (fitted, "data-aware")
        verdict, rival = NOT_COMPRESSIBLE, _nearest(side, best.dim_out)
        shown, more = [best, *rival], _rivalry(rival, word, dim)
    at_best = "at best " if verdict == NOT_COMPRESSIBLE else ""
    why = [f"{at_best}{_cost(shown[0], dim)}, {100 * tolerance:.2f} are allowed", *more]
    why += _facts(shown, classes, effective_rank)
    return Compressibility(verdict=verdict, sentence=f"{verdict.capitalize()}: {'; '.join(why)}.")


def _smallest_holding(maps: Sequence[MapLoss], tolerance: float) -> MapLoss | None:
    """Find the narrowest map that holds, and of equally narrow ones the one that loses least."""
    held: list[MapLoss] = []
    for kind in {one.kind for one in maps}:
        of_kind = sorted((one for one in maps if one.kind == kind), key=lambda one: -one.dim_out)
        held += itertools.takewhile(lambda one: one.loss <= tolerance + EQUAL, of_kind)
    return min(held, key=lambda one: (one.dim_out, one.loss, one.kind), default=None)


def _nearest(maps: Sequence[MapLoss], dim_out: int) -> list[MapLoss]:
    """Of the maps whose width is nearest to this the one that loses least, if there is any."""
    apart = min((abs(one.dim_out - dim_out) for one in maps), default=0)
    return sorted((one for one in maps if abs(one.dim_out - dim_out) == apart), key=_by_loss)[:1]


def _by_loss(one: MapLoss) -> tuple[float, int, str]:
    return one.loss, one.dim_out, one.kind


def _cost(one: MapLoss, dim: int) -> str:
    change = "loses" if one.loss >= 0 else "gains"
    return (
        f"{one.kind} {change} {100 * abs(one.loss):.2f} points at {one.dim_out} of {dim} "
        f"dimensions ({dim / one.dim_out:.3g}x)"
    )


def _rivalry(rival: Sequence[MapLoss], word: str, dim: int) -> list[str]:
    if not rival:
        return [f"no {word} map was measured"]
    return [f"of the {word} maps nearest in width {_cost(rival[0], dim)}"]


def _facts(shown: Sequence[MapLoss], classes: int, effective_rank: float | None) -> list[str]:
    width = shown[0].dim_out
    kept = [
        f"{one.kind} {100 * one.separation:.0f} %" for one in shown if one.separation is not None
    ]
    rank = (
        ""
        if effective_rank is None
        else f" and {_beside(width, effective_rank)} the effective rank of {effective_rank:.1f}"
    )
    return [
        f"{width} is {_beside(width, classes - 1)} C - 1 = {classes - 1}{rank}",
        *([f"separation of the classes kept on average: {' and '.join(kept)}"] if kept else []),
    ]


def _beside(width: int, other: float) -> str:
    return "below" if width < other else "above" if width > other else "equal to"
