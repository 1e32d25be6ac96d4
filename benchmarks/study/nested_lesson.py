"""How a small Llama is taught its path by its dense network, and how it speaks at a budget."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.study.nested_llama import (
    Speaker,
    Start,
    at_budgets,
    dense,
    mean_log_kl,
    samples,
    worth,
)
from students import Evaluation, MemoryFeed, Recipe, fit
from students.nested import (
    Learning,
    NestedObjective,
    NestedRecipe,
    RankPasses,
    prepare,
    set_rank,
)

BATCH = 2  # samples of a step
TRAINED = (0.9, 0.8, 0.7, 0.6, 0.55, 0.5)  # budgets whose ranks are trained, below the anchor's


# --- teaching -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """How the path is taught."""

    weighing: str
    learning_rate: float
    sampling: str = "sandwich"
    batches: int  # of BATCH samples
    anchor: float = 1.0  # the highest budget that is trained


def teach(
    start: Start,
    lesson: Lesson,
    *,
    seed: int,
    folder: Path,
    on_epoch: Callable[[Any], None] = print,
) -> float:
    """Teach the points of the path by the dense network's outputs alone; seconds it took.

    A checkpoint is written each minute: a training that is killed goes on.
    """
    rows, held_out = samples("train"), samples("validation")[:16]
    at = at_budgets(start.path, (lesson.anchor, *TRAINED))
    settings = list(at.values())
    recipe = NestedRecipe(
        weighing=lesson.weighing, sampling=lesson.sampling, distill="dense", ce_weight=0.0
    )
    one = Learning(
        start.network,
        NestedObjective(recipe, count=len(settings), steps=lesson.batches, seed=seed),
    )

    def aims(numbers: np.ndarray) -> Tensor:
        with torch.no_grad():
            found: Tensor = dense()({"input_ids": rows[torch.from_numpy(numbers)]})
        return found

    def order(epoch: int) -> list[np.ndarray]:
        drawn = np.random.default_rng([seed, epoch]).permutation(len(rows))
        return [drawn[at * BATCH : (at + 1) * BATCH] for at in range(lesson.batches)]

    def judge(_: nn.Module) -> Evaluation:
        found = mean_log_kl(worth(start.network, at, held_out))
        return Evaluation(accuracy=-found, loss=found)

    result = fit(
        one,
        feed=MemoryFeed({"input_ids": rows}, {"logits": aims}),
        loss=RankPasses(one, settings),
        evaluate=judge,
        recipe=Recipe(
            epochs=1,
            batch_size=BATCH,
            learning_rate=lesson.learning_rate,
            warmup=0.05,
            clip=1.0,
            seed=seed,
        ),
        folder=folder,
        order=order,
        checkpoint_seconds=60.0,
        on_epoch=on_epoch,
    )
    return result.seconds


# --- generation -----------------------------------------------------------------------------------


@torch.no_grad()
def generated(network: Speaker, setting: Mapping[str, int], *, tokens: int) -> dict[str, Any]:
    """Greedy tokens with a cache, and how far each is from the best of a pass without one.

    ``tokens`` new ones always; a distance of 0 is the same choice, and ties are told by it.
    """
    network.eval()
    set_rank(network, setting)
    prepare(network, [setting])
    begun = torch.tensor([[network.model.config.bos_token_id]])
    told: Tensor = network.model.generate(
        begun, do_sample=False, max_new_tokens=tokens, eos_token_id=None, use_cache=True,
        attention_mask=torch.ones_like(begun), pad_token_id=0,
    )  # fmt: skip
    logits = network({"input_ids": told})[0, :-1]
    chosen = logits.gather(-1, told[0, 1:, None])[:, 0]
    return {
        "ids": told[0].tolist(),
        "new": told.shape[1] - 1,
        "worst": float((logits.max(dim=-1).values - chosen).max()),
        "finite": bool(logits.isfinite().all()),
    }
