"""Discriminant directions: scikit-learn's shrinkage and answers, filling up, poor data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from projections import (
    DiscriminantProjection,
    Moments,
    ProjectionError,
    fit_projections,
    gather_moments,
    nearest_mean_head,
    oas_shrinkage,
)
from projections.discriminant import class_shrinkage, shrunk_within

CLASSES, DIM = 6, 15
Fit = Callable[[Moments], np.ndarray]


def labelled_rows(rows: int = 900, seed: int = 0, dim: int = DIM) -> tuple[np.ndarray, np.ndarray]:
    """Classes of unequal size that differ in weak directions of strongly correlated features."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, rows, p=np.arange(1, CLASSES + 1) / 21)
    mixing = rng.standard_normal((dim, dim)) * np.geomspace(3, 0.3, dim)
    features = (
        rng.standard_normal((rows, dim)) + rng.standard_normal((CLASSES, dim))[labels]
    ) @ mixing
    return features, labels


FEATURES, LABELS = labelled_rows()
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)


def fitted(k: int, moments: Moments = MOMENTS) -> DiscriminantProjection:
    return DiscriminantProjection(k).fit_moments(moments)


@pytest.mark.parametrize(
    ("sizes", "dim"), [((30,) * 40, 50), ((20, 80, 300), 10), ((4000,) * 5, 8)]
)
def test_the_shrinkage_is_what_scikit_learn_asks_class_by_class(
    sizes: tuple[int, ...], dim: int
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    features = rng.standard_normal((len(labels), dim)) * np.geomspace(5, 0.2, dim)
    features += 3 * rng.standard_normal((len(sizes), dim))[labels]
    moments = gather_moments([(features, labels)], classes=len(sizes))
    theirs = [OAS().fit(features[labels == one]).shrinkage_ for one in range(len(sizes))]
    within, share = shrunk_within(moments)
    # they take the mean out of each class's rows, which costs a row of n, and vary from class to
    # class; ours is their expectation
    assert share == pytest.approx(np.average(theirs, weights=sizes), rel=0.1)
    level = np.trace(moments.within_covariance) / dim
    expected = (1 - share) * moments.within_covariance + share * level * np.eye(dim)
    np.testing.assert_allclose(within, expected, rtol=1e-9, atol=1e-12)
    described = DiscriminantProjection(2).fit_moments(moments).describe()
    assert described["shrinkage"] == share


def test_shrinkage_by_hand() -> None:
    # |S|² / tr² = 10/16 of 100 rows, undone: (62.5 - 1) / 101; of 50 rows: + (that + 1) / 50
    moments = Moments(
        counts=np.array([50, 0, 50]),
        means=np.zeros((3, 2)),
        within=100 * np.diag([3.0, 1.0]),
    )
    one = 61.5 / 101 + (61.5 / 101 + 1) / 50
    assert class_shrinkage(moments) == pytest.approx((one + 1) / (51 * (one - 1 / 2)))


@given(seed=st.integers(0, 999), rows=st.integers(2, 60), dim=st.integers(2, 8))
def test_any_shrinkage_is_that_of_scikit_learn(seed: int, rows: int, dim: int) -> None:
    features = np.random.default_rng(seed).standard_normal((rows, dim))
    share = oas_shrinkage(features.T @ features / rows, rows)
    assert share == pytest.approx(OAS(assume_centered=True).fit(features).shrinkage_, rel=1e-6)


def test_a_multiple_of_the_identity_is_shrunk_wholly() -> None:
    assert oas_shrinkage(3.0 * np.eye(4), 100) == 1.0
    assert oas_shrinkage(np.zeros((4, 4)), 100) == 1.0


def solved(moments: Moments) -> np.ndarray:
    return fitted(CLASSES - 1, moments).matrix


def check_are_discriminant(fit: Fit) -> None:
    """Solutions of S_b p = l S_w p with PᵀS_wP = I, the largest l first."""
    found = fit(MOMENTS).astype(np.float64)
    within, _ = shrunk_within(MOMENTS)
    values, vectors = scipy.linalg.eigh(MOMENTS.between_covariance, within)
    np.testing.assert_allclose(found.T @ within @ found, np.eye(CLASSES - 1), atol=1e-5)
    between = found.T @ MOMENTS.between_covariance @ found
    np.testing.assert_allclose(between, np.diag(values[::-1][: CLASSES - 1]), atol=1e-5)
    angles = scipy.linalg.subspace_angles(found, vectors[:, ::-1][:, : CLASSES - 1])
    assert angles.max() < 1e-5


def test_directions_solve_the_generalised_eigenproblem() -> None:
    check_are_discriminant(solved)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda m: solved(m) * np.float32(1.01), id="scaled"),
        pytest.param(lambda m: solved(m)[:, ::-1], id="worst-first"),
        pytest.param(lambda m: fitted(DIM, m).matrix[:, -5:], id="what-fills-up"),
        pytest.param(
            lambda _: solved(gather_moments([(FEATURES, np.roll(LABELS, 1))], classes=CLASSES)),
            id="labels-shuffled",
        ),
        pytest.param(
            lambda m: solved(Moments(counts=m.counts, means=-np.abs(m.means), within=m.within)),
            id="sign-of-means",
        ),
        pytest.param(
            lambda m: solved(Moments(counts=m.counts, means=m.means, within=m.within / 2)),
            id="within-halved",
        ),
    ],
)
def test_the_check_of_directions_can_fail(broken: Fit) -> None:
    with pytest.raises(AssertionError):
        check_are_discriminant(broken)


