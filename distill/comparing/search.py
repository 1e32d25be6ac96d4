"""Random search that is fair to all: as many trials for every method, drawn from one seed.

Trial 0 is the method's defaults. Every other draws each setting by itself, from the seed, the
trial and the setting's name alone: trial *t* of two methods has the same learning rate relative
to the default, so that luck in drawing it is shared. What is best is decided on validation only.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.findings import Trial

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Around:
    """Log-uniform from ``default / factor`` to ``default * factor``."""

    factor: float

    def drawn(self, default: Any, rng: np.random.Generator) -> Any:
        """A value; a default of 0 stays 0, as a term that is off is not a setting."""
        return float(default * self.factor ** rng.uniform(-1.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Among:
    """One of a few, each as likely."""

    values: tuple[Any, ...]

    def drawn(self, default: Any, rng: np.random.Generator) -> Any:
        """A value, whatever the default."""
        del default
        return self.values[int(rng.integers(len(self.values)))]


Space = Mapping[str, Around | Among]


def draw(space: Space, defaults: Mapping[str, Any], *, trial: int, seed: int) -> Settings:
    """Settings of one trial, for every name in ``space``; ``defaults`` holds at least those."""
    return {
        name: defaults[name]
        if trial == 0
        else values.drawn(defaults[name], _generator(name, trial, seed))
        for name, values in space.items()
    }


def choose(trials: Sequence[Trial]) -> Trial:
    """The highest accuracy, then the lowest loss, then the earliest; what diverged comes last."""

    def rank(one: Trial) -> tuple[float, float, int]:
        return -one.accuracy, math.inf if one.loss is None else one.loss, one.number

    return min(trials, key=rank)


def _generator(name: str, trial: int, seed: int) -> np.random.Generator:
    word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, trial, word])
