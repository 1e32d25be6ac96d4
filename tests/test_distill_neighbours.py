"""Exact neighbours: hand-computed tables, duplicates, ties, and faiss against NumPy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.neighbours import (
    Neighbours,
    distances_to,
    hits,
    majority,
    nearest_rows,
    nearest_rows_faiss,
    no_neighbours,
    pair_distances,
)

BOTH = pytest.mark.parametrize("find", [nearest_rows, nearest_rows_faiss])
LINE = np.array([[0], [1], [3], [7]], np.float32)
IDS = np.array([40, 30, 20, 10], np.int64)


@contextmanager
def by_products() -> Iterator[Any]:
    """faiss takes its matrix-product way, for which small tests are else too small."""
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 1
    try:
        yield faiss
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


@BOTH
def test_neighbours_on_a_line_by_hand(find: type) -> None:
    found = find(LINE, IDS, LINE, IDS, k=2)
    np.testing.assert_array_equal(found.rows, [[1, 2], [0, 2], [1, 0], [2, 1]])
    np.testing.assert_array_equal(found.distances, [[1, 9], [1, 4], [4, 9], [16, 36]])


@BOTH
def test_a_row_is_not_its_own_neighbour_though_a_duplicate_comes_first(find: type) -> None:
    rows = np.zeros((5, 3), np.float32)
    found = find(rows[3:4], np.array([3]), rows, np.arange(5), k=4)
    np.testing.assert_array_equal(found.rows, [[0, 1, 2, 4]])
    np.testing.assert_array_equal(found.distances, np.zeros((1, 4)))


@BOTH
def test_other_views_of_the_same_example_are_not_its_neighbours(find: type) -> None:
    ids = np.array([1, 1, 2, 2], np.int64)
    found = find(LINE[:1], ids[:1], LINE, ids, k=2)
    np.testing.assert_array_equal(found.rows, [[2, 3]])


@BOTH
def test_where_too_few_rows_are_left_there_is_no_neighbour(find: type) -> None:
    found = find(LINE[:1], IDS[:1], LINE[:2], IDS[:2], k=3)
    np.testing.assert_array_equal(found.rows, [[1, -1, -1]])
    np.testing.assert_array_equal(found.distances, [[1, np.inf, np.inf]])


@BOTH
def test_blocks_merge_into_the_table_of_all_rows(find: type) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 3, (50, 4)).astype(np.float32)  # many ties, many duplicates
    ids = rng.permutation(50)
    whole = nearest_rows(rows[:9], ids[:9], rows, ids, k=7)
    merged = no_neighbours(9, 7)
    for start in range(0, 50, 13):
        part = slice(start, start + 13)
        merged = merged.merged(find(rows[:9], ids[:9], rows[part], ids[part], k=7, start=start))
    np.testing.assert_array_equal(merged.distances, whole.distances)
    chosen = ((rows[:9, None] - rows[merged.rows]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(chosen, merged.distances)


@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 20),
    dim=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
)
def test_faiss_agrees_with_numpy(seed: int, k: int, dim: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((60, dim)) + offset).astype(np.float32)
    rows[rng.integers(0, 60, 15)] = rows[0]
    ids = rng.permutation(60)
    exact = nearest_rows(rows[:9], ids[:9], rows, ids, k=k)
    with by_products():
        fast = nearest_rows_faiss(rows[:9], ids[:9], rows, ids, k=k)
    np.testing.assert_allclose(fast.distances, exact.distances, rtol=1e-4)
    assert not np.any(ids[fast.rows] == ids[:9, None])
    assert all(len(set(row)) == k for row in fast.rows.tolist())
    again = ((rows[:9, None].astype(np.float64) - rows[fast.rows]) ** 2).sum(axis=2)
    np.testing.assert_allclose(again, exact.distances, rtol=1e-4)


def test_far_from_the_origin_faiss_alone_is_wrong_and_ours_is_not() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((2000, 64)) + 5000).astype(np.float32)
    ids = np.arange(2000)
    exact = nearest_rows(rows[:30], ids[:30], rows, ids, k=5)
    with by_products() as faiss:
        alone = faiss.knn(rows, rows, 6)[1][:30, 1:]
        ours = nearest_rows_faiss(rows, ids, rows, ids, k=5).rows[:30]
    assert np.mean(alone == exact.rows) < 0.1
    assert np.mean(ours == exact.rows) > 0.99


def test_distances_to_named_rows_and_to_none() -> None:
    numbers = np.array([[3, -1], [0, 1]])
    found = distances_to(LINE[:2], LINE, numbers)
    np.testing.assert_array_equal(found, [[49, np.inf], [1, 0]])
    with pytest.raises(IndexError, match="row 4 of 4"):
        distances_to(LINE[:2], LINE, np.array([[0], [4]]))


def test_pair_distances_are_squared_and_refuse_rows_that_are_not_there() -> None:
    found = pair_distances(LINE, np.array([0, 3]), np.array([2, 1]))
    np.testing.assert_array_equal(found, [9, 36])
    with pytest.raises(IndexError, match="rows -1 to 0 of 4"):
        pair_distances(LINE, np.array([0, 0]), np.array([0, -1]))


def test_pair_distances_read_rows_that_do_not_lie_side_by_side() -> None:
    rows = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    assert pair_distances(rows, np.array([0]), np.array([3]))[0] == 3 * 18**2


def test_rows_that_tie_for_the_last_place_are_all_hits() -> None:
    truth = Neighbours(np.array([[5, 6]]), np.array([[1.0, 4.0]], np.float32))
    counted = hits(truth, np.array([[4.0, 4.1]], np.float32))
    np.testing.assert_array_equal(counted, [[True, False]])


def test_nothing_found_is_never_a_hit() -> None:
    none = no_neighbours(1, 2)
    np.testing.assert_array_equal(hits(none, none.distances), [[False, False]])


def test_the_majority_decides_and_of_equals_the_nearest() -> None:
    labels = np.array(
        [[4, 7, 7], [4, 7, 9], [7, 4, 4], [9, 4, 4], [-1, -1, 2], [-1, -1, -1], [3, 5, 5]]
    )
    np.testing.assert_array_equal(majority(labels), [7, 4, 4, 4, 2, -1, 5])
    np.testing.assert_array_equal(majority(np.array([[8, 1, 1, 8, 3]])), [8])
