"""A student's step fed from the store, against bare loops over tensors. Prints JSON.

The first bar is what the pipeline costs: the same network, batches and fused AdamW on tensors
already in memory, with no seeds, checks, clipping or progress, in turn with ``students.fit`` as
the stage calls it: with freed memory kept (``distill.allocator``). The bare loop runs as a user
would run it, and, beside the bar, with the same memory. Each round times all, in another order,
and gives one ratio: the median of those counts, since a single time swings by a tenth here.
Evaluation and checkpoints are left out on both sides. The second bar is what the store saves: the
same small student at 224 px with ResNet-50 run for its targets, memory kept on both sides.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.allocator import memory_kept
from distill.stored import StoreRows
from stores import FeatureStore, StoreSpec, create_store, open_store
from students import (
    Evaluation,
    MemoryFeed,
    Recipe,
    SubspaceLoss,
    build_student,
    fit,
    place,
    shuffled_order,
)

ROUNDS, BATCH, DIM = 101, 32, 128
SMALL = {"rows": 1216, "size": 32}  # a multiple of the batch: both sides step as often
LARGE = {"rows": 64, "size": 224}
NARROW = {"channels": [16, 32, 64, 128], "stem_width": 16}
RECIPE = Recipe(epochs=1, batch_size=BATCH, learning_rate=1e-3, weight_decay=0.05)

Inputs = dict[str, Tensor]


def a_store(path: Path, rows: int) -> FeatureStore:
    spec = StoreSpec(rows=rows, dim=DIM, chunk_rows=512, labelled=False, made_by={})
    features = np.random.default_rng(0).standard_normal((rows, DIM), dtype=np.float32)
    with create_store(path, spec) as writer:
        for index in writer.pending():
            start, stop = spec.rows_of(index)
            writer.write(index, ids=np.arange(start, stop), features=features[start:stop])
    return open_store(path)


def images(rows: int, size: int) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randn(rows, 3, size, size, generator=generator)}


def student() -> nn.Module:
    network = build_student("timm/resnet10t", dim_out=DIM, modality="image", options=NARROW)
    return place(network, "cpu")


def fed(inputs: Inputs, store: FeatureStore, network: nn.Module) -> float:
    """Seconds of the steps of one epoch of ``students.fit``."""
    head = torch.zeros(10, DIM), torch.zeros(10)
    loss = SubspaceLoss(distance="mse", scale=1.0, weight=head[0], bias=head[1])
    pixels = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
    feed = MemoryFeed({"pixel_values": pixels}, {"targets": StoreRows(store)})
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            network,
            feed=feed,
            loss=loss,
            evaluate=lambda _: Evaluation(accuracy=0.0, loss=0.0),
            recipe=RECIPE,
            folder=Path(folder),
        )
    return feed.rows / result.rows_per_second


def bare(inputs: Inputs, targets: Callable[[Tensor, Tensor], Tensor], network: nn.Module) -> float:
    """Seconds of one epoch of the shortest loop that learns the same."""
    pixels = inputs["pixel_values"]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    network.train()
    order = [torch.from_numpy(rows) for rows in shuffled_order(len(pixels), BATCH, seed=0, epoch=1)]
    begun = time.perf_counter()
    for rows in order:
        batch = pixels[rows].contiguous(memory_format=torch.channels_last)
        loss = nn.functional.mse_loss(network({"pixel_values": batch}), targets(rows, batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - begun


def stored_in_memory(targets: Tensor, rows: Tensor, batch: Tensor) -> Tensor:
    del batch
    return targets[rows]


def online(teacher: nn.Module, projection: Tensor, rows: Tensor, batch: Tensor) -> Tensor:
    """The teacher's features now, and their projection."""
    del rows
    with torch.inference_mode():
        features: Tensor = teacher(batch)
        found = features @ projection
    return found.clone()


def pipeline_cost(folder: Path) -> dict[str, float]:
    inputs, store = images(**SMALL), a_store(folder / "small", SMALL["rows"])
    kept = torch.from_numpy(store.features())
    network = student()
    loop = partial(bare, inputs, partial(stored_in_memory, kept), network)
    sides = {
        "bare": loop,
        "bare, memory kept": partial(with_memory_kept, loop),
        "fed": partial(with_memory_kept, partial(fed, inputs, store, network)),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 2):
        for name in sorted(sides, reverse=bool(turn % 2)):
            took = sides[name]()
            if turn > 1:  # the first calls compile kernels
                times[name].append(took)
    ratios = {name: np.divide(times["fed"], times[name]) for name in times if name != "fed"}
    return {
        **{name: float(np.median(found)) for name, found in times.items()},
        **{f"fed / {name}": float(np.median(found)) for name, found in ratios.items()},
    }


def with_memory_kept(work: Callable[[], float]) -> float:
    with memory_kept():
        return work()


def teacher_cost(folder: Path) -> dict[str, float]:
    import timm

    inputs, store = images(**LARGE), a_store(folder / "large", LARGE["rows"])
    teacher = timm.create_model("resnet50", num_classes=0).eval()
    teacher = teacher.to(memory_format=torch.channels_last)
    projection = torch.randn(2048, DIM) / DIM**0.5
    times: dict[str, list[float]] = {"fed": [], "online": []}
    network = student()
    with memory_kept():
        fed(inputs, store, network)
        for _ in range(3):
            times["fed"].append(fed(inputs, store, network))
            times["online"].append(bare(inputs, partial(online, teacher, projection), network))
    return {name: min(found) for name, found in times.items()}


def report(small: dict[str, float], large: dict[str, float]) -> dict[str, Any]:
    return {
        "bars": [
            {
                "what": "student step fed from the store / bare loop over tensors (time)",
                "measured": round(small["fed / bare"], 3),
                "bar": 1.05,
                "better": "less",
            },
            {
                "what": "fed from the store / ResNet-50 online at 224 px (speed)",
                "measured": round(large["online"] / large["fed"], 3),
                "bar": 4.0,
                "better": "more",
            },
        ],
        "rows_per_second": {
            "fed, 32 px": round(SMALL["rows"] / small["fed"], 1),
            "bare, 32 px": round(SMALL["rows"] / small["bare"], 1),
            "fed, 224 px": round(LARGE["rows"] / large["fed"], 1),
            "teacher online, 224 px": round(LARGE["rows"] / large["online"], 1),
        },
        "fed / bare with the same memory (time)": round(small["fed / bare, memory kept"], 3),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__},
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = report(pipeline_cost(Path(folder)), teacher_cost(Path(folder)))
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
