"""The rival whose widths are nested: MLP blocks that run their first hidden units."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from torch import nn

from distill.contest import Runner, Spot
from distill.contestants.ground import Ground
from distill.frontiers import spread
from students import count_parameters
from students.nested import count_flops
from students.nested.widths import (
    CutLinear,
    nest_widths,
    set_width,
    spare_parameters,
    widest,
    width_within,
)

FEWEST_UNITS = 1  # of a width


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Width:
    """One network whose MLP blocks run their first hidden units (MatFormer's)."""

    ground: Ground
    seeds: int
    name: str = "width"
    about: str = (
        "the first hidden units of every MLP block, the most useful first (MatFormer), taught at "
        "the widths that the nested network's lessons pay for"
    )
    timed: bool = True

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Where it is taught and run: at what the nested network's lessons cost."""
        return {**self.ground.places, "taught": list(self.ground.taught_shares)}

    def runner(self, part: str, seed: int) -> Runner:
        """The dense network with its hidden units in order, to be taught at several widths."""
        del part, seed
        ground = self.ground
        network = copy.deepcopy(ground.dense)
        nest_widths(network, ground.calibration)
        network.requires_grad_(True)
        known: dict[int, float] = {}

        def share(units: int) -> float:
            if units not in known:
                set_width(network, units)
                known[units] = count_flops(network, ground.example) / ground.flops
            return known[units]

        def within(budget: float) -> int:
            return width_within(network, budget, share, floor=share(FEWEST_UNITS))

        floor = max(share(FEWEST_UNITS), ground.path.floor)
        taught = [within(max(floor, paid)) for paid in ground.taught_shares]
        asked = [b for b in ground.budgets if b >= floor]
        found = spread(
            [*map(share, taught), *asked],
            count=ground.points,
            taken=lambda budget: share(within(budget)),
        )
        parameters = count_parameters(network)
        spots = tuple(
            Spot(
                setting=(units := within(min(1.0, taken + 1e-9))),
                budget=budget,
                share=taken,
                parameters=parameters - spare_parameters(network, units),
                trained=units in taught,
            )
            for budget, taken in found
        )
        set_width(network, widest(network))
        return Runner(
            network=network,
            choose=set_width,
            spots=spots,
            lessons=tuple(dict.fromkeys(taught)),
            counterpart=partial(_of_all_widths, network),
        )


def _of_all_widths(network: nn.Module, layer: str) -> str:
    """The layer, unless its outputs are hidden units: fewer, and in another order."""
    return "" if isinstance(network.get_submodule(layer), CutLinear) else layer
