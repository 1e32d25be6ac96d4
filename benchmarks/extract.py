"""Extraction into a store, against the same forward pass written by hand. Prints JSON.

Two cases: ResNet-50 over 64 px tensors (what the stage itself costs), and MobileNetV2 over the
JPEGs of Caltech-101 (reading, decoding and preparing too), the latter skipped where the real data
is not there. Ours writes a checked, resumable store; by hand nothing is kept but a list. By hand
is what a careful person writes: inference_mode, and the faster of both memory formats. How much
of the difference is ``distill.allocator`` is shown by the same loops inside it, beside the bar.
All take turns, and the best round of each counts, since everything else only slows.
"""

import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from distill.allocator import memory_kept
from distill.config import DataConfig, ExtractConfig
from distill.datasets import Dataset, Inputs, Split, load_dataset
from distill.progress import SILENT
from distill.stages.extract import extract
from teachers import NetworkTeacher, load_teacher

ROUNDS = 3
TENSORS, SIDE, BATCH = 512, 64, 64
PICTURES, PICTURE_BATCH, WORKERS = 256, 32, (0, 1, 2)
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
DATA = Path(os.environ.get("DISTILL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclasses.dataclass(frozen=True)
class Tensors:
    """A reader of tensors that lie in memory."""

    held: torch.Tensor

    def __len__(self) -> int:
        return len(self.held)

    def read(self, row: int) -> torch.Tensor:
        """One tensor."""
        return self.held[row]

    def where(self, row: int) -> str:
        """Its number."""
        return f"tensor {row}"


def stack(inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Preparation of what is prepared already."""
    return {"pixel_values": torch.stack(list(inputs))}


def network_teacher(name: str, **settings: Any) -> NetworkTeacher:
    teacher = load_teacher(name, **settings)
    if not isinstance(teacher, NetworkTeacher):
        raise TypeError(f"{name} is no network of ours")
    return teacher


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def into_store(teacher: NetworkTeacher, dataset: Dataset, folder: Path, workers: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    size = PICTURE_BATCH if dataset.name.startswith("parquet") else BATCH
    extract(
        dataset,
        teacher,
        folder / "features.zarr",
        settings=ExtractConfig(batch_size=size),
        made_by={},
        workers=workers,
        progress=SILENT,
    )


def bare_forward(network: nn.Module, batches: Sequence[torch.Tensor]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [network(batch).numpy() for batch in batches]


def network_like(teacher: NetworkTeacher, name: str, **options: Any) -> nn.Module:
    """The same network in the usual memory format, made by timm alone."""
    import timm

    network: nn.Module = timm.create_model(name, num_classes=0, **options)
    inner = teacher.module.get_submodule("network")
    state = {k: v.contiguous() for k, v in inner.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


def tensors_case(folder: Path) -> dict[str, Any]:
    teacher = network_teacher("timm/resnet50", weights="random", image_size=SIDE)
    held = torch.randn(TENSORS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    split = Split(
        name="train",
        ids=np.arange(TENSORS),
        labels=np.zeros(TENSORS, dtype=np.int64),
        inputs=Inputs(Tensors(held), np.arange(TENSORS)),
    )
    dataset = Dataset(
        name="tensors",
        modality="image",
        classes=("one", "two"),
        splits={"train": split},
        fingerprint="",
    )
    stacked = dataclasses.replace(teacher, prepare=stack)
    cases: dict[str, Callable[[], object]] = {
        "ours": partial(into_store, stacked, dataset, folder, 0)
    }
    for name, layout in FORMATS.items():
        network = network_like(teacher, "resnet50").to(memory_format=layout)
        parts = [held[i : i + BATCH] for i in range(0, TENSORS, BATCH)]
        batches = [part.contiguous(memory_format=layout) for part in parts]
        add_by_hand(cases, name, partial(bare_forward, network, batches))
    return rounds(cases, TENSORS)


def hand_loop(
    network: nn.Module, split: Any, transform: Any, workers: int, layout: torch.memory_format
) -> list[np.ndarray]:
    """Decode, transform, forward: ``datasets`` and a ``DataLoader``, nothing else."""

    def collate(rows: list[dict[str, Any]]) -> torch.Tensor:
        return torch.stack([transform(row["image"].convert("RGB")) for row in rows])

    loader = DataLoader(split, PICTURE_BATCH, num_workers=workers, collate_fn=collate)
    with torch.inference_mode():
        return [network(batch.contiguous(memory_format=layout)).numpy() for batch in loader]


def pictures_case(folder: Path) -> dict[str, Any]:
    import datasets
    import timm

    file = DATA / "images" / "caltech101-test.parquet"
    options = {"pad_type": "same"}
    teacher = network_teacher(
        "timm/mobilenetv2_100",
        weights=str(DATA / "weights" / "mobilenetv2_100.safetensors"),
        options=options,
        preprocessing={"mean": 0.5, "std": 0.5},
    )
    headless = dataclasses.replace(
        teacher, head=None, card=dataclasses.replace(teacher.card, classes=())
    )
    whole = load_dataset(DataConfig(name=f"parquet:{file}", limit=PICTURES))
    dataset = dataclasses.replace(whole, splits={"train": whole.splits["train"]})
    rows = len(dataset.splits["train"].ids)
    cache = str(folder.parent / "cache")
    table = datasets.load_dataset("parquet", data_files=str(file), cache_dir=cache)["train"]
    same = table.select(np.random.default_rng(0).permutation(len(table))[:rows])
    half = (0.5, 0.5, 0.5)
    known = timm.models.get_pretrained_cfg("mobilenetv2_100").to_dict()
    config = timm.data.resolve_data_config({"mean": half, "std": half}, pretrained_cfg=known)
    transform = timm.data.create_transform(**config)
    cases: dict[str, Callable[[], object]] = {}
    for workers in WORKERS:
        cases[f"ours, {workers} workers"] = partial(into_store, headless, dataset, folder, workers)
        for name, layout in FORMATS.items():
            if workers and layout == torch.contiguous_format:
                continue  # never the faster one: once is enough to tell by how much
            network = network_like(teacher, "mobilenetv2_100", **options).to(memory_format=layout)
            loop = partial(hand_loop, network, same, transform, workers, layout)
            add_by_hand(cases, f"{name}, {workers} workers", loop)
    return rounds(cases, rows)


def add_by_hand(
    cases: dict[str, Callable[[], object]], name: str, loop: Callable[[], object]
) -> None:
    """Two cases: the loop as it is, and within our allocator's settings."""
    cases[f"by hand, {name}"] = loop
    cases[f"memory kept, {name}"] = partial(with_memory_kept, loop)


def with_memory_kept(loop: Callable[[], object]) -> None:
    with memory_kept():
        loop()


def rounds(cases: dict[str, Callable[[], object]], rows: int) -> dict[str, Any]:
    """Best seconds of each case in turn, and how much faster ours is than the best by hand."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(ROUNDS + 1):
        for name, work in cases.items():
            took = timed(work)
            if turn:  # the first round warms up
                seconds[name].append(took)
    best = {name: min(found) for name, found in seconds.items()}
    ours = min(took for name, took in best.items() if name.startswith("ours"))
    hand = min(took for name, took in best.items() if name.startswith("by hand"))
    plain = min(took for name, took in best.items() if name.startswith("by hand, contiguous"))
    kept = min(took for name, took in best.items() if name.startswith("memory kept"))
    return {
        "rate": hand / ours,
        "rate against the usual memory format": plain / ours,
        "rate against the loop by hand with our allocator's settings": kept / ours,
        "rows_per_second": {name: round(rows / took, 1) for name, took in best.items()},
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "store"
        found = {"ResNet-50 over 64 px tensors, rate against a bare forward": tensors_case(place)}
        limits = [0.95]
        if (DATA / "images").is_dir():
            name = "MobileNetV2 over JPEGs, rate against a loop by hand, best of 0 to 2 workers"
            found[name] = pictures_case(place)
            limits.append(1.0)
    bars = [
        {"what": what, "measured": figures["rate"], "bar": limit, "better": "more"}
        for (what, figures), limit in zip(found.items(), limits, strict=True)
    ]
    print(json.dumps({"bars": bars, "figures": found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
