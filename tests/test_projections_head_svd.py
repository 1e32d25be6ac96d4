"""The truncated head: exact at the head's rank, the best of every lower one, filled up beyond."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from projections import (
    HeadSVDProjection,
    Moments,
    ProjectionError,
    fit_projections,
    gather_moments,
    ridge_head,
)

CLASSES, DIM, ROWS = 6, 14, 800
Fit = Callable[[Moments, np.ndarray, int], np.ndarray]


def labelled_rows(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Features of very unequal variance, far from the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    mixing = scipy.linalg.qr(rng.standard_normal((DIM, DIM)))[0] * np.geomspace(5, 0.05, DIM)
    features = (
        rng.standard_normal((rows, DIM)) + rng.standard_normal((CLASSES, DIM))[labels]
    ) @ mixing
    return (features + 10).astype(np.float32), labels


FEATURES, LABELS = labelled_rows()
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)
# not small where the features are large: an optimal head of the features is
HEAD = np.random.default_rng(7).standard_normal((CLASSES, DIM)).astype(np.float32) + 2


def matrix_of(moments: Moments, head: np.ndarray, k: int) -> np.ndarray:
    return HeadSVDProjection(k).fit_head(moments, head).matrix


def centred_logits(head: np.ndarray) -> np.ndarray:
    """Logits up to a constant per row, and less their mean over rows."""
    rows = FEATURES.astype(np.float64) - FEATURES.mean(axis=0, dtype=np.float64)
    logits = rows @ head.astype(np.float64).T
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def left_over(matrix: np.ndarray, head: np.ndarray) -> float:
    """Mean square by which the best linear head on the numbers misses the full head's logits."""
    logits = centred_logits(head)
    rows = FEATURES.astype(np.float64) - FEATURES.mean(axis=0, dtype=np.float64)
    numbers = rows @ matrix
    best, *_ = np.linalg.lstsq(numbers, logits)
    return float(np.square(logits - numbers @ best).sum(axis=1).mean())


def singular_values(head: np.ndarray) -> np.ndarray:
    """As the definition says: of W S^½, W less its mean over the classes."""
    root = np.real(scipy.linalg.sqrtm(MOMENTS.covariance))
    return np.linalg.svd((head - head.mean(axis=0)) @ root, compute_uv=False)


def check_is_the_best_of_its_rank(fit: Fit) -> None:
    """What is left over is what Eckart and Young say must be: the squares of the other values."""
    values = singular_values(HEAD)
    for k in range(1, CLASSES):
        expected = np.square(values[k : CLASSES - 1]).sum()
        found = left_over(fit(MOMENTS, HEAD, k), HEAD)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-8 * np.square(values).sum())


def test_no_other_numbers_give_back_more_of_the_logits() -> None:
    check_is_the_best_of_its_rank(matrix_of)


def plain_svd(moments: Moments, head: np.ndarray, k: int) -> np.ndarray:
    return np.linalg.svd(head - head.mean(axis=0))[2][:k].T


def not_centred(moments: Moments, head: np.ndarray, k: int) -> np.ndarray:
    _, mixing = np.linalg.eigh(head @ moments.covariance @ head.T)
    return np.asarray(head.T @ mixing[:, ::-1][:, :k])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(plain_svd, id="not-in-the-features-metric"),
        pytest.param(not_centred, id="not-centred"),
        pytest.param(lambda m, w, k: matrix_of(m, -np.abs(w), k), id="sign-of-the-head"),
        pytest.param(lambda m, w, k: matrix_of(m, np.roll(w, 1, axis=1), k), id="other-features"),
        pytest.param(lambda m, w, k: matrix_of(m, w, CLASSES - 1)[:, ::-1][:, :k], id="worst"),
        pytest.param(lambda m, w, k: matrix_of(m, w, k) * [[0.0]], id="nothing"),
        pytest.param(
            lambda m, w, k: matrix_of(
                Moments(counts=m.counts, means=0 * m.means, within=m.within), w, k
            ),
            id="no-class-means",
        ),
    ],
)
def test_the_check_of_the_best_can_fail(broken: Fit) -> None:
    with pytest.raises(AssertionError):
        check_is_the_best_of_its_rank(broken)


@given(seed=st.integers(0, 999), shift=st.floats(-100, 100))
def test_at_the_rank_of_the_head_its_logits_are_given_back(seed: int, shift: float) -> None:
    """Any head, whatever is added to the rows of all classes."""
    head = np.random.default_rng(seed).standard_normal((CLASSES, DIM)) + shift
    projection = HeadSVDProjection(CLASSES - 1).fit_head(MOMENTS, head)
    numbers = projection.transform(FEATURES).astype(np.float64)
    logits = centred_logits(head)
    found = numbers @ np.linalg.lstsq(numbers, logits)[0]
    np.testing.assert_allclose(found, logits, atol=1e-5 * np.abs(logits).max())


def test_strengths_are_the_variances_of_the_numbers() -> None:
    projection = HeadSVDProjection(4).fit_head(MOMENTS, HEAD)
    np.testing.assert_allclose(projection.strengths_, singular_values(HEAD)[:4] ** 2, rtol=1e-6)
    numbers = projection.transform(FEATURES.astype(np.float64))
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(
        np.cov(numbers, rowvar=False, bias=True), np.diag(projection.strengths_), atol=1e-3
    )


