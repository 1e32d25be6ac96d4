"""Where all networks of a frontier learn and answer: one recipe, one objective, the same rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float32, Int64
from torch import nn

from distill.contest import Runner
from distill.progress import Progress
from distill.rank_lessons import objective_for, teach_settings, witness_of
from distill.training_rows import TrainingRows, plain_rows
from students import (
    Evaluation,
    Feed,
    FitResult,
    Recipe,
    evaluate_logits,
    forward_rows,
    in_memory,
)
from students.feeds import Take
from students.nested import (
    NestedRecipe,
    held_norms,
    hint_spreads,
    load_norms,
    measure_norms,
)
from students.nested.training import averaged


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Classroom:
    """What all learn and answer: rows, labels, the dense network's logits, recipe and objective."""

    feeds: Mapping[str, Feed]  # train, validation and test, without targets
    labels: Mapping[str, Int64[np.ndarray, " rows"]]
    dense: nn.Module
    recipe: Recipe
    objective: NestedRecipe
    calibration: Sequence[Any]  # batches, on which BatchNorm is measured at a setting
    made_by: Mapping[str, Any]  # what decides every result beside a contestant's own
    device: str
    progress: Progress
    fresh: Callable[[Mapping[str, Take], Recipe], TrainingRows] | None = None  # views to learn
    hinted: Sequence[str] = ()  # layers of the dense network whose outputs are learned, if any are

    @cached_property
    def logits(self) -> Float32[np.ndarray, "rows classes"]:
        """What the dense network says of the training rows as they are."""
        self.progress.say("the dense network answers the training rows, to be distilled")
        self.dense.to(self.device)
        return forward_rows(self.dense, self.feeds["train"], device=self.device)

    @cached_property
    def spreads(self) -> dict[str, float]:
        """Of what the layers give whose outputs are learned."""
        if not self.objective.hint_weight:
            return {}
        self.dense.to(self.device)
        return hint_spreads(self.dense, self.hinted, self.calibration)

    def teach(
        self, runner: Runner, seed: int, folder: Path, *, made_by: Mapping[str, Any]
    ) -> FitResult:
        """Train the runner's network in ``folder``, or go on there; epochs chosen on validation."""
        objective = objective_for(len(runner.lessons), self.objective)
        recipe = replace(self.recipe, seed=self.recipe.seed + seed)
        witness = witness_of(
            self.dense,
            objective,
            spreads=self.spreads,
            counterpart=runner.counterpart,
            answers=self.fresh is not None,
            precision=recipe.precision,
        )
        return teach_settings(
            runner.network,
            runner.lessons,
            choose=runner.choose,
            objective=objective,
            train=self._rows(objective, recipe),
            witness=witness,
            evaluate=partial(self._evaluate, runner),
            recipe=recipe,
            folder=folder,
            made_by={**self.made_by, **made_by},
            device=self.device,
            progress=self.progress,
        )

    def _rows(self, objective: NestedRecipe, recipe: Recipe) -> TrainingRows:
        targets: dict[str, Take] = {"labels": in_memory(self.labels["train"])}
        if self.fresh:
            return self.fresh(targets, recipe)
        if objective.needs_dense and not objective.hint_weight:
            targets["logits"] = in_memory(self.logits)
        return plain_rows(self.feeds["train"], targets, recipe)

    def _evaluate(self, runner: Runner, learning: nn.Module) -> Evaluation:
        """The mean over the settings that are taught, each by its place."""
        del learning  # the runner's network, with what it learns of its ranks
        found = {
            str(place): evaluate_logits(
                self._logits(runner, setting, "validation"), self.labels["validation"]
            )
            for place, setting in enumerate(runner.lessons)
        }
        runner.choose(runner.network, runner.lessons[0])
        return averaged(found)

    def answer(self, runner: Runner, split: str) -> Int64[np.ndarray, "spots rows"]:
        """The class that the network says of each row at each of its spots."""
        runner.network.to(self.device).eval()
        found = []
        for spot in runner.spots:
            runner.prepare(runner.network, [spot.setting])
            rows = self._logits(runner, spot.setting, split)
            found.append(rows.argmax(axis=1).astype(np.int64))
        return np.stack(found)

    def _logits(
        self, runner: Runner, setting: Any, split: str
    ) -> Float32[np.ndarray, "rows classes"]:
        """At a setting; with BatchNorm measured there, of a network that has several."""
        network, feed = runner.network, self.feeds[split]
        runner.choose(network, setting)
        own = held_norms(network)
        if not own.of or len(runner.spots) == 1:
            return forward_rows(network, feed, device=self.device)
        load_norms(network, measure_norms(network, self.calibration))
        try:
            return forward_rows(network, feed, device=self.device)
        finally:
            load_norms(network, own)
