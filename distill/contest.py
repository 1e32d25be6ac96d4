"""Networks on a frontier: each run at several budgets, taught like all others, and answered once.

What a frontier measures is a ``Runner``: a network, the settings it can be run at (ranks, widths,
or nothing to choose), and those that it is taught at. All learn with one recipe and objective, from
the same rows; only how many settings a step sees differs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn

from distill.config import fingerprint
from distill.findings import Record
from distill.progress import LiveTraining, Progress
from distill.runs import recall, remember
from students import (
    Evaluation,
    Feed,
    FitResult,
    Recipe,
    evaluate_logits,
    fit,
    forward_rows,
    in_memory,
    read_tensors,
    shuffled_order,
    with_targets,
    write_tensors,
)
from students.nested import (
    Learning,
    NestedObjective,
    NestedRecipe,
    RankPasses,
    held_norms,
    load_norms,
    measure_norms,
)
from students.nested.training import averaged

RECORD, ANSWERS = "answers.json", "answers.safetensors"
SPLITS = ("validation", "test")

Choose = Callable[[nn.Module, Any], None]


def _nothing(network: nn.Module, settings: Sequence[Any]) -> None:
    """A network that is as quick as it can be."""


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

    ``prepare`` makes the network, with the weights it has, quick at some settings.
    """

    network: nn.Module
    choose: Choose
    spots: tuple[Spot, ...]
    lessons: tuple[Any, ...] = ()  # none: it is taught nothing, or was taught already …
    taught: int = 0  # … with so many updates
    prepare: Callable[[nn.Module, Sequence[Any]], None] = _nothing


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


@dataclass(frozen=True, kw_only=True)
class Place(Record):
    """A spot as it is told: without its setting."""

    budget: float
    share: float
    parameters: int
    trained: bool


@dataclass(frozen=True, kw_only=True)
class Answered(Record):
    """What one network said at its spots, beside the arrays of it."""

    places: tuple[Place, ...]
    updates: int
    seconds: float
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Classes that one network says at each of its spots, by split."""

    answered: Answered
    predicted: Mapping[str, Int64[np.ndarray, "spots rows"]]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Class:
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

    @cached_property
    def logits(self) -> Float32[np.ndarray, "rows classes"]:
        """What the dense network says of the training rows as they are."""
        self.progress.say("the dense network answers the training rows, to be distilled")
        self.dense.to(self.device)
        return forward_rows(self.dense, self.feeds["train"], device=self.device)

    def objective_of(self, settings: int) -> NestedRecipe:
        """The objective of a network of so many settings.

        A network of one has no anchor beside it: it learns from the dense network what variants
        learn from the anchor, and there is nothing to weigh.
        """
        if settings > 1:
            return self.objective
        distill = "none" if self.objective.distill == "none" else "dense"
        return replace(self.objective, distill=distill, weighing="equal")

    def teach(
        self, runner: Runner, seed: int, folder: Path, *, made_by: Mapping[str, Any]
    ) -> FitResult:
        """Train the runner's network in ``folder``, or go on there; epochs chosen on validation."""
        recipe = replace(self.recipe, seed=self.recipe.seed + seed)
        objective = self.objective_of(len(runner.lessons))
        rows = self.feeds["train"].rows
        steps = recipe.epochs * len(
            shuffled_order(rows, recipe.batch_size, seed=recipe.seed, epoch=1)
        )
        learning = Learning(
            runner.network,
            NestedObjective(objective, count=len(runner.lessons), steps=steps, seed=recipe.seed),
        )
        passes = RankPasses(learning, runner.lessons, choose=runner.choose)
        with self.progress.task(folder.name, total=rows * recipe.epochs, unit="rows") as bar:
            live = LiveTraining(self.progress, bar)
            return fit(
                learning,
                feed=with_targets(self.feeds["train"], self._targets(objective)),
                loss=passes,
                evaluate=partial(self._evaluate, runner),
                recipe=recipe,
                folder=folder,
                settings={**self.made_by, **made_by},
                device=self.device,
                on_rows=bar,
                on_loss=live.loss,
                on_epoch=live.epoch,
                on_note=self.progress.say,
            )

    def _targets(self, objective: NestedRecipe) -> dict[str, Any]:
        targets: dict[str, Any] = {"labels": in_memory(self.labels["train"])}
        if objective.distill == "dense":
            targets["logits"] = in_memory(self.logits)
        return targets

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


def answers_of(
    contestant: Contestant, part: str, seed: int, room: Class, folder: Path, *, made_from: str
) -> Answers:
    """Read back, or teach and answer, one network; its record is written last.

    Killed or interrupted, the same call goes on from the last checkpoint.
    """
    earlier = recall(folder / RECORD, Answered, made_from=made_from)
    if earlier is not None:
        tensors, _ = read_tensors(folder / ANSWERS)
        return Answers(answered=earlier, predicted={s: tensors[s].numpy() for s in SPLITS})
    (folder / RECORD).unlink(missing_ok=True)  # it must not speak for other answers
    runner = contestant.runner(part, seed)
    updates, seconds = runner.taught, 0.0
    notes: tuple[str, ...] = ()
    if runner.lessons:
        lessons = fingerprint(list(runner.lessons))
        made_by = {"contestant": contestant.name, "part": part, "lessons": lessons}
        result = room.teach(runner, seed, folder, made_by=made_by)
        updates, seconds, notes = int(result.history[-1]["step"]), result.seconds, result.notes
    room.progress.say(f"{folder.name} answers at {len(runner.spots)} budgets")
    predicted = {split: room.answer(runner, split) for split in SPLITS}
    write_tensors(
        folder / ANSWERS, {name: torch.from_numpy(rows) for name, rows in predicted.items()}, {}
    )
    answered = Answered(
        places=tuple(
            Place(
                budget=spot.budget,
                share=spot.share,
                parameters=spot.parameters,
                trained=spot.trained,
            )
            for spot in runner.spots
        ),
        updates=updates,
        seconds=seconds,
        notes=notes,
    )
    remember(folder / RECORD, answered, made_from=made_from)
    return Answers(answered=answered, predicted=predicted)
