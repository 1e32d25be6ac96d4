"""Calibration and margins: hand-computed cases, and agreement with the definition written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.metrics import (
    expected_calibration_error,
    fit_temperature,
    geometric_margins,
    log_likelihoods,
    margin_kept,
)


def some_logits(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((rows, classes)).astype(np.float32)
    return logits, rng.integers(0, classes, rows)


def test_the_error_of_a_case_by_hand() -> None:
    # two bins: (0, 0.5] holds one row, right, sure by 0.5; (0.5, 1] three, two right, sure by 0.8
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    labels = np.array([0, 0, 1, 1])
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(
        0.25 * 0.5 + 0.75 * abs(2 / 3 - 0.8)
    )
    sure = np.eye(3)[[0, 1, 2]]
    assert expected_calibration_error(sure, np.array([0, 1, 2])) == 0.0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1.0
    with pytest.raises(ValueError, match="no rows"):
        expected_calibration_error(np.empty((0, 2)), np.empty(0, dtype=np.int64))


@given(st.integers(1, 60), st.integers(2, 5), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_error_is_that_of_a_loop_over_bins(
    rows: int, classes: int, bins: int, seed: int
) -> None:
    logits, labels = some_logits(rows, classes, seed)
    chances = np.exp(logits.astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    expected = 0.0
    for number in range(bins):
        sure = chances.max(axis=1)
        inside = (sure > number / bins) & (sure <= (number + 1) / bins)
        if inside.any():
            right = (chances.argmax(axis=1) == labels)[inside].mean()
            expected += inside.mean() * abs(right - sure[inside].mean())
    assert expected_calibration_error(chances, labels, bins) == pytest.approx(expected)


def test_the_temperature_is_the_one_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 4)) * 2
    for temperature in (0.5, 1.0, 3.0):
        chances = np.exp(logits / temperature)
        chances /= chances.sum(axis=1, keepdims=True)
        labels = (rng.random(len(chances))[:, None] > chances.cumsum(axis=1)).sum(axis=1)
        assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@given(st.integers(2, 40), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_other_temperature_is_likelier(rows: int, classes: int, seed: int) -> None:
    logits, labels = some_logits(rows, classes, seed)
    best = log_likelihoods(logits / fit_temperature(logits, labels), labels).mean()
    for other in np.geomspace(0.01, 100, 200):
        assert best >= log_likelihoods(logits / other, labels).mean() - 1e-6


def test_temperatures_have_ends() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 3.0]])
    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(0.01)
    assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(100.0)
    with pytest.raises(ValueError, match="no rows"):
        fit_temperature(np.empty((0, 2)), np.empty(0, dtype=np.int64))


def test_likelihoods_do_not_overflow() -> None:
    found = log_likelihoods(np.array([[1e4, 0.0], [0.0, 0.0]]), np.array([1, 0]))
    np.testing.assert_allclose(found, [-1e4, -np.log(2)])


def test_margins_by_hand() -> None:
    # boundaries between three corners of a right angle: x = 0.5, y = 0.5 and x = y
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    bias = -(corners**2).sum(axis=1) / 2
    points = np.array([[0.2, 0.1], [0.9, 0.3], [0.9, 0.3]])
    found = geometric_margins(points @ corners.T + bias, np.array([0, 1, 0]), corners)
    np.testing.assert_allclose(found, [0.3, 0.4, -0.4], atol=1e-6)


def test_classes_of_equal_weights_have_no_boundary() -> None:
    weight = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = geometric_margins(np.array([[2.0, 5.0, 1.0]]), np.array([0]), weight)
    np.testing.assert_allclose(found, [1 / np.sqrt(2)], rtol=1e-6)


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_geometric_margins_are_those_of_a_loop(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, points = rng.standard_normal((classes, 6)), rng.standard_normal((rows, 6))
    labels = rng.integers(0, classes, rows)
    logits = points @ weight.T
    expected = [
        min(
            (logits[row, own] - logits[row, other]) / np.linalg.norm(weight[own] - weight[other])
            for other in range(classes)
            if other != own
        )
        for row, own in enumerate(labels)
    ]
    np.testing.assert_allclose(geometric_margins(logits, labels, weight), expected, rtol=1e-5)


def test_the_margin_kept_is_a_ratio_of_medians() -> None:
    assert margin_kept(np.array([1.0, 2.0, 9.0]), np.array([1.0, -5.0, 1.0])) == 0.5
    assert margin_kept(np.array([-1.0, -2.0]), np.array([1.0, 1.0])) is None
