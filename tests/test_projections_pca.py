"""Principal directions: scikit-learn's answer, what is promised of few of many, poor data."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from projections import PCAProjection, Projection, ProjectionError, eigen, fit_projections
from projections import gather_moments as gather
from projections.eigen import leading_eigen, residual_directions

Fit = Callable[[np.ndarray, int], np.ndarray]


def correlated_rows(rows: int = 400, dim: int = 30, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = (
        scipy.linalg.qr(rng.standard_normal((dim, dim)))[0] * np.geomspace(3, 0.1, dim)[:, None]
    )
    return np.asarray(rng.standard_normal((rows, dim)) @ mixing + 5, dtype=np.float32)


ROWS = correlated_rows()


def symmetric_of(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """A covariance of these eigenvalues."""
    dim = len(values)
    turned = scipy.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    found = (turned * values) @ turned.T
    return np.asarray((found + found.T) / 2)


@parametrize_with_checks([PCAProjection(whiten=True)])  # type: ignore[untyped-decorator]
def test_scikit_learn_accepts_it_whitened(estimator: Any, check: Any) -> None:
    check(estimator)


def directions_of(rows: np.ndarray, k: int) -> np.ndarray:
    return PCAProjection(k).fit(rows).matrix


def check_are_principal(fit: Fit) -> None:
    """scikit-learn's directions up to sign, each by itself: the spectrum has no ties."""
    found, expected = fit(ROWS, 7), PCA(7).fit(ROWS.astype(np.float64)).components_.T
    np.testing.assert_allclose(found.T @ found, np.eye(7), atol=1e-6)
    np.testing.assert_allclose(np.abs(np.diag(found.T @ expected)), 1, atol=1e-6)


def test_directions_are_those_of_scikit_learn() -> None:
    check_are_principal(directions_of)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda x, k: directions_of(x, k) * np.float32(1.05), id="scaled"),
        pytest.param(lambda x, k: directions_of(x - 5, 30)[:, 1 : k + 1], id="first-one-missing"),
        pytest.param(lambda x, k: directions_of(x, 30)[:, ::-1][:, :k], id="smallest"),
        pytest.param(lambda x, k: directions_of(x, 30)[:k].T[:, :k], id="transposed"),
        pytest.param(lambda x, k: np.linalg.svd(x)[2][:k].T, id="not-centred"),
    ],
)
def test_the_check_of_directions_can_fail(broken: Fit) -> None:
    with pytest.raises(AssertionError):
        check_are_principal(broken)


def test_variances_and_rebuilt_rows_are_those_of_scikit_learn() -> None:
    # theirs in float64: in the rows' float32 its own rounding is the larger of the two
    ours, theirs = PCAProjection(7).fit(ROWS), PCA(7).fit(ROWS.astype(np.float64))
    share = (len(ROWS) - 1) / len(ROWS)
    np.testing.assert_allclose(ours.strengths_, theirs.explained_variance_ * share, rtol=1e-5)
    rebuilt = ours.inverse_transform(ours.transform(ROWS))
    assert rebuilt.dtype == np.float32
    np.testing.assert_allclose(rebuilt, theirs.inverse_transform(theirs.transform(ROWS)), atol=1e-4)
    np.testing.assert_allclose(ours.transform(ROWS).var(axis=0), ours.strengths_, rtol=1e-5)


def test_whitened_numbers_have_unit_covariance() -> None:
    mapped = PCAProjection(7, whiten=True).fit_transform(ROWS.astype(np.float64))
    np.testing.assert_allclose(np.cov(mapped, rowvar=False, bias=True), np.eye(7), atol=1e-5)
    np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-5)


def test_a_hand_computed_answer() -> None:
    rows = np.array([[3, 4], [-3, -4], [0, 0]], dtype=np.float32) + np.float32(7)
    fitted = PCAProjection(1).fit(rows)
    np.testing.assert_allclose(fitted.matrix, [[0.6], [0.8]], rtol=1e-6)
    np.testing.assert_allclose(fitted.mean, [7, 7])
    np.testing.assert_allclose(fitted.strengths_, [50 / 3], rtol=1e-6)
    np.testing.assert_allclose(fitted.transform(rows), [[5], [-5], [0]], atol=1e-5)


