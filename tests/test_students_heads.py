"""Linear heads against scikit-learn and closed forms, along paths of l2, on threads and devices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from students import FittedHead, HeadError, fit_head, fit_path

CLASSES, DIM = 7, 30


def blobs(rows: int, seed: int, *, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds, one a class, whose axes differ in scale; all classes occur."""
    scales = np.logspace(0, -1, DIM)
    centres = np.random.default_rng(0).standard_normal((CLASSES, DIM)) * scales
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % CLASSES)
    noise = rng.standard_normal((rows, DIM)) * scales * 1.5
    return (3 * (centres[labels] + noise) + offset).astype(np.float32), labels


TRAIN, VALIDATION, TEST = blobs(500, 1), blobs(203, 2), blobs(2000, 3)


def fitted(
    train: tuple[np.ndarray, np.ndarray] = TRAIN,
    validation: tuple[np.ndarray, np.ndarray] = VALIDATION,
    *,
    l2: tuple[float, ...] = (1e-3,),
    classes: int = CLASSES,
    max_iterations: int = 500,
) -> FittedHead:
    return fit_head(*train, *validation, classes=classes, l2=l2, max_iterations=max_iterations)


def scale_of(features: np.ndarray) -> float:
    deviations = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return float(np.sqrt((deviations**2).mean()))


def objective(
    weight: np.ndarray, bias: np.ndarray, l2: float, features: np.ndarray, labels: np.ndarray
) -> float:
    """Mean cross-entropy + l2/2 ||W scale||², of a head that reads unscaled features."""
    logits = features.astype(np.float64) @ weight.T.astype(np.float64) + bias
    top = logits.max(axis=1)
    losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    losses -= logits[np.arange(len(labels)), labels]
    return float(losses.mean() + l2 / 2 * np.sum((weight * scale_of(features)) ** 2))


@pytest.mark.parametrize("offset", [0.0, 20.0])
@pytest.mark.parametrize("l2", [1e-4, 1e-3, 1e-1])
def test_a_head_agrees_with_scikit_learn(l2: float, offset: float) -> None:
    train, test = blobs(500, 1, offset=offset), blobs(2000, 3, offset=offset)
    ours = fitted(train, blobs(203, 2, offset=offset), l2=(l2,))
    scale, mean = scale_of(train[0]), train[0].mean(axis=0)
    theirs = LogisticRegression(C=1 / (500 * l2), tol=1e-9, max_iter=20_000).fit(
        (train[0] - mean) / scale, train[1]
    )
    weight = theirs.coef_ / scale
    bias = theirs.intercept_ - weight @ mean
    least = objective(weight, bias, l2, *train)
    assert objective(ours.weight, ours.bias, l2, *train) <= least * (1 + 1e-4)
    agreed = np.mean(ours.predict(test[0]) == theirs.predict((test[0] - mean) / scale))
    assert agreed >= 0.995
    assert ours.converged


@pytest.mark.parametrize("l2", [1e-4, 1e-2])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((90, 200, 4), id="fewer-rows-than-dimensions"),
        pytest.param((900, 12, 2), id="two-classes"),
        pytest.param((900, 3, 40), id="more-classes-than-dimensions"),
    ],
)
def test_objectives_of_other_shapes_are_as_low_as_scikit_learns(
    shape: tuple[int, int, int], l2: float
) -> None:
    rows, dim, classes = shape
    rng = np.random.default_rng(rows)
    labels = (rng.random(rows) ** 2 * classes).astype(int)  # the first classes have most rows
    centres, noise = rng.standard_normal((classes, dim)), rng.standard_normal((rows, dim))
    features = ((centres[labels] + noise) * np.logspace(0, -2, dim)).astype(np.float32)
    train = features, np.unique(labels, return_inverse=True)[1]  # all of them have some
    (ours,) = fit_path(*train, classes=int(train[1].max()) + 1, l2=[l2], max_iterations=500)
    assert ours.converged
    scale, mean = scale_of(features), features.mean(axis=0)
    several = len(ours.bias) > 2  # with two classes scikit-learn penalises their difference
    theirs = LogisticRegression(
        C=(1 if several else 2) / (rows * l2), tol=1e-9, max_iter=20_000
    ).fit((features - mean) / scale, train[1])
    weight, bias = theirs.coef_ / scale, theirs.intercept_
    if not several:
        weight, bias = (np.concatenate([-half, half]) / 2 for half in (weight, bias))
    least = objective(weight, bias - weight @ mean, l2, *train)
    assert objective(ours.weight, ours.bias, l2, *train) <= least * (1 + 1e-4)


