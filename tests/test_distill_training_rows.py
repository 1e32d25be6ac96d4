"""What an epoch of a training sees: order, views, and the targets beside them."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from distill.errors import StageError
from distill.training_rows import TrainingRows, fresh_rows, plain_rows
from distill.views import Viewed, Views
from students import Recipe, in_memory, make_feed, shuffled_order
from students.palette import KEY
from tests.lessons_examples import dataset, image_teacher

SPLIT = dataset().splits["train"]
ROWS = len(SPLIT)
LABELS = torch.arange(ROWS) * 10  # of each example by its place
TEACHER = image_teacher()


def recipe(**changes: Any) -> Recipe:
    told: dict[str, Any] = {"epochs": 3, "batch_size": 7, "learning_rate": 1.0, "seed": 5}
    return Recipe(**(told | changes))


def fresh(told: Recipe, augment: str = "crop", modality: str = "image") -> TrainingRows:
    return fresh_rows(
        SPLIT, {"labels": in_memory(LABELS)}, told,
        augment=augment, modality=modality, prepare=TEACHER.prepare, workers=0,
    )  # fmt: skip


def test_examples_as_they_are_come_in_the_seed_s_order_with_their_targets() -> None:
    feed = make_feed(SPLIT.inputs, TEACHER.prepare, {})
    found = plain_rows(feed, {"labels": in_memory(LABELS)}, recipe())
    assert found.examples == found.feed.rows == ROWS
    for epoch in (1, 2):
        wanted = shuffled_order(ROWS, 7, seed=5, epoch=epoch)
        order = found.order(epoch)
        assert [rows.tolist() for rows in order] == [rows.tolist() for rows in wanted]
        for rows, batch in zip(order, found.feed.batches(order), strict=True):
            torch.testing.assert_close(batch.targets["labels"], LABELS[rows])
            torch.testing.assert_close(
                batch.inputs[KEY], TEACHER.prepare([SPLIT.inputs[int(r)] for r in rows])[KEY]
            )


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_epoch_sees_its_own_view_of_each_example_with_that_example_s_targets(epoch: int) -> None:
    found = fresh(recipe())
    views = Viewed(SPLIT.inputs, SPLIT.ids, Views(count=3, augment="crop", seed=5), "image")
    order, wanted = found.order(epoch), shuffled_order(ROWS, 7, seed=5, epoch=epoch)
    assert found.examples == ROWS
    for rows, batch, examples in zip(order, found.feed.batches(order), wanted, strict=True):
        assert rows.tolist() == [int(e) * 3 + epoch - 1 for e in examples]
        torch.testing.assert_close(batch.targets["labels"], LABELS[examples])
        seen = TEACHER.prepare([views[int(row)] for row in rows])
        torch.testing.assert_close(batch.inputs[KEY], seen[KEY])


def first_epoch(told: Recipe) -> list[torch.Tensor]:
    found = fresh(told)
    return [batch.inputs[KEY] for batch in found.feed.batches(found.order(1))]


def test_views_of_an_epoch_are_of_the_seed_and_not_of_how_many_follow() -> None:
    same = partial(torch.testing.assert_close, rtol=0, atol=0)
    same(first_epoch(recipe(epochs=1)), first_epoch(recipe(epochs=9)))
    ordered = fresh(recipe()), fresh(recipe(seed=6))
    one, other = (found.feed.batches([np.arange(3)]) for found in ordered)
    assert not torch.equal(next(one).inputs[KEY], next(other).inputs[KEY])


def test_views_of_another_modality_or_of_no_name_are_refused() -> None:
    with pytest.raises(StageError, match="token-dropout"):
        fresh(recipe(), "token-dropout")
    with pytest.raises(StageError, match="did you mean 'crop'"):
        fresh(recipe(), "cropp")
