"""What the epochs of a training see: examples as they are, or views that no other epoch shows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
from torch import Tensor

from distill.datasets import Split
from distill.views import Viewed, Views
from students import Feed, LoaderFeed, Recipe, shuffled_order, with_targets
from students.feeds import Prepare, Take

Order = Callable[[int], list[np.ndarray]]  # epoch, from 1 -> the rows of each batch


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRows:
    """Inputs with their targets; of ``examples`` examples, an epoch sees each once."""

    feed: Feed
    examples: int
    order: Order


def plain_rows(feed: Feed, targets: Mapping[str, Take], recipe: Recipe) -> TrainingRows:
    """The examples of a feed as they are, the same ones in every epoch."""
    return TrainingRows(
        feed=with_targets(feed, targets),
        examples=feed.rows,
        order=partial(_shuffled, feed.rows, recipe),
    )


def fresh_rows(
    split: Split,
    targets: Mapping[str, Take],
    recipe: Recipe,
    *,
    augment: str,
    modality: str,
    prepare: Prepare,
    workers: int,
    mix: str = "none",
) -> TrainingRows:
    """A view of each example for every epoch, made when it is its turn.

    ``targets`` are of examples, whatever is seen of them, so that of views joined by ``mix`` they
    say nothing of the other half. Which views there are depends on the recipe's seed and on the
    ids; an earlier epoch's do not depend on how many follow. Raises ``StageError`` for an
    augmentation or a mix of another modality.
    """
    views = Views(count=recipe.epochs, augment=augment, mix=mix, seed=recipe.seed)
    viewed = Viewed(split.inputs, split.ids, views, modality)
    of_views = {name: partial(_of_example, take, views.count) for name, take in targets.items()}
    return TrainingRows(
        feed=LoaderFeed(viewed, prepare, of_views, workers),
        examples=len(split.ids),
        order=partial(_views_of, len(split.ids), recipe),
    )


def fresh_note(augment: str, mix: str = "none") -> str:
    """What a finding says of such views."""
    told = f"taught from a new view of every example each epoch: {augment}"
    if mix == "none":
        return told
    return f"{told}, joined with another example's by {mix}, whose label is not learned"


def _shuffled(examples: int, recipe: Recipe, epoch: int) -> list[np.ndarray]:
    return shuffled_order(examples, recipe.batch_size, seed=recipe.seed, epoch=epoch)


def _views_of(examples: int, recipe: Recipe, epoch: int) -> list[np.ndarray]:
    """Every example once, shuffled: the view of this epoch."""
    return [rows * recipe.epochs + epoch - 1 for rows in _shuffled(examples, recipe, epoch)]


def _of_example(take: Take, views: int, rows: np.ndarray) -> Tensor:
    return take(rows // views)
