"""Ranks for every layer at every cost: the nested path through what ranks cost and spoil.

Pure NumPy. Each layer has a few candidate ranks, each of a cost (FLOPs) and a damage: how much the
loss rises when this layer alone has that rank. Under the additive model the damages of layers add
up. ``greedy_path`` walks down from full ranks, each step along the lower convex hull of one layer's
damage over cost, the step with the least damage per FLOP saved first. Slopes along a hull only get
steeper, so steps never come in the wrong order, ranks only fall, and each point on the way is the
best of all settings that cost no more (Fox, 1966, doi:10.1287/opre.14.2.210). ``best_setting``
finds the best of one cost without asking for nestedness: what the greedy path is measured by.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from students.nested.errors import BudgetError, CalibrationError, NestedError, RankError

# Products whose inner size is a multiple of 16 numbers are a tenth faster than their neighbours
# (AVX-512, two threads); below two of these, the steps from rank to rank would be too coarse.
ALIGNED = 16

_SLACK = 1e-9  # of a cost: sums of the same FLOPs in another order are no other budget


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The ranks one layer may take, from the lowest to the full one.

    ``RankError`` for ranks that do not rise, ``CalibrationError`` for damages that are NaN,
    infinite or below 0, ``NestedError`` for costs that do not rise with the rank.
    """

    layer: str
    ranks: Int64[np.ndarray, " candidates"]
    costs: Float64[np.ndarray, " candidates"]
    damages: Float64[np.ndarray, " candidates"]

    def __post_init__(self) -> None:
        if not len(self.ranks) or self.ranks[0] < 1 or not (np.diff(self.ranks) > 0).all():
            raise RankError(
                f"{self.layer}: candidate ranks rise from at least 1 to the full rank, "
                f"got {self.ranks.tolist()}"
            )
        if not np.isfinite(self.damages).all() or (self.damages < 0).any():
            raise CalibrationError(
                f"{self.layer}: damages are numbers of at least 0, got {self.damages.tolist()}; "
                f"look for NaN in the calibration data or in the network"
            )
        rising = (np.diff(self.costs) > 0).all()
        if not rising or not np.isfinite(self.costs).all() or self.costs[0] < 0:
            raise NestedError(
                f"{self.layer}: costs rise with the rank, got {self.costs.tolist()}; leave out "
                f"ranks that cost no less than a higher one"
            )


@final
@dataclass(frozen=True, kw_only=True)
class Setting:
    """A rank for each layer, the FLOPs they cost together, and the sum of their damages."""

    ranks: Mapping[str, int]
    cost: float
    damage: float


def candidate_ranks(full_rank: int, *, lowest: int = 1, count: int = 8) -> list[int]:
    """Give at most ``count`` ranks from ``lowest`` to the full one, about the same factor apart.

    Those of at least 2 ``ALIGNED`` between the two are multiples of it.
    """
    if not 1 <= lowest <= full_rank or count < 2:
        raise RankError(
            f"candidate ranks are at least 2 from 1 or more to {full_rank}, got {count} "
            f"from {lowest}"
        )
    spaced = np.geomspace(lowest, full_rank, count)
    aligned = (ALIGNED * (spaced / ALIGNED).round()).clip(lowest, full_rank)
    between = np.where(spaced < 2 * ALIGNED, spaced.round(), aligned)[1:-1]
    return [int(rank) for rank in np.unique([lowest, *between, full_rank])]


def useful_ranks(ranks: Iterable[int], *, cost: Callable[[int], float]) -> list[int]:
    """Those of the ranks, from the lowest, that cost less than every higher one.

    Beyond break-even all ranks run dense at one cost, and the first rank in gauge form may cost a
    little less than the last in factored form: whoever pays for the lower may have the higher.
    """
    useful: list[int] = []
    for rank in sorted(set(ranks), reverse=True):
        if not useful or cost(rank) < cost(useful[-1]):
            useful.append(rank)
    return useful[::-1]


def candidates(
    layer: str, damages: Mapping[int, float], *, cost: Callable[[int], float]
) -> Candidates:
    """Candidates from the damage of each rank, in any order; ``cost`` gives a rank's FLOPs.

    Ranks that are not useful are left out.
    """
    ranks = useful_ranks(damages, cost=cost)
    return Candidates(
        layer=layer,
        ranks=np.array(ranks, dtype=np.int64),
        costs=np.array([cost(rank) for rank in ranks], dtype=np.float64),
        damages=np.array([damages[rank] for rank in ranks], dtype=np.float64),
    )


