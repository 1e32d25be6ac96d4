"""What shrinkage is found in rows whose shrinkage is known, and what the head gains by knowing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import Attenuation, HeadError, fit_attenuation

K, CLASSES = 6, 3


def problem(
    seed: int, *, rows: int = 2000, share: float = 0.5, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets of unit variance, a student that shows ``share`` of them, labels drawn by a head."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, K))
    g = share * z + noise * rng.standard_normal((rows, K)) + 0.3
    weight, bias = 2 * rng.standard_normal((CLASSES, K)), rng.standard_normal(CLASSES)
    drawn = z @ weight.T + bias + rng.gumbel(size=(rows, CLASSES))  # of softmax's chances
    parts = g, z, weight, bias
    found, targets, head, shift = (part.astype(np.float32) for part in parts)
    return found, targets, drawn.argmax(axis=1), head, shift


def fitted(parts: tuple[np.ndarray, ...]) -> Attenuation:
    found, targets, labels, weight, bias = parts
    return fit_attenuation(found, targets, labels, weight=weight, bias=bias)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-np.log(chances[np.arange(len(labels)), labels]).mean())


def test_rows_that_are_half_their_targets_are_doubled_and_moved_back() -> None:
    parts = problem(0, rows=20000)
    found = fitted(parts)
    assert found.slope == pytest.approx(2.0, rel=1e-6)
    assert found.kept == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_allclose(found.matrix, 2 * np.eye(K), atol=1e-4)
    np.testing.assert_allclose(found.shift, -0.6, atol=1e-4)
    # labels were drawn at the temperature 1 of the head on the targets
    assert found.temperature == pytest.approx(1.0, abs=0.05)
    weight, bias = found.fold(parts[3], parts[4])
    np.testing.assert_allclose(
        parts[0] @ weight.T + bias,
        (parts[1] @ parts[3].T + parts[4]) / found.temperature,
        rtol=1e-3,
        atol=1e-3,
    )


def test_the_slope_of_noisy_rows_is_that_of_regression() -> None:
    # var g = 0.25 + 0.25, cov = 0.5: z on g has slope 1, g on z 0.5
    found = fitted(problem(1, rows=20000, noise=0.5))
    assert found.slope == pytest.approx(1.0, abs=0.02)
    assert found.kept == pytest.approx(0.5, abs=0.02)


def test_directions_that_are_shrunk_unlike_are_stretched_unlike() -> None:
    found, targets, labels, weight, bias = problem(2, share=1.0)
    found = (found * [1.0, 0.5, 0.25, 1.0, 1.0, 2.0]).astype(np.float32)
    told = fit_attenuation(found, targets, labels, weight=weight, bias=bias)
    np.testing.assert_allclose(np.diagonal(told.matrix), [1, 2, 4, 1, 1, 0.5], rtol=2e-2)


def test_a_head_that_is_too_sure_is_cooled() -> None:
    found, targets, labels, weight, bias = problem(3, share=1.0)
    found = targets  # nothing is shrunk
    told = fit_attenuation(found, targets, labels, weight=4 * weight, bias=4 * bias)
    assert told.temperature == pytest.approx(4.0, rel=0.1)
    assert told.after < told.before


@given(seed=st.integers(0, 999), rows=st.integers(1, 60), noise=st.sampled_from([0.0, 0.5, 5.0]))
def test_the_rows_at_hand_never_lose_and_the_numbers_told_are_those_of_the_folded_head(
    seed: int, rows: int, noise: float
) -> None:
    parts = problem(seed, rows=rows, noise=noise)
    told = fitted(parts)
    weight, bias = told.fold(parts[3], parts[4])
    assert told.after <= told.before
    before = cross_entropy(parts[0] @ parts[3].T + parts[4], parts[2])
    after = cross_entropy(parts[0] @ weight.T + bias, parts[2])
    assert told.before == pytest.approx(before, rel=1e-4, abs=1e-5)
    assert told.after == pytest.approx(after, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("seed", "rows", "noise", "share"), [(14, 6, 0.5, 0.5), (28, 5, 0.2, 1.0), (75, 8, 0.2, 1.0)]
)
def test_what_was_best_on_unseen_rows_is_dropped_where_the_rows_at_hand_lose_by_it(
    seed: int, rows: int, noise: float, share: float
) -> None:
    told = fitted(problem(seed, rows=rows, noise=noise, share=share))
    assert told.after <= told.before


def test_fewer_rows_than_folds_get_no_map() -> None:
    for seed in range(20):
        np.testing.assert_array_equal(fitted(problem(seed, rows=4)).matrix, np.eye(K))
    assert np.abs(fitted(problem(6, rows=50)).matrix - np.eye(K)).max() > 0.5


def test_a_student_that_says_the_same_of_all_rows_is_cooled_and_not_turned() -> None:
    _, targets, labels, weight, _ = problem(7, rows=100)
    nothing, sure = np.zeros_like(targets), np.array([9.0, 0.0, 0.0], "f4")
    told = fit_attenuation(nothing, targets, labels, weight=weight, bias=sure)
    assert told.temperature > 2
    assert told.after < told.before
    np.testing.assert_array_equal(told.matrix, np.eye(K))


def test_rows_that_vary_in_one_fold_only_are_fitted_all_the_same() -> None:
    _, targets, labels, weight, bias = problem(8, rows=10)
    found = np.zeros_like(targets)
    found[3] = 1.0
    told = fit_attenuation(found, targets, labels, weight=weight, bias=bias)
    assert told.after <= told.before


@pytest.mark.parametrize("seed", range(3))
def test_few_rows_of_many_numbers_are_not_believed_further_than_they_go(seed: int) -> None:
    """40 rows for 40 x 40 numbers: what is found must help rows that it was not found on."""
    rng = np.random.default_rng(seed)
    k, rows = 40, 2040
    z = rng.standard_normal((rows, k)).astype(np.float32)
    g = (0.5 * z + 0.5 * rng.standard_normal((rows, k))).astype(np.float32)
    weight = rng.standard_normal((5, k)).astype(np.float32)
    bias = np.zeros(5, np.float32)
    labels = (z @ weight.T + rng.gumbel(size=(rows, 5))).argmax(axis=1)
    told = fit_attenuation(g[:40], z[:40], labels[:40], weight=weight, bias=bias)
    folded, moved = told.fold(weight, bias)
    after = cross_entropy(g[40:] @ folded.T + moved, labels[40:])
    assert after < cross_entropy(g[40:] @ weight.T + bias, labels[40:]) - 0.3
    # knowing all: z is g's own slope, 1, and the logits' error is as large as they are
    assert after < cross_entropy((g[40:] @ weight.T) / 3.5, labels[40:]) + 0.1


def test_where_nothing_helps_the_head_stays_as_it_was() -> None:
    found, targets, labels, weight, _ = problem(4, share=1.0, rows=3)
    same = fit_attenuation(
        np.zeros_like(found), targets, labels, weight=np.zeros_like(weight), bias=np.zeros(3, "f4")
    )
    np.testing.assert_array_equal(same.matrix, np.eye(K))
    assert (same.temperature, same.after) == (1.0, same.before)
    assert same.slope == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 3])}, "row 1 has label 3, which is not one of the head's 3"),
        ({"labels": np.array([-1, 0])}, "row 0 has label -1"),
        ({"found": np.full((2, K), np.nan, "f4")}, "the student's held-out rows hold NaN"),
        ({"targets": np.full((2, K), np.inf, "f4")}, "the targets' held-out rows hold NaN"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes: dict, message: str) -> None:
    found, targets, _, weight, bias = problem(5, rows=2)
    given_ = {"found": found, "targets": targets, "labels": np.array([0, 1])} | changes
    with pytest.raises(HeadError, match=message):
        fit_attenuation(**given_, weight=weight, bias=bias)
    with pytest.raises(HeadError, match="no held-out rows"):
        fit_attenuation(found[:0], targets[:0], np.zeros(0, np.int64), weight=weight, bias=bias)
