"""Neural collapse by hand, against the plain definitions, and at both of its ends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import Moments, ProjectionError, gather_moments, neural_collapse


def simplex(classes: int, dim: int) -> np.ndarray:
    """Vertices of a regular simplex, turned and moved."""
    rng = np.random.default_rng(classes)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    vertices = np.eye(classes) - 1 / classes
    turned: np.ndarray = np.pad(vertices, ((0, 0), (0, dim - classes))) @ turn + 3
    return turned


def moments_around(means: np.ndarray, spread: float, each: int = 8) -> Moments:
    """Rows about these means, their own means exact."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((len(means), each, means.shape[1]))
    rows -= rows.mean(axis=1, keepdims=True)
    features = means[:, None] + spread * rows
    labels = np.repeat(np.arange(len(means)), each)
    return gather_moments([(features.reshape(-1, means.shape[1]), labels)], classes=len(means))


def test_two_classes_by_hand() -> None:
    features = np.array([[-2.0, 1], [-2, -1], [2, 3], [2, -3]])
    labels = np.array([0, 0, 1, 1])
    found = neural_collapse(gather_moments([(features, labels)], classes=2))
    # S_w = diag(0, 5), S_b = diag(4, 0): all that varies within lies where the means do not
    assert found.nc1 == 0
    assert found.scatter_ratio == pytest.approx(5 / 4)
    tilted = features + features[:, ::-1] * [1, 0]  # the first coordinate becomes the sum
    found = neural_collapse(gather_moments([(tilted, labels)], classes=2))
    # S_w = [[5, 5], [5, 5]], and the means still lie along the first axis
    assert found.nc1 == pytest.approx(5 / 4 / 2)
    assert (found.cosine_mean, found.cosine_std) == pytest.approx((-1, 0))
    assert found.norm_spread == pytest.approx(0)


def test_three_classes_on_a_line_by_hand() -> None:
    means = np.array([[0.0, 0], [0, 3], [0, 9]])  # about their centre -4, -1 and 5
    found = neural_collapse(moments_around(means, 0.0))
    lengths = np.array([4, 1, 5])
    assert found.norm_spread == pytest.approx(lengths.std() / lengths.mean())
    assert found.cosine_mean == pytest.approx(-1 / 3)  # +1, -1, -1
    assert found.cosine_std == pytest.approx(np.std([1, -1, -1]))


@given(classes=st.integers(2, 9), wider=st.integers(0, 6))
def test_a_simplex_is_full_collapse(classes: int, wider: int) -> None:
    found = neural_collapse(moments_around(simplex(classes, classes + wider), 0.0))
    assert found.nc1 == pytest.approx(0, abs=1e-12)
    assert found.scatter_ratio == pytest.approx(0, abs=1e-12)
    assert found.norm_spread == pytest.approx(0, abs=1e-12)
    assert found.cosine_mean == pytest.approx(found.simplex_cosine)
    assert found.simplex_cosine == pytest.approx(-1 / (classes - 1))
    assert found.cosine_std == pytest.approx(0, abs=1e-7)


@given(classes=st.integers(2, 7), dim=st.integers(1, 12), seed=st.integers(0, 99))
def test_it_is_the_plain_definition(classes: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 40)])
    centres = rng.standard_normal((classes, dim))
    features = 50 + centres[labels] + rng.standard_normal((len(labels), dim))
    found = neural_collapse(gather_moments([(features, labels)], classes=classes))
    means = np.stack([features[labels == c].mean(axis=0) for c in range(classes)])
    within = np.zeros((dim, dim))
    between = np.zeros((dim, dim))
    for row, label in zip(features, labels, strict=True):
        within += np.outer(row - means[label], row - means[label]) / len(labels)
        away = means[label] - features.mean(axis=0)
        between += np.outer(away, away) / len(labels)
    inverse = np.linalg.pinv(between, rcond=1e-10, hermitian=True)
    assert found.nc1 == pytest.approx(np.trace(within @ inverse) / classes, rel=1e-6)
    assert found.scatter_ratio == pytest.approx(np.trace(within) / np.trace(between))
    centred = means - means.mean(axis=0)
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for i, a in enumerate(centred)
        for b in centred[:i]
    ]
    assert found.cosine_mean == pytest.approx(np.mean(cosines))
    assert found.cosine_std == pytest.approx(np.std(cosines), abs=1e-9)


@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_both_measures_grow_with_the_square_of_the_spread(spread: float) -> None:
    means = np.random.default_rng(1).standard_normal((5, 20))
    near, far = (neural_collapse(moments_around(means, s)) for s in (spread, 2 * spread))
    assert far.nc1 == pytest.approx(4 * near.nc1)
    assert far.scatter_ratio == pytest.approx(4 * near.scatter_ratio)
    assert far.cosine_mean == pytest.approx(near.cosine_mean)


def test_place_scale_and_direction_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    features, labels = rng.standard_normal((90, 6)), np.arange(90) % 4
    features[:, 0] += labels**2
    turned = 1e-3 * features @ np.linalg.qr(rng.standard_normal((6, 6)))[0] + 7
    before, after = (
        neural_collapse(gather_moments([(rows, labels)], classes=4)) for rows in (features, turned)
    )
    for name in ("nc1", "scatter_ratio", "norm_spread", "cosine_mean", "cosine_std"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-6), name


def test_a_thousand_times_the_rows_of_one_class_do_not_turn_the_angles() -> None:
    means = np.random.default_rng(3).standard_normal((4, 5))
    even = moments_around(means, 0.5)
    uneven = Moments(counts=even.counts * [1, 1, 1, 1000], means=even.means, within=even.within)
    before, after = neural_collapse(even), neural_collapse(uneven)
    assert (after.cosine_mean, after.norm_spread) == (before.cosine_mean, before.norm_spread)
    assert after.nc1 != pytest.approx(before.nc1, rel=0.1)


def test_classes_without_rows_and_means_at_the_centre_are_left_out() -> None:
    means = np.array([[2.0, 0, 0], [0, 0, 0], [-2, 0, 0]])
    plain = moments_around(means, 0.1)
    empty = Moments(
        counts=np.insert(plain.counts, 1, 0),
        means=np.insert(plain.means, 1, 0, axis=0),
        within=plain.within,
    )
    assert neural_collapse(empty) == neural_collapse(plain)
    assert neural_collapse(plain).cosine_mean == pytest.approx(-1)  # of one pair, not of three
    assert neural_collapse(plain).classes == 3


def test_what_has_no_classes_apart_is_refused() -> None:
    rows = np.random.default_rng(0).standard_normal((8, 3))
    with pytest.raises(ProjectionError, match="at least 2 need rows, got 1"):
        neural_collapse(gather_moments([(rows, None)]))
    with pytest.raises(ProjectionError, match="at least 2 need rows, got 1"):
        neural_collapse(gather_moments([(rows, np.full(8, 2))], classes=5))
    with pytest.raises(ProjectionError, match="the means of all classes are equal"):
        neural_collapse(moments_around(np.ones((3, 4)), 0.0))
