"""Moments: hand-computed answers, any cutting of the rows, parts pooled and taken away again."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projections import (
    Moments,
    ProjectionError,
    gather_fold_moments,
    gather_moments,
    gathering,
)

CLASSES, DIM, ROWS = 7, 24, 5000
Gather = Callable[[np.ndarray, np.ndarray], Moments]


def labelled_rows(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated float32 rows far from the origin, in classes further apart than wide."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    mixing = rng.standard_normal((DIM, DIM)) * np.geomspace(1, 0.05, DIM)[:, None]
    means = 20 * rng.standard_normal((CLASSES, DIM)) + 100
    features = rng.standard_normal((rows, DIM)) @ mixing + means[labels]
    return features.astype(np.float32), labels


FEATURES, LABELS = labelled_rows()


def gathered(features: np.ndarray, labels: np.ndarray) -> Moments:
    return gather_moments([(features, labels)], classes=CLASSES)


def defined(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """One row after another, in float64: what the moments mean."""
    rows = features.astype(np.float64)
    means = np.zeros((CLASSES, rows.shape[1]))
    for label in set(labels.tolist()):
        means[label] = rows[labels == label].mean(axis=0)
    within = np.zeros((rows.shape[1],) * 2)
    for row, label in zip(rows, labels, strict=True):
        within += np.outer(row - means[label], row - means[label])
    return {
        "counts": np.bincount(labels, minlength=CLASSES),
        "means": means,
        "within_covariance": within / len(rows),
        "covariance": np.cov(rows, rowvar=False, bias=True),
        "mean": rows.mean(axis=0),
    }


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest error of a scatter's entries, in geometric means of their diagonal entries."""
    sizes = np.sqrt(np.diag(expected))
    return float(np.abs((found - expected) / np.outer(sizes, sizes)).max())


def check_moments_are_those_of(gather: Gather) -> None:
    """Scatter to 1e-5, as promised; means to 1e-6 of the spread within the classes."""
    found, expected = gather(FEATURES, LABELS), defined(FEATURES, LABELS)
    spread = np.sqrt(np.diag(expected["within_covariance"]))
    np.testing.assert_array_equal(found.counts, expected["counts"])
    assert np.abs((found.means - expected["means"]) / spread).max() < 1e-6
    assert np.abs((found.mean - expected["mean"]) / spread).max() < 1e-6
    for name in ("within_covariance", "covariance"):
        assert off(getattr(found, name), expected[name]) < 1e-5
    np.testing.assert_allclose(
        found.between_covariance, found.covariance - found.within_covariance, atol=1e-9
    )


def test_they_are_what_they_are_defined_as() -> None:
    check_moments_are_those_of(gathered)


def test_the_promised_error_leaves_room() -> None:
    found, expected = gathered(FEATURES, LABELS), defined(FEATURES, LABELS)
    assert off(found.within_covariance, expected["within_covariance"]) < 1e-6


def changed(**how: Callable[[Moments], np.ndarray]) -> Gather:
    def gather(features: np.ndarray, labels: np.ndarray) -> Moments:
        found = gathered(features, labels)
        return dataclasses.replace(found, **{name: change(found) for name, change in how.items()})

    return gather


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(changed(within=lambda m: m.within * 1.001), id="scaled"),
        pytest.param(changed(within=lambda m: m.within * m.rows / (m.rows - 1)), id="rows-1"),
        pytest.param(changed(within=lambda m: np.triu(m.within)), id="half"),
        pytest.param(changed(means=lambda m: -m.means), id="sign-of-a-mean"),
        pytest.param(changed(within=lambda m: -m.within), id="sign-of-the-scatter"),
        pytest.param(changed(counts=lambda m: np.roll(m.counts, 1)), id="counts-of-others"),
        pytest.param(lambda x, y: gathered(x, np.roll(y, 1)), id="labels-shuffled"),
        pytest.param(lambda x, y: gathered(x[:-1], y[:-1]), id="a-row-lost"),
    ],
)
def test_the_check_of_moments_can_fail(broken: Gather) -> None:
    with pytest.raises(AssertionError):
        check_moments_are_those_of(broken)


def test_a_hand_computed_answer() -> None:
    features = np.array([[0, 0], [2, 0], [5, 1], [5, 5]], dtype=np.float32)
    found = gather_moments([(features, np.array([0, 0, 2, 2]))], classes=3)
    np.testing.assert_array_equal(found.counts, [2, 0, 2])
    np.testing.assert_array_equal(found.means, [[1, 0], [0, 0], [5, 3]])
    np.testing.assert_array_equal(found.within, [[2, 0], [0, 8]])
    np.testing.assert_array_equal(found.mean, [3, 1.5])
    np.testing.assert_array_equal(found.within_covariance, [[0.5, 0], [0, 2]])
    np.testing.assert_allclose(found.between_covariance, [[4.0, 3.0], [3.0, 2.25]], rtol=1e-15)
    np.testing.assert_allclose(found.covariance, [[4.5, 3.0], [3.0, 4.25]], rtol=1e-15)
    assert (found.rows, found.classes, found.dim, found.labelled) == (4, 3, 2, True)


