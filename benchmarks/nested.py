"""Nested layers against plain ones, switching, training steps, and surgery. Prints JSON.

Every ratio is the median over rounds in which both sides run in turn, each as often as fills some
milliseconds: times swing on a shared machine, their ratios less. The bars are of a text's 128
tokens, the worst of BERT's and MiniLM's layers; other numbers of rows stand below them, with what
a gauge takes beside the two other forms at ranks where it is chosen. Surgery is of the MLP blocks
of BERT-base with random weights, whitened from 256 texts of 20 tokens. A training step is of a
network of MiniLM's sizes.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from students.nested.forms import Form
from students.nested.layers import NestedLinear
from students.nested.objective import NestedObjective
from students.nested.ranks import nested_layers, prepare, set_rank, using_ranks
from students.nested.recipe import NestedRecipe
from students.nested.surgery import INITS, nest
from students.nested.training import Learning, RankPasses

SIZES = ((384, 384), (384, 1536), (1536, 384), (768, 3072), (3072, 768))
TOKENS, ROWS = 128, (1, 32, 128, 1024)
ROUNDS, SECONDS = 41, 4e-3  # of a turn, at least
STEPS = 11  # rounds of training steps, which take a third of a second
WIDTH, DEEP = 768, 12
BUDGETS = (WIDTH // 3, WIDTH)  # ranks of all layers
BATCH, LENGTH, CLASSES = 32, 24, 150  # of a training step
RECIPES = {
    "labels alone": NestedRecipe(sampling="uniform"),
    "with KL to the anchor": NestedRecipe(
        weighing="equal", sampling="uniform", distill="anchor", temperature=2.0
    ),
}

Call = Callable[[], Any]


def taken(call: Call, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


def ratio(call: Call, against: Call, *, rounds: int = ROUNDS) -> float:
    """Time of one call over that of the other."""
    times = max(1, int(SECONDS / min(taken(call, 2) for _ in range(3))))
    found = []
    for turn in range(rounds):
        sides = (call, against) if turn % 2 else (against, call)
        took = {side: taken(side, times) for side in sides}
        found.append(took[call] / took[against])
    return statistics.median(found)


def layer_of(d_in: int, d_out: int) -> NestedLinear:
    layer = NestedLinear(d_in, d_out, min(d_in, d_out)).eval()
    layer.rank = layer.full_rank // 3
    return layer


def against_two(d_in: int, d_out: int, rows: Tensor) -> float:
    """At a third of the full rank, by slices of the factors, against two layers of those sizes."""
    layer = layer_of(d_in, d_out)
    first = nn.Linear(d_in, layer.rank, bias=False)
    second = nn.Linear(layer.rank, d_out)
    return ratio(partial(layer, rows), lambda: second(first(rows)))


def prepared_against_two(d_in: int, d_out: int, rows: Tensor) -> float:
    """The same, prepared, and not in gauge form."""
    layer = layer_of(d_in, d_out)
    layer.gauges = False
    layer.prepare({layer.rank})
    first = nn.Linear(d_in, layer.rank, bias=False)
    second = nn.Linear(layer.rank, d_out)
    return ratio(partial(layer, rows), lambda: second(first(rows)))


def against_dense(d_in: int, d_out: int, rows: Tensor) -> float:
    """Prepared at the full rank, against the dense layer."""
    layer = layer_of(d_in, d_out)
    layer.rank = layer.full_rank
    layer.prepare({layer.rank})
    return ratio(partial(layer, rows), partial(nn.Linear(d_in, d_out), rows))


def gauge_against(form: Form, share: float, d_in: int, d_out: int, rows: Tensor) -> float:
    """A gauge of a share of the full rank, against another form of the same rank."""
    layer = layer_of(d_in, d_out)
    rank = int(share * layer.full_rank)
    gauge, other = layer.plain(rank, "gauge"), layer.plain(rank, form)
    return ratio(partial(gauge, rows), partial(other, rows))


def by_size(measure: Callable[[int, int, Tensor], float], rows: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{d_in} -> {d_out}": round(
            measure(d_in, d_out, torch.randn(rows, d_in, generator=generator)), 3
        )
        for d_in, d_out in SIZES
    }


class Block(nn.Module):
    """The six linear layers of a transformer's block."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(NestedLinear(WIDTH, WIDTH, WIDTH) for _ in range(4))
        self.up = NestedLinear(WIDTH, 4 * WIDTH, WIDTH)
        self.down = NestedLinear(4 * WIDTH, WIDTH, WIDTH)


def switching() -> dict[str, float]:
    """Milliseconds of a switch, by setting it and for one request, and seconds to prepare."""
    network = nn.Sequential(*(Block() for _ in range(DEEP))).eval()
    names = list(nested_layers(network))
    began = time.perf_counter()
    prepare(network, BUDGETS)
    prepared = time.perf_counter() - began
    wanted = [dict.fromkeys(names, rank) for rank in BUDGETS]

    def request() -> None:
        with using_ranks(network, wanted[0]):
            pass

    def there_and_back() -> None:
        for each in wanted:
            set_rank(network, each)

    sets = [taken(there_and_back, 10) / 2 for _ in range(ROUNDS)]
    requests = [taken(request, 10) for _ in range(ROUNDS)]
    return {
        "layers": len(names),
        "set_rank, ms": round(1e3 * statistics.median(sets), 3),
        "using_ranks, ms": round(1e3 * statistics.median(requests), 3),
        "prepare two budgets, s": round(prepared, 2),
    }


