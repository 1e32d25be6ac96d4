"""Heads on rows that are read again for every step, against the same rows held in memory."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from students import FittedHead, HeadError, fit_path, fit_path_read
from students.cross_entropy import Reading

L2 = (1e-2, 1e-3, 1e-5)


def cloud(rows: int, classes: int, dim: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    labels = np.append(rng.integers(0, classes, rows - classes), np.arange(classes))
    centres = rng.standard_normal((classes, dim))
    noise = 2 * rng.standard_normal((rows, dim)) * np.arange(1, dim + 1) ** -0.5
    return (3 + centres[labels] + noise).astype(np.float32), labels


def blocks_of(rows: np.ndarray, labels: np.ndarray, size: int) -> Reading:
    def reading() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(rows), size):
            yield rows[start : start + size], labels[start : start + size]

    return reading


def read(
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    classes: int,
    size: int = 96,
    l2: tuple[float, ...] = L2,
    max_iterations: int = 500,
) -> tuple[FittedHead, ...]:
    return fit_path_read(
        blocks_of(rows, labels, size),
        counts=np.bincount(labels, minlength=classes),
        mean=rows.mean(axis=0, dtype=np.float64),
        covariance=np.cov(rows.astype(np.float64).T, bias=True),
        l2=l2,
        max_iterations=max_iterations,
    )


def assert_alike(found: tuple[FittedHead, ...], held: tuple[FittedHead, ...]) -> None:
    """Rounding alone tells them apart, and where a descent that is nearly flat was left."""
    assert [head.l2 for head in found] == [head.l2 for head in held]
    for one, other in zip(found, held, strict=True):
        assert one.converged == other.converged
        assert np.abs(one.weight - other.weight).max() <= 0.02 * np.abs(other.weight).max()


@settings(max_examples=15)
@given(rows=st.integers(30, 700), classes=st.integers(2, 5), size=st.integers(20, 800))
def test_heads_of_rows_that_are_read_are_those_of_rows_that_are_held(
    rows: int, classes: int, size: int
) -> None:
    features, labels = cloud(rows, classes)
    found = read(features, labels, classes=classes, size=size)
    assert_alike(found, fit_path(features, labels, classes=classes, l2=L2, max_iterations=500))


def test_a_single_block_gives_nearly_the_same_bits() -> None:
    features, labels = cloud(300, 3)
    (found,) = read(features, labels, classes=3, size=300, l2=(1e-2,))
    (held,) = fit_path(features, labels, classes=3, l2=[1e-2], max_iterations=500)
    np.testing.assert_allclose(found.weight, held.weight, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.bias, held.bias, rtol=1e-3, atol=1e-5)


def test_a_class_without_rows_is_never_predicted() -> None:
    features, labels = cloud(200, 4)
    some = labels != 2
    (head,) = read(features[some], labels[some], classes=4, l2=(1e-2,))
    assert head.converged
    assert 2 not in head.predict(features)
    assert not head.weight[2].any()


def test_rows_are_read_once_for_every_step_and_once_for_the_start() -> None:
    features, labels = cloud(200, 3)
    begun = []
    whole = blocks_of(features, labels, 50)

    def reading() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        begun.append(1)
        return whole()

    fit_path_read(
        reading,
        counts=np.bincount(labels),
        mean=features.mean(axis=0, dtype=np.float64),
        covariance=np.cov(features.astype(np.float64).T, bias=True),
        l2=[1e-2],
        max_iterations=5,
    )
    assert len(begun) <= 1 + 5 + 2  # a step that went too far is taken anew


@pytest.mark.parametrize(("l2", "why"), [((), "at least one value"), ((-1.0,), "above 0")])
def test_an_l2_that_does_not_regularise_is_refused(l2: tuple[float, ...], why: str) -> None:
    with pytest.raises(HeadError, match=why):
        read(*cloud(50, 2), classes=2, l2=l2)


def test_a_single_class_is_refused() -> None:
    features, _ = cloud(50, 2)
    with pytest.raises(HeadError, match="all 50 training rows are of class 1"):
        read(features, np.ones(50, np.int64), classes=3)


@pytest.mark.parametrize("exponent", [-45, 45])
def test_features_of_any_size_give_the_same_head(exponent: int) -> None:
    features, labels = cloud(300, 3)
    (one,) = read(features, labels, classes=3, l2=(1e-2,))
    (other,) = read(np.ldexp(features, exponent), labels, classes=3, l2=(1e-2,))
    assert other.converged
    np.testing.assert_allclose(np.ldexp(other.weight, exponent), one.weight, rtol=1e-3, atol=1e-5)
