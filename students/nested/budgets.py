"""Budgets of a network: shares of its dense FLOPs, each a point of the nested path it carries.

A budget chooses the largest point that costs no more. The path lies on the network as
``nested_path``, beside its state and not in it: its JSON is kept next to the weights.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
from torch import nn

from students.nested.errors import BudgetError, NestedError, OtherSurgeryError
from students.nested.norms import NormStatistics, check_norms, load_norms, using_norms
from students.nested.path import candidates, greedy_path
from students.nested.ranks import chosen_ranks, nested_layers, ranks, set_rank, using_ranks

_SLACK = 1e-9  # shares are quotients: rounding makes no other budget

Share = Callable[[Mapping[str, int]], float]  # of dense FLOPs, the whole network's, at these ranks


@final
@dataclass(frozen=True, kw_only=True)
class PathPoint:
    """Ranks of all nested layers by name, and their share of the whole network's dense FLOPs."""

    share: float
    ranks: Mapping[str, int]


@final
@dataclass(frozen=True, kw_only=True)
class NestedPath:
    """Points from the dearest to the floor: each has a smaller share and no higher rank.

    ``measured_at`` names the input whose FLOPs are counted ("3 x 224 x 224", "128 tokens"): at
    another one the shares are others. ``NestedError`` for points that are not nested so.
    """

    points: tuple[PathPoint, ...]
    measured_at: str

    def __post_init__(self) -> None:
        if not self.points:
            raise NestedError("a nested path has at least one point")
        for point in self.points:
            if not 0 < point.share <= 1 + _SLACK:
                raise NestedError(
                    f"a point of a nested path has a share of dense FLOPs in (0, 1], got "
                    f"{point.share}; count each layer in its cheapest form"
                )
        for above, below in itertools.pairwise(self.points):
            if below.share >= above.share:
                raise NestedError(
                    f"shares along a nested path fall, got {above.share} and then {below.share}"
                )
            if above.ranks.keys() != below.ranks.keys():
                raise NestedError("all points of a nested path name the same layers")
            for name, rank in below.ranks.items():
                if rank > above.ranks[name]:
                    raise NestedError(
                        f"ranks along a nested path never rise, and {name} goes from "
                        f"{above.ranks[name]} to {rank}"
                    )

    @property
    def floor(self) -> float:
        """The smallest share there is a point for."""
        return self.points[-1].share

    def at(self, budget: float) -> PathPoint:
        """Give the largest point that costs no more.

        ``BudgetError`` for a budget outside (0, 1], and below the floor.
        """
        if not 0 < budget <= 1:
            raise BudgetError(f"a budget is a share of dense FLOPs, in (0, 1], got {budget}")
        if budget < self.floor - _SLACK:
            told = math.ceil(self.floor * 1e4) / 1e4  # rounded so that asking for it is enough
            raise BudgetError(
                f"a budget of {budget:g} is below what this network can reach at "
                f"{self.measured_at}: ask for at least {told:g}, or nest more of its layers"
            )
        return next(point for point in self.points if point.share <= budget + _SLACK)

    def thinned(self, count: int) -> "NestedPath":
        """At most ``count`` of its points, first and last among them, spread evenly over shares."""
        if count < 2:
            raise NestedError(f"a path keeps at least 2 points, got {count}")
        shares = np.array([point.share for point in self.points])
        wanted = np.linspace(shares[0], shares[-1], count)
        kept = [self.points[int(np.abs(shares - share).argmin())] for share in wanted]
        distinct = tuple({point.share: point for point in kept}.values())
        return NestedPath(points=distinct, measured_at=self.measured_at)

    def to_json(self) -> dict[str, Any]:
        """Plain values; names of layers stand there once."""
        names = list(self.points[0].ranks)
        return {
            "measured_at": self.measured_at,
            "layers": names,
            "shares": [point.share for point in self.points],
            "ranks": [[point.ranks[name] for name in names] for point in self.points],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NestedPath":
        """Undo ``to_json``; ``NestedError`` for what is no path."""
        try:
            points = tuple(
                PathPoint(
                    share=float(share),
                    ranks=dict(zip(data["layers"], map(int, row), strict=True)),
                )
                for share, row in zip(data["shares"], data["ranks"], strict=True)
            )
            return cls(points=points, measured_at=str(data["measured_at"]))
        except (KeyError, TypeError, ValueError) as error:
            raise NestedError(f"this is no nested path: {error}") from error


def nested_path(
    settings: Iterable[Mapping[str, int]], *, share: Share, measured_at: str
) -> NestedPath:
    """Give the path through these ranks, the highest first; points that save nothing are left out.

    The first always stays. ``NestedError`` for ranks that rise.
    """
    points: list[PathPoint] = []
    for setting in settings:
        point = PathPoint(share=share(setting), ranks=dict(setting))
        if not points or point.share < points[-1].share:
            points.append(point)
    return NestedPath(points=tuple(points), measured_at=measured_at)


def find_path(
    network: nn.Module,
    damages: Mapping[str, Mapping[int, float]],
    *,
    cost: Callable[[str, int], float],
    share: Share,
    measured_at: str,
) -> NestedPath:
    """Give the greedy path of a network whose layers' ranks do such damage (``sensitivities``).

    ``cost`` gives the FLOPs of a layer at a rank, in proportion to those of the other layers.
    Layers without damages keep their full rank. Errors as ``Candidates`` and ``nested_path``.
    """
    layers = [
        candidates(name, {layer.full_rank: 0.0, **damages.get(name, {})}, cost=partial(cost, name))
        for name, layer in nested_layers(network).items()
    ]
    settings = (setting.ranks for setting in greedy_path(layers))
    return nested_path(settings, share=share, measured_at=measured_at)


# --- on a network ---------------------------------------------------------------------------------


def attach(network: nn.Module, path: NestedPath, norms: Sequence[NormStatistics] = ()) -> None:
    """Let the network follow this path; ``norms`` are its BatchNorm statistics, one a point.

    ``OtherSurgeryError`` for a path of other layers, or that does not begin at their full ranks;
    ``NestedError`` for more or fewer statistics than points, ``OtherSurgeryError`` for those of
    other norms, ``RankError`` for ranks that no layer has.
    """
    if norms and len(norms) != len(path.points):
        raise NestedError(
            f"BatchNorm statistics of {len(norms)} budgets do not fit a path of "
            f"{len(path.points)} points"
        )
    layers = nested_layers(network)
    full = {name: layer.full_rank for name, layer in layers.items()}
    first = path.points[0].ranks
    strangers = sorted(full.keys() ^ first.keys())
    if strangers:
        where = "network" if strangers[0] in full else "path"
        raise OtherSurgeryError(
            f"the path is of another surgery: only the {where} has a nested layer {strangers[0]!r}"
        )
    for name, rank in first.items():
        if rank != full[name]:
            raise OtherSurgeryError(
                f"the path is of another surgery: it begins at rank {rank} of {name}, whose full "
                f"rank is {full[name]}"
            )
    for point in path.points:
        chosen_ranks(layers, point.ranks)  # of a file that somebody wrote
    for statistics in norms:
        check_norms(network, statistics)
    network.nested_path = path  # type: ignore[assignment]
    network.nested_norms = tuple(norms)  # type: ignore[assignment]


def set_budget(network: nn.Module, budget: float) -> None:
    """Set the default ranks to those of a share of dense FLOPs; errors as ``NestedPath.at``.

    So are the statistics of BatchNorm, where the path has some. ``BudgetError`` for a network that
    follows no path.
    """
    owner, path = _followed(network)
    point = path.at(budget)
    set_rank(owner, point.ranks)
    norms = _norms_of(owner, path, point)
    if norms is not None:
        load_norms(owner, norms)


@contextmanager
def using_budget(network: nn.Module, budget: float) -> Iterator[None]:
    """Run the calls inside at this budget, in this thread and task alone (``using_ranks``)."""
    owner, path = _followed(network)
    point = path.at(budget)
    norms = _norms_of(owner, path, point)
    with (
        using_ranks(owner, point.ranks),
        nullcontext() if norms is None else using_norms(owner, norms),
    ):
        yield


def budget_of(network: nn.Module) -> float:
    """Share of dense FLOPs that a call here and now takes; ``BudgetError`` off the path."""
    owner, path = _followed(network)
    now = ranks(owner)
    for point in path.points:
        if point.ranks == now:
            return point.share
    raise BudgetError("the network runs at ranks that are no point of its path; set a budget")


def _norms_of(owner: nn.Module, path: NestedPath, point: PathPoint) -> NormStatistics | None:
    norms: tuple[NormStatistics, ...] = owner.__dict__.get("nested_norms", ())
    return norms[path.points.index(point)] if norms else None


def _followed(network: nn.Module) -> tuple[nn.Module, NestedPath]:
    """The path, and the module it lies on: compilers and data-parallel wrappers stand around it."""
    for module in network.modules():
        path = module.__dict__.get("nested_path")
        if isinstance(path, NestedPath):
            return module, path
    raise BudgetError("the network follows no nested path; attach one, or set ranks")