def test_unlabelled_rows_are_one_class() -> None:
    found = gather_moments([(FEATURES[:10], None), (FEATURES[10:], None)])
    assert (found.rows, found.classes, found.labelled) == (ROWS, 1, False)
    assert off(found.covariance, np.cov(FEATURES.astype(float), rowvar=False, bias=True)) < 1e-5
    np.testing.assert_allclose(found.between_covariance, 0, atol=1e-20)


def same(one: Moments, other: Moments) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("counts", "means", "within")
    )


def cut(at: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start, stop in zip([0, *at], [*at, ROWS], strict=True):
        yield FEATURES[start:stop], LABELS[start:stop]


@example(at=[gathering.BATCH - 1])
@example(at=[gathering.BATCH, 2 * gathering.BATCH])
@given(at=st.lists(st.integers(0, ROWS), max_size=9).map(sorted))
def test_how_the_rows_are_cut_does_not_matter(at: list[int]) -> None:
    assert same(gather_moments(cut(at), classes=CLASSES), gathered(FEATURES, LABELS))


@pytest.mark.parametrize(
    ("at", "tolerance"), [(gathering.BATCH, 1e-6), (2500, 1e-5), (1, 1e-5), (ROWS - 1, 1e-5)]
)
def test_two_parts_make_the_whole(at: int, tolerance: float) -> None:
    parts = [gather_moments([block], classes=CLASSES) for block in cut([at])]
    whole, merged = gathered(FEATURES, LABELS), parts[0].merge(parts[1])
    np.testing.assert_array_equal(merged.counts, whole.counts)
    assert off(merged.within, whole.within) < tolerance
    assert off(merged.covariance, whole.covariance) < tolerance
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-7)


@given(seed=st.integers(0, 999), rows=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_what_was_merged_in_can_be_taken_away(seed: int, rows: tuple[int, int]) -> None:
    """With few rows whole classes come, go or stay empty."""
    features, labels = labelled_rows(sum(rows), seed)
    rest, part = (gathered(features[s], labels[s]) for s in (np.s_[: rows[0]], np.s_[rows[0] :]))
    whole = rest.merge(part)
    direct = defined(features, labels)
    assert off(whole.covariance, direct["covariance"]) < 1e-5
    np.testing.assert_allclose(whole.means, direct["means"], rtol=1e-6)
    found = whole.without(part)
    np.testing.assert_array_equal(found.counts, rest.counts)
    np.testing.assert_allclose(found.means, rest.means, rtol=1e-6)
    scale = np.trace(whole.within) + np.trace(rest.within)
    np.testing.assert_allclose(found.within, rest.within, atol=1e-6 * scale)


def test_merging_is_symmetric_and_in_any_order() -> None:
    a, b, c = (gather_moments([block], classes=CLASSES) for block in cut([10, 3000]))
    assert off(a.merge(b).merge(c).within, c.merge(a.merge(b)).within) < 1e-12
    assert off(a.merge(b.merge(c)).covariance, b.merge(c).merge(a).covariance) < 1e-12


@pytest.mark.parametrize("block_rows", [1, 333, ROWS])
def test_folds_are_the_moments_of_their_rows(block_rows: int) -> None:
    rows = ROWS if block_rows > 1 else 60
    folds = np.random.default_rng(1).integers(0, 5, rows)
    starts = range(0, rows, block_rows)
    cuts = [slice(start, min(start + block_rows, rows)) for start in starts]
    blocks = [(FEATURES[s], LABELS[s], folds[s]) for s in cuts]
    found = gather_fold_moments(iter(blocks), classes=CLASSES, folds=5)
    for fold, part in enumerate(found):
        alone = folds == fold
        assert same(part, gathered(FEATURES[:rows][alone], LABELS[:rows][alone]))


def test_collapsed_classes_far_apart_keep_their_scatter() -> None:
    """A collapsed teacher: between is 1e8 times within, and nothing cancels."""
    features, labels = labelled_rows()
    near = (features - defined(features, labels)["means"][labels]) * 1e-3
    exact = near + np.round(100 * np.random.default_rng(0).standard_normal((CLASSES, DIM)))[labels]
    rows = exact.astype(np.float32)
    found = gathered(rows, labels)
    assert np.trace(found.between_covariance) > 1e7 * np.trace(found.within_covariance)
    expected = defined(rows, labels)
    assert off(found.within_covariance, expected["within_covariance"]) < 1e-5


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e28])
def test_the_unit_of_the_features_does_not_matter(scale: float) -> None:
    small = (FEATURES - FEATURES.mean(axis=0)) * np.float32(scale)
    found = gathered(small, LABELS)
    expected = defined(small.astype(np.float64) / scale, LABELS)
    assert off(found.covariance / scale**2, expected["covariance"]) < 1e-5


