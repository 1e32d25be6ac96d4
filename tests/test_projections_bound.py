"""The lemma's figures by hand, and measured spreads beside the expected ones."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import (
    ProjectionError,
    expected_ratio_std,
    jl_dim,
    jl_eps,
    make_projection,
    shared_shift,
)


@pytest.mark.parametrize(
    ("rows", "eps", "dim"),
    [
        (50_000, 0.5, 520),  # 43.279 / (1/8 - 1/24) = 519.3
        (50_000, 0.3, 1203),  # 43.279 / 0.036 = 1202.2
        (50_000, 0.999, 260),
        (2, 0.5, 34),  # 2.7726 * 12 = 33.3
    ],
)
def test_dimensions_the_lemma_asks_for(rows: int, eps: float, dim: int) -> None:
    assert jl_dim(rows, eps) == dim


def test_scikit_learn_asks_for_the_same_before_rounding_down() -> None:
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    for eps in (0.1, 0.5, 0.9):
        assert jl_dim(1000, eps) == johnson_lindenstrauss_min_dim(1000, eps=eps) + 1


@pytest.mark.parametrize("dim", [1, 128, 259])
def test_below_260_dimensions_fifty_thousand_rows_are_promised_nothing(dim: int) -> None:
    assert jl_eps(50_000, dim) is None


def test_from_260_dimensions_something_is_promised() -> None:
    assert jl_eps(50_000, 260) == pytest.approx(0.9795, abs=1e-4)  # 1 - sqrt(2 (1/6 - c))
    assert jl_eps(50_000, 520) == pytest.approx(0.49963, abs=1e-4)


@given(rows=st.integers(2, 10**9), dim=st.integers(1, 10**6))
def test_the_promise_solves_the_lemma(rows: int, dim: int) -> None:
    eps = jl_eps(rows, dim)
    if eps is None:
        assert 24 * math.log(rows) >= dim
    else:
        assert 0 < eps < 1
        assert 4 * math.log(rows) / (eps**2 / 2 - eps**3 / 3) == pytest.approx(dim, rel=1e-6)


@given(eps=st.floats(0.01, 0.98), rows=st.integers(2, 10**7))
def test_both_directions_agree(eps: float, rows: int) -> None:
    dim = jl_dim(rows, eps)
    promised, before = jl_eps(rows, dim), jl_eps(rows, max(1, dim - 1))
    assert promised is not None
    assert promised <= eps * (1 + 1e-9)
    assert before is None or before > eps * (1 - 1e-9)


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_eps_outside_the_open_interval_is_refused(eps: float) -> None:
    with pytest.raises(ProjectionError, match="strictly between 0 and 1, got"):
        jl_dim(100, eps)


def test_sizes_without_meaning_are_refused() -> None:
    with pytest.raises(ProjectionError, match="at least 2 rows, got 1"):
        jl_dim(1, 0.5)
    with pytest.raises(ProjectionError, match="at least 2 rows, got 0"):
        jl_eps(0, 10)
    with pytest.raises(ProjectionError, match="dim must be at least 1, got 0"):
        jl_eps(10, 0)
    with pytest.raises(ProjectionError, match="dim_out must be at least 1, got 0"):
        shared_shift(0, 5.0)
    with pytest.raises(ProjectionError, match=r"ratio is at least 1, got 0\.5"):
        shared_shift(4, 0.5)
    with pytest.raises(ProjectionError, match="dim_out must be at most dim_in, got 9 and 8"):
        expected_ratio_std("orthogonal", 8, 9)
    with pytest.raises(ProjectionError, match="dim_out must be at least 1, got 0"):
        expected_ratio_std("gaussian", 8, 0)


def test_expected_spreads_by_hand() -> None:
    assert expected_ratio_std("gaussian", 2048, 128) == 0.125
    assert expected_ratio_std("gaussian", 999, 128) == 0.125
    assert expected_ratio_std("orthogonal", 2048, 128) == pytest.approx(0.12097, abs=1e-5)
    assert expected_ratio_std("orthogonal", 6, 2) == pytest.approx(math.sqrt(1 / 2))
    assert expected_ratio_std("orthogonal", 77, 77) == 0.0
    assert shared_shift(128, 64.0) == pytest.approx(1 / 64)


def test_no_formula_is_none() -> None:
    assert expected_ratio_std("", 10, 2) is None
    assert expected_ratio_std("pca", 10, 2) is None


DIM_IN, DIM_OUT, MAPS = 48, 24, 150
# Orthogonal to one another, so that a Gaussian map's ratios are independent; some along an axis,
# some in all directions, so that keeping some columns is not as good as mixing all.
DIRECTIONS = np.vstack(
    [np.eye(48)[[0, 23, 24, 47]], np.ones(48) - np.isin(np.arange(48), [0, 23, 24, 47])]
)

Draw = Callable[[int], np.ndarray]


def drawn(kind: str) -> Draw:
    return lambda seed: make_projection(kind, dim_in=DIM_IN, dim_out=DIM_OUT, seed=seed).matrix


def check_keeps_squared_lengths(draw: Draw, std: float) -> None:
    """Mean and spread of squared length after over before, over many maps and five directions.

    With n ratios the mean is known to std / sqrt(n); the spread to a share of sqrt((2 + e) / 4n)
    with e, their excess kurtosis, at most 12 / k. Five of either are allowed.
    """
    after = np.array([((DIRECTIONS @ draw(seed)) ** 2).sum(axis=1) for seed in range(MAPS)])
    ratio = after / (DIRECTIONS**2).sum(axis=1)
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=5 * std / np.sqrt(ratio.size))
    tolerance = 5 * np.sqrt((2 + 12 / DIM_OUT) / (4 * ratio.size))
    np.testing.assert_allclose(ratio.std(), std, rtol=tolerance)


@pytest.mark.parametrize("kind", ["gaussian", "orthogonal"])
def test_lengths_are_kept_with_the_spread_the_theory_gives(kind: str) -> None:
    std = expected_ratio_std(kind, DIM_IN, DIM_OUT)
    assert std is not None
    check_keeps_squared_lengths(drawn(kind), std)


GAUSSIAN = drawn("gaussian")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda seed: GAUSSIAN(seed) * 1.04, id="scaled"),
        pytest.param(lambda _: np.eye(DIM_IN, DIM_OUT), id="truncated"),
        pytest.param(lambda _: np.eye(DIM_IN, DIM_OUT) * np.sqrt(2), id="truncated-scaled"),
        pytest.param(lambda _: np.zeros((DIM_IN, DIM_OUT)), id="zeros"),
        pytest.param(lambda _: GAUSSIAN(0), id="always-the-same"),
        pytest.param(lambda seed: GAUSSIAN(seed)[:, :1].repeat(DIM_OUT, 1), id="one-column"),
        pytest.param(lambda seed: GAUSSIAN(seed) * np.sqrt(DIM_OUT / DIM_IN), id="wrong-width"),
        pytest.param(drawn("orthogonal"), id="another-kind"),
    ],
)
def test_the_length_check_can_fail(broken: Draw) -> None:
    std = expected_ratio_std("gaussian", DIM_IN, DIM_OUT)
    assert std is not None
    with pytest.raises(AssertionError):
        check_keeps_squared_lengths(broken, std)


def test_one_map_moves_all_pairs_together_by_the_shared_shift() -> None:
    rng = np.random.default_rng(0)
    scales = np.concatenate([np.full(4, 10.0), np.ones(44)])
    rows = rng.standard_normal((2000, 48)) * scales
    covariance = np.cov(rows.T)
    participation = np.trace(covariance) ** 2 / np.sum(covariance**2)
    matrices = [GAUSSIAN(seed) for seed in range(400)]
    means = [np.trace(m.T @ covariance @ m) / np.trace(covariance) for m in matrices]
    expected = shared_shift(DIM_OUT, float(participation))
    # a spread from 400 maps is known to 1 / sqrt(800): 3.5 %
    np.testing.assert_allclose(np.std(means), expected, rtol=5 / np.sqrt(800))
    np.testing.assert_allclose(np.mean(means), 1, atol=5 * expected / np.sqrt(400))
