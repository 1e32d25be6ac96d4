"""The orthogonal map: orthonormal to rounding, uniformly drawn, exact products."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from projections import orthogonal
from projections.normal import fill_normals, stream
from projections.orthogonal import (
    EXACT_TERMS,
    GRID,
    _exact_product,
    _sliced_product,
    orthogonal_matrix,
)

FLOAT32 = float(np.finfo(np.float32).eps)


def columns(dim_in: int, dim_out: int, seed: int) -> np.ndarray:
    """Columns of length one, in float64."""
    matrix = orthogonal_matrix(dim_in, dim_out, seed).astype(np.float64)
    unit: np.ndarray = matrix * np.sqrt(dim_out / dim_in)
    return unit


def defined(dim_in: int, dim_out: int, seed: int) -> np.ndarray:
    """One reflection after another, in plain float64: what the fast form must agree with."""
    drawn = np.empty((dim_in, dim_out))
    fill_normals(drawn.reshape(-1), stream("orthogonal 1", dim_in, dim_out, seed))
    drawn = (np.floor(drawn * GRID) + 0.5) / GRID
    frame = np.eye(dim_in, dim_out)
    for j in reversed(range(dim_out)):
        v = drawn[:, j].copy()
        v[:j] = 0
        v[j] += np.sign(v[j]) * np.linalg.norm(v)
        frame -= np.outer(v, 2 / (v @ v) * (v @ frame))
    scaled: np.ndarray = frame * -np.sign(np.diag(drawn)) * np.sqrt(dim_in / dim_out)
    return scaled


def test_matrix_of_seed_zero_has_not_changed() -> None:
    expected = [
        [-0.5656145811080933, -1.0342662334442139],
        [0.31383952498435974, 0.20301036536693573],
        [-1.0399926900863647, 0.623762845993042],
    ]
    np.testing.assert_array_equal(orthogonal_matrix(3, 2, 0), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("dims", [(1, 1), (2, 2), (3, 1), (40, 13), (65, 65), (300, 128)])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_the_product_of_the_reflections(dims: tuple[int, int], seed: int) -> None:
    expected = defined(*dims, seed)
    tolerance = FLOAT32 * np.abs(expected).max()
    np.testing.assert_allclose(orthogonal_matrix(*dims, seed), expected, rtol=0, atol=tolerance)


@given(dim_in=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 2**70))
def test_columns_are_orthogonal_and_of_one_length(dim_in: int, share: float, seed: int) -> None:
    dim_out = max(1, round(share * dim_in))
    unit = columns(dim_in, dim_out, seed)
    np.testing.assert_allclose(unit.T @ unit, np.eye(dim_out), atol=4 * FLOAT32)


@pytest.mark.parametrize("dims", [(3000, 20), (700, 700)])
def test_large_maps_are_as_orthogonal(dims: tuple[int, int]) -> None:
    unit = columns(*dims, 0)
    np.testing.assert_allclose(unit.T @ unit, np.eye(dims[1]), atol=4 * FLOAT32)


def test_all_dimensions_kept_is_a_rotation_of_the_data() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 16))
    mapped = rows @ orthogonal_matrix(16, 16, 0).astype(np.float64)
    np.testing.assert_allclose(mapped @ mapped.T, rows @ rows.T, atol=1e-5)


def check_is_uniform_on_the_sphere(draw: Callable[[int], np.ndarray]) -> None:
    """Any coordinate of a uniform direction in three dimensions is uniform (Archimedes).

    The Kolmogorov-Smirnov distance exceeds 1.95 / sqrt(n) once in a thousand samples.
    """
    drawn = np.array([draw(seed) for seed in range(1000)])
    for coordinate in drawn.reshape(len(drawn), -1).T:
        distance = scipy.stats.kstest(coordinate, scipy.stats.uniform(-1, 2).cdf).statistic
        assert distance < 1.95 / np.sqrt(len(drawn))


def test_each_column_points_in_a_uniform_direction() -> None:
    check_is_uniform_on_the_sphere(lambda seed: columns(3, 2, seed))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda seed: np.abs(columns(3, 2, seed)), id="one-octant"),
        pytest.param(lambda seed: columns(3, 2, seed) * -np.sign(columns(3, 2, seed)[0]), id="qr"),
        pytest.param(lambda seed: columns(3, 2, seed % 50), id="few-maps"),
        pytest.param(lambda seed: np.cbrt(columns(3, 2, seed)), id="wrong-shape"),
    ],
)
def test_the_uniformity_check_can_fail(broken: Callable[[int], np.ndarray]) -> None:
    with pytest.raises(AssertionError):
        check_is_uniform_on_the_sphere(broken)


def test_rotations_and_mirrored_rotations_come_equally_often() -> None:
    determinants = [np.linalg.det(columns(3, 3, seed)) for seed in range(1000)]
    assert set(np.round(determinants, 4)) == {-1.0, 1.0}
    assert abs(np.mean(determinants)) < 5 / np.sqrt(1000)


def test_the_products_are_exact_at_the_largest_numbers_there_are() -> None:
    rng = np.random.default_rng(0)
    left = (2 * rng.integers(2**19, 2**20, (3, EXACT_TERMS)) + 1).astype(np.int64)
    right = (rng.integers(2**19, 2**20, (EXACT_TERMS, 4)) | 1).astype(np.int64)
    for order in (slice(None), slice(None, None, -1)):
        product = _exact_product(left[:, order].astype(np.float64), right[order].astype(np.float64))
        np.testing.assert_array_equal(product, (left @ right).astype(np.float64))
        assert np.all(left @ right < 2**53)


def test_more_terms_than_one_block_are_all_counted() -> None:
    terms = 2 * EXACT_TERMS + 3
    left = np.arange(2 * terms).reshape(2, terms)
    right = np.arange(3 * terms).reshape(terms, 3) % 7
    product = _exact_product(left.astype(np.float64), right.astype(np.float64))
    np.testing.assert_array_equal(product, left @ right)


def test_slices_lose_nothing_that_float64_would_keep() -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(-(2**20), 2**20, (5, 9)) / GRID
    right = rng.standard_normal((9, 4)) * 10.0 ** rng.integers(-3, 3, (9, 4))
    exact = left.astype(np.longdouble) @ right.astype(np.longdouble)
    error = np.abs(_sliced_product(left, right) - exact).max()
    assert error < 1e-14 * np.abs(left).max() * np.abs(right).max()


def test_the_grid_and_the_slices_fit_into_float64() -> None:
    largest = 8.3 * 2 * orthogonal.GRID  # of the odd numbers the vectors are made of
    assert largest * max(largest, 2**orthogonal.SLICE_BITS) * EXACT_TERMS < 2**53