def test_float64_rows_are_summed_in_float64() -> None:
    rows = FEATURES.astype(np.float64) + 1e-9 * np.random.default_rng(0).standard_normal(
        (ROWS, DIM)
    )
    assert (
        off(gathered(rows, LABELS).within_covariance, defined(rows, LABELS)["within_covariance"])
        < 1e-11
    )


def test_float16_rows_are_summed_as_float32() -> None:
    half = FEATURES.astype(np.float16)
    assert same(gathered(half, LABELS), gathered(half.astype(np.float32), LABELS))


@pytest.mark.parametrize("dim", [DIM, gathering.TILE, 2 * gathering.TILE + 9])
def test_scatter_is_symmetric_to_the_last_bit(dim: int) -> None:
    features = np.random.default_rng(0).standard_normal((60, dim))
    found = gathered(features, LABELS[:60])
    for matrix in (found.within, found.covariance, found.between_covariance):
        np.testing.assert_array_equal(matrix, matrix.T)
    expected = np.cov(features, rowvar=False, bias=True)
    np.testing.assert_allclose(found.covariance, expected, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(value: float) -> None:
    features = FEATURES[:300].copy()
    features[207, 3] = features[250, 1] = value
    blocks = [(features[:100], LABELS[:100]), (features[100:], LABELS[100:300])]
    with pytest.raises(ProjectionError, match=r"row 207 holds NaN or infinite features"):
        gather_moments(blocks, classes=CLASSES)
    folds = np.zeros(200, dtype=np.int64)
    with pytest.raises(ProjectionError, match=r"row 107 holds NaN or infinite features"):
        gather_fold_moments([(*blocks[1], folds)], classes=CLASSES, folds=1)


def test_large_finite_rows_are_not_mistaken_for_infinite_ones() -> None:
    rows = np.array([[3e38, 1], [3e38, 2], [-3e38, 3]], dtype=np.float32)
    with pytest.raises(ProjectionError, match="too large: their squares overflow"):
        gather_moments([(rows, None)])


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        pytest.param(np.ones((2, 3)), [0, 7], r"row 5 has label 7, which is not in 0 to 6", id="7"),
        pytest.param(np.ones((2, 3)), [-1, 0], r"row 4 has label -1, .* in 0 to 6", id="minus-1"),
        pytest.param(np.ones((2, 4)), [0, 0], r"shape \(2, 4\) after rows of width 3", id="width"),
        pytest.param(
            np.ones((2, 3)), None, r"rows from 4 on have no labels, .* 7 classes", id="no"
        ),
        pytest.param(np.ones((2, 0)), [0, 0], r"shape \(2, 0\)", id="no-columns"),
        pytest.param(
            np.full((2, 3), 1e200) * [[1], [2]], [0, 0], "their squares overflow", id="large"
        ),
    ],
)
def test_blocks_that_cannot_be_summed_are_refused(
    features: np.ndarray, labels: list[int] | None, message: str
) -> None:
    first = np.ones((4, 3)), np.zeros(4, dtype=np.int64)
    block = features, None if labels is None else np.array(labels)
    with pytest.raises(ProjectionError, match=message):
        gather_moments([first, block], classes=CLASSES)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ProjectionError, match="there are no rows to take moments of"):
        gather_moments([(FEATURES[:0], LABELS[:0])], classes=CLASSES)
    zeros = np.zeros(ROWS, dtype=np.int64)
    with pytest.raises(ProjectionError, match="fold 1 has no rows"):
        gather_fold_moments([(FEATURES, LABELS, zeros)], classes=CLASSES, folds=2)
    with pytest.raises(ProjectionError, match=r"row 0 has fold 2, which is not in 0 to 1"):
        gather_fold_moments([(FEATURES, LABELS, zeros + 2)], classes=CLASSES, folds=2)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    whole, part = gathered(FEATURES, LABELS), gathered(FEATURES[:9], LABELS[:9])
    with pytest.raises(ProjectionError, match=r"7 classes and width 3 do not go .* width 24"):
        whole.merge(gathered(np.ones((4, 3)), LABELS[:4]))
    with pytest.raises(ProjectionError, match=r"part has \d+ rows of class 0 and the whole \d"):
        part.without(whole)
    with pytest.raises(ProjectionError, match="nothing is left when all 5000 rows are taken away"):
        whole.without(whole)
