"""Networks on a frontier: what each kind of network is, run at several budgets.

What a frontier measures is a ``Runner``: a network, the settings it can be run at (ranks, widths,
or nothing to choose), and those that it is taught at. How all are taught alike is told in
``distill.classroom``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from torch import nn

from distill.progress import Progress
from students import FitResult

Choose = Callable[[nn.Module, Any], None]


def _nothing(network: nn.Module, settings: Sequence[Any]) -> None:
    """A network that is as quick as it can be."""


def itself(layer: str) -> str:
    """A network of the dense one's layers, by the same names."""
    return layer


@final
@dataclass(frozen=True, kw_only=True)
class Spot:
    """One setting that a network is run at, and what it costs."""

    setting: Any
    budget: float  # share of dense FLOPs asked for …
    share: float  # … and taken
    parameters: int
    trained: bool = False


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
    """A network and its settings. ``lessons`` are those it is taught at, the dearest first.

    ``prepare`` makes the network, with the weights it has, quick at some settings. ``counterpart``
    names the layer that gives what a layer of the dense network gives; "" if there is none.
    """

    network: nn.Module
    choose: Choose
    spots: tuple[Spot, ...]
    lessons: tuple[Any, ...] = ()  # none: it is taught nothing, or was taught already …
    taught: int = 0  # … with so many updates
    prepare: Callable[[nn.Module, Sequence[Any]], None] = _nothing
    counterpart: Callable[[str], str] = itself


@runtime_checkable
class Room(Protocol):
    """Where all networks of a frontier learn and answer the same rows."""

    @property
    def made_by(self) -> Mapping[str, Any]:
        """What decides every result beside a contestant's own."""
        ...

    @property
    def device(self) -> str:
        """Where networks run."""
        ...

    @property
    def progress(self) -> Progress:
        """Who is told."""
        ...

    def teach(
        self, runner: Runner, seed: int, folder: Path, *, made_by: Mapping[str, Any]
    ) -> FitResult:
        """Train the runner's network in ``folder``, or go on there."""
        ...

    def answer(self, runner: Runner, split: str) -> np.ndarray:
        """What it says of each row of a split at each of its spots: (spots, rows, …)."""
        ...


@runtime_checkable
class Contestant(Protocol):
    """One kind of network: a runner for each of its parts, which are taught apart."""

    @property
    def name(self) -> str:
        """What its curve is called."""
        ...

    @property
    def about(self) -> str:
        """What it is, for who reads the report."""
        ...

    @property
    def seeds(self) -> int:
        """How many times it is taught."""
        ...

    @property
    def timed(self) -> bool:
        """False where it has the layers, and so the time, of another."""
        ...

    def parts(self) -> Sequence[str]:
        """Names of its parts: one, or one a budget where each is a network of its own."""
        ...

    def made_by(self) -> Mapping[str, Any]:
        """What decides its networks and where they are run, beside what all share."""
        ...

    def runner(self, part: str, seed: int) -> Runner:
        """The untaught network of a part, or the taught one where it learned elsewhere."""
        ...
