"""Retained separation by hand, against a plain loop, and what it must do under any map."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import (
    Moments,
    ProjectionError,
    gather_moments,
    make_projection,
    retained_separation,
)
from projections.discriminant import DiscriminantProjection, shrunk_within


def some_moments(classes: int, dim: int, seed: int, rows: int = 60) -> Moments:
    """Classes of uneven sizes, with correlated features far from the origin."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows)])
    mixing = rng.standard_normal((dim, dim)) * np.logspace(0, -1, dim)
    centres = rng.standard_normal((classes, dim))
    features = 20 + (centres[labels] + rng.standard_normal((len(labels), dim))) @ mixing
    return gather_moments([(features, labels)], classes=classes)


def plain_shares(moments: Moments, matrix: np.ndarray) -> dict[tuple[int, int], float]:
    within, _ = shrunk_within(moments)
    shares = {}
    for a in range(moments.classes):
        for b in range(a + 1, moments.classes):
            apart = moments.means[a] - moments.means[b]
            after = matrix.T @ apart
            kept = after @ np.linalg.solve(matrix.T @ within @ matrix, after)
            shares[a, b] = float(kept / (apart @ np.linalg.solve(within, apart)))
    return shares


def round_moments(means: np.ndarray) -> Moments:
    """Rows one away from their class mean, both ways along each axis: shrinking changes nothing."""
    classes, dim = means.shape
    counts = np.full(classes, 2 * dim)
    return Moments(counts=counts, means=means, within=2.0 * classes * np.eye(dim))


def test_three_classes_by_hand() -> None:
    moments = round_moments(np.array([[0.0, 0], [3, 4], [6, 0]]))  # within = I / 2
    axis, both = retained_separation(moments, [np.array([[1.0], [0]]), np.eye(2)])
    # squared distances 25, 36, 25 become 9, 36, 9
    assert axis.mean == pytest.approx((9 / 25 + 1 + 9 / 25) / 3)
    assert axis.least == pytest.approx(9 / 25)
    assert axis.low == pytest.approx(9 / 25)
    assert axis.closest == pytest.approx(3 * np.sqrt(2))
    assert both.mean == both.low == both.least == pytest.approx(1)
    assert both.closest == pytest.approx(5 * np.sqrt(2))


def test_the_worst_pair_is_named_by_class_numbers() -> None:
    means = np.array([[0.0, 0], [9, 9], [4, 1], [8, 2], [0, 0]])
    counts = np.array([4, 0, 4, 4, 0])
    moments = Moments(counts=counts, means=means * (counts > 0)[:, None], within=6.0 * np.eye(2))
    (across,) = retained_separation(moments, [np.array([[-1.0], [4]])])  # blind to 0 and 2
    assert across.pair == (0, 2)
    assert across.least == pytest.approx(0, abs=1e-12)


def test_the_low_end_is_the_first_percentile_of_the_pairs() -> None:
    moments = some_moments(20, 30, seed=0, rows=400)
    matrix = np.random.default_rng(1).standard_normal((30, 10))
    (found,) = retained_separation(moments, [matrix])
    shares = np.array(list(plain_shares(moments, matrix).values()))
    assert found.low == pytest.approx(np.quantile(shares, 0.01))
    assert found.least < found.low < found.mean


