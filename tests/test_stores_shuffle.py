"""Training order: every row once, mixed, the same for the same seed and epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores import Batch, FeatureStore, StoreError, open_store, shuffled_batches
from tests.stores_examples import fill, small_spec


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """103 rows in 13 chunks of 8, the last of 7."""
    path = tmp_path_factory.mktemp("shuffle") / "train"
    return open_store(fill(path, small_spec(rows=103, chunk_rows=8)))


def order(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.rows for batch in batches])


@given(
    batch_size=st.integers(1, 120),
    window=st.integers(1, 20),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 9),
)
def test_every_row_comes_once_with_its_own_values(
    store: FeatureStore, batch_size: int, window: int, seed: int, epoch: int
) -> None:
    columns = ("features", "labels", "logits")
    batches = list(
        shuffled_batches(store, batch_size, seed=seed, epoch=epoch, window=window, columns=columns)
    )
    rows = order(batches)
    np.testing.assert_array_equal(np.sort(rows), np.arange(103))
    assert [len(batch.ids) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches) == -(-103 // batch_size)
    for name in ("ids", *columns):
        found = np.concatenate([getattr(batch, name) for batch in batches])
        np.testing.assert_array_equal(found, getattr(store, name)()[rows])


def test_the_order_is_fixed_by_seed_and_epoch(store: FeatureStore) -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        batches = list(shuffled_batches(store, 10, seed=seed, epoch=epoch))
        return [int(row) for row in order(batches)]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({tuple(drawn(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_the_first_rows_have_not_changed(store: FeatureStore) -> None:
    (first, *_) = shuffled_batches(store, 8, seed=0, epoch=0, window=2)
    assert first.rows.tolist() == [85, 84, 18, 19, 23, 82, 81, 86]


def test_rows_of_one_chunk_are_spread_over_the_window(store: FeatureStore) -> None:
    everything = order(list(shuffled_batches(store, 8, seed=0, epoch=0, window=13)))
    chunks_of_first_batches = {int(row) // 8 for row in everything[:16]}
    assert len(chunks_of_first_batches) > 7  # of 13; in order it would be 2
    assert np.abs(np.diff(everything)).mean() > 103 / 5  # random: a third of the rows


def test_a_window_of_one_shuffles_within_chunks_only(store: FeatureStore) -> None:
    everything = order(list(shuffled_batches(store, 1, seed=0, epoch=0, window=1)))
    runs = 1 + int((np.diff(everything // 8) != 0).sum())
    assert runs == 13
    assert (np.diff(everything) != 1).sum() > 60


def test_columns_that_are_not_asked_for_are_none(store: FeatureStore) -> None:
    (batch, *_) = shuffled_batches(store, 8, seed=0, epoch=0, columns=("labels",))
    assert batch.features is None
    assert batch.logits is None
    assert batch.labels is not None


def test_batches_are_copies(store: FeatureStore) -> None:
    batches = shuffled_batches(store, 8, seed=0, epoch=0)
    first = next(batches)
    assert first.features is not None
    kept = first.features.copy()
    list(batches)
    np.testing.assert_array_equal(first.features, kept)


def test_sizes_that_make_no_batch_are_refused_at_once(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="batch_size must be at least 1, got 0"):
        shuffled_batches(store, 0, seed=0, epoch=0)
    with pytest.raises(StoreError, match="window must be at least 1, got 0"):
        shuffled_batches(store, 1, seed=0, epoch=0, window=0)
    with pytest.raises(StoreError, match="holds no colour"):
        shuffled_batches(store, 1, seed=0, epoch=0, columns=("colour",))
