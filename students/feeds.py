"""Feeding a training loop: row numbers in, prepared inputs and their targets out.

Which rows make a batch is decided by ``shuffled_order`` (or ``windowed_order``) from a seed and
an epoch alone, so a resumed run continues at any batch. Prepared inputs are kept in memory where
they fit, images as one byte a number if need be; otherwise a DataLoader reads and prepares them in
worker processes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from students.errors import RecipeError
from students.palette import KEY, Palette, palette_of

Rows = np.ndarray  # Int64, the numbers of the rows of one batch
Take = Callable[[Rows], Tensor]  # rows -> what those rows should become
Prepare = Callable[[Sequence[Any]], Mapping[str, Tensor]]

MEMORY = 1 << 30  # bytes of prepared inputs that are kept
SAVED = 4  # a palette keeps one byte of each float32
_BLOCK = 256  # inputs prepared at a time while filling the memory


class Batch(NamedTuple):
    """Prepared inputs, and the targets of the same rows."""

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]


@runtime_checkable
class Feed(Protocol):
    """Batches of the rows asked for, in the order asked for."""

    @property
    def rows(self) -> int:
        """Number of examples."""
        ...

    def batches(self, order: Sequence[Rows]) -> Iterator[Batch]:
        """One batch for each array of row numbers."""
        ...


def plain_order(rows: int, size: int) -> list[Rows]:
    """All rows in their own order: for evaluation."""
    return _cut(np.arange(rows, dtype=np.int64), size)


def shuffled_order(rows: int, size: int, *, seed: int, epoch: int) -> list[Rows]:
    """All rows once, shuffled by seed and epoch, in batches."""
    return batched(np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int64), size)


def windowed_order(
    rows: int, size: int, *, seed: int, epoch: int, chunk: int, window: int = 8
) -> list[Rows]:
    """Shuffle a store too large for memory: its chunks, then the rows within a window of them.

    Rows that follow one another come from at most ``window`` chunks, so that each chunk is read
    once an epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    chunks = rng.permutation(-(-rows // chunk))
    parts = []
    for first in range(0, len(chunks), window):
        spans = [
            np.arange(index * chunk, min(rows, (index + 1) * chunk), dtype=np.int64)
            for index in chunks[first : first + window]
        ]
        parts.append(rng.permutation(np.concatenate(spans)))
    return batched(np.concatenate(parts), size)


def batched(order: Int64[np.ndarray, " rows"], size: int) -> list[Rows]:
    """Rows in this order, in batches; a last batch of one row joins its neighbour.

    BatchNorm cannot be trained on one row.
    """
    batches = _cut(order, size)
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def _cut(order: Int64[np.ndarray, " rows"], size: int) -> list[Rows]:
    return [order[start : start + size] for start in range(0, len(order), size)]


@dataclass(frozen=True)
class MemoryFeed:
    """Everything prepared and in memory; images best channels-last, as ``make_feed`` puts them."""

    inputs: dict[str, Tensor]
    targets: Mapping[str, Take]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(next(iter(self.inputs.values())))

    def batches(self, order: Sequence[Rows]) -> Iterator[Batch]:
        """One batch for each array of row numbers."""
        for rows in order:
            index = torch.from_numpy(rows)
            inputs = {name: _selected(tensor, index) for name, tensor in self.inputs.items()}
            yield Batch(trimmed(inputs), _taken(self.targets, rows))


@dataclass(frozen=True)
class PaletteFeed:
    """Images prepared and in memory, each number as its place in a palette."""

    places: Tensor  # UInt8 (rows, height, width, channels)
    palette: Palette
    targets: Mapping[str, Take]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.places)

    def batches(self, order: Sequence[Rows]) -> Iterator[Batch]:
        """One batch for each array of row numbers."""
        for rows in order:
            images = self.palette.decode(self.places.index_select(0, torch.from_numpy(rows)))
            yield Batch({KEY: images}, _taken(self.targets, rows))


@dataclass(frozen=True)
class LoaderFeed:
    """Inputs read and prepared when they are needed, by ``workers`` processes."""

    examples: Sequence[Any]
    prepare: Prepare
    targets: Mapping[str, Take]
    workers: int = 0

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.examples)

    def batches(self, order: Sequence[Rows]) -> Iterator[Batch]:
        """One batch for each array of row numbers."""
        loader: DataLoader[Any] = DataLoader(
            _Examples(self.examples),
            batch_sampler=[rows.tolist() for rows in order],
            collate_fn=_Guarded(self.prepare),
            num_workers=self.workers,
            # its own generator: the loader otherwise draws from, and so changes, global state
            generator=torch.Generator().manual_seed(0),
        )
        for rows, inputs in zip(order, loader, strict=True):
            if isinstance(inputs, _Failure):
                raise inputs.error
            yield Batch(dict(inputs), _taken(self.targets, rows))