@given(seed=st.integers(0, 999), dim=st.integers(2, 12))
def test_the_largest_entry_of_each_direction_is_positive(seed: int, dim: int) -> None:
    matrix = PCAProjection(dim).fit(correlated_rows(40, dim, seed)).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(dim)] > 0).all()


def test_every_width_is_the_first_columns_of_one_map() -> None:
    narrow, wide = fit_projections("pca", gather([(ROWS, None)]), [3, 9])
    assert isinstance(narrow, Projection)
    np.testing.assert_array_equal(narrow.matrix, wide.matrix[:, :3])
    assert (narrow.dim_in, narrow.dim_out, narrow.seed, narrow.kind) == (30, 3, 0, "pca")
    np.testing.assert_allclose(narrow.matrix, directions_of(ROWS, 3), atol=1e-6)
    assert narrow.describe()["digest"] != wide.describe()["digest"]


def test_parts_make_the_map_of_the_whole() -> None:
    parts = PCAProjection(5)
    for start in range(0, len(ROWS), 150):
        parts.partial_fit(ROWS[start : start + 150])
    np.testing.assert_allclose(parts.matrix, directions_of(ROWS, 5), atol=1e-5)
    np.testing.assert_allclose(parts.mean, ROWS.mean(axis=0), rtol=1e-6)
    before = parts.matrix
    parts.partial_fit(100 * ROWS[::-1])
    assert np.abs(parts.matrix - before).max() > 0.01
    np.testing.assert_array_equal(parts.fit(ROWS).matrix, directions_of(ROWS, 5))


def test_a_map_without_its_moments_takes_no_more_rows() -> None:
    fitted = PCAProjection(5).fit(ROWS)
    with pytest.raises(ProjectionError, match="does not hold its moments: fit it anew"):
        fitted.narrowed(2).partial_fit(ROWS)
    for dim_out in (0, 6):
        with pytest.raises(ProjectionError, match=f"a map to 5 cannot be narrowed to {dim_out}"):
            fitted.narrowed(dim_out)


def test_what_it_says_of_itself_goes_to_json_and_back() -> None:
    fitted = PCAProjection(2).fit(ROWS)
    said = fitted.describe()
    assert json.loads(json.dumps(said)) == said
    assert said | {"digest": ""} == {
        "kind": "pca",
        "dim_in": 30,
        "dim_out": 2,
        "seed": 0,
        "algorithm": 1,
        "whiten": False,
        "filled": 0,
        "digest": "",
    }
    both = [array.astype("<f4").tobytes() for array in (fitted.matrix, fitted.mean)]
    assert said["digest"] == "sha256:" + hashlib.sha256(b"".join(both)).hexdigest()
    with pytest.raises(ValueError, match="read-only"):
        fitted.matrix[0, 0] = 1


