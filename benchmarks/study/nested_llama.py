"""A small Llama at any budget: its start, its path, and what it is worth.

Its samples were drawn from the dense network itself, at temperature 1: the dense network is the
best there can be on them by construction, and the KL to it is what a budget loses.
"""

import copy
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.study.common import DATA
from students.nested import (
    Costs,
    NestedPath,
    candidate_ranks,
    dense_costs,
    find_path,
    nest,
    nested_path,
    prepare,
    ranks,
    sensitivities,
    useful_ranks,
    using_ranks,
)

WEIGHTS = DATA / "weights" / "stories260k"
TOKENS = 256
VALIDATION = 200  # of the training samples, the last ones
CALIBRATION = 64  # samples whose second moments the whitened start reads
SENSED = 8  # samples on which each rank of each layer is tried
JUDGED = 16  # samples at a time when nothing is learned
CANDIDATES = 14  # ranks tried of the widest layers
BUDGETS = (1.0, 0.97, 0.93, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.57, 0.55, 0.52, 0.5)

Worth = Mapping[str, Mapping[str, float]]  # by budget: kl and perplexity
Samples = Int64[Tensor, "samples tokens"]


class Speaker(nn.Module):
    """A causal language model that gives logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, prepared: Mapping[str, Tensor]) -> Tensor:
        """Logits (samples, tokens, vocabulary) of ``input_ids``."""
        logits: Tensor = self.model(**prepared, use_cache=False).logits
        return logits


@cache
def dense() -> Speaker:
    """The network as it comes; nobody changes it."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(WEIGHTS)
    return Speaker(model).eval().requires_grad_(False)


def samples(split: str) -> Samples:
    """Of ``train``, ``validation`` (the last of the training samples) or ``test``."""
    import pyarrow.parquet as pq

    file = "test" if split == "test" else "train"
    column = pq.read_table(DATA / "text" / f"stories260k-{file}.parquet")["input_ids"]
    every = torch.from_numpy(np.stack(column.to_numpy()).astype(np.int64))
    if split == "test":
        return every
    return every[-VALIDATION:] if split == "validation" else every[:-VALIDATION]


def batched(rows: Samples, size: int = JUDGED) -> list[tuple[dict[str, Tensor]]]:
    """Batches as a ``Speaker`` is called with."""
    return [({"input_ids": part},) for part in torch.split(rows, size)]


# --- starts and paths -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """A nested copy that nothing was taught, its costs, and its paths."""

    network: Speaker
    costs: Costs
    path: NestedPath  # a rank for each layer
    uniform: NestedPath  # one rank for all layers: the paper's


def nested_copy(init: str) -> Speaker:
    """MLP blocks and attention as factors; the head is tied to the embedding, and stays."""
    network = copy.deepcopy(dense()).requires_grad_(True)
    calibration = batched(samples("train")[:CALIBRATION]) if init == "whitened" else []
    nest(network, ["mlp", "attention"], init=init, calibration=calibration)
    return network


def tried(network: Speaker, costs: Costs) -> dict[str, list[int]]:
    """Ranks to try of each layer: those that cost less than every higher one."""
    return {
        name: useful_ranks(
            candidate_ranks(full, count=CANDIDATES), cost=partial(costs.of_layer, name)
        )
        for name, full in ranks(network).items()
    }


def damages_of(network: Speaker) -> dict[str, dict[int, float]]:
    """What each rank of each layer spoils by itself, on a few training samples."""
    costs = dense_costs(network, _one())
    return sensitivities(network, batched(samples("train")[:SENSED]), tried(network, costs))


def started(init: str, damages: Mapping[str, Mapping[int, float]]) -> Start:
    """The copy with the path through these damages, at the full length of the samples."""
    network = nested_copy(init)
    costs = dense_costs(network, _one())
    at = f"{TOKENS} tokens"
    found = find_path(network, damages, cost=costs.of_layer, share=costs.share, measured_at=at)
    full = ranks(network)
    one = [
        {n: min(rank, of) for n, of in full.items()} for rank in range(max(full.values()), 0, -1)
    ]
    uniform = nested_path(one, share=costs.share, measured_at=at)
    return Start(network=network, costs=costs, path=found, uniform=uniform)


def _one() -> tuple[dict[str, Tensor]]:
    return batched(samples("train")[:1])[0]


def within(costs: Costs, setting: Mapping[str, int]) -> float:
    """Share of the FLOPs of the nested layers alone."""
    layers = sum(costs.of_layer(name, rank) for name, rank in setting.items())
    return layers / sum(costs.dense(name) for name in setting)


# --- what a budget is worth -----------------------------------------------------------------------


def losses(
    logits: Float[Tensor, "samples tokens vocabulary"],
    aim: Float[Tensor, "samples tokens vocabulary"],
    ids: Samples,
) -> tuple[float, float]:
    """Sums of KL(dense ‖ found) and of -log p(next token), over the tokens that have a next."""
    found, wanted = (functional.log_softmax(x[:, :-1].double(), dim=-1) for x in (logits, aim))
    divergence = (wanted.exp() * (wanted - found)).sum()
    told = found.gather(-1, ids[:, 1:, None])
    return float(divergence), float(-told.sum())


@torch.no_grad()
def worth(
    network: Speaker, settings: Mapping[str, Mapping[str, int]], rows: Samples
) -> dict[str, dict[str, float]]:
    """Mean KL to the dense network and perplexity of each setting, in its prepared forms."""
    network.eval()
    prepare(network, settings.values())
    sums = {name: np.zeros(2) for name in settings}
    for (batch,) in batched(rows):
        aim = dense()(batch)
        for name, setting in settings.items():
            with using_ranks(network, setting):
                sums[name] += losses(network(batch), aim, batch["input_ids"])
    network.train()  # forgets the forms
    tokens = rows.numel() - len(rows)
    return {
        name: {"kl": float(kl / tokens), "perplexity": math.exp(nll / tokens)}
        for name, (kl, nll) in sums.items()
    }


def at_budgets(
    path: NestedPath, budgets: Iterable[float] = BUDGETS
) -> dict[str, Mapping[str, int]]:
    """Ranks at each budget, by the budget as text."""
    return {f"{budget:g}": path.at(budget).ranks for budget in budgets}


def mean_log_kl(found: Worth) -> float:
    """Over the budgets below 1: at 1 the start is the dense network, and log KL has no floor."""
    return float(np.mean([math.log(one["kl"]) for name, one in found.items() if name != "1"]))


def worst_log_ratio(found: Worth, rivals: Collection[Worth]) -> float:
    """Log of KL over the best rival's, at the budget below 1 where it is largest.

    Below 0 where every budget is better than all rivals.
    """
    best = {name: min(of[name]["kl"] for of in rivals) for name in found}
    return max(math.log(one["kl"] / best[name]) for name, one in found.items() if name != "1")
