"""Heads from moments: scikit-learn's answers, in the features' space and in a projected one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from projections import (
    Moments,
    Projection,
    ProjectionError,
    fit_projections,
    gather_moments,
    make_projection,
    nearest_mean_head,
    ridge_head,
)

CLASSES, DIM, ROWS = 5, 12, 700


def labelled_rows(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    features = rng.standard_normal((rows, DIM)) * np.geomspace(2, 0.2, DIM)
    features += 1.5 * rng.standard_normal((CLASSES, DIM))[labels] + 4
    return features.astype(np.float32), labels


FEATURES, LABELS = labelled_rows()
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)
MAPS: list[Projection] = [
    make_projection("gaussian", dim_in=DIM, dim_out=4, seed=0),
    fit_projections("pca", MOMENTS, [6])[0],
]


def defined_ridge(features: np.ndarray, l2: float) -> Ridge:
    """scikit-learn's on features divided by the one scale, so its weights are per scaled unit."""
    rows = features.astype(np.float64)
    scale = np.sqrt(((rows - rows.mean(axis=0)) ** 2).mean())
    fitted = Ridge(alpha=len(rows) * l2).fit(rows / scale, np.eye(CLASSES)[LABELS])
    fitted.coef_ = fitted.coef_ / scale
    return fitted


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_the_ridge_head_is_that_of_scikit_learn(l2: float) -> None:
    weight, bias = ridge_head(MOMENTS, l2)
    expected = defined_ridge(FEATURES, l2)
    np.testing.assert_allclose(weight, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-4)
    assert weight.dtype == bias.dtype == np.dtype(np.float32)