def test_two_points_have_a_minimum_in_closed_form() -> None:
    # x = ±1, scale 1; by symmetry W = [-w/2, w/2], b = 0: log(1 + exp(-w)) + l2 w²/4, whose
    # derivative vanishes where 1 / (1 + exp(w)) = l2 w / 2; for l2 = 2/(1 + e) that is w = 1
    features, labels = np.array([[-1], [1]], np.float32), np.array([0, 1])
    head = fitted((features, labels), (features, labels), l2=(2 / (1 + np.e),), classes=2)
    np.testing.assert_allclose(head.weight, [[-0.5], [0.5]], rtol=2e-2)
    np.testing.assert_allclose(head.bias, [0, 0], atol=1e-6)


def test_features_that_say_nothing_give_the_class_shares() -> None:
    features = np.full((8, 3), 4, np.float32)
    labels = np.array([0, 1, 1, 1, 2, 2, 2, 2])
    head = fitted((features, labels), (features, labels), classes=3)
    logits = head.logits(features)[0]
    np.testing.assert_allclose(
        np.exp(logits) / np.exp(logits).sum(), [1 / 8, 3 / 8, 1 / 2], atol=0.01
    )
    assert head.validation_accuracy == 0.5


@pytest.mark.parametrize("l2", [1e-30, 1e9])
def test_an_l2_far_off_still_gives_a_head(l2: float) -> None:
    features, labels = np.eye(3, dtype=np.float32)[[0, 1, 2] * 4] * 9, np.array([0, 1, 2] * 4)
    (head,) = fit_path(features, labels, classes=3, l2=[l2], max_iterations=100)
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()
    assert (np.mean(head.predict(features) == labels) == 1) or l2 > 1


def test_what_all_classes_could_share_is_zero() -> None:
    head = fitted()
    np.testing.assert_allclose(head.weight.sum(axis=0), 0, atol=1e-5)
    at_the_mean = head.bias + head.weight @ TRAIN[0].mean(axis=0)
    np.testing.assert_allclose(at_the_mean.sum(), 0, atol=1e-5)


GRID = (1e-4, 1e-1, 1e-3)


