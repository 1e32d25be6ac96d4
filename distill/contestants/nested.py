"""The nested network, and the plain ones of one setting that stand beside it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import nn

from distill.contest import Runner, Spot, itself
from distill.contestants.ground import Ground, choose_nothing, choose_ranks, prepare_ranks
from students import count_parameters
from students.nested import count_flops, give_biases, materialise


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Whole:
    """A plain network that is made of the dense one, and has nothing to choose."""

    ground: Ground
    name: str
    about: str
    build: Callable[[nn.Module], nn.Module]  # leaves the dense network as it is
    seeds: int = 1
    timed: bool = True
    learns: bool = True  # what all others learn; else it stays as it is
    counterpart: Callable[[str], str] = itself

    def parts(self) -> Sequence[str]:
        """One network."""
        return ("",)

    def made_by(self) -> Mapping[str, Any]:
        """Nothing but what all share."""
        return {}

    def runner(self, part: str, seed: int) -> Runner:
        """It, at its full cost."""
        del part, seed
        network = self.build(self.ground.dense)
        if self.learns:
            network.requires_grad_(True)
        share = count_flops(network, self.ground.example) / self.ground.flops
        spot = Spot(
            setting=None,
            budget=share,
            share=share,
            parameters=count_parameters(network),
            trained=True,
        )
        lessons = (None,) if self.learns else ()
        return Runner(
            network=network,
            choose=choose_nothing,
            spots=(spot,),
            lessons=lessons,
            counterpart=self.counterpart,
        )


def dense_of(ground: Ground) -> Whole:
    """The network that all the others are made of."""
    return Whole(
        ground=ground,
        name="dense",
        about="the network as it was, whole",
        build=copy.deepcopy,
        learns=False,
    )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Nested:
    """The nested network: its first seed is the one that the run has already."""

    ground: Ground
    seeds: int
    name: str = "nested"
    timed: bool = True

    @property
    def about(self) -> str:
        """What it is."""
        own = "; biases of each taught rank's own" if self.ground.own_biases else ""
        return f"one network, all ranks; its rank a layer follows its path{own}"

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
        network = ground.start() if seed else ground.taught()
        spots = ground.spots
        if ground.own_biases:
            if seed:
                give_biases(network, ground.lessons)
            spots = tuple(
                replace(spot, parameters=count_parameters(materialise(network, spot.setting)))
                for spot in spots
            )
        return Runner(
            network=network,
            choose=choose_ranks,
            spots=spots,
            lessons=ground.lessons if seed else (),
            taught=0 if seed else ground.updates,
            prepare=prepare_ranks,
        )
