"""Linear heads against scikit-learn, closed forms, and files that are not what they should be."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from students import FittedHead, HeadError, StudentError, fit_head, load_head, save_head

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


@pytest.mark.parametrize("l2", [(), (0.0,), (1e-3, -1.0)])
def test_an_l2_that_does_not_regularise_is_refused(l2: tuple[float, ...]) -> None:
    with pytest.raises(HeadError, match="l2 must name at least one value above 0"):
        fitted(l2=l2)


META = {"classes": ["a", "b <i>", "ç"], "trained_on": "gaussian-k4-s0"}
HEAD = FittedHead(
    weight=np.arange(12, dtype=np.float32).reshape(3, 4),
    bias=np.array([1, 2, 3], np.float32),
    l2=0.01,
    validation_accuracy=0.75,
    converged=True,
)


def test_a_head_survives_the_disk(tmp_path: Path) -> None:
    save_head(tmp_path / "x" / "head.safetensors", HEAD, META)
    head, meta = load_head(tmp_path / "x" / "head.safetensors", dim=4, classes=META["classes"])
    np.testing.assert_array_equal(head.weight, HEAD.weight)
    np.testing.assert_array_equal(head.bias, HEAD.bias)
    assert (head.l2, head.validation_accuracy, head.converged) == (0.01, 0.75, True)
    assert meta == META
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["head.safetensors"]


def test_the_bytes_of_a_head_file_are_stable(tmp_path: Path) -> None:
    for name in "ab":
        save_head(tmp_path / name, HEAD, dict(reversed(META.items())) if name == "b" else META)
    first, second = ((tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_a_head_must_name_its_classes(tmp_path: Path) -> None:
    for names in (["a", "b"], "abc", None):
        with pytest.raises(HeadError, match=r"meta\['classes'\] must name the 3 classes, got"):
            save_head(tmp_path / "head", HEAD, {"classes": names})
    assert not (tmp_path / "head").exists()


def refused(path: Path, **wanted: object) -> str:
    with pytest.raises(HeadError) as caught:
        load_head(path, **wanted)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, StudentError)
    return str(caught.value).replace(str(path), "FILE")


def test_another_head_than_the_one_needed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, HEAD, META)
    assert refused(path, dim=8) == (
        "the head in FILE reads 4 features, not 8; train a head on the store it is to be used with"
    )
    assert refused(path, classes=["a", "b <i>"]) == (
        "the head in FILE tells other classes apart: 3 instead of 2"
    )
    assert refused(path, classes=["a", "b <i>", "c"]) == (
        "the head in FILE tells other classes apart: class 2 is 'ç', not 'c'"
    )


def test_files_that_are_no_head_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    assert refused(path) == "there is no head at FILE; run train-head first"
    save_head(path, HEAD, META)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert refused(path).startswith("FILE does not hold a head that can be read")
    path.write_bytes(b"")
    assert refused(path).startswith("FILE does not hold a head that can be read")
    save_file({"weight": HEAD.weight}, path)
    assert refused(path).startswith("FILE does not hold a head that can be read")


def test_cards_that_do_not_fit_the_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    card = {"format": 1, "l2": 1, "validation_accuracy": 1, "converged": True, "meta": META}

    def write(bias: np.ndarray, **changes: object) -> None:
        metadata = {"head": json.dumps({**card, **changes})}
        save_file({"weight": HEAD.weight, "bias": bias}, path, metadata=metadata)

    write(HEAD.bias[:2])
    assert refused(path) == (
        "FILE is damaged: weight (3, 4), bias (2,) and 3 class names do not belong together; "
        "train the head again"
    )
    write(HEAD.bias, format=9)
    assert refused(path) == "FILE holds a head of format 9; train the head again"
    write(HEAD.bias, meta={})
    assert refused(path) == "FILE holds a head without 'classes'; train the head again"