def test_a_hand_computed_answer() -> None:
    """Two classes: W less its mean is ±(1, -1) / 2, so u = (1, -1) / √2 and p = (1, -1) / √2."""
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    moments = gather_moments([(rows, np.array([0, 1, 0, 1]))], classes=2)
    head = np.array([[3.0, 1.0], [2.0, 2.0]])
    projection = HeadSVDProjection(1).fit_head(moments, head)
    np.testing.assert_allclose(np.abs(projection.matrix), np.full((2, 1), np.sqrt(0.5)), rtol=1e-6)
    assert projection.matrix[0, 0] == -projection.matrix[1, 0]
    np.testing.assert_allclose(projection.strengths_, [(1 + 4) / 2], rtol=1e-6)
    np.testing.assert_allclose(projection.mean, [1, 2])


def test_every_width_is_the_first_columns_of_one_map() -> None:
    maps = fit_projections("head-svd", MOMENTS, [2, 5, 9], head=HEAD)
    for projection in maps:
        np.testing.assert_array_equal(projection.matrix, maps[-1].matrix[:, : projection.dim_out])
    assert [projection.describe()["filled"] for projection in maps] == [0, 0, 4]


def test_what_fills_up_is_what_the_logits_leave_unexplained() -> None:
    projection = HeadSVDProjection(DIM).fit_head(MOMENTS, HEAD)
    matrix = projection.matrix.astype(np.float64)
    covariance = matrix.T @ MOMENTS.covariance @ matrix
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4 * variances.max())
    assert variances[CLASSES - 1] == pytest.approx(variances[CLASSES - 2], rel=1e-4)
    assert (np.diff(variances) <= 1e-4 * variances[:-1]).all()
    assert (projection.strengths_[CLASSES - 1 :] == 0).all()
    assert np.linalg.matrix_rank(matrix, tol=1e-6) == DIM
    known = matrix[:, : CLASSES - 1]
    shared = MOMENTS.covariance @ known
    rest = MOMENTS.covariance - shared @ np.linalg.inv(known.T @ shared) @ shared.T
    expected = np.linalg.eigvalsh(rest)[::-1][: DIM - CLASSES + 1]
    filled = variances[CLASSES - 1 :]
    np.testing.assert_allclose(filled / filled[0], expected / expected[0], atol=1e-4)


def test_fitted_on_rows_it_truncates_the_ridge_head() -> None:
    weight, _ = ridge_head(MOMENTS, 1e-3)
    expected = HeadSVDProjection(3).fit_head(MOMENTS, weight)
    found = HeadSVDProjection(3).fit(FEATURES, LABELS)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    parts = HeadSVDProjection(3)
    for start in range(0, ROWS, 300):
        rows = slice(start, start + 300)
        parts.partial_fit(FEATURES[rows], LABELS[rows], classes=range(CLASSES))
    np.testing.assert_allclose(parts.matrix, found.matrix, atol=1e-4 * np.abs(found.matrix).max())
    assert HeadSVDProjection().fit(FEATURES, LABELS).dim_out == CLASSES - 1


def test_classes_without_rows_do_not_count() -> None:
    """Whatever the head says of them: their rows in it were never taught."""
    counted = gather_moments([(FEATURES, LABELS)], classes=CLASSES + 2)
    for stray in (0.0, 100.0):
        head = np.vstack([HEAD, np.full((2, DIM), stray, dtype=np.float32)])
        np.testing.assert_allclose(
            matrix_of(counted, head, 9), matrix_of(MOMENTS, HEAD, 9), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("spoil", ["constant", "collinear"])
def test_features_without_an_inverse_covariance_are_mapped_all_the_same(spoil: str) -> None:
    features = FEATURES.copy()
    features[:, 3] = 4 if spoil == "constant" else 2 * features[:, 1]
    moments = gather_moments([(features, LABELS)], classes=CLASSES)
    projection = HeadSVDProjection(DIM).fit_head(moments, HEAD)
    assert np.isfinite(projection.transform(features)).all()
    numbers = projection.transform(features)[:, : CLASSES - 1].astype(np.float64)
    logits = (features - features.mean(axis=0, dtype=np.float64)) @ HEAD.astype(np.float64).T
    logits -= logits.mean(axis=1, keepdims=True)
    found = numbers @ np.linalg.lstsq(numbers, logits)[0]
    np.testing.assert_allclose(found, logits, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(np.zeros((CLASSES, DIM)), id="zeros"),
        pytest.param(np.tile(HEAD[:1], (CLASSES, 1)), id="all-classes-alike"),
    ],
)
def test_a_head_that_tells_nothing_apart_is_filled_up_wholly(head: np.ndarray) -> None:
    projection = HeadSVDProjection(3).fit_head(MOMENTS, head)
    assert projection.describe()["filled"] == 3
    pca = fit_projections("pca", MOMENTS, [3])[0]
    np.testing.assert_allclose(projection.matrix, pca.matrix, atol=1e-5)


def test_a_head_of_low_rank_is_exact_at_it() -> None:
    head = np.random.default_rng(0).standard_normal((CLASSES, 2)) @ HEAD[:2]
    projection = HeadSVDProjection(4).fit_head(MOMENTS, head)
    assert projection.describe()["filled"] == 2
    assert left_over(projection.matrix[:, :2], head) < 1e-8 * np.square(singular_values(head)).sum()


def test_heads_that_do_not_belong_to_the_moments_are_refused() -> None:
    with pytest.raises(ProjectionError, match=r"shape \(6, 13\), but the moments are of 6 classes"):
        matrix_of(MOMENTS, HEAD[:, 1:], 3)
    with pytest.raises(ProjectionError, match=r"the head's weights are not finite: train it again"):
        matrix_of(MOMENTS, np.where(HEAD > 2, np.nan, HEAD), 3)
    with pytest.raises(ProjectionError, match="truncates the trained full head: train one first"):
        fit_projections("head-svd", MOMENTS, [3])
    single = gather_moments([(FEATURES, None)])
    with pytest.raises(ProjectionError, match="it needs rows of 2, these are of 1 class"):
        matrix_of(single, HEAD[:1], 3)