@pytest.mark.parametrize("projection", MAPS, ids=lambda p: p.kind)
def test_a_projected_space_needs_no_rows(projection: Projection) -> None:
    mapped = projection.transform(FEATURES)
    weight, bias = ridge_head(MOMENTS, 1e-2, projection=projection)
    expected = defined_ridge(mapped, 1e-2)
    np.testing.assert_allclose(weight, expected.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, expected.intercept_, atol=1e-4)
    direct = gather_moments([(mapped, LABELS)], classes=CLASSES)
    for one, other in zip(ridge_head(direct, 1e-2), (weight, bias), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_hand_computed_ridge_head() -> None:
    """x = -1, 1 of classes 0, 1: scale 1, covariance with the second column 1/2, b = 1/2."""
    moments = gather_moments([(np.array([[-1.0], [1.0]]), np.array([0, 1]))], classes=2)
    weight, bias = ridge_head(moments, 0.25)
    np.testing.assert_allclose(weight, [[-0.4], [0.4]], rtol=1e-6)
    np.testing.assert_allclose(bias, [0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(
            Moments(counts=MOMENTS.counts, means=-MOMENTS.means, within=MOMENTS.within), id="sign"
        ),
        pytest.param(
            Moments(counts=MOMENTS.counts, means=MOMENTS.means, within=2 * MOMENTS.within),
            id="scale",
        ),
        pytest.param(
            gather_moments([(FEATURES, np.roll(LABELS, 1))], classes=CLASSES), id="shuffled"
        ),
    ],
)
def test_moments_of_something_else_give_another_head(wrong: Moments) -> None:
    expected = defined_ridge(FEATURES, 1e-2)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(ridge_head(wrong, 1e-2)[0], expected.coef_, atol=1e-3)


def test_shuffled_labels_take_accuracy_to_chance() -> None:
    features, labels = labelled_rows(0, 3000)
    train, held_out = slice(0, ROWS), slice(ROWS, None)

    def accuracy(taught: np.ndarray) -> float:
        moments = gather_moments([(features[train], taught)], classes=CLASSES)
        weight, bias = ridge_head(moments, 1e-2)
        predicted = (features[held_out] @ weight.T + bias).argmax(axis=1)
        return float((predicted == labels[held_out]).mean())

    rng = np.random.default_rng(1)
    shuffled = [accuracy(rng.permutation(labels[train])) for _ in range(20)]
    assert accuracy(labels[train]) > 0.9
    assert abs(np.mean(shuffled) - 1 / CLASSES) < 5 * np.std(shuffled) / np.sqrt(20)
    assert np.mean(shuffled) < 0.3


@given(seed=st.integers(0, 999), rows=st.integers(2 * CLASSES, 40))
def test_the_nearest_mean_is_that_of_scikit_learn(seed: int, rows: int) -> None:
    """Classes without a row are not known to it, and never the nearest to us."""
    features, labels = labelled_rows(seed, rows)
    labels[0] = (labels[1] + 1) % CLASSES  # two classes at least
    moments = gather_moments([(features, labels)], classes=CLASSES)
    others = np.random.default_rng(seed).standard_normal((50, DIM)).astype(np.float32) * 5 + 4
    weight, bias = nearest_mean_head(moments)
    found = (others @ weight.T + bias).argmax(axis=1)
    expected = NearestCentroid().fit(features, labels).predict(others)
    distances = np.linalg.norm(others[:, None] - moments.means, axis=2)
    rows_of = np.arange(len(others))
    tied = np.isclose(distances[rows_of, found], distances[rows_of, expected], rtol=1e-5)
    assert (tied | (found == expected)).all()
    assert (found == expected).mean() > 0.95


def test_the_nearest_mean_in_a_projected_space() -> None:
    for projection in MAPS:
        mapped = projection.transform(FEATURES)
        weight, bias = nearest_mean_head(MOMENTS, projection=projection)
        expected = NearestCentroid().fit(mapped, LABELS).predict(mapped)
        assert ((mapped @ weight.T + bias).argmax(axis=1) == expected).mean() > 0.998


def test_a_hand_computed_nearest_mean() -> None:
    rows, labels = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]]), np.array([0, 1, 3])
    weight, bias = nearest_mean_head(gather_moments([(rows, labels)], classes=4))
    logits = np.array([[1.9, 0.0], [2.1, 0.0], [0.0, 1.1], [2.0, -100.0]]) @ weight.T + bias
    np.testing.assert_array_equal(logits.argmax(axis=1)[:3], [0, 1, 3])
    assert logits[3, 0] == pytest.approx(logits[3, 1])  # halfway between the first two
    assert np.isfinite(bias).all()


def test_a_class_without_rows_is_never_predicted() -> None:
    moments = gather_moments([(FEATURES, LABELS)], classes=CLASSES + 2)
    for weight, bias in (ridge_head(moments, 1e-2), nearest_mean_head(moments)):
        predicted = (FEATURES @ weight.T + bias).argmax(axis=1)
        assert predicted.max() == CLASSES - 1


def test_collinear_features_have_a_head() -> None:
    twice = np.hstack([FEATURES, FEATURES, np.ones((ROWS, 1), dtype=np.float32)])
    weight, bias = ridge_head(gather_moments([(twice, LABELS)], classes=CLASSES), 1e-2)
    logits = twice @ weight.T + bias
    np.testing.assert_allclose(weight[:, :DIM], weight[:, DIM : 2 * DIM], atol=1e-5)
    np.testing.assert_allclose(weight[:, -1], 0, atol=1e-6)
    assert (logits.argmax(axis=1) == LABELS).mean() > 0.8


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_not_positive_is_refused(l2: float) -> None:
    with pytest.raises(ProjectionError, match=f"l2 must be above 0, got {l2}"):
        ridge_head(MOMENTS, l2)


def test_rows_that_are_all_equal_have_no_head() -> None:
    constant = gather_moments([(np.full((9, 3), 2.0), np.arange(9) % 3)], classes=3)
    with pytest.raises(
        ProjectionError, match="the 9 rows are all equal: no head can tell them apart"
    ):
        ridge_head(constant, 1e-2)