SPECTRA = {
    "falling": 1 / np.arange(1, 601),
    "steep": 1 / np.arange(1, 601) ** 2,
    "slow": np.arange(1, 601) ** -0.5,
    "plateau": np.where(np.arange(600) < 60, 10.0, 1.0) + 0.01 * np.cos(np.arange(600)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_few_directions_of_many_are_found_without_the_others(name: str) -> None:
    values = np.sort(SPECTRA[name])[::-1]
    covariance = symmetric_of(values)
    assert eigen._lanczos(covariance, 40) is not None  # else LAPACK is what is tested here
    found, vectors = leading_eigen(covariance, 40)
    np.testing.assert_allclose(found, values[:40], rtol=1e-5)
    residuals = np.linalg.norm(covariance @ vectors - vectors * found, axis=0)
    assert (residuals <= eigen.ENOUGH * found).all()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(40), atol=1e-9)
    kept = np.trace(vectors.T @ covariance @ vectors)
    assert kept == pytest.approx(values[:40].sum(), rel=1e-6)


SLOW = {
    "flat": 1 + 0.01 * np.cos(np.arange(600)),
    "rank-9": np.where(np.arange(600) < 9, 1.0, 0.0),
    "zero": np.zeros(600),
}
# comes quickly or not, as the processor rounds
ENDING = {"rank-150": np.where(np.arange(600) < 150, 1 / np.arange(1, 601), 0.0)}


@pytest.mark.parametrize("values", SLOW.values(), ids=SLOW)
def test_few_that_do_not_come_quickly_are_given_up(values: np.ndarray) -> None:
    assert eigen._lanczos(symmetric_of(values), 40) is None


@pytest.mark.parametrize("values", (SLOW | ENDING).values(), ids=SLOW | ENDING)
def test_where_few_do_not_come_quickly_lapack_finds_them(values: np.ndarray) -> None:
    found, vectors = leading_eigen(symmetric_of(values), 40)
    np.testing.assert_allclose(found, np.sort(values)[::-1][:40], atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(40), atol=1e-10)


def test_eigenvalues_that_are_equal_but_for_rounding_are_all_found() -> None:
    """Of one in forty of these LAPACK, asked for the largest alone, finds too few or none."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        dim = int(rng.integers(5, 40))
        count = int(rng.integers(1, dim // 2 + 1))
        known = rng.standard_normal((dim, 2))
        left = 1e-9 * (np.eye(dim) - known @ np.linalg.pinv(known))
        values, vectors = leading_eigen((left + left.T) / 2, count)
        np.testing.assert_allclose(values[: dim - 2], 1e-9, rtol=1e-6)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(count), atol=1e-10)


def of_variances(variances: np.ndarray, rows: int = 1200) -> np.ndarray:
    """Float32 rows whose covariance has exactly these eigenvalues, 9 away from the origin."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((rows, len(variances)))
    numbers = scipy.linalg.qr(numbers - numbers.mean(axis=0), mode="economic")[0]
    turned = scipy.linalg.qr(rng.standard_normal((len(variances),) * 2))[0]
    return np.asarray(numbers * np.sqrt(rows * variances) @ turned + 9, dtype=np.float32)


@pytest.mark.parametrize("name", SPECTRA)
def test_few_directions_of_rows_need_no_covariance(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep all but about a thousandth of the variance that the best keep."""
    values = np.sort(SPECTRA[name])[::-1]
    rows = of_variances(values)
    exact = PCAProjection(30).fit_moments(gather([(rows, None)]))
    monkeypatch.setattr(PCAProjection, "fit_moments", None)  # is not called
    fitted = PCAProjection(30).fit(rows)
    matrix = fitted.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(30), atol=1e-6)
    kept = np.cov(rows.astype(np.float64) @ matrix, rowvar=False, bias=True)
    assert (1 - 2 * eigen.GAIN) * values[:30].sum() < np.trace(kept) <= values[:30].sum() * 1.0001
    np.testing.assert_allclose(fitted.strengths_, np.diag(kept), rtol=1e-3)
    np.testing.assert_allclose(fitted.mean, exact.mean, rtol=1e-5)
    if name in ("falling", "steep"):
        assert float(fitted.matrix[:, 0] @ exact.matrix[:, 0]) > 0.999
    with pytest.raises(ProjectionError, match="does not hold its moments: fit it anew"):
        fitted.partial_fit(rows)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(of_variances(1 / np.arange(1, 601)) * np.float32(1e25), id="large"),
        pytest.param((of_variances(1 / np.arange(1, 601)) - 9) * np.float32(1e-20), id="small"),
        pytest.param(np.full((1200, 600), 4, dtype=np.float32), id="constant"),
        pytest.param(of_variances(np.where(np.arange(600) < 5, 1.0, 0.0)), id="rank-5"),
    ],
)
def test_rows_that_float32_cannot_square_are_fitted_all_the_same(rows: np.ndarray) -> None:
    fitted = PCAProjection(30).fit(rows)
    exact = PCAProjection(30).fit_moments(gather([(rows, None)]))
    np.testing.assert_allclose(
        fitted.strengths_, exact.strengths_, rtol=0.1, atol=1e-2 * exact.strengths_.max()
    )
    np.testing.assert_allclose(fitted.matrix.T @ fitted.matrix, np.eye(30), atol=1e-5)


@given(known=st.integers(0, 5), count=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_is_left_is_uncorrelated_with_what_is_known(known: int, count: int, seed: int) -> None:
    covariance = np.cov(correlated_rows(60, 10, seed).astype(np.float64), rowvar=False)
    directions = np.random.default_rng(seed).standard_normal((10, known))
    variances, left = residual_directions(covariance, directions, count)
    size = np.trace(covariance)
    np.testing.assert_allclose(left.T @ covariance @ directions, 0, atol=1e-6 * size)
    np.testing.assert_allclose(left.T @ covariance @ left, np.diag(variances), atol=1e-6 * size)
    guess = np.linalg.lstsq(directions.T @ covariance @ directions, directions.T @ covariance)[0]
    rest = covariance - covariance @ directions @ guess
    expected = np.linalg.eigvalsh(rest)[::-1][:count]
    np.testing.assert_allclose(variances, expected, atol=1e-6 * size)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("spoil", ["constant", "collinear", "all-constant"])
def test_features_that_do_not_vary_are_mapped_all_the_same(spoil: str, whiten: bool) -> None:
    rows = ROWS[:, :6].copy()
    if spoil == "constant":
        rows[:, 3] = 4
    elif spoil == "collinear":
        rows[:, 3] = 2 * rows[:, 1]
    else:
        rows[:] = 4
    fitted = PCAProjection(6, whiten=whiten).fit(rows)
    assert np.isfinite(fitted.transform(rows)).all()
    assert np.linalg.matrix_rank(fitted.matrix) == 6
    rank = 0 if spoil == "all-constant" else 5
    assert (fitted.rank_, fitted.describe()["filled"]) == (rank, 6 - rank)
    np.testing.assert_allclose(fitted.transform(rows)[:, rank:], 0, atol=2e-3)


def test_widths_that_the_data_does_not_allow_are_refused_with_both_numbers() -> None:
    with pytest.raises(ProjectionError, match=r"n_components=31 .* columns, n_features=30"):
        PCAProjection(31).fit(ROWS)
    with pytest.raises(ProjectionError, match=r"n_components=9 .* rows to fit it on, n_samples=8"):
        PCAProjection(9).fit(ROWS[:8])
    with pytest.raises(ProjectionError, match=r"n_components must be .* at least 1, got 0"):
        fit_projections("pca", gather([(ROWS, None)]), [0])
    assert PCAProjection().fit(ROWS[:8]).dim_out == 8
    assert PCAProjection().fit(ROWS).dim_out == 30


def test_rows_it_cannot_map_are_refused() -> None:
    fitted = PCAProjection(3).fit(ROWS)
    with pytest.raises(ValueError, match=r"29 features, but .* is expecting 30 features"):
        fitted.transform(ROWS[:, 1:])
    with pytest.raises(ValueError, match="contains NaN"):
        PCAProjection(3).fit(np.where(ROWS > 8, np.nan, ROWS))
    with pytest.raises(ProjectionError, match=r"X has 4 columns, but this \w+ makes rows of 3"):
        fitted.inverse_transform(ROWS[:, :4])
    for use in (lambda: PCAProjection(2).matrix, lambda: PCAProjection(2).dim_out):
        with pytest.raises(NotFittedError):
            use()


def test_the_names_of_columns_are_kept_and_checked() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.random.default_rng(0).standard_normal((40, 3)), columns=list("abc"))
    projection = PCAProjection(2).fit(frame)
    assert projection.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        projection.transform(frame[["c", "b", "a"]])