class Told(nn.Module):
    """A text network of MiniLM's sizes that tells classes apart."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=1000, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
            intermediate_size=1536, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        self.body = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(384, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (rows, classes) of tokens (rows, length)."""
        found: Tensor = self.head(self.body(tokens).last_hidden_state.mean(dim=1))
        return found


def training(recipe: NestedRecipe) -> dict[str, float]:
    """A step of an anchor and a third of its rank, over plain passes of the same two sizes.

    The plain networks have two linear layers for each nested one; dense passes stand beside.
    """
    dense = Told()
    network = copy.deepcopy(dense)
    nest(network, include=["mlp", "attention"])
    layers = nested_layers(network)
    settings = [
        {name: layer.full_rank // part for name, layer in layers.items()} for part in (1, 3)
    ]
    plain = [
        copy.deepcopy(
            network,
            {id(layer): layer.plain(each[name], "factored") for name, layer in layers.items()},
        )
        for each in settings
    ]
    tokens = torch.randint(1000, (BATCH, LENGTH))
    labels = torch.randint(CLASSES, (BATCH,))
    objective = NestedObjective(recipe, count=2, steps=1, seed=0)
    passes = RankPasses(Learning(network, objective), settings)

    def step() -> None:
        passes.gradient(
            lambda inputs: network(**inputs), {"tokens": tokens}, {"labels": labels}, at=0,
            backward=torch.Tensor.backward,
        )  # fmt: skip

    def two(first: nn.Module, second: nn.Module) -> None:
        for one in (first, second):
            nn.functional.cross_entropy(one(tokens), labels).backward()  # type: ignore[no-untyped-call]

    with torch.enable_grad():
        return {
            "two plain passes": round(ratio(step, partial(two, *plain), rounds=STEPS), 3),
            "two dense passes": round(ratio(step, partial(two, dense, dense), rounds=STEPS), 3),
        }


def surgery(init: str) -> dict[str, float]:
    """Seconds to nest the MLP blocks of a network of 110 million, and how far outputs move."""
    from transformers import BertConfig, BertModel

    network = BertModel(BertConfig(), add_pooling_layer=False).eval()
    tokens = torch.randint(network.config.vocab_size, (16, 16, 20)).unbind()
    before = network(tokens[0]).last_hidden_state
    began = time.perf_counter()
    nest(network, init=init, calibration=tokens)
    took = time.perf_counter() - began
    apart = (network(tokens[0]).last_hidden_state - before).abs().max() / before.abs().max()
    return {"s": round(took, 1), "outputs moved": float(apart)}


def report() -> dict[str, Any]:
    two = {rows: by_size(against_two, rows) for rows in ROWS}
    kept = {rows: by_size(prepared_against_two, rows) for rows in ROWS}
    dense = {rows: by_size(against_dense, rows) for rows in ROWS}
    switch = switching()
    trained = {name: training(recipe) for name, recipe in RECIPES.items()}
    surgeries = {init: surgery(init) for init in INITS}
    gauges = {
        f"{rows} rows, rank {share:g} R, time of gauge / {form}": by_size(
            partial(gauge_against, form, share), rows
        )
        for rows in (32, 1024)
        for share in (0.3, 0.5, 0.7)
        for form in ("factored", "dense")
    }
    return {
        "bars": [
            {
                "what": "nested layer at rank R/3 / two plain layers (time, worst size)",
                "measured": max(two[TOKENS].values()),
                "bar": 1.05,
                "better": "less",
            },
            {
                "what": "nested layer prepared at R/3 / two plain layers (time, worst size)",
                "measured": max(kept[TOKENS].values()),
                "bar": 1.05,
                "better": "less",
            },
            {
                "what": "nested layer prepared at full rank / dense layer (time, worst size)",
                "measured": max(dense[TOKENS].values()),
                "bar": 1.05,
                "better": "less",
            },
            {
                "what": "switching a 12-layer network between prepared budgets (ms)",
                "measured": max(switch["set_rank, ms"], switch["using_ranks, ms"]),
                "bar": 5.0,
                "better": "less",
            },
            *(
                {
                    "what": f"training step, {name}, / two plain forward-backward passes (time)",
                    "measured": trained[name]["two plain passes"],
                    "bar": 1.1,
                    "better": "less",
                }
                for name in RECIPES
            ),
            *(
                {
                    "what": f"surgery of 110 million parameters, init {init} (s)",
                    "measured": surgeries[init]["s"],
                    "bar": 60.0,
                    "better": "less",
                }
                for init in INITS
            ),
        ],
        "nested / two plain layers": {f"{rows} rows": found for rows, found in two.items()},
        "prepared / two plain layers": {f"{rows} rows": found for rows, found in kept.items()},
        "prepared at full rank / dense": {f"{rows} rows": found for rows, found in dense.items()},
        "switching": switch,
        "training step": trained,
        "surgery": surgeries,
        "gauges": gauges,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__},
    }


def main() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        json.dump(report(), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
