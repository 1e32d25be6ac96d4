"""Orders of rows, and feeds that must agree with one another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from students import (
    LoaderFeed,
    MemoryFeed,
    RecipeError,
    in_memory,
    make_feed,
    plain_order,
    shuffled_order,
    windowed_order,
    with_targets,
)
from students.feeds import PaletteFeed, trimmed
from students.palette import palette_of
from teachers.images import PrepareFrames


def numbers(inputs: Sequence[int]) -> dict[str, Tensor]:
    """Stands for a teacher's ``prepare``."""
    return {"pixel_values": torch.tensor(inputs, dtype=torch.float32).reshape(-1, 1)}


def words(inputs: Sequence[str]) -> dict[str, Tensor]:
    """A tokenizer of letters that pads to the longest of the batch."""
    width = max(len(text) for text in inputs)
    ids = torch.tensor([[ord(c) for c in text.ljust(width, "\0")] for text in inputs])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in inputs])
    return {"input_ids": ids, "attention_mask": mask}


@given(
    rows=st.integers(1, 70),
    size=st.integers(1, 20),
    seed=st.integers(0, 5),
    chunk=st.integers(1, 13),
    window=st.integers(1, 4),
)
def test_an_epoch_holds_every_row_once(
    rows: int, size: int, seed: int, chunk: int, window: int
) -> None:
    orders = [
        plain_order(rows, size),
        shuffled_order(rows, size, seed=seed, epoch=1),
        windowed_order(rows, size, seed=seed, epoch=1, chunk=chunk, window=window),
    ]
    for order in orders:
        assert sorted(np.concatenate(order)) == list(range(rows))
        assert all(len(batch) in {size, size + 1} for batch in order[:-1])
        assert 1 <= len(order[-1]) <= size + 1


def test_a_last_batch_of_one_row_joins_the_one_before() -> None:
    assert [len(batch) for batch in shuffled_order(9, 4, seed=0, epoch=1)] == [4, 5]
    assert [len(batch) for batch in shuffled_order(10, 4, seed=0, epoch=1)] == [4, 4, 2]
    assert [len(batch) for batch in shuffled_order(1, 4, seed=0, epoch=1)] == [1]


