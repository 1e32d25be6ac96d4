"""Rivals of a nested network: of its ranks, of half of the layers, or dense and taught as long."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from distill.contest import Runner, Spot
from distill.contestants.ground import (
    Ground,
    choose_nothing,
    choose_ranks,
    prepare_ranks,
    untaught,
)
from distill.findings import LONGER
from students import count_parameters
from students.nested import count_flops
from students.nested.rivals import factored, first_half, truncated

FULL = 0.999  # shares from here on are the dense network's


def _percent(spot: Spot) -> str:
    return f"{100 * spot.share:.2f}"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Truncated:
    """The dense network's matrices cut to the nested network's ranks; nothing is taught."""

    ground: Ground
    init: str
    name: str
    about: str
    seeds: int = 1
    timed: bool = False

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """How it is cut and where it is run."""
        return {**self.ground.places, "init": self.init}

    def runner(self, part: str, seed: int) -> Runner:
        """The dense network, cut."""
        del part, seed
        ground = self.ground
        return Runner(
            network=truncated(
                ground.dense,
                ground.include,
                init=self.init,
                calibration=ground.calibration,
                gauges=ground.gauges,
            ),
            choose=choose_ranks,
            spots=untaught(ground.spots),
            prepare=prepare_ranks,
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class OneRank:
    """A network of its own at each of a few budgets: plain layers of the nested one's ranks."""

    ground: Ground
    networks: int
    name: str = "one-rank"
    about: str = (
        "a plain network taught at each budget by itself, from the nested one's start; above its "
        "largest budget the dense network"
    )
    seeds: int = 1
    timed: bool = False

    def parts(self) -> Sequence[str]:
        """A network each of these budgets, in per cent, spread over those below the full one."""
        below = [spot for spot in self.ground.spots if spot.share < FULL]
        wanted = np.linspace(0, len(below) - 1, min(self.networks, len(below))).round()
        return tuple(_percent(below[int(at)]) for at in dict.fromkeys(wanted.tolist()))

    def made_by(self) -> Mapping[str, Any]:
        """Where its networks are run."""
        return self.ground.places

    def runner(self, part: str, seed: int) -> Runner:
        """The network of one budget, to be taught."""
        del seed
        spot = next(spot for spot in self.ground.spots if _percent(spot) == part)
        return Runner(
            network=factored(self.ground.start(), spot.setting),
            choose=choose_nothing,
            spots=(replace(spot, setting=None, trained=True),),
            lessons=(None,),
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """The first half of the layers, and the head."""

    ground: Ground
    seeds: int
    name: str = "half"
    about: str = "the first half of the layers, taught as all others"
    timed: bool = True

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Nothing but what all share."""
        return {}

    def runner(self, part: str, seed: int) -> Runner:
        """The dense network without its last layers, to be taught."""
        del part, seed
        network, _ = first_half(self.ground.dense)
        network.requires_grad_(True)
        share = count_flops(network, self.ground.example) / self.ground.flops
        spot = Spot(
            setting=None,
            budget=share,
            share=share,
            parameters=count_parameters(network),
            trained=True,
        )
        return Runner(network=network, choose=choose_nothing, spots=(spot,), lessons=(None,))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Longer:
    """The dense network with the lesson that all others get: what more teaching alone gives."""

    ground: Ground
    seeds: int
    name: str = LONGER
    about: str = "the dense network, taught as all others"
    timed: bool = False

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Nothing but what all share."""
        return {}

    def runner(self, part: str, seed: int) -> Runner:
        """A copy of the dense network, to be taught."""
        del part, seed
        network = copy.deepcopy(self.ground.dense).requires_grad_(True)
        spot = Spot(
            setting=None, budget=1.0, share=1.0, parameters=count_parameters(network), trained=True
        )
        return Runner(network=network, choose=choose_nothing, spots=(spot,), lessons=(None,))
