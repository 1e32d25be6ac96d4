"""Rivals of a nested network that have its ranks: untaught, or a network of its own at each."""

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
from students.nested.rivals import factored, truncated

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