def test_scikit_learn_finds_the_same_subspace_and_spread() -> None:
    """Its between-class matrix is shrunk too, by s times a constant, so they turn a little."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 40_000)
    features = rng.standard_normal((40_000, DIM)) + 3 * rng.standard_normal((CLASSES, DIM))[labels]
    features *= np.geomspace(2, 0.5, DIM)
    moments = gather_moments([(features, labels)], classes=CLASSES)
    within, share = shrunk_within(moments)
    theirs = LinearDiscriminantAnalysis(solver="eigen", shrinkage=share).fit(features, labels)
    np.testing.assert_allclose(theirs.covariance_, within, rtol=1e-9, atol=1e-9)
    ours = fitted(CLASSES - 1, moments).matrix
    assert scipy.linalg.subspace_angles(theirs.scalings_[:, : CLASSES - 1], ours).max() < 1e-2
    constant = share * np.trace(moments.between_covariance) / DIM * np.eye(DIM)
    shifted = (1 - share) * moments.between_covariance + constant
    _, vectors = scipy.linalg.eigh(shifted, within)
    angles = scipy.linalg.subspace_angles(theirs.scalings_[:, : CLASSES - 1], vectors[:, -5:])
    assert angles.max() < 1e-6


def test_the_nearest_mean_among_discriminants_is_what_scikit_learn_predicts() -> None:
    """The log of the class shares added: exactly its rule with the same covariance."""
    _, share = shrunk_within(MOMENTS)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share).fit(FEATURES, LABELS)
    projection = fitted(CLASSES - 1)
    weight, bias = nearest_mean_head(MOMENTS, projection=projection)
    logits = projection.transform(FEATURES) @ weight.T + bias + np.log(MOMENTS.counts / len(LABELS))
    np.testing.assert_array_equal(logits.argmax(axis=1), theirs.predict(FEATURES))


def test_a_hand_computed_answer() -> None:
    """Within the classes y varies with variance 1 and x with 4; the means differ in x by 6."""
    rows = np.array(
        [[sign * 2 + mean, other] for mean in (0, 6) for sign in (-1, 1) for other in (-1, 1)]
    )
    labels = np.array([0] * 4 + [1] * 4)
    moments = gather_moments([(rows.astype(float), labels)], classes=2)
    _, share = shrunk_within(moments)
    # |S|² / tr² = 17/25 of 8 rows, undone below 1/d; of 4 rows 1/2 + (1/2 + 1)/4 = 7/8, and
    # s = (7/8 + 1) / (5 (7/8 - 1/2))
    assert share == 0.999  # nearly 1: diag(4, 1) becomes 2.5 and a thousandth of what is apart
    one, filled = fitted(2, moments).matrix.T
    np.testing.assert_allclose(one, [1 / np.sqrt(2.5015), 0], atol=1e-6)
    np.testing.assert_allclose(filled, [0, 1 / np.sqrt(2.4985)], atol=1e-6)
    np.testing.assert_allclose(fitted(2, moments).strengths_, [9 / 2.5015, 0], rtol=1e-6)


def test_beyond_the_discriminants_it_is_filled_up_and_says_so() -> None:
    five, ten, all_of_them = fit_projections("discriminant", MOMENTS, [5, 10, DIM])
    assert [m.describe()["filled"] for m in (five, ten, all_of_them)] == [0, 5, DIM - 5]
    np.testing.assert_array_equal(ten.matrix, all_of_them.matrix[:, :10])
    np.testing.assert_allclose(ten.matrix[:, :5], fitted(5).matrix, atol=1e-6)
    within, _ = shrunk_within(MOMENTS)
    matrix = all_of_them.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ within @ matrix, np.eye(DIM), atol=1e-5)
    filling = matrix[:, 5:]
    np.testing.assert_allclose(filling.T @ MOMENTS.between_covariance @ filling, 0, atol=1e-6)
    assert (all_of_them.strengths_[:5] > 0.01).all()
    assert (all_of_them.strengths_[5:] == 0).all()


def test_what_fills_up_varies_most_within_the_classes() -> None:
    """Of all directions without a share in the discriminants, in the order of their variance."""
    within, _ = shrunk_within(MOMENTS)
    known = fitted(5).matrix.astype(np.float64)
    rest = within - within @ known @ known.T @ within
    expected = np.linalg.eigvalsh(rest)[::-1][:4]
    filling = fitted(9).matrix[:, 5:].astype(np.float64)
    # undone scaling: V = S_w F λ^½ / λ, so the columns' lengths under S_w² are their variances
    lengths = np.linalg.norm(within @ filling, axis=0) ** 2
    np.testing.assert_allclose(lengths, expected, rtol=1e-4)


def test_fitting_rows_and_their_parts_is_fitting_moments() -> None:
    names = np.array(list("fedcba"))[LABELS]
    whole = DiscriminantProjection(4).fit(FEATURES, names)
    np.testing.assert_allclose(np.abs(whole.matrix), np.abs(fitted(4).matrix), atol=1e-5)
    parts = DiscriminantProjection(4)
    for start in range(0, 900, 250):  # the first rows alone are of one class
        rows = np.argsort(LABELS, kind="stable")[start : start + 250]
        parts.partial_fit(FEATURES[rows], names[rows], classes=list("abcdef"))
    np.testing.assert_allclose(parts.matrix, whole.matrix, atol=1e-5)
    with pytest.raises(ProjectionError, match="row 1 is of class g, which the first call"):
        parts.partial_fit(FEATURES[:2], ["a", "g"])


def test_the_default_width_is_the_number_of_discriminants() -> None:
    assert DiscriminantProjection().fit(FEATURES, LABELS).dim_out == CLASSES - 1
    few = DiscriminantProjection().fit(FEATURES[:, :3], LABELS)
    assert few.dim_out == 3


@pytest.mark.parametrize(
    ("spoil", "finite_within"),
    [
        pytest.param(
            lambda x: np.column_stack([x[:, :-1], np.full(len(x), 4.0)]), True, id="const"
        ),
        pytest.param(
            lambda x: np.column_stack([x[:, :-1], x[:, 0] - x[:, 1]]), True, id="collinear"
        ),
        pytest.param(lambda _: MOMENTS.means[LABELS], False, id="collapsed"),
    ],
)
def test_features_without_an_inverse_covariance_are_mapped_all_the_same(
    spoil: Callable[[np.ndarray], np.ndarray], finite_within: bool
) -> None:
    features = spoil(FEATURES)
    projection = DiscriminantProjection(DIM).fit(features, LABELS)
    mapped = projection.transform(features)
    assert np.isfinite(mapped).all()
    assert np.linalg.matrix_rank(projection.matrix) == DIM
    assert projection.describe()["filled"] == DIM - CLASSES + 1
    if not finite_within:  # the metric is that of the features then
        assert projection.describe()["shrinkage"] == 1.0
        np.testing.assert_allclose(projection.matrix.T @ projection.matrix, np.eye(DIM), atol=1e-5)


def test_classes_that_do_not_differ_are_filled_up_wholly() -> None:
    features = np.tile(FEATURES[:50], (2, 1))
    projection = DiscriminantProjection(4).fit(features, np.repeat([0, 1], 50))
    assert projection.describe()["filled"] in (3, 4)  # rounding may make a direction of nothing
    assert projection.strengths_.max() < 1e-6
    assert np.isfinite(projection.matrix).all()


def test_classes_of_one_row_and_of_none_do_no_harm() -> None:
    labels = LABELS.copy()
    labels[0] = 7
    moments = gather_moments([(FEATURES, labels)], classes=9)  # 6 and 8 have no row
    projection = fitted(DIM, moments)
    assert projection.describe()["filled"] == DIM - CLASSES
    assert DiscriminantProjection().fit_moments(moments).dim_out == CLASSES
    assert np.isfinite(projection.transform(FEATURES)).all()
    singles = gather_moments([(FEATURES[:5], np.arange(5))], classes=5)
    assert np.isfinite(fitted(5, singles).matrix).all()


@pytest.mark.parametrize("labels", [np.zeros(900, dtype=np.int64), np.full(900, "a")])
def test_a_single_class_is_refused(labels: Any) -> None:
    message = "a discriminant map tells classes apart: it needs rows of 2, these are of 1 class"
    with pytest.raises(ProjectionError, match=message):
        DiscriminantProjection(2).fit(FEATURES, labels)
    with pytest.raises(ProjectionError, match=message):
        fit_projections("discriminant", gather_moments([(FEATURES, None)]), [2])


def test_shuffled_labels_leave_nothing_to_find() -> None:
    """Of n rows without class differences the ratios are about (C - 1) / n of one another."""
    shuffled = np.random.default_rng(0).permutation(LABELS)
    moments = gather_moments([(FEATURES, shuffled)], classes=CLASSES)
    assert fitted(5, moments).strengths_.sum() < 2 * DIM * (CLASSES - 1) / len(LABELS)
    assert fitted(5).strengths_.sum() > 1


def test_collinear_features_of_very_many_rows_still_have_an_inverse() -> None:
    """Hardly any shrinkage is asked for, and float32 products leave eigenvalues below zero."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((3, 12))
    within = mixing.T @ mixing
    values, vectors = np.linalg.eigh(within)
    values[:9] = -3e-8 * values[-1]  # of rounding
    counts = np.array([10**9, 10**9])
    means = np.stack([np.zeros(12), mixing[0]])
    moments = Moments(counts=counts, means=means, within=(vectors * values) @ vectors.T * 2e9)
    found, share = shrunk_within(moments)
    assert share < 1e-8
    assert np.linalg.eigvalsh(found)[0] > 0
    assert np.isfinite(fitted(1, moments).matrix).all()
