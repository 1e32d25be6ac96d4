"""The trained bottleneck: its objective and gradient, what it must beat, seeds, refusals."""

from typing import Any

import numpy as np
import pytest
import scipy.optimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from projections import (
    HeadSVDProjection,
    LearnedProjection,
    Projection,
    ProjectionError,
    gather_moments,
    learn_projection,
    nearest_mean_head,
)
from projections.learned import BLOCK, _objective

CLASSES, DIM, ROWS, L2 = 7, 16, 900, 1e-2


def labelled_rows(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, so that the objective has its minimum at a finite weight."""
    means = 1.2 * np.random.default_rng(99).standard_normal((CLASSES, DIM))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, rows)
    features = rng.standard_normal((rows, DIM)) * np.geomspace(3, 0.5, DIM) + means[labels] + 8
    return features.astype(np.float32), labels


FEATURES, LABELS = labelled_rows()
MOMENTS = gather_moments([(FEATURES, LABELS)], classes=CLASSES)
SCALE = float(np.sqrt(np.trace(MOMENTS.covariance) / DIM))
SCALED = (FEATURES - MOMENTS.mean) / SCALE


def full_head() -> np.ndarray:
    """scikit-learn's, with our objective: on scaled features, C = 1 / (rows l2)."""
    fitted = LogisticRegression(C=1 / (ROWS * L2), max_iter=2000, tol=1e-8).fit(SCALED, LABELS)
    return np.asarray(fitted.coef_ / SCALE)


HEAD = full_head()


def learned(k: int, **options: Any) -> LearnedProjection:
    settings: dict[str, Any] = {"head": HEAD, "seed": 0, "l2": L2, "max_iterations": 300}
    settings |= options
    return learn_projection(
        FEATURES, LABELS, classes=CLASSES, dim_out=k, moments=MOMENTS, **settings
    )


def least_objective(matrix: np.ndarray) -> float:
    """Of all heads on these numbers, in float64: mean cross-entropy + l2/2 |V Pᵀ|²."""
    directions = matrix.astype(np.float64) * SCALE
    numbers, gram = SCALED @ directions, directions.T @ directions
    truth = np.eye(CLASSES)[LABELS]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        mixing, bias = flat[:-CLASSES].reshape(CLASSES, -1), flat[-CLASSES:]
        logs = log_softmax(numbers @ mixing.T + bias, axis=1)
        slope = (np.exp(logs) - truth) / ROWS
        pull = mixing @ gram
        gradient = slope.T @ numbers + L2 * pull
        value = -logs[np.arange(ROWS), LABELS].mean() + L2 / 2 * np.vdot(pull, mixing)
        return value, np.concatenate([gradient.ravel(), slope.sum(axis=0)])

    start = np.zeros(CLASSES * (matrix.shape[1] + 1))
    found = scipy.optimize.minimize(objective, start, jac=True, options={"maxiter": 3000})
    return float(found.fun)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_no_worse_than_the_truncated_head_with_a_head_of_its_own(k: int, seed: int) -> None:
    truncated = least_objective(HeadSVDProjection(k).fit_head(MOMENTS, HEAD).matrix)
    trained = learned(k, seed=seed)
    reached = least_objective(trained.matrix)
    assert reached <= trained.objective_ * (1 + 1e-5)  # the map holds what the training found
    assert reached <= truncated + 1e-6
    if k <= 3:
        assert reached < truncated - 0.003  # training must be worth something


def test_at_the_rank_of_a_full_head_it_is_the_full_head() -> None:
    """All heads are allowed then: scikit-learn's minimum is the minimum."""
    full = least_objective(np.eye(DIM, dtype=np.float32))
    for k in (CLASSES - 1, CLASSES + 2):
        assert learned(k).objective_ == pytest.approx(full, rel=1e-4)
    truncated = HeadSVDProjection(CLASSES - 1).fit_head(MOMENTS, HEAD)
    np.testing.assert_allclose(learned(CLASSES - 1).strengths_, truncated.strengths_, rtol=0.02)
    assert learned(CLASSES + 2).describe()["filled"] == 3
    assert learned(CLASSES - 1).describe()["filled"] == 0


def test_it_starts_as_well_from_the_ridge_head() -> None:
    assert learned(3, head=None).objective_ == pytest.approx(learned(3).objective_, rel=0.02)


@pytest.mark.parametrize("rows", [5, BLOCK + 3])
def test_the_gradient_is_that_of_the_objective(rows: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, 4)).astype(np.float32)
    targets = rng.integers(0, 3, rows)
    place = [rng.standard_normal(shape) for shape in ((4, 2), (3, 2), (3,))]

    def value(P: np.ndarray, V: np.ndarray, b: np.ndarray) -> float:
        logs = log_softmax(features.astype(np.float64) @ P @ V.T + b, axis=1)
        penalty = 0.3 / 2 * np.square(V @ P.T).sum()
        return float(penalty - logs[np.arange(rows), targets].mean())

    found, gradients = _objective(features, targets, 0.3, *place)
    assert found == pytest.approx(value(*place), rel=1e-6)
    for which, gradient in enumerate(gradients):
        for at in np.ndindex(gradient.shape):
            moved = [[array.copy() for array in place] for _ in range(2)]
            moved[0][which][at] += 1e-5
            moved[1][which][at] -= 1e-5
            slope = (value(*moved[0]) - value(*moved[1])) / 2e-5
            assert gradient[at] == pytest.approx(slope, abs=1e-6)


