"""A stored teacher against the same teacher run beside its student, here and by others. JSON.

The teacher is a ResNet-50 at 224 px, the student a ResNet-18 at 64 px; all learn the teacher's
pooled features by squared error, batch for batch. Fed from the store is ``students.fit``; online
are the shortest loop of one's own, timm's ``FeatureDistillationTask`` and, where it is installed
(``pip install -e '.[bench]'``), torchdistill's ``DistillationBox``. Each side times an
epoch of the same images, already decoded; all with freed memory kept (``distill.allocator``).
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import SequentialSampler, TensorDataset

from benchmarks.students import RECIPE, a_store
from benchmarks.turns import best_of
from distill.allocator import memory_kept
from distill.stored import StoreRows
from students import Evaluation, MemoryFeed, SubspaceLoss, build_student, fit, place

ROWS, BATCH, LARGE, SMALL, CLASSES = 96, RECIPE.batch_size, 224, 64, 10


def shrunk(images: Tensor) -> Tensor:
    return functional.interpolate(images, size=(SMALL, SMALL), mode="area")


def a_teacher() -> nn.Module:
    network: nn.Module = timm.create_model("resnet50", num_classes=CLASSES)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def a_student(outputs: int) -> nn.Module:
    """A network that is given what the teacher is given, and sees it at 64 px."""
    network: Any = timm.create_model("resnet18", num_classes=outputs)
    at_its_size = network.forward_features
    network.forward_features = lambda images: at_its_size(shrunk(images))
    student: nn.Module = network.to(memory_format=torch.channels_last)
    return student


def fed(images: Tensor, folder: Path) -> Callable[[], float]:
    """An epoch of ``students.fit`` on stored rows of 128 numbers."""
    store = a_store(folder / "store", ROWS)
    network = place(build_student("timm/resnet18", dim_out=128, modality="image"), "cpu")
    pixels = shrunk(images).contiguous(memory_format=torch.channels_last)
    feed = MemoryFeed({"pixel_values": pixels}, {"targets": StoreRows(store)})

    def epoch() -> float:
        with tempfile.TemporaryDirectory() as scratch:
            result = fit(
                network,
                feed=feed,
                loss=SubspaceLoss(distance="mse", scale=1.0),
                evaluate=lambda _: Evaluation(accuracy=0.0, loss=0.0),
                recipe=RECIPE,
                folder=Path(scratch),
            )
        return ROWS / result.rows_per_second

    return epoch


def online(images: Tensor) -> Callable[[], None]:
    """The shortest loop: the teacher's pooled features, a linear layer, squared error."""
    teacher: Any = a_teacher()
    student = a_student(0)
    projector = nn.Linear(512, 2048)
    optimizer = torch.optim.AdamW(
        [*student.parameters(), *projector.parameters()], lr=1e-3, fused=True
    )

    def epoch() -> None:
        student.train()
        for start in range(0, ROWS, BATCH):
            batch = images[start : start + BATCH]
            with torch.no_grad():
                features = teacher.forward_features(batch)
                aims = teacher.forward_head(features, pre_logits=True)
            loss = functional.mse_loss(projector(student(batch)), aims)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return epoch


def by_timm(images: Tensor) -> Callable[[], None]:
    """Timm's own task for matching features, as its training script drives it."""
    from timm.task import FeatureDistillationTask

    student = a_student(CLASSES)
    task = FeatureDistillationTask(
        student, a_teacher(), nn.CrossEntropyLoss(), distill_loss_weight=1.0, verbose=False
    )
    optimizer = torch.optim.AdamW(task.trainable_module.parameters(), lr=1e-3, fused=True)
    labels = torch.zeros(ROWS, dtype=torch.int64)

    def epoch() -> None:
        task.train()
        for start in range(0, ROWS, BATCH):
            found = task(images[start : start + BATCH], labels[start : start + BATCH])
            optimizer.zero_grad(set_to_none=True)
            found["loss"].backward()
            optimizer.step()

    return epoch


def by_torchdistill(images: Tensor) -> Callable[[], None] | None:
    """An epoch of torchdistill's box; None where it is not installed."""
    try:
        distillation = importlib.import_module("torchdistill.core.distillation")
    except ImportError:
        return None
    data = TensorDataset(images, torch.zeros(ROWS, dtype=torch.int64))
    hooks: dict[str, list[str]] = {"input": [], "output": []}
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": SequentialSampler},
            "kwargs": {"batch_size": BATCH, "num_workers": 0},
        },
        "teacher": {
            "forward_proc": "forward_batch_only",
            "forward_hook": {**hooks, "output": ["global_pool"]},
            "requires_grad": False,
        },
        "student": {
            "forward_proc": "forward_batch_only",
            "forward_hook": {**hooks, "output": ["fc"]},
        },
        "optimizer": {"key": "AdamW", "kwargs": {"lr": 1e-3, "fused": True}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"features": _term()}},
        },
    }
    box = distillation.DistillationBox(
        a_teacher(), a_student(2048), {"train": data}, config, torch.device("cpu"),
        None, False, 1,
    )  # fmt: skip

    def epoch() -> None:
        box.student_model.train()
        for batch, labels, supplement in box.train_data_loader:
            box.post_forward_process(box.forward_process(batch, labels, supplement))

    return epoch


def _term() -> dict[str, Any]:
    return {
        "criterion": {"key": "MSELoss", "kwargs": {}},
        "criterion_wrapper": {
            "key": "SimpleLossWrapper",
            "kwargs": {
                "input": {"is_from_teacher": False, "module_path": "fc", "io": "output"},
                "target": {"is_from_teacher": True, "module_path": "global_pool", "io": "output"},
            },
        },
        "weight": 1.0,
    }


def measure(folder: Path) -> tuple[dict[str, float], list[str]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(ROWS, 3, LARGE, LARGE, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    sides: dict[str, Callable[[], Any] | None] = {
        "fed": fed(images, folder),
        "online": online(images),
        "timm": by_timm(images),
        "torchdistill": by_torchdistill(images),
    }
    there = {name: work for name, work in sides.items() if work is not None}
    with memory_kept():
        for work in there.values():
            work()  # the first calls compile kernels
        times, _ = best_of(there, 3)
    return times, [name for name in sides if name not in there]


def report(times: dict[str, float], missing: list[str]) -> dict[str, Any]:
    return {
        "bars": [
            {
                "what": f"epoch fed from the store / ResNet-50 online at 224 px, {name} (speed)",
                "measured": round(times[name] / times["fed"], 3),
                "bar": 4.0,
                "better": "more",
            }
            for name in times
            if name != "fed"
        ],
        "rows_per_second": {name: round(ROWS / took, 1) for name, took in times.items()},
        "not installed": missing,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = report(*measure(Path(folder)))
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
