"""The nested network and the dense one that it was made of."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from distill.contest import Runner, Spot
from distill.contestants.ground import Ground, choose_nothing, choose_ranks, prepare_ranks
from students import count_parameters


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """The network that all the others are made of."""

    ground: Ground
    name: str = "dense"
    about: str = "the network as it was, whole"
    seeds: int = 1
    timed: bool = True

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Nothing but what all share."""
        return {}

    def runner(self, part: str, seed: int) -> Runner:
        """The network itself, at its full cost."""
        del part, seed
        network = copy.deepcopy(self.ground.dense)
        spot = Spot(
            setting=None, budget=1.0, share=1.0, parameters=count_parameters(network), trained=True
        )
        return Runner(network=network, choose=choose_nothing, spots=(spot,))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Nested:
    """The nested network: its first seed is the one that the run has already."""

    ground: Ground
    seeds: int
    name: str = "nested"
    about: str = "one network, all ranks; its rank a layer follows its path"
    timed: bool = True

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Where it is run."""
        return self.ground.places

    def runner(self, part: str, seed: int) -> Runner:
        """What the run has, or the same start to be taught with another seed."""
        del part
        ground = self.ground
        return Runner(
            network=ground.start() if seed else ground.taught(),
            choose=choose_ranks,
            spots=ground.spots,
            lessons=ground.lessons if seed else (),
            taught=0 if seed else ground.updates,
            prepare=prepare_ranks,
        )