class _Examples(Dataset[Any]):
    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.examples[index]
        except ValueError as error:
            return _Failure(error)


@dataclass(frozen=True)
class _Failure:
    """What is wrong with an example, brought home from a worker as it was raised.

    Raised there, it would come back as a page of traceback.
    """

    error: ValueError


@dataclass(frozen=True)
class _Guarded:
    """``prepare``, unless an example could not be read."""

    prepare: Prepare

    def __call__(self, examples: Sequence[Any]) -> Mapping[str, Tensor] | _Failure:
        failed = next((example for example in examples if isinstance(example, _Failure)), None)
        return self.prepare(examples) if failed is None else failed


def make_feed(
    examples: Sequence[Any],
    prepare: Prepare,
    targets: Mapping[str, Take],
    *,
    workers: int = 0,
    memory: int = MEMORY,
) -> Feed:
    """Build a feed that keeps the prepared inputs when they take at most ``memory`` bytes.

    Raises ``RecipeError`` when there is nothing to feed.
    """
    if len(examples) == 0:
        raise RecipeError("there are no examples to learn from")
    reading = LoaderFeed(examples, prepare, targets, workers)
    size = _estimate(examples, prepare)
    if size <= memory:
        return MemoryFeed(_stacked([batch.inputs for batch in _all_of(reading)]), targets)
    palette = palette_of(examples, prepare) if size <= SAVED * memory else None
    places = _places(reading, palette) if palette else None
    return PaletteFeed(places, palette, targets) if palette and places is not None else reading


def _all_of(reading: LoaderFeed) -> Iterator[Batch]:
    """Every row once, in blocks, without its targets."""
    every = plain_order(reading.rows, _BLOCK)
    return LoaderFeed(reading.examples, reading.prepare, {}, reading.workers).batches(every)


def _places(reading: LoaderFeed, palette: Palette) -> Tensor | None:
    """All images as places in the palette; None as soon as one is not made of it."""
    found: Tensor | None = None
    start = 0
    for batch in _all_of(reading):
        places = palette.encode(batch.inputs[KEY])
        if places is None:
            return None
        if found is None:
            found = places.new_empty((reading.rows, *places.shape[1:]))
        found[start : start + len(places)] = places
        start += len(places)
    return found


def with_targets(feed: Feed, targets: Mapping[str, Take]) -> Feed:
    """Put the same inputs, not prepared again, beside other targets."""
    if isinstance(feed, MemoryFeed):
        return MemoryFeed(feed.inputs, targets)
    if isinstance(feed, PaletteFeed):
        return PaletteFeed(feed.places, feed.palette, targets)
    if isinstance(feed, LoaderFeed):
        return LoaderFeed(feed.examples, feed.prepare, targets, feed.workers)
    raise RecipeError(f"a {type(feed).__name__} cannot be given other targets")


def in_memory(values: np.ndarray | Tensor) -> Take:
    """Targets from an array in memory; its own memory is used, not a copy."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values

    def take(rows: Rows) -> Tensor:
        return tensor.index_select(0, torch.from_numpy(rows))

    return take


def trimmed(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Text without the columns that are padding in every row; anything else as it is."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return dict(inputs)
    used = mask.any(dim=0)
    if bool(used.all()):
        return dict(inputs)
    return {
        name: tensor[:, used] if tensor.shape == mask.shape else tensor
        for name, tensor in inputs.items()
    }


def _selected(tensor: Tensor, index: Tensor) -> Tensor:
    """Rows of a tensor; channels-last images stay so (``index_select`` alone forgets it)."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return tensor.index_select(0, index)


def _taken(targets: Mapping[str, Take], rows: Rows) -> dict[str, Tensor]:
    return {name: take(rows) for name, take in targets.items()}


def _estimate(examples: Sequence[Any], prepare: Prepare) -> int:
    """Bytes of all prepared inputs, from a few spread over the examples."""
    picked = np.linspace(0, len(examples) - 1, num=min(8, len(examples))).astype(int)
    prepared = prepare([examples[int(index)] for index in picked])
    size = sum(tensor.numel() * tensor.element_size() for tensor in prepared.values())
    return size * len(examples) // len(picked)


def _stacked(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One tensor a name; text of different lengths is padded with zeros, under a zero mask."""
    stacked = {}
    for name in blocks[0]:
        tensors = [block[name] for block in blocks]
        if "attention_mask" in blocks[0] and tensors[0].ndim == 2:
            width = max(tensor.shape[1] for tensor in tensors)
            tensors = [
                torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for tensor in tensors
            ]
        stacked[name] = torch.cat([_channels_last(tensor) for tensor in tensors])
    return stacked


def _channels_last(tensor: Tensor) -> Tensor:
    """Images laid out as convolutions want them, once for all epochs."""
    if tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
