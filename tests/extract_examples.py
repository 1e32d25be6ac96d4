"""Small data and teachers for the tests of the extract stage.

Run as a program, ``python -m tests.extract_examples ROOT KIND WORKERS`` extracts them slowly,
one line of output a batch: it is the process that other tests kill. The kind ``views`` is of
images, mixed views of them, and others without labels, projected as they are made.
"""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from distill.config import ExtractConfig
from distill.datasets import Dataset, Inputs, Split
from distill.findings import Extracted
from distill.progress import Silent
from distill.stages.extract import extract
from distill.views import Views
from projections import Projection, make_projection
from teachers import NetworkTeacher, make_teacher
from teachers.images import PrepareImages

WORDS = ["red", "green", "blue", "cat", "dog", "tree", "moon"]


@dataclasses.dataclass(frozen=True)
class Held:
    """A reader of what is in memory; an error among the entries is raised when it is read."""

    entries: list[Any]

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, row: int) -> Any:
        entry = self.entries[row]
        if isinstance(entry, Exception):
            raise entry
        return entry

    def where(self, row: int) -> str:
        return f"memory: row {row}"


@dataclasses.dataclass(frozen=True)
class Made:
    """A reader of images that are made when they are read: none of them takes memory."""

    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, row: int) -> Image.Image:
        return Image.new("RGB", (8, 8), (row % 256, row // 256 % 256, 7))

    def where(self, row: int) -> str:
        return f"made: row {row}"


def held(entries: Sequence[Any]) -> Inputs:
    """Inputs of these entries."""
    return Inputs(Held(list(entries)), np.arange(len(entries)))


def text_split(name: str, rows: int, *, seed: int, labelled: bool = True) -> Split:
    """Texts of one to thirty words; ids count down from a number of the split's own."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 31))) for _ in range(rows)]
    return Split(
        name=name,
        ids=np.arange(1000 * (seed + 1), 1000 * (seed + 1) - rows, -1, dtype=np.int64),
        labels=rng.integers(0, 2, rows) if labelled else None,
        inputs=held(texts),
    )


def texts(*, rows: int = 37, labelled: bool = True, **changes: Any) -> Dataset:
    """Three splits of texts of two classes."""
    sizes = {"train": rows, "validation": 9, "test": 8}
    splits = {
        name: text_split(name, count, seed=seed, labelled=labelled)
        for seed, (name, count) in enumerate(sizes.items())
    }
    dataset = Dataset(
        name="texts",
        modality="text",
        classes=("no", "yes") if labelled else (),
        splits=splits,
        fingerprint="sha256:1",
    )
    return dataclasses.replace(dataset, **changes)


def images(*, rows: int = 37) -> Dataset:
    """Three splits of noise, 8 px a side."""
    noise = np.random.default_rng(0).integers(0, 256, (rows + 17, 8, 8, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    dataset = texts(rows=rows)
    begin = 0
    splits = {}
    for name, split in dataset.splits.items():
        end = begin + len(split.ids)
        splits[name] = dataclasses.replace(split, inputs=held(pictures[begin:end]))
        begin = end
    return dataclasses.replace(dataset, name="images", modality="image", splits=splits)


def unlabeled(modality: str = "image") -> Dataset:
    """Eight other examples, without labels."""
    whole = images() if modality == "image" else texts()
    test = whole.splits["test"]
    train = dataclasses.replace(test, name="train", ids=np.arange(8) * 3, labels=None)
    return dataclasses.replace(
        whole, name="others", classes=(), splits={"train": train}, fingerprint="sha256:pool"
    )


def spell(inputs: Sequence[str]) -> dict[str, torch.Tensor]:
    """Letters as numbers, padded with 0 to the longest."""
    rows = [torch.tensor([ord(letter) - 31 for letter in text]) for text in inputs]
    return {"input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True)}


class Letters(nn.Module):
    """The mean of a vector a letter; padding does not count."""

    def __init__(self, dim: int, pause: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(128, dim, padding_idx=0)
        self.pause = pause

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.pause:
            time.sleep(self.pause)
            print("batch", flush=True)
        summed: torch.Tensor = self.table(ids).sum(dim=1)
        return summed / (ids > 0).sum(dim=1, keepdim=True)


def read_ids(network: nn.Module, prepared: Any) -> torch.Tensor:
    found: torch.Tensor = network(prepared["input_ids"])
    return found


def to_pixels(image: Image.Image) -> torch.Tensor:
    """(3, 8, 8) in [0, 1]."""
    small = np.asarray(image.resize((8, 8)), dtype=np.float32)
    return torch.from_numpy(small).permute(2, 0, 1) / 255


def text_teacher(*, dim: int = 6, pause: float = 0.0, seed: int = 0) -> NetworkTeacher:
    """Reads letters; has a head that knows the data's two classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, head = Letters(dim, pause), nn.Linear(dim, 2)
    return make_teacher(
        network,
        name="letters",
        prepare=spell,
        modality="text",
        call=read_ids,
        preprocessing={"alphabet": "ascii"},
        head=head,
        classes=("no", "yes"),
    )


class Slow(nn.Module):
    """A linear map of the pixels that takes its time."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
        self.pause = pause

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        print("batch", flush=True)
        found: torch.Tensor = self.inner(pixels)
        return found


def image_teacher(*, pause: float = 0.0) -> NetworkTeacher:
    """A linear map of the pixels, without a head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Slow(pause) if pause else nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    return make_teacher(network, name="pixels", prepare=PrepareImages(to_pixels))


def run(
    dataset: Dataset,
    teacher: Any,
    root: Path,
    *,
    batch_size: int = 4,
    dtype: Any = "float32",
    workers: int = 0,
    repair: bool = False,
    views: Views | None = None,
    pool: Dataset | None = None,
    projection: Projection | None = None,
) -> Extracted:
    """The stage with small settings."""
    return extract(
        dataset,
        teacher,
        root,
        settings=ExtractConfig(batch_size=batch_size, dtype=dtype),
        made_by={},
        workers=workers,
        progress=Silent(),
        repair=repair,
        views=views,
        pool=pool,
        projection=projection,
    )


def digests(root: Path) -> dict[str, str]:
    """sha256 of every file below a folder."""
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


if __name__ == "__main__":
    import distill.stages.extract as stage

    stage.MOST_CHUNK_ROWS = 8
    torch.set_num_threads(1)
    place, kind, processes = sys.argv[1:]
    slow: Any = text_teacher(pause=0.03) if kind == "text" else image_teacher(pause=0.03)
    more: dict[str, Any] = {"workers": int(processes)}
    if kind == "views":
        more["views"] = Views(count=2, augment="crop-flip", mix="mixup")
        more["pool"] = unlabeled()
        more["projection"] = make_projection("gaussian", dim_in=6, dim_out=3, seed=1)
    run(texts() if kind == "text" else images(), slow, Path(place), **more)
