"""How a language model is taught its ranks, and what each budget of it is worth.

Everything is told of windows of tokens, as far as a token has one after it. The dense network
answers beside what is taught, so that no answers of a large vocabulary are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from distill.contest import Runner
from distill.progress import Progress
from distill.rank_lessons import objective_for, teach_settings, witness_of
from distill.training_rows import plain_rows
from students import Evaluation, FitResult, MemoryFeed, Recipe
from students.feeds import Take
from students.nested import NestedRecipe, hint_spreads
from students.nested.training import averaged

UNTOLD = -100  # the label of a place that has no token after it
FIGURES = ("surprise", "divergence", "right", "agreed")  # of a window
SURPRISE, DIVERGENCE, RIGHT, AGREED = range(len(FIGURES))
JUDGED: Final = 8  # windows at a time when nothing is learned

Windows = Int64[np.ndarray, "windows tokens"]
Told = Float64[np.ndarray, "spots windows figures"]


def feed_of(windows: Windows) -> MemoryFeed:
    """Windows as batches without targets."""
    return MemoryFeed({"input_ids": torch.from_numpy(windows)}, {})


def next_tokens(windows: Int64[Tensor, "rows tokens"]) -> Int64[Tensor, "rows tokens"]:
    """The token after each; the last of a window has none."""
    found = torch.roll(windows, -1, dims=1)
    found[:, -1] = UNTOLD
    return found


def figures(
    logits: Tensor, dense: Tensor, windows: Int64[Tensor, "rows tokens"]
) -> Float64[np.ndarray, "rows figures"]:
    """Means over the places of each window that have a token after them.

    Of -log p(next token), of KL(dense ‖ found), of whether the next token is the likeliest, and of
    whether dense has the same likeliest one.
    """
    found, wanted = (functional.log_softmax(x[:, :-1].float(), dim=-1) for x in (logits, dense))
    after = windows[:, 1:]
    surprise = -found.gather(-1, after[..., None])[..., 0]
    divergence = (wanted.exp() * (wanted - found)).sum(dim=-1)
    first = found.argmax(dim=-1)
    parts = (surprise, divergence, first == after, first == wanted.argmax(dim=-1))
    return torch.stack([part.double().mean(dim=1) for part in parts], dim=1).cpu().numpy()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageRoom:
    """What all networks of a frontier of language models learn and answer."""

    windows: Mapping[str, Windows]  # train, validation, test
    dense: nn.Module  # on the device, in evaluation
    recipe: Recipe
    objective: NestedRecipe
    made_by: Mapping[str, Any]  # what decides every result beside a contestant's own
    device: str
    progress: Progress
    hinted: Sequence[str] = ()  # layers of the dense network whose outputs are learned, if any are
    calibration: Sequence[Any] = ()  # batches that their spread is measured on

    @cached_property
    def spreads(self) -> dict[str, float]:
        """Of what the layers give whose outputs are learned."""
        if not self.objective.hint_weight:
            return {}
        return hint_spreads(self.dense, self.hinted, self.calibration)

    def teach(
        self, runner: Runner, seed: int, folder: Path, *, made_by: Mapping[str, Any]
    ) -> FitResult:
        """Train the runner's network in ``folder``, or go on there; epochs chosen on validation."""
        objective = objective_for(len(runner.lessons), self.objective)
        recipe = replace(self.recipe, seed=self.recipe.seed + seed)
        return teach_settings(
            runner.network.to(self.device),
            runner.lessons,
            choose=runner.choose,
            objective=objective,
            train=plain_rows(feed_of(self.windows["train"]), self._targets(objective), recipe),
            witness=witness_of(
                self.dense,
                objective,
                spreads=self.spreads,
                counterpart=runner.counterpart,
                answers=True,
                precision=recipe.precision,
            ),
            evaluate=lambda _: self._evaluate(runner),
            recipe=recipe,
            folder=folder,
            made_by={**self.made_by, **made_by},
            device=self.device,
            progress=self.progress,
            unit="windows",
        )

    def _targets(self, objective: NestedRecipe) -> dict[str, Take]:
        """The next tokens, where they are learned."""
        windows = torch.from_numpy(self.windows["train"])
        return {"labels": lambda rows: next_tokens(windows[rows])} if objective.ce_weight else {}

    def _evaluate(self, runner: Runner) -> Evaluation:
        """The mean over the settings that are taught, each by its place."""
        told = self._told(runner, runner.lessons, "validation")
        runner.choose(runner.network, runner.lessons[0])
        return averaged(
            {
                str(place): Evaluation(accuracy=float(one[RIGHT]), loss=float(one[SURPRISE]))
                for place, one in enumerate(told.mean(axis=1))
            }
        )

    def answer(self, runner: Runner, split: str) -> Told:
        """What the network says at each of its spots, each in its quickest form."""
        runner.network.to(self.device).eval()
        runner.prepare(runner.network, [spot.setting for spot in runner.spots])
        return self._told(runner, [spot.setting for spot in runner.spots], split)

    @torch.no_grad()
    def _told(self, runner: Runner, settings: Sequence[Any], split: str) -> Told:
        runner.network.eval()
        found: list[list[np.ndarray]] = [[] for _ in settings]
        for part in torch.split(torch.from_numpy(self.windows[split]), JUDGED):
            batch = {"input_ids": part.to(self.device)}
            dense = self.dense(batch)
            for place, setting in enumerate(settings):
                runner.choose(runner.network, setting)
                found[place].append(figures(runner.network(batch), dense, batch["input_ids"]))
        return np.stack([np.concatenate(parts) for parts in found])
