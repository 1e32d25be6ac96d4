"""Intrinsic dimension by hand, on known surfaces, and against scikit-dimension's answers."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import ProjectionError, intrinsic_dimension, levina_bickel, two_nn

ROWS = 1500


def subspace(dim: int, ambient: int) -> np.ndarray:
    """Normal rows in ``dim`` directions of ``ambient``, far from the origin."""
    rng = np.random.default_rng(dim)
    rows: np.ndarray = rng.standard_normal((ROWS, dim)) @ rng.standard_normal((dim, ambient)) + 9
    return rows


def sphere() -> np.ndarray:
    """The surface of a ball in five dimensions, put into ten: dimension 4."""
    rng = np.random.default_rng(0)
    ball = rng.standard_normal((ROWS, 5))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    turned: np.ndarray = ball @ np.linalg.qr(rng.standard_normal((10, 5)))[0].T
    return turned


def swiss_roll() -> np.ndarray:
    """A rolled sheet: dimension 2."""
    along, across = np.random.default_rng(0).uniform(0, 1, (2, ROWS))
    angle = 1.5 * np.pi * (1 + 2 * along)
    return np.stack([angle * np.cos(angle), 21 * across, angle * np.sin(angle)], axis=1)


def torus() -> np.ndarray:
    """The product of two circles, in four dimensions: dimension 2."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (ROWS, 2))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


MANIFOLDS: dict[str, Callable[[], np.ndarray]] = {
    "plane": lambda: subspace(2, 8),
    "five": lambda: subspace(5, 40),
    "ten": lambda: subspace(10, 64),
    "sphere": sphere,
    "swiss roll": swiss_roll,
    "torus": torus,
}

# scikit-dimension 0.5.0 (it brings 200 MB of numba and LLVM, hence its answers and not itself):
# {name: (skdim.id.TwoNN().fit(make()).dimension_, skdim.id.MLE().fit(make()).dimension_)
#  for name, make in MANIFOLDS.items()}
# MLE().fit averages inverses; MLE().fit_transform averages estimates and comes out 6 % higher.
THEIRS = {
    "plane": (2.0702815091656572, 2.035960966117307),
    "five": (5.403309658220831, 4.918657645001034),
    "ten": (9.210010938765395, 8.74246030671973),
    "sphere": (3.9146355360600933, 3.9776628799879865),
    "swiss roll": (1.859226897101021, 1.9430892968503122),
    "torus": (1.9851834820915084, 2.0031518813829017),
}
TRUTH = {"plane": 2, "five": 5, "ten": 10, "sphere": 4, "swiss roll": 2, "torus": 2}


@pytest.mark.parametrize("name", MANIFOLDS)
def test_known_surfaces_and_scikit_dimension(name: str) -> None:
    found = intrinsic_dimension(MANIFOLDS[name]())
    assert (found.two_nn, found.levina_bickel) == pytest.approx(THEIRS[name], rel=1e-9)
    assert found.two_nn == pytest.approx(TRUTH[name], rel=0.1)
    assert found.levina_bickel == pytest.approx(TRUTH[name], rel=0.13)
    assert (found.rows, found.duplicates) == (ROWS, 0)


def test_four_points_on_a_line_by_hand() -> None:
    line = np.array([[0.0], [1], [3], [7]])
    # second over first: 3/1, 2/1, 3/2, 6/4; the largest is discarded, F = 1/4, 1/2, 3/4
    small, large = np.log(1.5), np.log(2)
    slope = (small * (np.log(4 / 3) + np.log(2)) + large * np.log(4)) / (2 * small**2 + large**2)
    assert two_nn(line, discard=0.25) == pytest.approx(slope)
    assert levina_bickel(line, k=2) == pytest.approx(4 / np.log(3 * 2 * 1.5 * 1.5))
    # three neighbours: (1, 3, 7), (1, 2, 6), (2, 3, 4), (4, 6, 7)
    product = (7 * 7 / 3) * (6 * 6 / 2) * (4 / 2 * 4 / 3) * (7 / 4 * 7 / 6)
    assert levina_bickel(line, k=3) == pytest.approx(2 * 4 / np.log(product))


def plain_levina_bickel(rows: np.ndarray, k: int) -> float:
    inverses = []
    for at, row in enumerate(rows):
        others = np.sort([np.linalg.norm(row - other) for other in np.delete(rows, at, axis=0)])
        inverses.append(np.mean([np.log(others[k - 1] / others[j]) for j in range(k - 1)]))
    return float(1 / np.mean(inverses))


