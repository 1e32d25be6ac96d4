"""What gauge forms take in time: a nested network's ranks with them and without.

``python -m benchmarks.study.nested_forms clinc150-minilm-gauges`` after ``nested_frontier`` of that
name. The same ranks give the same answers; only how each layer applies them differs.
"""

import argparse
from functools import partial

import torch

from benchmarks.study.common import RUNS, table, write
from distill.nested_students import load_nested_student
from distill.stopwatch import interleaved
from students.nested import count_flops, materialise, ranks, read_nested

BUDGETS = (0.2, 0.27, 0.35, 0.4, 0.43, 0.46, 0.5, 0.6, 0.7)
BATCHES = (1, 32)
TOKENS = 10


@torch.no_grad()
def main() -> None:
    """Time each budget in both forms, all in turn, beside the dense network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    name = parser.parse_args().name
    short = name.removesuffix("-gauges")
    (folder,) = (path.parent for path in (RUNS / "nested" / name).glob("nested/*/nested.json"))
    network, path = load_nested_student(folder).network, read_nested(folder).path
    kinds = ("input_ids", "attention_mask", "token_type_ids")
    one = {kind: torch.full((1, TOKENS), int(kind != "token_type_ids")) for kind in kinds}
    dense = materialise(network, ranks(network))
    made = {
        (budget, gauges): materialise(network, path.at(budget).ranks, gauges=gauges)
        for budget in BUDGETS
        for gauges in (True, False)
    }
    whole = count_flops(dense, (one,))
    shares = {key: count_flops(each, (one,)) / whole for key, each in made.items()}
    calls = {
        (key, batch): (_nothing, partial(each, {k: v.repeat(batch, 1) for k, v in one.items()}))
        for key, each in [*made.items(), ("dense", dense)]
        for batch in BATCHES
    }
    took = interleaved(calls, repeats=50, seconds=120.0)
    rows = [
        [f"{100 * path.at(budget).share:.1f}"]
        + [
            cell
            for gauges in (True, False)
            for cell in (
                f"{100 * shares[budget, gauges]:.1f}",
                *(f"{took[(budget, gauges), b] / took['dense', b]:.3f}" for b in BATCHES),
            )
        ]
        for budget in BUDGETS
    ]
    header = ["point of the path, %"] + [
        f"{what}, {form}"
        for form in ("gauges", "none")
        for what in ("FLOPs %", *(f"time of dense, batch {batch}" for batch in BATCHES))
    ]
    told = (
        f"{torch.get_num_threads()} threads, {TOKENS} tokens; the dense network takes "
        + " and ".join(f"{1e3 * took['dense', b]:.1f} ms at batch {b}" for b in BATCHES)
        + ". The same ranks, and so the same answers to 1e-4: layers in the form of the fewest "
        "FLOPs, gauges among them, or without gauges.\n"
    )
    write(f"nested-{short}-forms", f"Gauge forms in time: {short}", told, table(header, rows),
          command=f"nested_forms {name}")  # fmt: skip


def _nothing() -> None:
    """Each network has one setting."""


if __name__ == "__main__":
    main()
