"""The fisher map: what it loses of the classes' chances is the least that so many numbers can."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from projections import (
    FisherProjection,
    HeadSVDProjection,
    Moments,
    ProjectionError,
    class_information,
    fit_projections,
    gather_moments,
)
from projections.discriminant import shrunk_within

CLASSES, DIM, ROWS, HEAT = 5, 9, 700, 2.0
Fit = Callable[[Moments, np.ndarray, np.ndarray, int], np.ndarray]


def labelled_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unequal variance, far from the origin, in classes of unequal size."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, ROWS, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    mixing = scipy.linalg.qr(rng.standard_normal((DIM, DIM)))[0] * np.geomspace(3, 0.3, DIM)
    apart = rng.standard_normal((CLASSES, DIM))[labels]
    return ((rng.standard_normal((ROWS, DIM)) + apart) @ mixing + 5).astype(np.float32), labels


FEATURES, LABELS = labelled_rows()
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)
HEAD = np.random.default_rng(7).standard_normal((CLASSES, DIM)).astype(np.float32) + 2
BIAS = np.asarray(-HEAD @ FEATURES.mean(axis=0), dtype=np.float32)
LOGITS = FEATURES @ HEAD.T + BIAS


def matrix_of(moments: Moments, head: np.ndarray, logits: np.ndarray, k: int) -> np.ndarray:
    return FisherProjection(k).fit_head(moments, head, [logits]).matrix


def information_by_loop(head: np.ndarray, logits: np.ndarray, heat: float = HEAT) -> np.ndarray:
    """F as it is defined, row after row."""
    weight, total = head.astype("f8"), np.zeros((DIM, DIM))
    for row in logits.astype("f8") / heat:
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        total += weight.T @ (np.diag(p) - np.outer(p, p)) @ weight
    return total / len(logits)


INFORMATION = information_by_loop(HEAD, LOGITS)


def lost(matrix: np.ndarray) -> float:
    """Mean of eᵀ F e, e the error of the best linear guess of the features from the numbers."""
    rows = FEATURES.astype("f8") - FEATURES.mean(axis=0, dtype="f8")
    numbers = rows @ matrix
    error = rows - numbers @ np.linalg.lstsq(numbers, rows)[0]
    return float(np.einsum("ni,ij,nj->n", error, INFORMATION, error).mean())


def eigenvalues() -> np.ndarray:
    root = np.real(scipy.linalg.sqrtm(MOMENTS.covariance))
    return np.asarray(np.linalg.eigvalsh(root @ INFORMATION @ root)[::-1])


def check_loses_least(fit: Fit) -> None:
    """What is lost are the eigenvalues that are left over."""
    values = eigenvalues()
    for k in range(1, CLASSES):
        expected = values[k : CLASSES - 1].sum()
        found = lost(fit(MOMENTS, HEAD, LOGITS, k))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-8 * values.sum())


def test_no_other_numbers_lose_less_of_the_chances() -> None:
    check_loses_least(matrix_of)


def at_temperature(heat: float) -> Fit:
    return lambda m, w, z, k: FisherProjection(k, temperature=heat).fit_head(m, w, [z]).matrix


def unweighed(moments: Moments, head: np.ndarray, logits: np.ndarray, k: int) -> np.ndarray:
    return HeadSVDProjection(k).fit_head(moments, head).matrix


def without_covariance(
    moments: Moments, head: np.ndarray, logits: np.ndarray, k: int
) -> np.ndarray:
    return np.asarray(np.linalg.eigh(INFORMATION)[1][:, ::-1][:, :k])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(unweighed, id="head-svd"),
        pytest.param(lambda m, w, z, k: matrix_of(m, w, z[:, ::-1], k), id="other-classes"),
        pytest.param(lambda m, w, z, k: matrix_of(m, w, z[:100], k), id="some-rows"),
        pytest.param(lambda m, w, z, k: matrix_of(m, w, z, CLASSES - 1)[:, ::-1][:, :k], id="last"),
        pytest.param(at_temperature(1.0), id="not-as-warm"),
        pytest.param(without_covariance, id="no-covariance"),
    ],
)
def test_the_check_of_the_least_can_fail(broken: Fit) -> None:
    with pytest.raises(AssertionError):
        check_loses_least(broken)


def test_strengths_are_variances_and_squared_distances_are_those_of_the_information() -> None:
    projection = FisherProjection(CLASSES - 1).fit_head(MOMENTS, HEAD, [LOGITS])
    np.testing.assert_allclose(projection.strengths_, eigenvalues()[: CLASSES - 1], rtol=1e-5)
    numbers = projection.transform(FEATURES.astype("f8"))
    np.testing.assert_allclose(
        np.cov(numbers.T, bias=True), np.diag(projection.strengths_), atol=1e-4
    )
    apart = FEATURES[:50].astype("f8") - FEATURES[50:100]
    expected = np.einsum("ni,ij,nj->n", apart, INFORMATION, apart)
    found = np.square(numbers[:50] - numbers[50:100]).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_squared_error_of_the_numbers_is_twice_the_divergence_at_the_temperature() -> None:
    projection = FisherProjection(CLASSES - 1).fit_head(MOMENTS, HEAD, [LOGITS])
    error = 1e-3 * np.random.default_rng(2).standard_normal(DIM)
    divergences = []
    for row in LOGITS.astype("f8"):
        both = np.exp(np.stack([row, row + HEAD.astype("f8") @ error]) / HEAT)
        p, q = both / both.sum(axis=1, keepdims=True)
        divergences.append(HEAT**2 * float(p @ np.log(p / q)))
    squared = float(np.square(error @ projection.matrix).sum())
    assert squared == pytest.approx(2 * np.mean(divergences), rel=1e-2)


def test_a_hand_computed_answer() -> None:
    """Chances of a half each: A = [[1, -1], [-1, 1]] / 4, so F = w wᵀ / 4 with w = (1, -1)."""
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
    moments = gather_moments([(rows, np.array([0, 1, 0, 1]))], classes=2)
    head = np.array([[3.0, 1.0], [2.0, 2.0]])
    projection = FisherProjection(1).fit_head(moments, head, [np.zeros((4, 2))])
    np.testing.assert_allclose(projection.matrix, [[0.5], [-0.5]], rtol=1e-6)
    np.testing.assert_allclose(projection.strengths_, [(1 + 4) / 4], rtol=1e-6)


@given(seed=st.integers(0, 999), shift=st.floats(-50, 50))
def test_what_all_classes_share_and_how_rows_come_change_nothing(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    order, cuts = rng.permutation(ROWS), np.sort(rng.integers(0, ROWS, 3))
    moved = LOGITS[order] + shift * rng.standard_normal((ROWS, 1)).astype("f4")
    found = FisherProjection(6).fit_head(MOMENTS, HEAD + shift, np.split(moved, cuts))
    expected = matrix_of(MOMENTS, HEAD, LOGITS, 6)
    np.testing.assert_allclose(found.matrix, expected, rtol=1e-2, atol=1e-3)


def test_the_numbers_do_not_depend_on_the_features_coordinates() -> None:
    turn = np.random.default_rng(3).standard_normal((DIM, DIM)) + 3 * np.eye(DIM)
    turned = FEATURES.astype("f8") @ turn
    moments = gather_moments([(turned, LABELS)], classes=CLASSES)
    head = HEAD.astype("f8") @ np.linalg.inv(turn).T
    found = FisherProjection(CLASSES - 1).fit_head(moments, head, [LOGITS]).transform(turned)
    expected = FisherProjection(CLASSES - 1).fit_head(MOMENTS, HEAD, [LOGITS]).transform(FEATURES)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-2)


def test_at_a_high_temperature_all_logits_count_alike() -> None:
    warm = FisherProjection(7, temperature=1e6).fit_head(MOMENTS, HEAD, [LOGITS])
    plain = HeadSVDProjection(7).fit_head(MOMENTS, HEAD)
    np.testing.assert_allclose(warm.matrix * np.sqrt(CLASSES), plain.matrix, rtol=1e-3, atol=1e-4)


def test_every_width_is_the_first_columns_of_one_map() -> None:
    maps = fit_projections("fisher", MOMENTS, [2, 4, 8], head=HEAD, logits=[LOGITS])
    for projection in maps:
        np.testing.assert_array_equal(projection.matrix, maps[-1].matrix[:, : projection.dim_out])
    told = maps[-1].describe()
    assert (told["kind"], told["filled"], told["temperature"]) == ("fisher", 4, 2.0)


def test_what_fills_up_says_nothing_of_the_chances_and_goes_by_its_variance() -> None:
    matrix = matrix_of(MOMENTS, HEAD, LOGITS, DIM).astype("f8")
    covariance = matrix.T @ MOMENTS.covariance @ matrix
    variances = np.diagonal(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4 * variances.max())
    assert (np.diff(variances) <= 1e-4 * variances[:-1]).all()
    assert variances[CLASSES - 1] == pytest.approx(variances[CLASSES - 2], rel=1e-4)
    assert np.linalg.matrix_rank(matrix, tol=1e-6) == DIM


def test_classes_without_rows_do_not_count() -> None:
    """Whatever the head says of them: here of one that stands before the others."""
    counted = gather_moments([(FEATURES, LABELS + 1)], classes=CLASSES + 1)
    head = np.vstack([np.full((1, DIM), 50.0, dtype=np.float32), HEAD])
    logits = np.hstack([np.full((ROWS, 1), -1e4, dtype=np.float32), LOGITS])
    found, expected = matrix_of(counted, head, logits, 7), matrix_of(MOMENTS, HEAD, LOGITS, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_fitted_on_rows_the_chances_are_those_of_linear_discriminant_analysis() -> None:
    share = shrunk_within(MOMENTS)[1]
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share).fit(FEATURES, LABELS)
    logits = analysis.decision_function(FEATURES)
    expected = matrix_of(MOMENTS, analysis.coef_, logits, 4)
    found = FisherProjection(4).fit(FEATURES, LABELS)
    signs = np.sign((found.matrix * expected).sum(axis=0))
    np.testing.assert_allclose(found.matrix * signs, expected, rtol=1e-2, atol=1e-3)
    assert FisherProjection().fit(FEATURES, LABELS).dim_out == CLASSES - 1


def test_information_is_in_float64_and_of_all_rows() -> None:
    found = class_information([LOGITS[:9], LOGITS[9:]], classes=CLASSES, temperature=HEAT)
    weight = HEAD.astype("f8")
    np.testing.assert_allclose(weight.T @ found @ weight, INFORMATION, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize("sure", [False, True])
def test_chances_that_nothing_depends_on_are_filled_up_wholly(sure: bool) -> None:
    head = HEAD if sure else np.tile(HEAD[:1], (CLASSES, 1))
    logits = np.where(np.arange(CLASSES) == LABELS[:, None], 5000.0, 0.0) if sure else LOGITS
    projection = FisherProjection(3).fit_head(MOMENTS, head, [logits])
    assert projection.describe()["filled"] == 3
    pca = fit_projections("pca", MOMENTS, [3])[0]
    np.testing.assert_allclose(projection.matrix, pca.matrix, atol=1e-5)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ProjectionError, match=r"shape \(5, 8\), but the moments are of 5 classes"):
        matrix_of(MOMENTS, HEAD[:, 1:], LOGITS, 3)
    with pytest.raises(ProjectionError, match="logits of 4 classes came with the head of 5"):
        matrix_of(MOMENTS, HEAD, LOGITS[:, 1:], 3)
    with pytest.raises(ProjectionError, match="the head's logits are not finite: train it again"):
        matrix_of(MOMENTS, HEAD, np.full_like(LOGITS, np.inf), 3)
    with pytest.raises(ProjectionError, match="no logits of the train rows"):
        fit_projections("fisher", MOMENTS, [3], head=HEAD)
    with pytest.raises(ProjectionError, match="truncates the trained full head: train one first"):
        fit_projections("fisher", MOMENTS, [3], logits=[LOGITS])
    with pytest.raises(ProjectionError, match="temperature must be above 0, got 0"):
        FisherProjection(3, temperature=0).fit_head(MOMENTS, HEAD, [LOGITS])
    single = gather_moments([(FEATURES, None)])
    with pytest.raises(ProjectionError, match="it needs rows of 2, these are of 1 class"):
        matrix_of(single, HEAD[:1], LOGITS[:, :1], 3)