def plain_two_nn(rows: np.ndarray, discard: float) -> float:
    ratios = []
    for at, row in enumerate(rows):
        others = np.sort([np.linalg.norm(row - other) for other in np.delete(rows, at, axis=0)])
        ratios.append(others[1] / others[0])
    kept = sorted(ratios)[: int(len(rows) * (1 - discard))]
    x = np.log(kept)[:, None]
    y = [-np.log(1 - (i + 1) / len(rows)) for i in range(len(kept))]
    return float(np.linalg.lstsq(x, np.array(y), rcond=None)[0][0])


@given(rows=st.integers(4, 30), dim=st.integers(1, 20), k=st.integers(2, 9))
def test_plain_loops_find_the_same(rows: int, dim: int, k: int) -> None:
    features = np.random.default_rng(rows * 31 + dim).standard_normal((rows, dim)) + 50
    k = min(k, rows - 1)
    assert levina_bickel(features, k=k) == pytest.approx(plain_levina_bickel(features, k))
    assert two_nn(features, discard=0.3) == pytest.approx(plain_two_nn(features, 0.3))


def test_one_search_gives_what_two_give() -> None:
    features = subspace(3, 20).astype(np.float32)[:300]
    found = intrinsic_dimension(features, k=7, discard=0.2)
    assert found.two_nn == pytest.approx(two_nn(features, discard=0.2))
    assert found.levina_bickel == pytest.approx(levina_bickel(features, k=7))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e30])
def test_scale_place_and_direction_do_not_matter(scale: float) -> None:
    features = subspace(3, 6)[:200]
    turned = features @ np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    before, after = intrinsic_dimension(features), intrinsic_dimension((turned - 4) * scale)
    assert after.two_nn == pytest.approx(before.two_nn)
    assert after.levina_bickel == pytest.approx(before.levina_bickel)


def test_rows_far_from_the_origin_keep_their_neighbours() -> None:
    features = subspace(3, 30)[:300]
    assert two_nn(features + 1e8) == pytest.approx(two_nn(features), rel=1e-5)


def test_equal_rows_are_counted_once() -> None:
    features = subspace(2, 30)[:100].astype(np.float32)
    features[0, 0] = 0.0
    twin = features[:1].copy()
    twin[0, 0] = -0.0  # other bits, equal all the same
    before = intrinsic_dimension(features)
    after = intrinsic_dimension(np.concatenate([twin, features[::-1], features[:20]]))
    assert after.two_nn == pytest.approx(before.two_nn, rel=1e-12)
    assert after.levina_bickel == pytest.approx(before.levina_bickel, rel=1e-12)
    assert (after.rows, after.duplicates) == (100, 21)


def test_on_a_lattice_only_neighbours_that_differ_in_distance_tell() -> None:
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(7.0)), axis=-1).reshape(-1, 2)
    assert levina_bickel(grid, k=6) == pytest.approx(plain_levina_bickel(grid, 6))
    with pytest.raises(ProjectionError, match="two neighbours of 44 of 49 rows are equally far"):
        two_nn(grid)


def test_a_sample_is_drawn_by_seed() -> None:
    features = subspace(4, 12)
    first, again, other = (two_nn(features, sample=400, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first == pytest.approx(4, rel=0.25)
    chosen = np.sort(np.random.default_rng(1).choice(ROWS, 400, replace=False))
    assert first == two_nn(features[chosen])
    assert two_nn(features, sample=ROWS, seed=1) == two_nn(features, seed=2)


def test_half_precision_is_read_as_it_is() -> None:
    half = subspace(2, 30)[:200].astype(np.float16)
    assert two_nn(half) == two_nn(half.astype(np.float64))


def test_what_cannot_be_measured_is_refused() -> None:
    features = subspace(2, 8)[:30].astype(np.float32)
    with pytest.raises(ProjectionError, match="at least 21 rows that differ, got 20: give more"):
        levina_bickel(features[:20])
    with pytest.raises(ProjectionError, match="at least 3 rows that differ, got 1:"):
        two_nn(np.ones((9, 4)))
    with pytest.raises(ProjectionError, match="all 5 neighbours of every row are equally far"):
        levina_bickel(np.eye(30) * 0.1, k=5)
    with pytest.raises(ProjectionError, match="k must be at least 2 neighbours, got 1"):
        levina_bickel(features, k=1)
    for discard in (0.0, 1.0, float("nan")):
        with pytest.raises(ProjectionError, match="discard must lie strictly between 0 and 1, got"):
            two_nn(features, discard=discard)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_bad_row_is_named_as_it_was_given(bad: float) -> None:
    features = np.arange(80.0).reshape(40, 2)
    features[33] = bad
    with pytest.raises(ProjectionError, match="row 33 holds NaN or infinity: leave such rows out"):
        two_nn(features, sample=39, seed=0)
