"""Participation ratio and effective rank by hand, and against eigen- and singular values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import (
    ProjectionError,
    covariance_participation_ratio,
    dimension,
    effective_rank,
    gather_moments,
    participation_ratio,
    rankme,
)


def test_by_hand() -> None:
    cross = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], dtype=np.float32)
    assert participation_ratio(cross) == pytest.approx((4 + 1) ** 2 / (16 + 1))
    assert participation_ratio(cross + np.float32(7)) == pytest.approx(25 / 17)


def test_a_line_is_one_and_equal_axes_are_all() -> None:
    line = np.outer(np.arange(9.0), [1, 2, 3]) + np.array([5, 0, 1])
    assert participation_ratio(line) == pytest.approx(1)
    corners = np.concatenate([np.eye(6), -np.eye(6)])
    assert participation_ratio(corners) == pytest.approx(6)


@given(rows=st.integers(2, 30), dim=st.integers(1, 12), block=st.integers(1, 9))
def test_it_is_that_of_the_eigenvalues(rows: int, dim: int, block: int) -> None:
    features = np.random.default_rng(rows * 31 + dim).standard_normal((rows, dim)) + 3
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(features.T)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dimension, "BLOCK", block)
        found = participation_ratio(features)
    assert found == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 - 1e-9 <= found <= min(rows - 1, dim) + 1e-9


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_scale_does_not_matter(scale: float) -> None:
    features = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    scaled = features * np.float32(scale)
    assert participation_ratio(scaled) == pytest.approx(participation_ratio(features), rel=1e-5)


def test_half_precision_is_read_as_it_is() -> None:
    half = (np.random.default_rng(0).standard_normal((300, 5)) * 300).astype(np.float16)
    assert participation_ratio(half) == pytest.approx(participation_ratio(half.astype(np.float64)))


def test_rows_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ProjectionError, match="rows that differ: these are all equal"):
        participation_ratio(np.ones((5, 3), dtype=np.float32))
    with pytest.raises(ProjectionError, match="at least 2 rows, got 1"):
        participation_ratio(np.ones((1, 3), dtype=np.float32))


def test_effective_rank_by_hand() -> None:
    # singular values 3 and 1: shares 3/4 and 1/4
    by_hand = np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4))
    assert effective_rank(np.diag([9.0, 1.0])) == pytest.approx(by_hand)
    assert rankme(np.array([[0, 3], [1, 0], [0, 0]], dtype=np.float32)) == pytest.approx(by_hand)
    assert covariance_participation_ratio(np.diag([9.0, 1.0])) == pytest.approx(100 / 82)


def test_effective_ranks_of_lines_and_of_equal_axes() -> None:
    line = np.outer(np.arange(1, 9.0), [1, 2, 3])
    assert rankme(line) == pytest.approx(1)
    assert rankme(np.eye(6)) == pytest.approx(6)
    assert effective_rank(np.eye(6) * 1e-9) == pytest.approx(6)
    assert rankme(np.ones((5, 3))) == pytest.approx(1)  # not centred, as published


@given(rows=st.integers(1, 30), dim=st.integers(1, 12), block=st.integers(1, 9))
def test_rankme_is_that_of_the_singular_values(rows: int, dim: int, block: int) -> None:
    features = np.random.default_rng(rows * 31 + dim).standard_normal((rows, dim)) + 3
    shares = np.linalg.svd(features, compute_uv=False)
    shares /= shares.sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dimension, "BLOCK", block)
        found = rankme(features)
    assert found == pytest.approx(np.exp(-shares @ np.log(shares)), rel=1e-5)
    assert 1 - 1e-9 <= found <= min(rows, dim) * (1 + 1e-9)


def test_moments_tell_the_same_as_rows() -> None:
    features = np.random.default_rng(0).standard_normal((500, 6)) @ np.diag([5.0, 3, 2, 1, 1, 0.1])
    features += np.arange(6)
    moments = gather_moments([(features, None)])
    second = moments.covariance + np.outer(moments.mean, moments.mean)
    assert effective_rank(second) == pytest.approx(rankme(features))
    assert effective_rank(moments.covariance) == pytest.approx(rankme(features - moments.mean))
    ratio = covariance_participation_ratio(moments.covariance)
    assert ratio == pytest.approx(participation_ratio(features))


def test_rounding_of_float32_products_does_not_count_as_directions() -> None:
    rng = np.random.default_rng(0)
    flat = (rng.standard_normal((900, 8)) @ rng.standard_normal((8, 400))).astype(np.float32)
    moments = gather_moments([(flat, None)])
    assert effective_rank(moments.covariance) == pytest.approx(
        rankme(flat - moments.mean), rel=1e-3
    )


def test_matrices_that_are_no_covariance_are_refused() -> None:
    for measure in (effective_rank, covariance_participation_ratio):
        with pytest.raises(ProjectionError, match="its trace is 0, not positive and finite"):
            measure(np.zeros((3, 3)))
        with pytest.raises(ProjectionError, match="its trace is nan"):
            measure(np.full((2, 2), np.nan))
    with pytest.raises(ProjectionError, match=r"smallest eigenvalue is -5\.0e-01 of its largest"):
        effective_rank(np.diag([2.0, -1.0]))
    with pytest.raises(ProjectionError, match="RankMe needs rows that are not all zero"):
        rankme(np.zeros((4, 2), dtype=np.float32))