def test_a_path_holds_a_head_for_every_l2_from_the_largest_down() -> None:
    heads = fit_path(*TRAIN, classes=CLASSES, l2=GRID, max_iterations=500)
    assert [head.l2 for head in heads] == sorted(GRID, reverse=True)
    for head in heads:
        assert head.converged
        assert np.isnan(head.validation_accuracy)
        alone = fitted(l2=(head.l2,))
        values = [objective(h.weight, h.bias, head.l2, *TRAIN) for h in (head, alone)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_the_best_of_a_path_is_the_head_that_validation_chooses() -> None:
    heads = fit_path(*TRAIN, classes=CLASSES, l2=GRID, max_iterations=500)
    shares = [float(np.mean(head.predict(VALIDATION[0]) == VALIDATION[1])) for head in heads]
    chosen = fitted(l2=GRID)
    best = heads[int(np.argmax(shares))]
    assert (chosen.l2, chosen.validation_accuracy) == (best.l2, max(shares))
    np.testing.assert_array_equal(chosen.weight, best.weight)


def test_torch_finds_the_same_head() -> None:
    ours = fitted()
    (theirs,) = fit_path(*TRAIN, classes=CLASSES, l2=[1e-3], max_iterations=500, device="cpu:0")
    np.testing.assert_allclose(theirs.weight, ours.weight, atol=2e-2)
    assert np.mean(theirs.predict(TEST[0]) == ours.predict(TEST[0])) >= 0.995


@pytest.mark.gpu
def test_a_gpu_finds_the_same_head() -> None:
    heads = [
        fit_path(*TRAIN, classes=CLASSES, l2=[1e-3], max_iterations=500, device=device)[0]
        for device in ("cpu", "cuda")
    ]
    values = [objective(head.weight, head.bias, 1e-3, *TRAIN) for head in heads]
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert np.mean(heads[0].predict(TEST[0]) == heads[1].predict(TEST[0])) >= 0.995


@given(factor=st.sampled_from([1e-3, 1.0, 1e4]), shift=st.sampled_from([0.0, 10.0]))
def test_neither_scale_nor_place_of_the_features_matter(factor: float, shift: float) -> None:
    def moved(split: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return (split[0] * np.float32(factor) + np.float32(factor * shift)), split[1]

    plain, other = fitted(), fitted(moved(TRAIN), moved(VALIDATION))
    np.testing.assert_allclose(other.weight * factor, plain.weight, atol=2e-2)
    agreed = other.predict(moved(TEST)[0]) == plain.predict(TEST[0])
    assert agreed.mean() > 0.99


def test_validation_chooses_the_l2_and_of_equals_the_larger() -> None:
    grid = (1e-5, 1e-3, 1e-1, 10.0)
    accuracies = {l2: fitted(l2=(l2,)).validation_accuracy for l2 in grid}
    chosen = fitted(l2=grid)
    best = max(accuracies.values())
    assert min(accuracies.values()) < best
    assert chosen.l2 == max(l2 for l2, accuracy in accuracies.items() if accuracy == best)
    assert chosen.l2 < max(grid)
    nothing = ((split[0] * 0, split[1]) for split in (TRAIN, TEST))
    same = fitted(*nothing, l2=(1e-2, 1e-3, 1e-1))
    assert same.l2 == 0.1  # features that say nothing: all the same


def test_validation_accuracy_is_that_of_the_head_returned() -> None:
    head = fitted(l2=(1e-4, 1e-2))
    assert head.validation_accuracy == np.mean(head.predict(VALIDATION[0]) == VALIDATION[1])


def test_labels_of_validation_teach_nothing() -> None:
    shuffled = (VALIDATION[0], np.roll(VALIDATION[1], 1))
    np.testing.assert_array_equal(fitted().weight, fitted(validation=shuffled).weight)


def test_too_few_iterations_are_admitted() -> None:
    assert not fitted(l2=(1e-5,), max_iterations=2).converged
    assert fitted(l2=(1e-5,), max_iterations=2000).converged


def test_a_class_without_rows_is_never_predicted() -> None:
    features, labels = TRAIN
    kept = labels != 3
    head = fitted((features[kept], labels[kept]))
    assert head.weight.shape == (CLASSES, DIM)
    assert np.isfinite(head.logits(TEST[0])).all()
    assert head.logits(TEST[0])[:, 3].max() < -1e3
    assert 3 not in head.predict(TEST[0])
    assert set(head.predict(TEST[0])) == set(range(CLASSES)) - {3}


def test_float16_features_are_read_as_float32() -> None:
    half = (TRAIN[0].astype(np.float16), TRAIN[1])
    head = fitted(half, (VALIDATION[0].astype(np.float16), VALIDATION[1]))
    exact = fitted((half[0].astype(np.float32), half[1]), VALIDATION)
    np.testing.assert_allclose(head.weight, exact.weight, atol=1e-4)


def test_the_same_data_gives_the_same_bits() -> None:
    first, again = fitted(l2=(1e-4, 1e-3)), fitted(l2=(1e-4, 1e-3))
    assert first.weight.tobytes() == again.weight.tobytes()
    assert first.bias.tobytes() == again.bias.tobytes()


def test_what_was_handed_in_is_left_as_it_was() -> None:
    before = TRAIN[0].copy()
    fitted()
    np.testing.assert_array_equal(TRAIN[0], before)


def with_nan(features: np.ndarray, row: int) -> np.ndarray:
    spoiled = features.copy()
    spoiled[row, 4] = np.nan
    return spoiled


NONE = (np.zeros((0, DIM), np.float32), np.zeros(0, np.int64))


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        (NONE, VALIDATION, "the training split has no rows; a head needs some"),
        (TRAIN, NONE, "the validation split has no rows; a head needs some"),
        (
            (TRAIN[0], TRAIN[1] * 0 + 2),
            VALIDATION,
            "all 500 training rows are of class 2; a head needs at least two classes",
        ),
        (
            (TRAIN[0], np.where(np.arange(500) == 9, 7, TRAIN[1])),
            VALIDATION,
            "training row 9 has label 7, which is not one of the 7 classes",
        ),
        (
            TRAIN,
            (VALIDATION[0], VALIDATION[1] - 1),
            "validation row",
        ),
        (
            (with_nan(TRAIN[0], 12), TRAIN[1]),
            VALIDATION,
            "training row 12 holds NaN or infinite features",
        ),
        (
            TRAIN,
            (with_nan(VALIDATION[0], 0), VALIDATION[1]),
            "validation row 0 holds NaN or infinite features",
        ),
    ],
)
def test_data_without_a_head_is_refused(
    train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], message: str
) -> None:
    with pytest.raises(HeadError, match=f"^{message}"):
        fitted(train, validation)


@pytest.mark.parametrize("l2", [(), (0.0,), (1e-3, -1.0), (np.nan,), (np.inf, 1.0)])
def test_an_l2_that_does_not_regularise_is_refused(l2: tuple[float, ...]) -> None:
    with pytest.raises(HeadError, match="l2 must name at least one value above 0"):
        fitted(l2=l2)


@pytest.mark.parametrize("exponent", [-70, -45, 45, 60])
def test_features_of_any_size_give_the_same_head(exponent: int) -> None:
    train, labels = blobs(300, 0)
    (one,) = fit_path(train, labels, classes=CLASSES, l2=[1e-3], max_iterations=200)
    far = np.ldexp(train, exponent)
    (other,) = fit_path(far, labels, classes=CLASSES, l2=[1e-3], max_iterations=200)
    assert other.converged
    np.testing.assert_allclose(np.ldexp(other.weight, exponent), one.weight, rtol=0.02, atol=1e-3)
    np.testing.assert_array_equal(other.predict(far), one.predict(train))