def test_seed_and_epoch_decide_the_order_and_nothing_else() -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        order = shuffled_order(50, 8, seed=seed, epoch=epoch)
        return [int(row) for row in np.concatenate(order)]

    assert flat(0, 1) == flat(0, 1)
    assert len({tuple(flat(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert flat(0, 1) != list(range(50))


def test_a_window_keeps_rows_that_follow_one_another_in_few_chunks() -> None:
    order = np.concatenate(windowed_order(100, 8, seed=0, epoch=1, chunk=10, window=3))
    for start in range(0, 90, 30):
        assert len(set(order[start : start + 30] // 10)) == 3
    assert order[:30].tolist() != sorted(order[:30])


def test_the_feed_from_memory_and_the_feed_that_reads_agree() -> None:
    examples = list(range(100, 107))
    targets = {"targets": in_memory(np.arange(14, dtype=np.float32).reshape(7, 2))}
    order = [np.array([3, 1]), np.array([6, 0, 2])]
    kept = make_feed(examples, numbers, targets)
    read = make_feed(examples, numbers, targets, memory=0)
    assert isinstance(kept, MemoryFeed)
    assert isinstance(read, LoaderFeed)
    assert kept.rows == read.rows == 7
    for one, other in zip(kept.batches(order), read.batches(order), strict=True):
        assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])
        assert torch.equal(one.targets["targets"], other.targets["targets"])
    first = next(iter(kept.batches(order)))
    assert first.inputs["pixel_values"].tolist() == [[103.0], [101.0]]
    assert first.targets["targets"].tolist() == [[6.0, 7.0], [2.0, 3.0]]


def test_text_from_memory_is_cut_to_the_longest_of_the_batch() -> None:
    texts = ["a", "abcd", "ab", *["abcdefgh"] * 300]
    kept, read = make_feed(texts, words, {}), make_feed(texts, words, {}, memory=0)
    order = [np.array([2, 0]), np.array([1, 0]), np.array([5, 302])]
    for one, other in zip(kept.batches(order), read.batches(order), strict=True):
        for name, tensor in other.inputs.items():
            assert torch.equal(one.inputs[name], tensor), name
    assert [b.inputs["input_ids"].shape[1] for b in kept.batches(order)] == [2, 4, 8]


def test_trimming_takes_away_only_columns_that_no_row_uses() -> None:
    left = {
        "input_ids": torch.tensor([[0, 0, 7], [0, 8, 9]]),
        "attention_mask": torch.tensor([[0, 0, 1], [0, 1, 1]]),
        "other": torch.ones(2, 5),
    }
    cut = trimmed(left)
    assert cut["input_ids"].tolist() == [[0, 7], [8, 9]]
    assert cut["other"].shape == (2, 5)


def test_workers_prepare_the_same_batches() -> None:
    feed = LoaderFeed(list(range(20)), numbers, {}, workers=2)
    found = [
        batch.inputs["pixel_values"].flatten().tolist()
        for batch in feed.batches(plain_order(20, 6))
    ]
    assert [row for rows in found for row in rows] == list(range(20))


class BadInputError(ValueError):
    """As a data set raises it."""


class Broken(list[int]):
    def __getitem__(self, index: Any) -> Any:
        if index == 3:
            raise BadInputError("photos/3.jpg: unreadable image")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_that_cannot_be_read_is_told_in_its_own_words(workers: int) -> None:
    feed = LoaderFeed(Broken(range(6)), numbers, {}, workers=workers)
    with pytest.raises(BadInputError) as caught:
        list(feed.batches(plain_order(6, 2)))
    assert str(caught.value) == "photos/3.jpg: unreadable image"


def test_reading_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(LoaderFeed(list(range(5)), numbers, {}).batches(plain_order(5, 2)))
    assert torch.equal(before, torch.get_rng_state())


def test_other_targets_keep_the_prepared_inputs() -> None:
    feed = make_feed([1, 2, 3], numbers, {})
    assert isinstance(feed, MemoryFeed)
    changed = with_targets(feed, {"labels": in_memory(torch.tensor([5, 6, 7]))})
    assert isinstance(changed, MemoryFeed)
    assert changed.inputs is feed.inputs
    assert next(iter(changed.batches([np.array([2])]))).targets["labels"].tolist() == [7]


def test_nothing_to_feed_is_an_error() -> None:
    with pytest.raises(RecipeError, match="there are no examples to learn from"):
        make_feed([], numbers, {})


class Painted(Sequence[Any]):
    """Images of random levels, made when asked for."""

    def __init__(self, rows: int, size: tuple[int, int] = (5, 4)) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Any) -> Any:
        height, width = self.size[::-1]
        levels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(levels)


NORMAL = PrepareFrames(lambda image: image, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))


def shrunk(images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """Resizes numbers, not levels: what comes out is in no palette."""
    pixels = NORMAL(images)["pixel_values"]
    return {"pixel_values": torch.nn.functional.avg_pool2d(pixels, 2)}


@pytest.mark.parametrize("workers", [0, 2])
def test_images_kept_as_bytes_are_the_prepared_ones_bit_for_bit(workers: int) -> None:
    images, targets = Painted(300), {"labels": in_memory(np.arange(300))}
    size = 300 * 5 * 4 * 3 * 4
    feed = make_feed(images, NORMAL, targets, memory=size // 4, workers=workers)
    assert isinstance(feed, PaletteFeed)
    assert feed.places.numel() == size // 4
    assert feed.rows == 300
    order = shuffled_order(300, 64, seed=1, epoch=1)
    plain = make_feed(images, NORMAL, targets, memory=size)
    for kept, held in zip(feed.batches(order), plain.batches(order), strict=True):
        assert torch.equal(kept.inputs["pixel_values"], held.inputs["pixel_values"])
        assert kept.inputs["pixel_values"].is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(kept.targets["labels"], held.targets["labels"])
    other = with_targets(feed, {"labels": in_memory(np.arange(300) * 2)})
    assert isinstance(other, PaletteFeed)
    assert next(other.batches(order)).targets["labels"].tolist() == (order[0] * 2).tolist()


@pytest.mark.parametrize(
    ("prepare", "memory"),
    [
        pytest.param(shrunk, 300 * 2 * 2 * 3 * 4 // 2, id="numbers-between-levels"),
        pytest.param(NORMAL, 300 * 5 * 4 * 3 - 1, id="a-byte-too-many"),
        pytest.param(
            lambda images: {**NORMAL(images), "sizes": torch.ones(len(images))},
            300 * 5 * 4 * 3 * 2,
            id="more-than-pixels",
        ),
        pytest.param(
            lambda images: {"pixel_values": NORMAL(images)["pixel_values"].clamp(max=0)},
            300 * 5 * 4 * 3 * 2,
            id="levels-that-fall-together",
        ),
    ],
)
def test_images_that_no_palette_holds_are_read_when_needed(prepare: Any, memory: int) -> None:
    assert isinstance(make_feed(Painted(300), prepare, {}, memory=memory), LoaderFeed)


def test_an_image_outside_the_palette_is_not_rounded_into_it() -> None:
    palette = palette_of(Painted(1), NORMAL)
    assert palette is not None
    images = NORMAL([Painted(1)[0]])["pixel_values"]
    places = palette.encode(images)
    assert places is not None
    np.testing.assert_array_equal(places[0].numpy(), np.asarray(Painted(1)[0]))
    images[0, 1, 2, 3] = torch.nextafter(images[0, 1, 2, 3], torch.tensor(9.0))
    assert palette.encode(images) is None
    images[0, 1, 2, 3] = 1e9
    assert palette.encode(images) is None
