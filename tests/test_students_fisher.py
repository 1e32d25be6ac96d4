"""The metric of the classes' chances, against a plain loop and the divergence it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import StudentError, fisher_metric
from students.fisher import mean_information

K, CLASSES, ROWS = 5, 4, 60


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head, the targets it reads, and its logits."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((CLASSES, K)).astype(np.float32)
    rows = rng.standard_normal((ROWS, K)) * [3.0, 1.0, 1.0, 0.5, 0.1]
    return weight, rows, (rows @ weight.T).astype(np.float32)


def chances(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())


def information_by_loop(weight: np.ndarray, logits: np.ndarray, temperature: float) -> np.ndarray:
    total = np.zeros((K, K))
    for row in logits.astype(np.float64) / temperature:
        p = chances(row)
        total += weight.T @ (np.diag(p) - np.outer(p, p)) @ weight
    return total / len(logits)


@given(seed=st.integers(0, 999), temperature=st.sampled_from([1.0, 3.0]))
def test_the_information_is_the_mean_over_rows_however_they_are_cut(
    seed: int, temperature: float
) -> None:
    weight, _, logits = problem(seed)
    found = mean_information(
        weight, [logits[:7], logits[7:40], logits[40:]], temperature=temperature
    )
    expected = information_by_loop(weight, logits, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_metric_is_what_an_error_changes_of_the_divergence() -> None:
    weight, rows, logits = problem(1)
    metric = fisher_metric(weight, [logits], covariance=np.cov(rows.T, bias=True), ridge=0.0)
    scale = np.trace(mean_information(weight, [logits])) / K
    small = 1e-3 * np.random.default_rng(2).standard_normal(K)
    moved = logits.astype(np.float64) + weight @ small
    divergences = []
    for before, after in zip(logits.astype(np.float64), moved, strict=True):
        p, q = chances(before), chances(after)
        divergences.append(float(p @ np.log(p / q)))
    assert small @ metric @ small * scale / 2 == pytest.approx(np.mean(divergences), rel=1e-2)


@pytest.mark.parametrize("ridge", [0.0, 0.1, 1.0])
def test_the_metric_is_symmetric_without_negative_eigenvalue_and_of_trace_k(ridge: float) -> None:
    weight, rows, logits = problem(3)
    metric = fisher_metric(weight, [logits], covariance=np.cov(rows.T, bias=True), ridge=ridge)
    np.testing.assert_array_equal(metric, metric.T)
    assert np.trace(metric) == pytest.approx(K)
    least = np.linalg.eigvalsh(metric)[0]
    # four classes have differences in three directions: without a ridge two of five are free
    assert abs(least) < 1e-9 if ridge == 0 else least > 1e-6


def test_the_ridge_says_how_much_the_inverse_covariance_counts_beside_it() -> None:
    weight, rows, logits = problem(4)
    covariance = np.cov(rows.T, bias=True)
    information = mean_information(weight, [logits])
    shown = np.trace(information @ covariance) / K
    expected = information + 0.5 * shown * np.linalg.inv(covariance)
    for size in (1.0, 100.0):  # of the targets' unit: z / size, W · size
        found = fisher_metric(
            (weight * size).astype(np.float32), [logits], covariance=covariance / size**2, ridge=0.5
        )
        np.testing.assert_allclose(found, expected * K / np.trace(expected), rtol=1e-5)


def test_a_direction_without_variance_does_not_become_all_of_the_metric() -> None:
    weight, _, logits = problem(5)
    covariance = np.diag([1.0, 1.0, 1.0, 1.0, 0.0])
    metric = fisher_metric(weight, [logits], covariance=covariance, ridge=1.0)
    assert metric[0, 0] < metric[4, 4] < 1100 * metric[0, 0]


def test_logits_that_are_sure_leave_the_inverse_covariance() -> None:
    weight, _, logits = problem(6)
    sure = np.where(np.arange(CLASSES) == logits.argmax(axis=1)[:, None], 1000.0, 0.0)
    covariance = np.diag([1.0, 2.0, 4.0, 4.0, 4.0])
    metric = fisher_metric(weight, [sure], covariance=covariance, ridge=0.1)
    expected = np.diag([1, 0.5, 0.25, 0.25, 0.25]) * K / 2.25
    np.testing.assert_allclose(metric, expected, atol=1e-12)
    with pytest.raises(StudentError, match="depend on no direction of the targets"):
        fisher_metric(weight, [sure], covariance=covariance, ridge=0.0)


def test_what_cannot_be_a_metric_is_refused() -> None:
    weight, rows, logits = problem(7)
    covariance = np.cov(rows.T, bias=True)
    with pytest.raises(StudentError, match="logits are of 3 classes, and the head has 4"):
        fisher_metric(weight, [logits[:, :3]], covariance=covariance, ridge=0.0)
    with pytest.raises(StudentError, match="needs rows of the teacher's logits, got none"):
        fisher_metric(weight, [], covariance=covariance, ridge=0.0)
    with pytest.raises(StudentError, match=r"must not be below 0, got -0\.5"):
        fisher_metric(weight, [logits], covariance=covariance, ridge=-0.5)
    with pytest.raises(StudentError, match="the targets do not vary"):
        fisher_metric(weight, [logits], covariance=np.zeros((K, K)), ridge=1.0)