def test_the_seed_is_where_it_starts() -> None:
    first, again, other = learned(2), learned(2), learned(2, seed=1)
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert first.describe() == again.describe()
    assert first.describe()["digest"] != other.describe()["digest"]
    assert (first.seed, other.seed, other.describe()["seed"]) == (0, 1, 1)
    assert first.objective_ == pytest.approx(other.objective_, rel=0.05)


def test_settings_are_told_and_make_another_map() -> None:
    said = learned(2).describe()
    assert (said["l2"], said["max_iterations"], said["kind"]) == (L2, 300, "learned")
    for options in ({"l2": 2 * L2}, {"max_iterations": 3}):
        assert learned(2, **options).describe()["digest"] != said["digest"]
    assert learned(2, max_iterations=1).objective_ > learned(2).objective_


def test_only_the_training_rows_are_read() -> None:
    """Other rows of the same array, changed, change nothing: the map is of those it was given."""
    features, labels = labelled_rows(0, ROWS + 50)
    part = slice(0, ROWS)
    moments = gather_moments([(features[part], labels[part])], classes=CLASSES)
    settings: dict[str, Any] = {"classes": CLASSES, "dim_out": 2, "head": None, "moments": moments}
    settings |= {"seed": 0, "l2": L2, "max_iterations": 20}
    before = learn_projection(features[part], labels[part], **settings)
    features[ROWS:] = 1e3
    after = learn_projection(features[part], labels[part], **settings)
    assert before.describe() == after.describe()


def test_shuffled_labels_take_accuracy_to_chance() -> None:
    held_out, truth = labelled_rows(1, 2000)

    def accuracy(labels: np.ndarray) -> float:
        moments = gather_moments([(FEATURES, labels)], classes=CLASSES)
        projection = LearnedProjection(3, l2=L2).fit(FEATURES, labels)
        weight, bias = nearest_mean_head(moments, projection=projection)
        logits = projection.transform(held_out) @ weight.T + bias
        return float((logits.argmax(axis=1) == truth).mean())

    assert accuracy(LABELS) > 0.6
    rng = np.random.default_rng(2)
    assert np.mean([accuracy(rng.permutation(LABELS)) for _ in range(5)]) < 1.6 / CLASSES


def test_fitting_rows_starts_from_their_ridge_head() -> None:
    names = np.array(list("tuvwxyz"))[LABELS]
    fitted = LearnedProjection(3, l2=L2, max_iterations=300).fit(FEATURES, names)
    np.testing.assert_array_equal(fitted.matrix, learned(3, head=None).matrix)
    assert isinstance(fitted, Projection)
    assert LearnedProjection(l2=L2).fit(FEATURES, names).dim_out == CLASSES - 1


def test_classes_without_rows_and_constant_features_do_no_harm() -> None:
    features = np.column_stack([FEATURES, np.full(ROWS, 3.0, dtype=np.float32)])
    labels = 2 * LABELS + 1  # every other class has no row
    moments = gather_moments([(features, labels)], classes=2 * CLASSES + 1)
    projection = learn_projection(
        features, labels, classes=2 * CLASSES + 1, dim_out=9, head=None, moments=moments, seed=0,
        l2=L2, max_iterations=100,
    )  # fmt: skip
    assert projection.describe()["filled"] == 9 - (CLASSES - 1)
    assert np.isfinite(projection.transform(features)).all()
    # one more column makes the one scale smaller and so the penalty on the others weaker
    assert 0.9 < projection.objective_ / learned(6).objective_ < 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"features": FEATURES[:, 1:], "head": None},
            r"shape \(900, 15\) came with the moments of 900 rows of width 16",
        ),
        (
            {"features": FEATURES[1:], "labels": LABELS[1:]},
            "the labels are not those of the moments",
        ),
        ({"labels": (LABELS + 1) % CLASSES}, "the labels are not those of the moments"),
        ({"labels": LABELS - 1}, "the labels are not those of the moments"),
        ({"classes": 8}, "the moments are of 7 classes, not 8"),
        ({"head": HEAD[1:]}, r"weights of shape \(6, 16\)"),
        ({"l2": 0.0}, "l2 must be above 0, got 0"),
        ({"seed": -1}, "seed must be .* at least 0"),
        ({"max_iterations": 0}, "max_iterations must be .* at least 1"),
        ({"dim_out": 17}, "n_components=17 is more than the data has columns, n_features=16"),
    ],
)
def test_what_does_not_belong_together_is_refused(changed: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {
        "features": FEATURES, "labels": LABELS, "classes": CLASSES, "dim_out": 3, "head": HEAD,
        "moments": MOMENTS, "seed": 0, "l2": L2, "max_iterations": 5,
    }  # fmt: skip
    with pytest.raises(ProjectionError, match=message):
        learn_projection(**settings | changed)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ProjectionError, match=r"a learned map tells classes apart.* of 1 class"):
        LearnedProjection(2).fit(FEATURES, np.zeros(ROWS, dtype=np.int64))
