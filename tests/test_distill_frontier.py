"""Areas under curves of accuracy, falls, and the budget to pick: by hand and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from distill.certify import WITHIN
from distill.frontiers import area_behind, area_weights, areas, common_floor, falls, pick

RNG = np.random.default_rng


def hits(accuracies: list[float], *, seeds: int = 2, rows: int = 400, seed: int = 0) -> np.ndarray:
    """Rows that are hit by chance, the same draws for all points: nested."""
    drawn = RNG(seed).random((seeds, rows))
    return np.stack([drawn < accuracy for accuracy in accuracies])


# --- areas ----------------------------------------------------------------------------------------


def test_the_weights_of_three_points_by_hand() -> None:
    # from .25 to 1: widths .25 and .5 of .75; a trapezoid gives half a width to each end
    found = area_weights([0.25, 0.5, 1.0], 0.25)
    np.testing.assert_allclose(found, [1 / 6, 1 / 6 + 1 / 3, 1 / 3])


def test_an_area_that_begins_between_two_points_by_hand() -> None:
    # values 0 at .2 and 1 at .6 and 1: at the floor .5 it is .75; area .1 * .875 + .4 of .5
    weights = area_weights([0.2, 0.6, 1.0], 0.5)
    assert weights @ [0.0, 1.0, 1.0] == pytest.approx((0.1 * 0.875 + 0.4) / 0.5)


def test_points_below_the_floor_weigh_nothing() -> None:
    found = area_weights([0.1, 0.2, 0.5, 1.0], 0.5)
    np.testing.assert_allclose(found, [0, 0, 0.5, 0.5])


@given(
    st.lists(st.integers(1, 99), min_size=2, max_size=8, unique=True),
    st.integers(0, 98),
    st.integers(0, 10_000),
)
def test_the_area_is_the_mean_of_the_line_through_the_points(
    percents: list[int], above: int, seed: int
) -> None:
    shares = [*sorted(p / 100 for p in percents), 1.0]
    floor = shares[0] + (1 - shares[0]) * above / 100
    values = RNG(seed).random(len(shares))
    weights = area_weights(shares, floor)
    edges = np.linspace(floor, 1, 200_001)
    middles = (edges[1:] + edges[:-1]) / 2
    assert weights @ values == pytest.approx(np.interp(middles, shares, values).mean(), abs=1e-6)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


@pytest.mark.parametrize(
    ("shares", "floor"),
    [
        ([0.5, 0.5, 1.0], 0.5),  # a share twice
        ([1.0, 0.5], 0.5),  # falling
        ([0.5, 1.0], 0.4),  # begins above the floor
        ([0.5, 0.9], 0.5),  # does not reach 1
        ([0.5, 1.0], 1.0),  # nothing left
        ([], 0.5),
    ],
)
def test_points_that_do_not_reach_from_the_floor_to_one_are_refused(
    shares: list[float], floor: float
) -> None:
    with pytest.raises(ValueError, match=r"shares|points"):
        area_weights(shares, floor)


def test_the_common_floor_is_the_largest_of_the_smallest_shares() -> None:
    assert common_floor([[0.2, 0.5, 1.0], [0.4, 1.0], [0.3]]) == 0.4


def test_the_area_of_each_seed_by_hand() -> None:
    found = np.array([[[1, 0], [0, 0]], [[1, 1], [1, 0]]], dtype=bool)  # points, seeds, rows
    np.testing.assert_allclose(areas([0.5, 1.0], found, 0.5), [0.75, 0.25])


# --- one area against another ---------------------------------------------------------------------


def test_a_curve_is_not_behind_itself() -> None:
    ours = ([0.5, 1.0], hits([0.6, 0.8]))
    found = area_behind(ours, ours, floor=0.5, name="itself")
    assert found.value == 0.0
    # nothing but the seeds varies
    assert found.interval.low < 0 < found.interval.high


def test_single_seeds_are_compared_as_a_paired_mean_of_rows() -> None:
    ours, theirs = hits([0.5, 0.7], seeds=1, seed=1), hits([0.6, 0.9], seeds=1, seed=2)
    found = area_behind(([0.5, 1.0], ours), ([0.5, 1.0], theirs), floor=0.5, name="theirs")
    apart = ours.mean(axis=0)[0] - theirs.mean(axis=0)[0]
    half = 1.959963984540054 * apart.std() / np.sqrt(400)
    assert found.value == pytest.approx(apart.mean())
    assert found.interval.high - found.value == pytest.approx(half)
    assert found.against == "theirs"


def test_curves_of_other_points_and_seeds_are_compared_row_by_row() -> None:
    ours = np.array([[[True, False]], [[True, True]]])  # rows 1 and .5 of the area
    theirs = np.stack([np.zeros((3, 2), dtype=bool), np.ones((3, 2), dtype=bool)], axis=1)  # .5
    found = area_behind(([0.5, 1.0], ours), ([0.5, 0.75, 1.0], theirs), floor=0.5, name="theirs")
    assert found.value == pytest.approx(0.25)


def test_curves_of_other_rows_are_not_compared() -> None:
    """Nor is one row taken for all: shapes are checked in tests."""
    ours, theirs = ([0.5, 1.0], hits([0.6, 0.8])), ([0.5, 1.0], hits([0.6, 0.8], rows=1))
    with pytest.raises(TypeCheckError):
        area_behind(ours, theirs, floor=0.5, name="theirs")


def test_an_interval_of_areas_covers_what_it_should() -> None:
    """Of 400 pairs of curves, each of 3 seeds that vary, about 95 % of intervals hold the truth."""
    rng, covered = RNG(3), 0
    for _ in range(400):
        truths = 0.7 + 0.03 * rng.standard_normal((2, 3, 1, 1))
        ours, theirs = (rng.random((3, 1, 300)) < truth for truth in truths)
        ours, theirs = (np.repeat(x.transpose(1, 0, 2), 2, axis=0) for x in (ours, theirs))
        found = area_behind(([0.5, 1.0], ours), ([0.5, 1.0], theirs), floor=0.5, name="x")
        covered += found.interval.low <= 0 <= found.interval.high
    assert 0.925 <= covered / 400 <= 0.995


# --- falls ----------------------------------------------------------------------------------------


def test_falls_are_counted_and_the_largest_is_named() -> None:
    found = falls([0.2, 0.4, 0.6, 0.8, 1.0], [0.5, 0.7, 0.6, 0.65, 0.64])
    assert (found.count, found.of, found.share) == (2, 4, 0.6)
    assert found.largest == pytest.approx(0.1)


def test_equal_accuracies_are_no_fall() -> None:
    found = falls([0.2, 0.5, 1.0], [0.5, 0.5, 0.5])
    assert (found.count, found.largest, found.share) == (0, 0.0, 1.0)


# --- what is picked -------------------------------------------------------------------------------


def test_the_smallest_budget_that_is_shown_is_picked() -> None:
    dense = np.ones(2000, dtype=bool)
    points = np.ones((4, 3, 2000), dtype=bool)
    points[0, :, :60] = False  # loses 3 points
    points[1, :, :4] = False  # loses 0.2
    found = pick(dense, points, [0.3, 0.5, 0.7, 1.0], tolerance=0.01)
    assert (found.shown, found.estimated) == (1, 1)
    assert [one.verdict for one in found.certificates] == ["worse", WITHIN, WITHIN, WITHIN]


def test_a_budget_below_one_that_is_not_shown_is_never_picked() -> None:
    """Nor is it tested any more."""
    dense, points = np.ones(2000, dtype=bool), np.ones((3, 1, 2000), dtype=bool)
    points[1, :, :100] = False
    found = pick(dense, points, [0.3, 0.6, 1.0], tolerance=0.01)
    assert (found.shown, found.estimated) == (2, 2)
    assert found.certificates[0].verdict == "not tested"


def test_few_rows_show_nothing_and_the_estimate_says_so() -> None:
    dense, points = np.ones(50, dtype=bool), np.ones((2, 1, 50), dtype=bool)
    found = pick(dense, points, [0.5, 1.0], tolerance=0.01)
    assert found.shown is None
    assert found.estimated == 0
    assert found.certificates[1].rows_needed is not None


def test_what_is_picked_rarely_loses_more_than_the_tolerance() -> None:
    """A network that loses 2.5 points at every budget is picked in at most 5 % of tries or so."""
    rng, wrong = RNG(5), 0
    for _ in range(60):
        dense = rng.random(800) < 0.9
        points = np.stack([dense[None] & (rng.random((3, 800)) > 0.0285) for _ in range(4)])
        wrong += pick(dense, points, [0.2, 0.4, 0.7, 1.0], tolerance=0.01).shown is not None
    assert wrong <= 6


def test_shares_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        pick(np.ones(3, dtype=bool), np.ones((2, 1, 3), dtype=bool), [0.5, 0.5], tolerance=0.01)
