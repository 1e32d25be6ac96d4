"""What each store of an extraction is made from: splits of the data, views of one, other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from distill.datasets import Dataset
from distill.errors import StageError
from distill.runs import POOL, VIEWS
from distill.views import Viewed, Views
from stores import MissingStoreError, StoreDamagedError, StoreMismatchError, recorded_spec


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What one store is made from; entry *i* of ids, labels and inputs belong together."""

    name: str
    dataset: Dataset  # that they are from
    ids: Int64[np.ndarray, " rows"]
    labels: Int64[np.ndarray, " rows"] | None
    inputs: Sequence[Any]
    views: Views | None = None
    skipped: tuple[str, ...] = ()

    @cached_property
    def views_digest(self) -> str:
        """What a few of the views look like; "" where there are none."""
        return self.inputs.digest() if isinstance(self.inputs, Viewed) else ""


def sources_of(dataset: Dataset, views: Views | None, pool: Dataset | None) -> list[Source]:
    """The data's own splits first, so that what needs only them need not wait."""
    found = [_source(name, dataset, name) for name in dataset.splits]
    if views is not None:
        found.append(_source(VIEWS, dataset, "train", views))
    if pool is not None:
        if pool.modality != dataset.modality:
            raise StageError(
                f"the unlabeled data {pool.name} hold {pool.modality}s, and {dataset.name} holds "
                f"{dataset.modality}s"
            )
        found.append(_source(POOL, pool, "train", views))
    return found


def _source(name: str, dataset: Dataset, split_name: str, views: Views | None = None) -> Source:
    """One split, or all views of its examples."""
    split = dataset.splits[split_name]
    inputs: Sequence[Any] = split.inputs
    each = 1
    if views is not None:
        inputs, each = Viewed(split.inputs, split.ids, views, dataset.modality), views.count
    labels = None if name == POOL else split.labels
    return Source(
        name=name,
        dataset=dataset,
        ids=np.repeat(split.ids, each),
        labels=None if labels is None else np.repeat(labels, each),
        inputs=inputs,
        views=views,
        skipped=() if name == VIEWS else tuple(split.skipped),  # train has said it
    )


def refuse_other_views(path: Path, source: Source) -> None:
    """Raise ``StoreMismatchError`` where a store was begun with other views than these."""
    try:
        recorded = recorded_spec(path).made_by
    except (MissingStoreError, StoreDamagedError):  # mended, or told, where it is opened
        return
    then = recorded.get("views") or {}
    now = {} if source.views is None else source.views.describe()
    for key in [*now, *then]:
        if then.get(key) != now.get(key):
            there, here = (told.get(key, "none") for told in (then, now))
            raise StoreMismatchError(
                f"{path} holds other views: {key} is {there} there and {here} is asked for"
            )
    same_data = recorded.get("fingerprint") == source.dataset.fingerprint
    if now and same_data and recorded.get("views_digest") != source.views_digest:
        raise StoreMismatchError(
            f"the views in {path} cannot be made again as they were: a library that draws, decodes "
            "or resizes has another version now"
        )