@given(
    classes=st.integers(2, 7), dim=st.integers(1, 9), k=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_a_plain_loop_finds_the_same(classes: int, dim: int, k: int, seed: int) -> None:
    moments = some_moments(classes, dim, seed)
    matrix = np.random.default_rng(seed + 1).standard_normal((dim, min(k, dim)))
    (found,) = retained_separation(moments, [matrix])
    shares = plain_shares(moments, matrix)
    assert found.mean == pytest.approx(np.mean(list(shares.values())), rel=1e-7)
    assert found.least == pytest.approx(min(shares.values()), rel=1e-6, abs=1e-9)
    assert shares[found.pair] == pytest.approx(found.least, rel=1e-6, abs=1e-9)
    assert 0 <= found.least <= found.low <= found.mean <= 1


@given(dim=st.integers(1, 10), k=st.integers(1, 10), seed=st.integers(0, 99))
def test_only_the_space_matters(dim: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    moments = some_moments(4, dim, seed)
    matrix = rng.standard_normal((dim, min(k, dim)))
    mixed = matrix @ (np.eye(matrix.shape[1]) + 0.2 * rng.standard_normal((matrix.shape[1],) * 2))
    scaled = matrix * np.logspace(-12, 12, matrix.shape[1])
    repeated = np.hstack([matrix, np.zeros((dim, 1)), 2 * matrix, mixed])
    first, *others = retained_separation(moments, [matrix, mixed, scaled, repeated])
    for other in others:
        for name in ("mean", "low", "least", "closest"):
            assert getattr(other, name) == pytest.approx(getattr(first, name), rel=1e-6, abs=1e-9)


@given(classes=st.integers(2, 8), dim=st.integers(1, 10), seed=st.integers(0, 99))
def test_nothing_is_lost_by_an_invertible_map(classes: int, dim: int, seed: int) -> None:
    moments = some_moments(classes, dim, seed)
    matrix = np.random.default_rng(seed).standard_normal((dim, dim)) + 3 * np.eye(dim)
    (found,) = retained_separation(moments, [matrix])
    assert found.least == pytest.approx(1, abs=1e-7)


@given(dim=st.integers(2, 12), seed=st.integers(0, 99))
def test_every_column_keeps_more(dim: int, seed: int) -> None:
    moments = some_moments(5, dim, seed)
    matrix = np.random.default_rng(seed).standard_normal((dim, dim))
    found = retained_separation(moments, [matrix[:, :k] for k in range(1, dim + 1)])
    for fewer, more in itertools.pairwise(found):
        assert fewer.mean < more.mean + 1e-12
        assert fewer.least <= more.least + 1e-9
        assert fewer.closest <= more.closest + 1e-9
    assert found[0].mean < found[-1].mean


@pytest.mark.parametrize(("classes", "dim"), [(2, 5), (6, 20), (9, 40)])
def test_the_discriminants_keep_all_at_one_less_than_the_classes(classes: int, dim: int) -> None:
    moments = some_moments(classes, dim, seed=3)
    whole = DiscriminantProjection(classes - 1).fit_moments(moments).matrix
    random = make_projection("gaussian", dim_in=dim, dim_out=classes - 1, seed=0).matrix
    maps = [whole, random, whole[:, :-1]][: 3 if classes > 2 else 2]
    found = retained_separation(moments, maps)
    assert found[0].least == pytest.approx(1, abs=1e-5)  # the map is float32
    assert all(other.least < 0.99 for other in found[1:])


def test_a_map_that_reads_nothing_keeps_nothing() -> None:
    (found,) = retained_separation(some_moments(3, 4, seed=0), [np.zeros((4, 2))])
    assert (found.mean, found.least, found.closest) == (0, 0, 0)


def test_the_shrinkage_is_what_makes_collinear_features_possible() -> None:
    rng = np.random.default_rng(0)
    few = rng.standard_normal((30, 5)) @ rng.standard_normal((5, 40))  # rank 5 of 40
    labels = np.arange(30) % 3
    moments = gather_moments([(few.astype(np.float32), labels)], classes=3)
    whole, part = retained_separation(moments, [np.eye(40), np.eye(40)[:, :2]])
    assert whole.least == pytest.approx(1)
    assert 0 < part.least < 1


def test_pairs_with_equal_means_are_left_out() -> None:
    moments = round_moments(np.array([[0.1, 0.7], [0.1, 0.7], [3, 4]]))
    (found,) = retained_separation(moments, [np.array([[1.0], [0]])])
    assert found.least == found.mean == pytest.approx(2.9**2 / (2.9**2 + 3.3**2))
    assert found.pair == (0, 2)


def test_what_cannot_be_separated_is_refused() -> None:
    moments = some_moments(3, 4, seed=0)
    with pytest.raises(ProjectionError, match=r"matrix 1 has shape \(5, 2\), not 4 rows as wide"):
        retained_separation(moments, [np.eye(4), np.ones((5, 2))])
    with pytest.raises(ProjectionError, match="and at least 1 column"):
        retained_separation(moments, [np.ones((4, 0))])
    with pytest.raises(ProjectionError, match="at least 2 need rows, got 1"):
        retained_separation(gather_moments([(np.eye(4), None)]), [np.eye(4)])
    for means in (np.zeros((3, 4)), np.full((3, 4), 0.1)):
        with pytest.raises(ProjectionError, match="the means of all classes are equal"):
            retained_separation(round_moments(means), [np.eye(4)])