def greedy_path(layers: Sequence[Candidates]) -> list[Setting]:
    """Settings from all full ranks to the cheapest, each best among all that cost no more.

    Every setting but the first lowers the rank of one layer of the one before it, and costs less.
    """
    _check_names(layers)
    steps = [(slope, at, low) for at, layer in enumerate(layers) for slope, low in _descent(layer)]
    # stable: steps of one layer, whose slopes rise, stay in their order
    steps.sort(key=lambda step: step[0])
    chosen = [len(layer.ranks) - 1 for layer in layers]
    path = [_setting(layers, chosen)]
    for _, at, low in steps:
        chosen[at] = low
        path.append(_setting(layers, chosen))
    return path


def uniform_path(layers: Sequence[Candidates]) -> list[Setting]:
    """One rank for all layers, from the highest to the lowest: the paper's path.

    Each layer takes its lowest candidate of at least that rank, or its full rank.
    """
    _check_names(layers)
    every = sorted({int(rank) for layer in layers for rank in layer.ranks}, reverse=True)
    # two ranks may mean the same to every layer
    distinct = dict.fromkeys(tuple(_at_least(layer, rank) for layer in layers) for rank in every)
    return [_setting(layers, chosen) for chosen in distinct]


def best_setting(layers: Sequence[Candidates], *, cost: float) -> Setting:
    """The setting of the least damage among all that cost at most ``cost``, by dynamic programming.

    Layer by layer, what is neither cheaper nor less damaging than something else is dropped
    (Nemhauser & Ullmann, 1969, doi:10.1287/mnsc.15.9.494): exact, and as long as there are
    few different sums of costs, fast. ``BudgetError`` for a cost below the cheapest setting's.
    """
    _check_names(layers)
    floors = np.array([layer.costs[0] for layer in layers])
    if cost * (1 + _SLACK) < floors.sum():
        raise BudgetError(
            f"ranks of {cost:g} FLOPs are asked for, and the lowest cost {floors.sum():g}"
        )
    left = floors[::-1].cumsum()[::-1] - floors  # what the layers still to come need at least
    costs, damages = np.zeros(1), np.zeros(1)
    trail = []
    for layer, needed in zip(layers, left, strict=True):
        sums = (costs[:, None] + layer.costs).ravel()
        harms = (damages[:, None] + layer.damages).ravel()
        kept = _undominated(sums, harms, most=cost * (1 + _SLACK) - needed)
        trail.append(kept)
        costs, damages = sums[kept], harms[kept]
    chosen, at = [], len(damages) - 1  # the dearest of what is left damages least
    for layer, kept in zip(reversed(layers), reversed(trail), strict=True):
        at, place = divmod(int(kept[at]), len(layer.ranks))
        chosen.append(place)
    return _setting(layers, chosen[::-1])


def _descent(layer: Candidates) -> Iterator[tuple[float, int]]:
    """(damage per FLOP saved, candidate reached) down the hull from the full rank; slopes rise."""
    hull: list[int] = [len(layer.ranks) - 1]
    slopes: list[float] = []
    for place in reversed(range(len(layer.ranks) - 1)):
        while slopes and _slope(layer, hull[-1], place) < slopes[-1]:
            hull.pop()
            slopes.pop()
        slopes.append(_slope(layer, hull[-1], place))
        hull.append(place)
    return zip(slopes, hull[1:], strict=True)


def _slope(layer: Candidates, above: int, below: int) -> float:
    rise = layer.damages[below] - layer.damages[above]
    return float(rise / (layer.costs[above] - layer.costs[below]))


def _at_least(layer: Candidates, rank: int) -> int:
    return min(int(np.searchsorted(layer.ranks, rank)), len(layer.ranks) - 1)


def _undominated(
    costs: Float64[np.ndarray, " sums"], damages: Float64[np.ndarray, " sums"], *, most: float
) -> Int64[np.ndarray, " kept"]:
    """Places of what costs at most ``most`` and is less damaging than all that costs no more."""
    order = np.lexsort((damages, costs))
    order = order[costs[order] <= most]
    lowest = np.minimum.accumulate(damages[order])
    better = np.ones(len(order), dtype=bool)
    better[1:] = damages[order][1:] < lowest[:-1]
    return order[better]


def _setting(layers: Sequence[Candidates], chosen: Sequence[int]) -> Setting:
    pairs = list(zip(layers, chosen, strict=True))
    return Setting(
        ranks={layer.layer: int(layer.ranks[at]) for layer, at in pairs},
        cost=float(sum(layer.costs[at] for layer, at in pairs)),
        damage=float(sum(layer.damages[at] for layer, at in pairs)),
    )


def _check_names(layers: Sequence[Candidates]) -> None:
    names = [layer.layer for layer in layers]
    if not names or len(set(names)) < len(names):
        raise NestedError(f"a path is of one or more layers, each named once; got {names}")
