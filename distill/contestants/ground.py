"""What all contestants are made of: one dense network, calibration rows, one input, and a path."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

from torch import nn

from distill.config import fingerprint
from distill.contest import Spot
from distill.frontiers import spread
from students import count_parameters
from students.nested import NestedPath, count_flops, materialise, prepare, set_rank

Ranks = Mapping[str, int]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What all contestants are made of."""

    dense: nn.Module  # a finished network, which stays as it is
    include: tuple[str, ...]  # layers that are nested
    calibration: Sequence[Any]  # batches, as the network takes them
    example: Any  # one input, as the network takes it, whose FLOPs are counted
    path: NestedPath
    lessons: tuple[Ranks, ...]  # ranks that are taught, the dearest first
    gauges: bool  # whether layers may run in gauge form
    own_biases: bool  # whether its taught ranks have biases of their own
    start: Callable[[], nn.Module]  # the nested network before it was taught
    taught: Callable[[], nn.Module]  # and after
    updates: int  # that it was taught with
    points: int
    budgets: tuple[float, ...]

    @cached_property
    def flops(self) -> int:
        """Of the dense network."""
        return count_flops(self.dense, self.example)

    @cached_property
    def taught_shares(self) -> tuple[float, ...]:
        """What the lessons cost, the dearest first."""
        shares = {self._key(point.ranks): point.share for point in self.path.points}
        return tuple(shares[key] for key in map(self._key, self.lessons) if key in shares)

    @cached_property
    def spots(self) -> tuple[Spot, ...]:
        """Budgets of the nested network, and of all that have its ranks."""
        taught = {self._key(ranks) for ranks in self.lessons}
        asked = [budget for budget in self.budgets if budget >= self.path.floor]
        found = spread(  # what is asked about comes first, to be told of by that name
            [*asked, *self.taught_shares, self.path.floor],
            count=self.points,
            taken=lambda budget: self.path.at(budget).share,
        )
        network = self.start()
        spots = []
        for budget, share in found:
            ranks = self.path.at(min(1.0, share + 1e-9)).ranks
            spots.append(
                Spot(
                    setting=ranks,
                    budget=budget,
                    share=share,
                    parameters=count_parameters(materialise(network, ranks)),
                    trained=self._key(ranks) in taught,
                )
            )
        return tuple(spots)

    @property
    def places(self) -> Mapping[str, Any]:
        """What decides where networks of several budgets are run."""
        digest = fingerprint(self.path.to_json(), [dict(ranks) for ranks in self.lessons])
        return {"points": self.points, "budgets": list(self.budgets), "path": digest}

    @staticmethod
    def _key(ranks: Ranks) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(ranks.items()))


def untaught(spots: Sequence[Spot]) -> tuple[Spot, ...]:
    """The same spots of a network that was taught at none of them."""
    return tuple(replace(spot, trained=False) for spot in spots)


def choose_nothing(network: nn.Module, setting: Any) -> None:
    """A network of one setting has nothing to choose."""


def choose_ranks(network: nn.Module, setting: Ranks) -> None:
    """Run the network at these ranks."""
    set_rank(network, setting)


def prepare_ranks(network: nn.Module, settings: Sequence[Ranks]) -> None:
    """Keep each layer's cheapest form at these ranks."""
    prepare(network, settings)
