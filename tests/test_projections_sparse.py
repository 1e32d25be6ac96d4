"""The sparse maps: entries drawn as said, the theorem, and a product without a dense copy."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.random_projection import SparseRandomProjection

from projections import expected_ratio_std
from projections.base import RandomProjection
from projections.normal import BLOCK, stream
from projections.sparse import (
    CACHED,
    DENSE_BELOW,
    AchlioptasProjection,
    SparseProjection,
    achlioptas_matrix,
    sparse_matrix,
)

Draw = Callable[[int], np.ndarray]
KINDS = {"sparse": SparseProjection, "achlioptas": AchlioptasProjection}
EVERY_KIND = pytest.mark.parametrize("kind", sorted(KINDS))


def made(kind: str, dim_in: int, dim_out: int, seed: int = 0) -> RandomProjection:
    return KINDS[kind](dim_out, seed=seed).fit_width(dim_in)


def density_of(kind: str, dim_in: int) -> float:
    return 1 / 3 if kind == "achlioptas" else 1 / float(np.sqrt(dim_in))


def defined(kind: str, dim_in: int, dim_out: int, seed: int) -> np.ndarray:
    """One word an entry, in whole numbers: what the fast form must agree with."""
    bits = stream(f"{kind} 1", dim_in, dim_out, seed)
    density = density_of(kind, dim_in)
    size = np.float32(np.sqrt(1 / (density * dim_out)))
    matrix = np.zeros((dim_in, dim_out), dtype=np.float32)
    for i in range(dim_in):
        for j in range(dim_out):
            negative, drawn = divmod(int(bits.random_raw()), 2**63)
            if drawn < int(density * 2**63):
                matrix[i, j] = -size if negative else size
    return matrix


def test_matrices_of_seed_zero_have_not_changed() -> None:
    signs = [
        [0, 0, -1, 0],
        [1, 0, 0, 0],
        [-1, -1, 0, 0],
        [0, 0, 0, 0],
        [0, -1, 0, 1],
        [-1, 0, 1, -1],
    ]
    size = np.float32(0.7825422900366437)  # (√6 / 4)^½
    np.testing.assert_array_equal(made("sparse", 6, 4).matrix, np.array(signs) * size)
    signs = [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, -1, 1]]
    size = np.float32(0.8660254037844386)  # (3 / 4)^½
    np.testing.assert_array_equal(achlioptas_matrix(3, 4, 0), np.array(signs) * size)


@EVERY_KIND
@pytest.mark.parametrize("dims", [(1, 1), (7, 3), (40, 13), (211, 89)])
@pytest.mark.parametrize("seed", [0, 2**70])
def test_it_is_the_map_drawn_word_by_word(kind: str, dims: tuple[int, int], seed: int) -> None:
    assert dims != (211, 89) or dims[0] * dims[1] > BLOCK
    np.testing.assert_array_equal(made(kind, *dims, seed).matrix, defined(kind, *dims, seed))


@EVERY_KIND
@given(dim_in=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 2**70))
def test_entries_are_zero_or_of_one_size(kind: str, dim_in: int, share: float, seed: int) -> None:
    dim_out = max(1, round(share * dim_in))
    matrix = made(kind, dim_in, dim_out, seed).matrix
    sizes = np.abs(matrix[matrix != 0]).astype(np.float64)
    expected = np.sqrt(1 / (density_of(kind, dim_in) * dim_out))
    np.testing.assert_allclose(sizes, expected, rtol=1e-7)


def test_one_column_is_kept_whole() -> None:
    assert {float(made("sparse", 1, 1, seed).matrix[0, 0]) for seed in range(20)} == {-1.0, 1.0}


@EVERY_KIND
def test_scikit_learn_has_the_same_density_and_size(kind: str) -> None:
    density = "auto" if kind == "sparse" else 1 / 3
    theirs = SparseRandomProjection(50, density=density, random_state=0).fit(np.ones((2, 400)))
    ours = made(kind, 400, 50).matrix
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs.components_.data).max(), rel=1e-6)
    assert theirs.density_ == pytest.approx(density_of(kind, 400))


def check_counts(matrix: np.ndarray, density: float) -> None:
    """As many of either sign as expected, in each half of rows and columns, within 5 sigma."""
    for part in (matrix[::2], matrix[1::2], matrix[:, ::2], matrix[:, 1::2]):
        for count in ((part > 0).sum(), (part < 0).sum()):
            mean = part.size * density / 2
            assert abs(count - mean) < 5 * np.sqrt(mean * (1 - density / 2))


@EVERY_KIND
@pytest.mark.parametrize("seed", [0, 1])
def test_either_sign_comes_as_often_as_it_should(kind: str, seed: int) -> None:
    check_counts(made(kind, 600, 200, seed).matrix, density_of(kind, 600))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(np.abs, id="no-sign"),
        pytest.param(lambda m: m * (np.arange(600) % 9 > 1)[:, None], id="too-few"),
        pytest.param(lambda m: np.roll(m, 1, 0) + m * (np.roll(m, 1, 0) == 0), id="too-many"),
        pytest.param(
            lambda m: np.sort(m, axis=0).reshape(2, 300, -1).swapaxes(0, 1), id="unevenly"
        ),
    ],
)
def test_the_counting_check_can_fail(broken: Callable[[np.ndarray], np.ndarray]) -> None:
    matrix = broken(made("sparse", 600, 200).matrix).reshape(600, 200)
    with pytest.raises(AssertionError):
        check_counts(matrix, density_of("sparse", 600))


DIM_IN, DIM_OUT, MAPS = 48, 24, 500
# one entry, a few, all: what a sparse map's spread depends on
DIRECTIONS = np.array([np.arange(48) == 3, np.arange(48) % 12 == 5, np.ones(48)], dtype=float)


def check_keeps_squared_lengths(draw: Draw, density: float) -> None:
    """Mean and spread of squared length after over before, direction by direction.

    A mean of n ratios is known to std / sqrt(n), a spread to a share of sqrt((2 + e) / 4n) with e,
    the ratios' excess kurtosis, below 1 here. Five of either are allowed.
    """
    ratio = np.array([((DIRECTIONS @ draw(seed)) ** 2).sum(axis=1) for seed in range(MAPS)])
    ratio /= (DIRECTIONS**2).sum(axis=1)
    peaks = (DIRECTIONS**4).sum(axis=1) / (DIRECTIONS**2).sum(axis=1) ** 2
    std = np.sqrt((2 + (1 / density - 3) * peaks) / DIM_OUT)
    np.testing.assert_array_less(np.abs(ratio.mean(axis=0) - 1), 5 * std / np.sqrt(MAPS))
    np.testing.assert_allclose(ratio.std(axis=0), std, rtol=5 * np.sqrt(3 / (4 * MAPS)))


@EVERY_KIND
def test_lengths_are_kept_with_the_spread_the_theory_gives(kind: str) -> None:
    check_keeps_squared_lengths(
        lambda seed: made(kind, DIM_IN, DIM_OUT, seed).matrix, density_of(kind, DIM_IN)
    )


def test_at_density_one_third_the_spread_is_the_same_for_all_rows() -> None:
    assert expected_ratio_std("achlioptas", 2048, 128) == 0.125
    assert expected_ratio_std("sparse", 2048, 128) is None


def sparse(seed: int) -> np.ndarray:
    return made("sparse", DIM_IN, DIM_OUT, seed).matrix


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda seed: sparse(seed) * 1.05, id="scaled"),
        pytest.param(lambda seed: np.abs(sparse(seed)), id="no-sign"),
        pytest.param(lambda _: sparse(0), id="always-the-same"),
        pytest.param(lambda seed: sparse(seed)[:, :1].repeat(DIM_OUT, 1), id="one-column"),
        pytest.param(lambda seed: achlioptas_matrix(DIM_IN, DIM_OUT, seed), id="denser"),
        pytest.param(
            lambda seed: sparse_matrix("x", DIM_IN, DIM_OUT, seed, 0.1).toarray(), id="sparser"
        ),
    ],
)
def test_the_length_check_can_fail(broken: Draw) -> None:
    with pytest.raises(AssertionError):
        check_keeps_squared_lengths(broken, density_of("sparse", DIM_IN))


@pytest.mark.parametrize("dim_in", [DENSE_BELOW - 1, DENSE_BELOW, 3 * DENSE_BELOW])
@pytest.mark.parametrize("rows", [1, CACHED // DENSE_BELOW, 2 * (CACHED // DENSE_BELOW) + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_either_product_is_that_with_the_matrix(dim_in: int, rows: int, dtype: str) -> None:
    X = np.random.default_rng(0).standard_normal((rows, dim_in)).astype(dtype)
    projection = made("sparse", dim_in, 77)
    exact = X.astype(np.float64) @ projection.matrix.astype(np.float64)
    found = projection.transform(X)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    tolerance = 20 * np.finfo(dtype).eps * np.abs(exact).max()
    np.testing.assert_allclose(found, exact, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(projection.transform(np.asfortranarray(X)), found)


def test_a_wide_map_is_drawn_applied_and_described_without_its_matrix() -> None:
    rows = np.ones((64, 4096), dtype=np.float32)
    tracemalloc.start()
    projection = made("sparse", 4096, 2048)
    projection.transform(rows)
    projection.describe()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4096 * 2048 * 4 / 3


def test_from_the_threshold_on_no_dense_copy_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = (made("sparse", dim, 8) for dim in (DENSE_BELOW - 1, DENSE_BELOW))

    def refuse(_: csr_array) -> np.ndarray:
        raise AssertionError("a dense copy")

    monkeypatch.setattr(csr_array, "toarray", refuse)
    wide.transform(np.ones((3, DENSE_BELOW)))
    with pytest.raises(AssertionError, match="a dense copy"):
        narrow.transform(np.ones((3, DENSE_BELOW - 1)))


def test_a_map_that_lost_rank_still_has_a_shortest_inverse() -> None:
    lost = next(
        projection
        for projection in (made("sparse", 9, 6, seed) for seed in range(100))
        if not projection.matrix.any(axis=0).all()
    )
    mapped = np.random.default_rng(0).standard_normal((4, 6))
    expected = np.linalg.lstsq(lost.matrix.T.astype(np.float64), mapped.T, rcond=None)[0].T
    np.testing.assert_allclose(lost.inverse_transform(mapped), expected, atol=1e-12)
